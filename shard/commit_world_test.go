package shard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
	"github.com/quoratedb/quorate/storage"
)

// commitWorld runs random requests, and random transactions over several shards, on shards whose revisions come from one counter. Leaders are lost with what is not
// applied, messages are repeated, followers crash. What comes to an end is noted with its revision. At the end all of it is done once more, in the order of
// revisions, by a sequential model of each shard: every answer must be the same, and every state.
type commitWorld struct {
	random *rand.Rand
	last   kv.Revision // that was issued
	number uint64      // of the last transaction
	shards []*commitShard
	txns   []*worldTxn // that are not finished
	seen   map[string]int
}

// commitShard is a shard with its log, its leader and a follower.
type commitShard struct {
	id        kv.ShardID
	group     group
	follower  *replica
	term      consensus.Term
	generator model.Generator
	open      bool
	exact     bool
	entries   map[uint64]consensus.Index // by proposal of this leadership
	evaluated []*evaluatedHere           // in the open batch
	waiting   []*kv.Request              // clients' requests that have places in the queue of this leadership
	places    []uint64
	jobs      []*Beside
	of        map[*Beside]*evaluatedHere
	journal   []journalItem
	closed    map[*replica]kv.Revision
}

// evaluatedHere is a request and what it is for.
type evaluatedHere struct {
	request *kv.Request
	outcome Outcome
	part    *worldPart // nil: a client's
}

// journalItem is something that came to an end.
type journalItem struct {
	index   consensus.Index // of the entry that it depends on
	at      kv.Revision
	request *kv.Request // or
	share   *kv.Share
	got     *kv.Response
	results []kv.OpResponse
	effects bool
}

// worldTxn is a transaction; what its coordinator knows is in the test.
type worldTxn struct {
	id       kv.TransactionID
	patient  bool
	parts    []*worldPart // the first is the anchor's
	decision kv.Decision
	decided  bool // a commit is in the anchor's log, or it is to be aborted
}

type worldPhase int

const (
	toAsk    worldPhase = iota // to be asked, for the first time or again
	underWay                   // evaluated, and not applied; or beside the rounds
	prepared
	ended
)

type worldPart struct {
	txn    *worldTxn
	shard  *commitShard
	share  *kv.Share
	phase  worldPhase
	kind   kv.Kind // that is under way
	index  consensus.Index
	answer *kv.CommitResponse // of the prepare
}

func newCommitWorld(seed uint64) (*commitWorld, error) {
	random := rand.New(rand.NewPCG(seed, 3))
	w := &commitWorld{random: random, last: 1, seen: map[string]int{}}
	for i := range 2 + random.IntN(2) {
		options := testOptions(seed)
		options.Shard, options.Sequenced = kv.ShardID(i+1), true
		if random.IntN(2) == 0 {
			options.RoundLooks, options.PartBytes = 1+random.Int64N(6), 1+random.IntN(60)
		}
		s := &commitShard{id: options.Shard, generator: model.Generator{Rand: random, Keys: 2 + random.IntN(6), Leases: 1}, follower: mustOpen(options), term: 1}
		s.closed = map[*replica]kv.Revision{}
		leader := mustOpen(options)
		if err := s.group.elect(leader, s.term); err != nil {
			return nil, err
		}
		s.begin()
		w.shards = append(w.shards, s)
	}
	return w, nil
}

// begin forgets what was in the memory of a leadership.
func (s *commitShard) begin() {
	for _, job := range s.jobs {
		job.Drop()
	}
	s.open, s.evaluated, s.jobs, s.waiting, s.places = false, nil, nil, nil, nil
	s.entries, s.of = map[uint64]consensus.Index{}, map[*Beside]*evaluatedHere{}
}

func (w *commitWorld) step() error {
	s := w.shards[w.random.IntN(len(w.shards))]
	switch n := w.random.IntN(1000); {
	case n < 250:
		return w.client(s)
	case n < 300:
		w.beginTxn()
		return nil
	case n < 550:
		return w.moveTxn()
	case n < 700:
		return w.numberBatch(s)
	case n < 750:
		return w.beside(s)
	case n < 780:
		return w.read(s)
	case n < 880:
		return w.applyOne(s, s.group.leader)
	case n < 940:
		return w.applyOne(s, s.follower)
	case n < 960:
		_, err := s.follower.flushSome(1 + w.random.IntN(4))
		return err
	case n < 965:
		return w.wake(s)
	case n < 970:
		return s.crash(w)
	case n < 980:
		return w.again(s)
	}
	return w.changeLeader(s)
}

