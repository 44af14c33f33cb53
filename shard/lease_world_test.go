package shard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/txn"
)

// leaseWorld has a system shard and two others, each a log with a leader and a follower. Leaders ask each other, and what they ask may be lost, late and repeated.
// Leaders are lost at any step, with what neither replica has applied. Clients grant, put, renew and revoke.
type leaseWorld struct {
	random *rand.Rand
	last   kv.Revision // issued
	shards []*leaseShard
	asks   []*onTheWay
	late   []*onTheWay // come once more, some time
	back   []*onTheWay // answers on their way
	seen   map[string]int
	pieces bool // a lease with many keys does not fit into one revision

	protocol txn.Protocol
	mail     []*mail
	ended    map[incarnation]kv.Revision // by transaction
}

type leaseShard struct {
	world    *leaseWorld
	group    group
	follower *replica
	term     consensus.Term
	applied  consensus.Index // by one of the two
	waiting  map[kv.LeaseID][]*pendingRequest
	queue    []*pendingRequest // to be evaluated
	decided  []*pendingRequest // until what they wait for is applied
	besides  map[*Beside]*pendingRequest
	done     []*Beside
	answers  []*onTheWay // to be heard
	endings  *endings
}

type pendingRequest struct {
	request *kv.Request
	out     Outcome
	ends    bool
	covered bool
	of      *onTheWay                 // nil: a client's
	told    func(*kv.Response, error) // of a question about a transaction
	lost    bool                      // with the leader
}

type onTheWay struct {
	from *leaseShard
	term consensus.Term
	ask  Ask
	resp *kv.Response
	err  error
	gone bool // it was answered, one way or another
}

const worldLeases, worldKeys = 2, 4

func newLeaseWorld(seed uint64) (*leaseWorld, error) {
	w := &leaseWorld{random: rand.New(rand.NewPCG(seed, 3)), last: 1, seen: map[string]int{}, pieces: seed%4 == 3, ended: map[incarnation]kv.Revision{}, protocol: txn.TwoPhase}
	if seed%3 == 2 {
		w.protocol = txn.ThreePhase
	}
	for i := range 3 {
		options := testOptions(seed)
		options.Shard, options.Sequenced, options.MaxKeysPerExpiry, options.PartBytes = kv.ShardID(i+1), true, 2, 1+w.random.IntN(200)
		if w.pieces {
			options.MaxRequestEffectBytes = 60 + w.random.IntN(60) // one key at a revision
			options.MaxShareBytes = options.MaxRequestEffectBytes
		}
		s := &leaseShard{world: w, follower: mustOpen(options), term: 1, waiting: map[kv.LeaseID][]*pendingRequest{}, besides: map[*Beside]*pendingRequest{}}
		if err := s.group.elect(mustOpen(options), 1); err != nil {
			return nil, err
		}
		var err error
		if s.endings, err = newEndings(s); err != nil {
			return nil, err
		}
		w.shards = append(w.shards, s)
	}
	return w, nil
}

func (w *leaseWorld) step(quiet bool) error {
	s := w.shards[w.random.IntN(3)]
	switch n := w.random.IntN(100); {
	case n < 12 && !quiet:
		w.client()
	case n < 40:
		return s.evaluate(false)
	case n < 46:
		s.group.now += time.Duration(w.random.IntN(400)) * time.Millisecond
		return s.evaluate(true)
	case n < 56:
		return w.deliver(quiet)
	case n < 58:
		return s.runBeside()
	case n < 62:
		if _, err := s.group.leader.flushSome(2); err != nil {
			return err
		}
		return s.group.leader.batch(func(b storage.Batch) error { s.group.leader.ApplyBulk(b, 1); return nil })
	case n < 85:
		return s.applyOne(s.group.leader)
	case n < 97:
		return s.applyOne(s.follower)
	case n < 99 && !quiet:
		return s.lose()
	}
	return nil
}

func (w *leaseWorld) client() {
	id := kv.LeaseID(1 + w.random.IntN(worldLeases))
	s, r := w.shards[0], &kv.Request{}
	switch w.random.IntN(10) {
	case 0, 1:
		r = &kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: id, TTLSeconds: int64(1 + w.random.IntN(3))}}
	case 2:
		r = &kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: id}}
	case 3:
		r = &kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: id}}
	case 4:
		r = &kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: id}}
	default:
		s = w.shards[w.random.IntN(3)]
		if w.random.IntN(3) > 0 {
			s = w.shards[int(id)%2+1] // so that there are leases with many keys
		}
		if w.random.IntN(5) == 0 {
			id = 0
		}
		r = &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: fmt.Appendf(nil, "k%d", w.random.IntN(worldKeys)), Lease: id}}
	}
	s.queue = append(s.queue, &pendingRequest{request: r})
}

