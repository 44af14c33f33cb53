package gateway

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/txn"
)

// Writes over several shards. The leader of the lowest shard that such a request may write in, its anchor, coordinates it; the request comes here as any other
// write comes to the leader of its shard. Package txn decides what is done, and this is the shell around it: it asks the leaders of shards, gets revisions,
// reads, and answers.

// transacts tells whether writes over several shards are served.
func (g *Gateway) transacts() bool { return g.options.Revisions != nil && g.options.Table != nil }

// anchorOf returns the link of the shard whose leader coordinates a write over several shards, instead of err, which Route has said of the request. It returns
// err if that is about something else, or such writes are not served.
func (g *Gateway) anchorOf(req *kv.Request, err error) (*leaderLink, error) {
	if err == nil || !g.transacts() || !errors.Is(err, kv.ErrManyShards) || shard.IsReadOnly(req) {
		return nil, err
	}
	anchor := txn.Anchor(g.options.Table, req)
	if l := g.links.byShard[anchor]; l != nil {
		return l, nil
	}
	return nil, notHere(anchor)
}

// commits are the transactions of one shard, if it is led here.
type commits struct {
	link   *leaderLink
	listed bool // among the active ones; guarded by the lock of commitLists

	mu      sync.Mutex
	present *tenure // nil: nothing was to be done in this leadership
	begun   uint64  // the term of the last tenure. There are never two of one term: they would give the same IDs to transactions
}

// tenure is one leadership of a shard, with the cores of transactions: the coordinator of those that have the shard for their anchor, and the one that ends those
// which nobody else does.
type tenure struct {
	gateway *Gateway
	of      *commits
	term    uint64

	mu            sync.Mutex
	coordinator   *txn.Coordinator
	recovery      *txn.Recovery
	over          bool // the leadership is
	pumping       bool // somebody is in pump
	olderFinished bool // the coordinator was told, perhaps not of all shards yet
	olderOpen     []kv.TransactionID
	asked         int // questions that are not answered
	waiting       int // clients' requests that are not answered
	looksAt       time.Duration
	quietSince    time.Duration
}

// coordinated is a client's request in a coordinator.
type coordinated struct {
	tenure *tenure
	call   txn.Call
}

// client is who waits for a request that is coordinated.
type client struct {
	req  *kv.Request
	done func(*kv.Response, error)
	// memory pays for the answers of shards until the request is answered: those to questions may be late.
	memory loan
}

// current returns the tenure of the leadership of the shard here; nil if there is none. create: one is begun if need be. What is over is ended.
func (m *commits) current(create bool) *tenure {
	l := m.link
	m.mu.Lock() // before the replica is asked: what it says later must not be overruled by what it said before
	node, term := l.local.Leader()
	leads := node == l.gateway.options.Self && l.local.IsLeader()
	t := m.present
	var ended *tenure
	if t != nil && (!leads || t.term != term) {
		ended, t = t, nil
	}
	if t == nil && leads && create && term > m.begun {
		if t = m.begin(term); t != nil {
			m.begun = term
		}
	}
	m.present = t
	m.mu.Unlock()
	if ended != nil {
		ended.end()
	}
	return t
}

// begin makes the cores of a leadership.
func (m *commits) begin(term uint64) *tenure {
	g, l := m.link.gateway, m.link
	options := txn.Options{Protocol: g.options.Commit, Anchor: l.shard, Term: term, Table: g.options.Table, Finished: l.local.Finished()}
	coordinator, err := txn.NewCoordinator(options.WithDefaults())
	if err != nil {
		return nil // options are valid, so there is no term yet
	}
	recovery, err := txn.NewRecovery(txn.RecoveryOptions{Protocol: g.options.Commit, Shard: l.shard, Term: term}.WithDefaults())
	if err != nil {
		return nil
	}
	now := g.time()
	coordinator.Tick(now)
	return &tenure{gateway: g, of: m, term: term, coordinator: coordinator, recovery: recovery, looksAt: now, quietSince: now}
}

// take has a client's request coordinated. done is called once with how it ended, perhaps before take returns, unless that returns an error.
func (m *commits) take(req *kv.Request, deadline time.Duration, done func(*kv.Response, error)) (c coordinated, err error) {
	t := m.current(true)
	if t == nil {
		return coordinated{}, kv.ErrNotLeader
	}
	g := m.link.gateway
	owner := &client{req: req, done: done, memory: loan{lender: req.Memory}}
	own := *req
	own.Memory = &owner.memory
	t.mu.Lock()
	if t.over {
		t.mu.Unlock()
		return coordinated{}, kv.ErrNotLeader
	}
	t.coordinator.Tick(g.time())
	call, err := t.coordinator.Begin(owner, &own, deadline)
	if err == nil {
		t.waiting++
	}
	t.mu.Unlock()
	if err != nil {
		return coordinated{}, err
	}
	g.metrics.transactions.Add(1)
	g.committing.enter(m)
	t.pump()
	return coordinated{t, call}, nil
}