func (w *commitWorld) openBatch(s *commitShard) error {
	if s.open {
		return nil
	}
	s.open, s.exact = true, w.random.IntN(3) == 0
	base := w.last
	if known := s.group.leader.Evaluated(); !s.exact && w.random.IntN(2) == 0 {
		base = known + kv.Revision(w.random.Int64N(int64(w.last-known)+1))
	}
	return s.group.leader.Begin(kv.Present{Revision: base}, s.exact)
}

// ask evaluates a request in the open batch of a shard.
func (w *commitWorld) ask(s *commitShard, r *kv.Request, part *worldPart) (Outcome, error) {
	if err := w.openBatch(s); err != nil {
		return Outcome{}, err
	}
	if s.group.leader.Sealed() {
		return Outcome{Blocked: true}, nil
	}
	return w.took(s, &evaluatedHere{request: r, part: part}, s.group.leader.Evaluate(r))
}

// took notes an outcome until the batch has its numbers.
func (w *commitWorld) took(s *commitShard, e *evaluatedHere, out Outcome) (Outcome, error) {
	e.outcome = out
	switch {
	case out.Fatal != nil:
		return out, out.Fatal
	case out.Unnumbered:
		w.seen["unnumbered"]++
	case out.Beside != nil:
		s.of[out.Beside] = e
	case out.Blocked:
		w.seen["blocked"]++
	case out.Staged:
	default:
		s.evaluated = append(s.evaluated, e)
	}
	return out, s.group.leader.Check()
}

func (w *commitWorld) client(s *commitShard) error {
	s.generator.Revision = w.last
	r := s.generator.Request()
	if Validate(r, Limits{MaxTxnOps: 16}) != nil || !aboutKeys(r.Kind) || ofSystemShard(r) {
		return nil
	}
	return w.askClient(s, r)
}

// beside moves on what is decided beside the rounds.
func (w *commitWorld) beside(s *commitShard) error {
	m := s.group.leader
	if job := m.NextBeside(); job != nil {
		job.Run(func() bool { return false })
		s.jobs = append(s.jobs, job)
	}
	if err := w.openBatch(s); err != nil || m.Sealed() {
		return err
	}
	if len(s.jobs) > 0 && w.random.IntN(2) == 0 {
		job := s.jobs[0]
		s.jobs = s.jobs[1:]
		e, out := s.of[job], m.FinishBeside(job)
		if e.part != nil {
			w.seen["share beside"]++
			return w.heard(s, e, out)
		}
		_, err := w.took(s, e, out)
		return err
	}
	if err := m.batch(func(b storage.Batch) error { m.ApplyBulk(b, 2); return nil }); err != nil {
		return err
	}
	if _, err := m.flushSome(3); err != nil {
		return err
	}
	if job, out := m.StepBulk(); job != nil {
		w.seen["bulk"]++
		_, err := w.took(s, s.of[job], out)
		return err
	}
	return nil
}

// numberBatch gives the batch its numbers, and proposes it.
func (w *commitWorld) numberBatch(s *commitShard) error {
	if !s.open {
		return nil
	}
	m := s.group.leader
	first, n := w.last+1, m.Unnumbered()
	if n > 0 && w.disturbs(s) {
		return nil
	}
	w.last += kv.Revision(n)
	if !m.NeedsPresent() && w.random.IntN(2) == 0 {
		first = 0
		w.seen["not asked"]++
	}
	err := m.Number(first, 0)
	if errors.Is(err, ErrBegunAnew) {
		w.seen["anew"]++
		if err := s.group.catchUpWatching(w, s); err != nil {
			return err
		}
		w.lose(s, consensus.Index(len(s.group.log)))
		s.begin()
		return m.BeginAnew()
	}
	if err != nil {
		return err
	}
	if seq := s.group.propose(); seq != 0 {
		s.entries[seq] = consensus.Index(len(s.group.log))
	}
	evaluated := s.evaluated
	s.open, s.evaluated = false, nil
	for _, e := range evaluated {
		index := m.AppliedIndex()
		if e.outcome.WaitFor != 0 {
			index = max(index, s.entries[e.outcome.WaitFor])
		}
		switch {
		case e.part != nil:
			e.part.index = index
		case e.outcome.Response != nil && aboutKeys(e.request.Kind):
			w.seen["answered"]++
			s.journal = append(s.journal, journalItem{index: index, at: e.outcome.Response.Revision, request: e.request, got: e.outcome.Response, effects: e.outcome.Effects})
		}
	}
	return m.Check()
}