// evaluate is one batch: what was answered is heard, and one request evaluated, or time passes.
func (s *leaseShard) evaluate(tick bool) error {
	w, m := s.world, s.group.leader
	if err := m.Begin(kv.Present{Revision: w.last}, true); err != nil {
		return err
	}
	if tick {
		if err := m.Tick(s.group.now); err != nil {
			return err
		}
	}
	if !m.Sealed() {
		if err := s.hear(); err != nil {
			return err
		}
	}
	if len(s.done) > 0 && !m.Sealed() {
		job := s.done[0]
		s.done = s.done[1:]
		if err := s.note(s.besides[job], m.FinishBeside(job)); err != nil {
			return err
		}
	}
	if job, out := m.StepBulk(); job != nil {
		w.seen["bulk"]++
		if err := s.note(s.besides[job], out); err != nil {
			return err
		}
	}
	if len(s.queue) > 0 && !m.Sealed() {
		i := w.random.IntN(len(s.queue))
		p := s.queue[i]
		s.queue = slices.Delete(s.queue, i, i+1)
		if err := s.note(p, m.Evaluate(p.request)); err != nil {
			return err
		}
	}
	n := m.Unnumbered()
	if err := m.Number(w.last+1, 0); err != nil {
		return err
	}
	w.last += kv.Revision(n)
	for m.HasProposal() {
		s.group.propose()
	}
	for _, a := range m.Asks() {
		for _, p := range s.waiting[a.Lease()] {
			p.covered = true
		}
		w.asks = append(w.asks, &onTheWay{from: s, term: s.term, ask: a})
	}
	s.answerApplied()
	if err := s.endings.pump(); err != nil {
		return err
	}
	return m.Check()
}

func (s *leaseShard) hear() error {
	answers := s.answers
	s.answers = nil
	for _, a := range answers {
		if a.term != s.term {
			continue
		}
		lease := a.ask.Lease()
		ended := slices.ContainsFunc(s.waiting[lease], func(p *pendingRequest) bool { return p.ends })
		out, decided := s.group.leader.Answered(&a.ask, a.resp, a.err, ended)
		if !decided {
			continue
		}
		list := s.waiting[lease]
		delete(s.waiting, lease)
		for _, p := range list {
			if p.ends && out.Response != nil || out.Err != nil && p.covered {
				if err := s.note(p, out); err != nil {
					return err
				}
			} else {
				s.queue = append(s.queue, p)
			}
		}
	}
	return nil
}

// note does with a request what its evaluation says.
func (s *leaseShard) note(p *pendingRequest, out Outcome) error {
	w := s.world
	switch {
	case out.Fatal != nil:
		return out.Fatal
	case out.Awaits != 0:
		w.seen["waits"]++
		p.ends, p.covered = p.ends || out.Ends, false
		s.waiting[out.Awaits] = append(s.waiting[out.Awaits], p)
	case out.Beside != nil:
		s.besides[out.Beside] = p
	case out.Staged:
	case out.Blocked:
		if p.request.Kind == kv.KindPut && s.group.leader.lead.latched[p.request.Put.Lease] > 0 {
			w.seen["latched"]++
		}
		s.queue = append(s.queue, p)
	default:
		p.out = out
		s.decided = append(s.decided, p)
		if id := toldNotFound(p); id != 0 {
			w.seen["not found"]++
			return w.checkGone(id)
		}
	}
	return nil
}

// toldNotFound is the lease that a client is told of that there is none, or that it has ended.
func toldNotFound(p *pendingRequest) kv.LeaseID {
	r, out := p.request, p.out
	switch {
	case p.of != nil:
	case r.Kind == kv.KindLeaseRevoke && (out.Err == nil || errors.Is(out.Err, kv.ErrLeaseNotFound)):
		return r.LeaseRevoke.ID
	case r.Kind == kv.KindLeaseKeepAlive && out.Err == nil && out.Response.LeaseKeepAlive.TTLSeconds == 0:
		return r.LeaseKeepAlive.ID
	case r.Kind == kv.KindLeaseTimeToLive && out.Err == nil && out.Response.LeaseTimeToLive.TTLSeconds < 0:
		return r.LeaseTimeToLive.ID
	}
	return 0
}

// checkGone: whoever is told that a lease has ended can read none of its keys.
func (w *leaseWorld) checkGone(id kv.LeaseID) error {
	for _, s := range w.shards[1:] {
		left, err := s.group.leader.attached(id, "", 0, nil)
		if left = mayBeRead(s.group.leader.Machine, left, w.last); err != nil || len(left) > 0 {
			return fmt.Errorf("lease %d is said to have ended, and shard %d has %q of it: %v", id, s.group.leader.Shard(), left, err)
		}
	}
	return nil
}