// cancel says that nobody waits for the answer any more.
func (c coordinated) cancel() {
	c.tenure.mu.Lock()
	if !c.tenure.over {
		c.tenure.coordinator.Cancel(c.call)
	}
	c.tenure.mu.Unlock()
	c.tenure.pump()
}

// end ends the transactions of the leadership, which is over.
func (t *tenure) end() {
	t.mu.Lock()
	if !t.over {
		t.over = true
		t.coordinator.Stop()
	}
	t.mu.Unlock()
	t.pump()
}

// live tells whether the coordinator here has a transaction that may still commit, or that others have not heard the end of.
func (m *commits) live(id kv.TransactionID) bool {
	m.mu.Lock()
	t := m.present
	m.mu.Unlock()
	if t == nil || t.term != id.Term {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.over && t.coordinator.Live(id)
}

// lookAfter is how often what is undecided in a shard is looked at.
const lookAfter = 200 * time.Millisecond

// idleAfter is how long a tenure without work gets ticks: in that time participants are told of the last that is finished.
const idleAfter = 5 * time.Second

// tick does what is due. idle: there is nothing to be done until something new happens.
func (m *commits) tick(now time.Duration) (idle bool) {
	local := m.link.local
	t := m.current(false)
	if t == nil && local.IsLeader() && len(local.Undecided()) > 0 {
		t = m.current(true)
	}
	if t == nil {
		return true
	}
	t.mu.Lock()
	if !t.over {
		t.coordinator.Tick(now)
		if now >= t.looksAt {
			t.looksAt = now + lookAfter
			t.look(now, local.Undecided())
		}
		if t.asked > 0 || t.waiting > 0 {
			t.quietSince = now
		}
	}
	idle = t.over || now-t.quietSince >= idleAfter
	t.mu.Unlock()
	t.pump()
	return idle
}

// look tells the cores what is undecided in the log. The lock is held.
func (t *tenure) look(now time.Duration, undecided []kv.UnfinishedTransaction) {
	if len(undecided) > 0 {
		t.quietSince = now
	}
	others := make([]kv.UnfinishedTransaction, 0, len(undecided))
	for i := range undecided {
		if u := &undecided[i]; !t.coordinator.Live(u.ID) {
			others = append(others, *u)
		}
	}
	t.recovery.Tick(now, others)
	if told, open, finished := t.recovery.OlderFinished(); finished && (!t.olderFinished || len(told) > 0 || !slices.Equal(open, t.olderOpen)) {
		t.olderFinished, t.olderOpen = true, open
		t.coordinator.OlderFinished(told, open)
	}
}

// pump does what the cores want done, until there is nothing. One caller at a time works.
func (t *tenure) pump() {
	t.mu.Lock()
	if t.pumping {
		t.mu.Unlock()
		return
	}
	t.pumping = true
	for {
		ready, ending := t.coordinator.Ready(), []txn.Ask(nil)
		if !t.over {
			ending = t.recovery.Ready()
		}
		if len(ready.Asks)+len(ready.Numbers)+len(ready.Reads)+len(ready.Done)+len(ending) == 0 {
			break
		}
		t.asked += len(ready.Asks) + len(ready.Numbers) + len(ready.Reads) + len(ending)
		t.waiting -= len(ready.Done)
		t.mu.Unlock()
		t.do(&ready, ending)
		t.mu.Lock()
	}
	t.pumping = false
	t.mu.Unlock()
}

func (t *tenure) do(ready *txn.Ready, ending []txn.Ask) {
	for i := range ready.Done {
		t.gateway.committed(&ready.Done[i])
	}
	for _, a := range ready.Asks {
		if a.Shard == t.of.link.shard && a.Request.Kind == kv.KindTxnPrepare {
			a.Request.Commit.Granted = func() { t.granted(a) }
		}
		t.ask(a, t.coordinator.Answered)
	}
	for _, a := range ending {
		t.gateway.metrics.transactionsRecovering.Add(1)
		t.ask(a, t.recovery.Answered)
	}
	for _, n := range ready.Numbers {
		t.number(n)
	}
	for _, r := range ready.Reads {
		t.read(r)
	}
}

// answered gives a core the answer to a question.
func (t *tenure) answered(give func()) {
	t.mu.Lock()
	t.asked--
	if !t.over {
		give()
	}
	t.mu.Unlock()
	t.pump()
}

// granted tells the coordinator that its shard has the locks of a prepare.
func (t *tenure) granted(a txn.Ask) {
	t.mu.Lock()
	if !t.over {
		t.coordinator.Granted(a)
	}
	t.mu.Unlock()
	t.pump()
}

// ask has the leader of a shard answer, wherever it is.
func (t *tenure) ask(a txn.Ask, answer func(txn.Ask, *kv.CommitResponse, error)) {
	t.submit(a.Request, a.Deadline, func(resp *kv.Response, err error) {
		var body *kv.CommitResponse
		if err == nil {
			body = resp.Commit
		}
		t.answered(func() { answer(a, body, err) })
	})
}

func (t *tenure) submit(req *kv.Request, until time.Duration, done func(*kv.Response, error)) {
	t.gateway.Submit(&Call{Req: req, until: until, Done: done, MoreFollow: true, internal: true})
}

// number gets a revision for the shards that write, or learns the present for a transaction that writes nowhere.
func (t *tenure) number(n txn.Number) {
	revisions := t.gateway.options.Revisions
	got := func(revision kv.Revision, err error) {
		if err == nil && n.AuthVersion < t.gateway.authVersion() { // it would take effect behind a change of users or roles that it was not judged by
			err = kv.ErrAuthOldRevision
		}
		if err == nil && len(n.Writers) > 0 && t.gateway.fenced() { // it was prepared before that, perhaps, and would take effect behind it
			err = kv.ErrFenced
		}
		t.answered(func() { t.coordinator.Numbered(n.ID, revision, err) })
	}
	if len(n.Writers) == 0 {
		revisions.Learn(nil, func(present kv.Present, err error) { got(present.Revision, err) })
	} else {
		revisions.Multi(n.Writers, got)
	}
}

func (g *Gateway) fenced() bool { return g.options.Fenced != nil && g.options.Fenced() }

// read reads at latest. It may take long, and this may be the driver's goroutine.
func (t *tenure) read(r txn.Read) {
	seen := func(resp *kv.Response, err error) {
		if err == nil && t.gateway.outdated(r.Request) {
			resp, err = nil, kv.ErrAuthOldRevision
		}
		t.answered(func() { t.coordinator.Seen(r.Call, resp, err) })
	}
	if !t.gateway.reading.read(func() { t.submit(r.Request, r.Deadline, seen) }) {
		seen(nil, kv.ErrStopped)
	}
}

// committed answers a client's request.
func (g *Gateway) committed(done *txn.Done) {
	m := &g.metrics
	switch err := done.Err; {
	case err == nil:
		m.transactionsDone.Add(1)
	case errors.Is(err, kv.ErrOutcomeUnknown):
		m.transactionsUnknown.Add(1)
	case errors.Is(err, kv.ErrTimeout), errors.Is(err, kv.ErrCanceled):
		m.transactionsLate.Add(1)
	case errors.Is(err, kv.ErrLeaderChanged):
		m.transactionsMoved.Add(1)
	default:
		m.transactionsRefused.Add(1)
	}
	owner := done.Owner.(*client)
	owner.memory.end()
	if done.Err == kv.ErrTimeout { // it does not say why
		done.Err = g.because(kv.ErrTimeout, g.touched(owner.req))
	}
	owner.done(done.Response, done.Err)
}

// coordinate has a call coordinated whose anchor is led here.
func (l *leaderLink) coordinate(c *Call) {
	under, err := l.commits.take(c.Req, c.expires, func(resp *kv.Response, err error) { c.proposed(resp, 0, err) })
	if err != nil {
		c.proposed(nil, 0, err)
		return
	}
	c.coordinated.Store(&under)
	if c.answered.Load() { // it has ended meanwhile
		under.cancel()
	}
}

// coordinateFor does that for another node.
func (l *leaderLink) coordinateFor(v *visit, req *kv.Request) {
	done := func(resp *kv.Response, err error) { v.doneNow(resp, 0, err) }
	if _, err := l.commits.take(req, v.expires, done); err != nil {
		done(nil, err)
	}
}

// undecidedHere answers who asks what became of a transaction that is coordinated here.
func (l *leaderLink) undecidedHere(req *kv.Request) *kv.Response {
	if req.Kind != kv.KindTxnState || !l.commits.live(req.Commit.ID) {
		return nil
	}
	return &kv.Response{Kind: req.Kind, Commit: &kv.CommitResponse{}}
}