// catchUpWatching applies the log on the leader.
func (g *group) catchUpWatching(w *commitWorld, s *commitShard) error {
	for int(g.leader.AppliedIndex()) < len(g.log) {
		if err := w.applyOne(s, g.leader); err != nil {
			return err
		}
	}
	return nil
}

// disturbs tells whether a number that is issued now takes one from an exact batch. It does now and then, as when another sequencer takes over.
func (w *commitWorld) disturbs(s *commitShard) bool {
	return slices.ContainsFunc(w.shards, func(other *commitShard) bool { return other != s && other.open && other.exact }) && w.random.IntN(4) > 0
}

// read reads at the leader as of the last revision that was issued, if it may, and at the follower what that has.
func (w *commitWorld) read(s *commitShard) error {
	r := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}}
	if w.random.IntN(2) == 0 {
		r.Range.Span = kv.Span{Start: fmt.Appendf(nil, "k%02d", w.random.IntN(s.generator.Keys))}
	}
	m := s.group.leader
	if w.random.IntN(2) == 0 {
		got, err := s.follower.Read(nil, 0, r)
		if err != nil || got.Revision != s.follower.Closed() {
			return fmt.Errorf("read at the follower: %v, at revision %d, which is closed at %d", err, got.Revision, s.follower.Closed())
		}
		w.seen["follower read"]++
		if got.Revision < s.follower.applied.Revision {
			w.seen["read as of closed"]++
		}
		s.journal = append(s.journal, journalItem{at: got.Revision, request: r, got: got})
		return nil
	}
	if m.Unsettled(r, w.last) || s.open && m.Unnumbered() > 0 {
		return nil
	}
	if m.Held(r, w.last) {
		w.seen["held"]++
		return nil
	}
	got, err := m.ReadAt(nil, r, kv.Present{Revision: w.last})
	if err != nil {
		return err
	}
	w.seen["leader read"]++
	s.journal = append(s.journal, journalItem{at: w.last, request: r, got: got})
	return nil
}

func (w *commitWorld) applyOne(s *commitShard, r *replica) error {
	if int(r.AppliedIndex()) == len(s.group.log) {
		return nil
	}
	before, old := r.Closed(), s.closed[r]
	if before != max(before, old) {
		return fmt.Errorf("closed goes back from %d to %d", old, before)
	}
	done, err := r.apply(s.group.log[r.AppliedIndex()])
	if err != nil {
		return err
	}
	for _, e := range slices.Concat(done.Resolved, done.Effects) {
		if e.At.Rev <= before {
			return fmt.Errorf("entry %d brings %q at revision %d, and %d was closed", done.Index, e.Key, e.At.Rev, before)
		}
	}
	if len(done.Resolved) > 0 && done.Resolved[0].At.Rev < done.After {
		w.seen["out of order"]++
	}
	if done.Closed < before || done.Closed != r.Closed() || done.Closed != r.store.Closed() {
		return fmt.Errorf("entry %d: closed at %d after %d, the machine says %d, the store %d", done.Index, done.Closed, before, r.Closed(), r.store.Closed())
	}
	if done.Closed < done.Revision {
		w.seen["held back"]++
	}
	s.closed[r] = done.Closed
	return r.Check()
}

func (s *commitShard) crash(w *commitWorld) error {
	want, target := dumpCommits(s.follower), s.follower.AppliedIndex()
	options := s.follower.options
	options.LogEnd = s.follower.reached
	again, err := openReplica(s.follower.engine.Crash(w.random), options)
	if err != nil {
		return err
	}
	delete(s.closed, s.follower)
	if s.follower = again; len(again.transactions.records) > 0 {
		w.seen["crash with records"]++
	}
	for again.AppliedIndex() < target {
		if err := w.applyOne(s, again); err != nil {
			return err
		}
	}
	if got := dumpCommits(again); got != want {
		return fmt.Errorf("after a crash:\n got %s\nwant %s", got, want)
	}
	return nil
}