// deliver brings something that was asked to the leader of the other shard, or an answer back. What is on its way may be lost, or come twice.
func (w *leaseWorld) deliver(quiet bool) error {
	if n := len(w.back); n > 0 && w.random.IntN(3) == 0 {
		i := w.random.IntN(n)
		o := w.back[i]
		w.back = slices.Delete(w.back, i, i+1)
		o.from.answers = append(o.from.answers, o)
		return nil
	}
	if n := len(w.mail); n > 0 && w.random.IntN(3) > 0 {
		w.deliverMail(w.random.IntN(n), !quiet)
		return nil
	}
	from := &w.asks
	if w.random.IntN(30) == 0 {
		from = &w.late
	}
	if len(*from) == 0 {
		return nil
	}
	i := w.random.IntN(len(*from))
	o := (*from)[i]
	*from = slices.Delete(*from, i, i+1)
	if !quiet {
		switch w.random.IntN(10) {
		case 0:
			w.answer(o, nil, kv.ErrTimeout)
			return nil
		case 1, 2:
			w.late = append(w.late, o)
		}
	}
	w.arrive(o)
	return nil
}

// arrive brings what was asked to where it is answered.
func (w *leaseWorld) arrive(o *onTheWay) {
	target := w.shards[0]
	switch o.ask.Request.Kind {
	case kv.KindLeaseEnd:
		target.endings.begin(o)
		return
	case kv.KindLeaseRelease:
		target = w.shards[o.ask.Request.LeaseBinding.Shard-1]
	}
	target.queue = append(target.queue, &pendingRequest{request: o.ask.Request, of: o})
}

func (w *leaseWorld) answer(o *onTheWay, resp *kv.Response, err error) {
	if o.gone {
		return
	}
	o.gone, o.resp, o.err = true, resp, err
	w.back = append(w.back, o)
}

func (s *leaseShard) runBeside() error {
	if job := s.group.leader.NextBeside(); job != nil {
		job.Run(func() bool { return false })
		s.done = append(s.done, job)
	}
	return nil
}

// applyOne applies an entry, and checks what it does to the keys of leases.
func (s *leaseShard) applyOne(r *replica) error {
	if int(r.AppliedIndex()) == len(s.group.log) {
		return nil
	}
	w, m, system := s.world, r.Machine, s.world.shards[0].group.leader
	before := map[kv.LeaseID]uint64{}
	for id := range kv.LeaseID(worldLeases + 1) {
		before[id] = m.leases.notes[id]
	}
	if m.options.Shard == kv.SystemShard {
		for id, l := range m.leases.byID {
			before[id] = l.incarnation
		}
	}
	done, err := r.apply(s.group.log[r.AppliedIndex()])
	if err != nil {
		return err
	}
	effects := done.Effects
	for _, part := range done.Bulk {
		effects = append(effects, part...)
	}
	for i := range effects {
		e := &effects[i]
		if m.options.Shard == kv.SystemShard || e.Version != 0 {
			continue
		}
		s.world.seen["deleted"]++
		if now := m.leases.notes[e.PrevLease]; now != 0 && w.pieces {
			w.seen["pieces"]++
		} else if now != 0 {
			return fmt.Errorf("key %q of lease %d is deleted, and the lease is registered", e.Key, e.PrevLease)
		}
		if done.Index <= s.applied { // it was looked at when the first replica applied it
			continue
		}
		if l := system.leases.byID[e.PrevLease]; l == nil || !l.ending || l.incarnation != before[e.PrevLease] {
			return fmt.Errorf("key %q of incarnation %d of lease %d is deleted, which does not end: %+v", e.Key, before[e.PrevLease], e.PrevLease, l)
		}
	}
	for i := range done.Resolved {
		e := &done.Resolved[i]
		w.seen["deleted with others"]++
		if m.leases.notes[e.PrevLease] == before[e.PrevLease] && m.options.Shard != kv.SystemShard {
			return fmt.Errorf("key %q of lease %d is deleted, and the lease is registered", e.Key, e.PrevLease)
		}
		if err := w.checkEnded(e.PrevLease, before[e.PrevLease], e.At.Rev); err != nil && w.protocol == txn.TwoPhase {
			return err
		}
	}
	s.applied = max(s.applied, done.Index)
	if m.options.Shard != kv.SystemShard && m.store.Pending() == 0 {
		for id := kv.LeaseID(1); id <= worldLeases; id++ {
			left, err := m.attached(id, "", 0, nil)
			if err != nil || len(left) > 0 && m.leases.notes[id] == 0 {
				return fmt.Errorf("keys %q have lease %d, which is not registered: %v", left, id, err)
			}
		}
	}
	if r == s.group.leader && r.lead != nil {
		s.answerApplied()
	}
	return r.Check()
}

// answerApplied answers what waited for what is applied now.
func (s *leaseShard) answerApplied() {
	s.decided = slices.DeleteFunc(s.decided, func(p *pendingRequest) bool {
		if p.out.WaitFor > s.group.leader.lead.appliedSeq() {
			return false
		}
		if p.of != nil {
			s.world.answer(p.of, p.out.Response, p.out.Err)
		}
		p.tell(p.out.Response, p.out.Err)
		s.world.seen["answered"]++
		return true
	})
}

// lose loses the leader, and what nobody has applied.
func (s *leaseShard) lose() error {
	old := s.group.leader
	old.Follow()
	s.endings.stop()
	for _, p := range slices.Concat(s.queue, s.decided) {
		p.lost = true
		p.tell(nil, kv.ErrOutcomeUnknown)
		if p.of != nil {
			s.world.answer(p.of, nil, kv.ErrOutcomeUnknown)
		}
	}
	for _, p := range s.besides {
		p.lost = p.lost || p.out.Response == nil && p.out.Err == nil
		p.tell(nil, kv.ErrOutcomeUnknown)
		if p.of != nil {
			s.world.answer(p.of, nil, kv.ErrOutcomeUnknown)
		}
	}
	for _, job := range s.done {
		job.Drop()
	}
	s.queue, s.decided, s.done, s.answers = nil, nil, nil, nil
	clear(s.besides)
	for _, list := range s.waiting {
		for _, p := range list {
			p.lost = true
			if p.of != nil {
				s.world.answer(p.of, nil, kv.ErrNotLeader)
			}
		}
	}
	clear(s.waiting)
	applied := max(old.AppliedIndex(), s.follower.AppliedIndex())
	keep := int(applied) + s.world.random.IntN(len(s.group.log)-int(applied)+1)
	s.world.seen["lost"] += len(s.group.log) - keep
	s.group.log = s.group.log[:keep]
	next := old
	if s.world.random.IntN(2) == 0 {
		next, s.follower = s.follower, old
	}
	s.term++
	s.group.leader = next
	for int(next.AppliedIndex()) < len(s.group.log) {
		if err := s.applyOne(next); err != nil {
			return err
		}
	}
	if err := s.group.elect(next, s.term); err != nil {
		return err
	}
	var err error
	s.endings, err = newEndings(s)
	return err
}

// finish: with no more faults and nobody who renews, every lease ends.
func (w *leaseWorld) finish() error {
	for range 40_000 {
		if err := w.step(true); err != nil {
			return err
		}
		if w.over() {
			return nil
		}
	}
	text := ""
	for _, s := range w.shards {
		m := s.group.leader
		text += fmt.Sprintf("; shard %d: leases %v, notes %v, %d queued, %d decided, %d wait, asked %+v", m.Shard(), m.leases.byID, m.leases.notes, len(s.queue), len(s.decided), len(s.waiting), m.lead.asking)
	}
	return fmt.Errorf("leases do not end%s", text)
}

func (w *leaseWorld) over() bool {
	for _, s := range w.shards {
		m := s.group.leader
		if len(m.leases.byID)+len(m.leases.notes)+len(s.queue)+len(s.decided)+len(s.waiting)+m.transactions.open > 0 || int(m.AppliedIndex()) < len(s.group.log) {
			return false
		}
	}
	return true
}

// TestLeasesOfOtherShards: no key survives its lease, whoever is told that there is no such lease can read none, no other key is deleted, all keys of a lease
// in another shard go at one revision, and everything ends.
func TestLeasesOfOtherShards(t *testing.T) {
	seeds, total := uint64(400), map[string]int{}
	if testing.Short() {
		seeds = 60
	}
	for seed := range seeds {
		w, err := newLeaseWorld(seed)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3000 {
			if err := w.step(false); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, i, err)
			}
		}
		if err := w.finish(); err != nil {
			t.Fatalf("seed %d, at the end: %v", seed, err)
		}
		for name, n := range w.seen {
			total[name] += n
		}
	}
	t.Log(total)
	for _, name := range []string{"waits", "not found", "deleted", "bulk", "lost", "pieces", "latched", "ended by transaction", "deleted with others", "recovery"} {
		if total[name] == 0 {
			t.Errorf("it never happened: %s", name)
		}
	}
}