// dumpCommits prints what a replica knows of transactions.
func dumpCommits(r *replica) string {
	text := fmt.Sprintf("revision %d closed %d finished %v\n", r.applied.Revision, r.Closed(), r.transactions.finished)
	r.transactions.each(func(known *record) bool {
		said := *known
		said.since = 0
		text += fmt.Sprintf("%+v\n", said)
		return true
	})
	return text
}

// lose takes back what is in no entry up to the one that stays.
func (w *commitWorld) lose(s *commitShard, keep consensus.Index) {
	inBatch := func(p *worldPart) bool {
		return slices.ContainsFunc(s.evaluated, func(e *evaluatedHere) bool { return e.part == p })
	}
	for _, t := range w.txns {
		for _, p := range t.parts {
			if p.shard == s && p.phase == underWay && (p.index == 0 || p.index > keep || inBatch(p)) {
				w.seen["lost"]++
				p.phase = toAsk
				if p.answer != nil && p.kind != kv.KindTxnPrepare {
					p.phase = prepared
				}
			}
		}
	}
	s.journal = slices.DeleteFunc(s.journal, func(i journalItem) bool { return i.index > keep })
}

func (w *commitWorld) changeLeader(s *commitShard) error {
	old := s.group.leader
	old.Follow()
	applied := max(old.AppliedIndex(), s.follower.AppliedIndex())
	keep := int(applied) + w.random.IntN(len(s.group.log)-int(applied)+1)
	w.lose(s, consensus.Index(keep))
	s.begin()
	s.group.log = s.group.log[:keep]
	s.term++
	next := old
	if w.random.IntN(2) == 0 {
		next, s.follower = s.follower, old
	}
	return s.group.elect(next, s.term)
}

// again asks a participant of a transaction what it was asked before.
func (w *commitWorld) again(s *commitShard) error {
	for _, t := range w.txns {
		for _, p := range t.parts {
			if p.shard != s || p.phase != prepared || t.decided {
				continue
			}
			out, err := w.ask(s, t.request(kv.KindTxnPrepare, p), nil)
			if err != nil {
				return err
			}
			if c := commitOf(out); c != nil && c.Standing == kv.StandingPrepared {
				w.seen["prepared again"]++
				if out.Effects || describe(c) != describe(p.answer) {
					return fmt.Errorf("prepared again:\n got %s\nwant %s", describe(c), describe(p.answer))
				}
			} else if c != nil {
				return fmt.Errorf("transaction %v is prepared, and asked again at standing %d, busy %v", t.id, c.Standing, c.Busy)
			}
			s.evaluated = slices.DeleteFunc(s.evaluated, func(e *evaluatedHere) bool { return e.request.Kind == kv.KindTxnPrepare && e.part == nil })
			return nil
		}
	}
	return nil
}

func commitOf(out Outcome) *kv.CommitResponse {
	if out.Response == nil {
		return nil
	}
	return out.Response.Commit
}

// askClient evaluates a client's request. It is asked again when it is woken, unless the client has gone.
func (w *commitWorld) askClient(s *commitShard, r *kv.Request) error {
	out, err := w.ask(s, r, nil)
	if !out.Blocked || err != nil {
		return err
	}
	if out.Place == 0 || w.random.IntN(10) == 0 {
		w.seen["gone"]++
		s.group.leader.Withdraw(r)
		return nil
	}
	s.waiting, s.places = append(s.waiting, r), append(s.places, out.Place)
	return nil
}

// wake has those asked again who wait for locks, and may have them: in the order of their arrival, without passing anybody.
func (w *commitWorld) wake(s *commitShard) error {
	woken := s.group.leader.Woken()
	if !slices.IsSorted(woken) {
		return fmt.Errorf("woken are %v", woken)
	}
	for _, place := range woken {
		i := slices.Index(s.places, place)
		if i < 0 {
			continue // a prepare, which is asked again now and then
		}
		r := s.waiting[i]
		s.waiting, s.places = slices.Delete(s.waiting, i, i+1), slices.Delete(s.places, i, i+1)
		w.seen["woken"]++
		if err := w.askClient(s, r); err != nil {
			return err
		}
	}
	return nil
}
