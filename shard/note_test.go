package shard

import (
	"fmt"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// keysShard is a shard that has ten keys of lease 7, more than are deleted in a round, and two of lease 8. Others number its writes.
type keysShard struct {
	t    *testing.T
	g    group
	last kv.Revision
}

func newKeysShard(t *testing.T, options Options) *keysShard {
	options.Shard, options.Sequenced, options.MaxKeysPerExpiry, options.PartBytes = 2, true, 4, 100
	s := &keysShard{t: t, last: 1}
	if err := s.g.elect(mustOpen(options), 1); err != nil {
		t.Fatal(err)
	}
	s.batch(func(m *Machine) {
		m.lead.overlay.addOp(op{kind: opNote, lease: 7, incarnation: 3})
		m.lead.overlay.addOp(op{kind: opNote, lease: 8, incarnation: 4})
	})
	for i := range 10 {
		s.do(fmt.Sprintf("put l%d v lease=7", i))
	}
	s.do("put m0 v lease=8")
	s.do("put m1 v lease=8")
	s.do("put l5x v")
	return s
}

// batch evaluates something, and gives it its numbers. What it makes is in the log, and not applied.
func (s *keysShard) batch(evaluate func(*Machine)) {
	s.t.Helper()
	m := s.g.leader
	if err := m.Begin(kv.Present{Revision: s.last}, true); err != nil {
		s.t.Fatal(err)
	}
	evaluate(m.Machine)
	n := m.Unnumbered()
	if err := m.Number(s.last+1, 0); err != nil {
		s.t.Fatal(err)
	}
	s.last += kv.Revision(n)
	for m.HasProposal() {
		s.g.propose()
	}
	if err := m.Check(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *keysShard) apply() {
	s.t.Helper()
	if err := s.g.catchUp(s.g.leader, consensus.Index(len(s.g.log))); err != nil {
		s.t.Fatal(err)
	}
}

func (s *keysShard) evaluate(r *kv.Request) (out Outcome) {
	s.t.Helper()
	s.batch(func(m *Machine) { out = m.Evaluate(r) })
	return out
}

// do has a request answered.
func (s *keysShard) do(line string) *kv.Response {
	s.t.Helper()
	out := s.evaluate(parseRequest([]string{line}))
	if out.Response == nil {
		s.t.Fatalf("%s: %+v", line, out)
	}
	s.apply()
	return out.Response
}

// blocked expects that a request waits, or that it does not.
func (s *keysShard) blocked(when string, want bool, lines ...string) {
	s.t.Helper()
	for _, line := range lines {
		r := parseRequest([]string{line})
		if out := s.evaluate(r); out.Blocked != want || out.Err != nil || out.Fatal != nil || out.Beside != nil {
			s.t.Errorf("%s: %s: %+v, want it to wait: %v", when, line, out, want)
		}
		s.g.leader.Withdraw(r)
	}
	s.apply()
}

func released(id kv.LeaseID, incarnation uint64) *kv.Request {
	return &kv.Request{Kind: kv.KindLeaseRelease, LeaseBinding: &kv.LeaseBinding{Lease: id, Incarnation: incarnation, Shard: 2}}
}

// stage does the next step of a bulk, until one of its requests is decided.
func (s *keysShard) stage(each func()) (out Outcome) {
	s.t.Helper()
	for range 100 {
		var job *Beside
		s.batch(func(m *Machine) { job, out = m.StepBulk() })
		if job != nil {
			return out
		}
		if each != nil {
			each()
		}
		s.apply()
		m := s.g.leader
		if err := m.batch(func(b storage.Batch) error { m.ApplyBulk(b, 100); return nil }); err != nil {
			s.t.Fatal(err)
		}
		if err := m.flushAll(); err != nil {
			s.t.Fatal(err)
		}
	}
	s.t.Fatal("the bulk does not come to its end")
	return out
}

// TestReleaseHoldsUpItsOwnKeysOnly: a lease with many keys ends beside the rounds. Who changes one of them, or attaches another, waits until they are gone; other
// keys are written meanwhile, all are read, and nobody waits longer than for one entry of the log.
func TestReleaseHoldsUpItsOwnKeysOnly(t *testing.T) {
	s := newKeysShard(t, testOptions(1))
	own := []string{"put l3 w", "del l4", "put new v lease=7", "del l0 l9"}
	others := []string{"put l5x w", "put other v", "del m0", "put m2 v lease=8", "get l0 *", "get l3"}
	out := s.evaluate(released(7, 3))
	if out.Beside == nil {
		t.Fatalf("the end of a lease with many keys is decided in a round: %+v", out)
	}
	s.blocked("before it is decided", true, own...)
	s.blocked("before it is decided", false, others...)
	s.apply()
	m := s.g.leader
	if m.NextBeside() != out.Beside {
		t.Fatal("the end of the lease does not begin")
	}
	s.blocked("while it is decided", true, own...)
	out.Beside.Run(func() bool { return false })
	s.blocked("when it is decided", false, "put m0 v lease=8")
	s.batch(func(m *Machine) {
		if out := m.FinishBeside(out.Beside); !out.Staged {
			t.Errorf("ten keys are deleted at once: %+v", out)
		}
	})
	steps := 0
	end := s.stage(func() {
		steps++
		s.blocked("while it is staged", true, own...)
		s.blocked("while it is staged", false, "put other w", "get l0 *")
	})
	if end.Response == nil || !end.Effects || steps < 2 {
		t.Fatalf("after %d steps: %+v", steps, end)
	}
	for _, line := range slices.Concat(own, others) {
		if out := s.evaluate(parseRequest([]string{line})); !out.Blocked {
			t.Errorf("in flight: %s: %+v", line, out)
		}
	}
	s.apply()
	if n := len(m.lead.latched) + m.lead.latches.Len(); n != 0 {
		t.Errorf("%d latches are left", n)
	}
	if n := s.do("get l m").Range.Count; n != 1 {
		t.Errorf("%d keys are left, want the one that has no lease", n)
	}
	s.do("put l3 w")
	if out := s.evaluate(parseRequest([]string{"put new v lease=7"})); out.Awaits != 7 {
		t.Errorf("a put with a lease that has ended: %+v", out)
	}
}

// TestReleaseInPieces: a lease whose keys do not fit into one revision loses them at several, each beside the rounds. The note goes with the last.
func TestReleaseInPieces(t *testing.T) {
	options := testOptions(1)
	options.MaxRequestEffectBytes = 4 * (effectOverheadBytes + 2)
	s := newKeysShard(t, options)
	m := s.g.leader
	left := []int64{6, 2}
	for {
		out := s.evaluate(released(7, 3))
		if out.Beside == nil {
			if out.Response == nil {
				t.Fatalf("the last piece: %+v", out)
			}
			break
		}
		m.NextBeside().Run(func() bool { return false })
		s.batch(func(m *Machine) { m.FinishBeside(out.Beside) })
		end := s.stage(nil)
		s.apply()
		if len(left) == 0 {
			t.Fatal("there are more pieces than expected")
		}
		if n := s.do("get l m").Range.Count - 1; !end.Begun || !end.Blocked || n != left[0] || m.leases.notes[7] == 0 {
			t.Fatalf("after a piece %d keys are left, want %d; %+v, note %d", n, left[0], end, m.leases.notes[7])
		}
		left = left[1:]
		if err := m.batch(func(b storage.Batch) error { m.ApplyBulk(b, 100); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	s.apply()
	if n := s.do("get l m").Range.Count; n != 1 || m.leases.notes[7] != 0 || len(left) > 0 {
		t.Errorf("%d keys are left, note %d, %v", n, m.leases.notes[7], left)
	}
}

// TestLeaderlessShardHoldsUpItsOwn: the places for ends of leases are for each shard: one that does not answer takes none of another's.
func TestLeaderlessShardHoldsUpItsOwn(t *testing.T) {
	options := testOptions(1)
	options.Sequenced = true
	g := group{}
	if err := g.elect(mustOpen(options), 1); err != nil {
		t.Fatal(err)
	}
	m, s := g.leader, &keysShard{t: t, g: g, last: 1}
	ended := func(id kv.LeaseID, shard kv.ShardID) {
		s.batch(func(m *Machine) {
			m.lead.overlay.addOp(op{kind: opGrant, lease: id, ttl: 60})
			m.lead.overlay.addOp(op{kind: opRegister, lease: id, ttl: 60, shard: shard})
			m.lead.overlay.addOp(op{kind: opEnd, lease: id, ttl: 60})
		})
		s.apply()
	}
	for i := range maxReleases + 10 {
		ended(kv.LeaseID(i+1), 2)
	}
	if n := len(m.Asks()); n != maxReleases {
		t.Errorf("the end of %d leases is asked for in one shard, want %d", n, maxReleases)
	}
	ended(5000, 3)
	asks := m.Asks()
	if len(asks) != 1 || asks[0].Lease() != 5000 || !slices.Equal(m.AskedOf(5000), []kv.ShardID{3}) {
		t.Fatalf("asked of the other shard: %v", asks)
	}
	s.batch(func(m *Machine) {
		if _, decided := m.Answered(&asks[0], &kv.Response{Kind: kv.KindLeaseRelease}, nil, false); !decided {
			t.Error("the release is answered, and the lease does not end")
		}
	})
	if n := m.lead.asking.ofShard[3]; n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}

// TestEndingsOfSeveralShards: a bounded number of leases with keys in several shards ends at a time, and takes no place of those with one. One that is too large
// for a transaction ends shard by shard.
func TestEndingsOfSeveralShards(t *testing.T) {
	options := testOptions(1)
	options.Sequenced = true
	g := group{}
	if err := g.elect(mustOpen(options), 1); err != nil {
		t.Fatal(err)
	}
	m, s := g.leader, &keysShard{t: t, g: g, last: 1}
	ended := func(id kv.LeaseID, shards ...kv.ShardID) {
		s.batch(func(m *Machine) {
			m.lead.overlay.addOp(op{kind: opGrant, lease: id, ttl: 60})
			for _, shard := range shards {
				m.lead.overlay.addOp(op{kind: opRegister, lease: id, ttl: 60, shard: shard})
			}
			m.lead.overlay.addOp(op{kind: opEnd, lease: id, ttl: 60})
		})
		s.apply()
	}
	answered := func(a *Ask, err error) (decided bool) {
		s.batch(func(m *Machine) { _, decided = m.Answered(a, &kv.Response{Kind: a.Request.Kind}, err, false) })
		s.apply()
		return decided
	}
	for i := range maxEndings + 10 {
		ended(kv.LeaseID(i+1), 2, 3)
	}
	asks := m.Asks()
	if len(asks) != maxEndings || asks[0].Request.Kind != kv.KindLeaseEnd || !slices.Equal(asks[0].Request.LeaseBinding.Shards, []kv.ShardID{2, 3}) {
		t.Fatalf("the end of %d leases is asked for, want %d; the first: %+v", len(asks), maxEndings, asks[0].Request)
	}
	ended(5000, 2)
	if asks := m.Asks(); len(asks) != 1 || asks[0].Request.Kind != kv.KindLeaseRelease {
		t.Errorf("asked for a lease with keys in one shard: %v", asks)
	}
	if !answered(&asks[0], nil) || m.leases.byID[asks[0].Lease()] != nil {
		t.Error("the transaction is answered, and the lease does not end")
	}
	ended(5001, 3, 4)
	if asks := m.Asks(); len(asks) != 1 || asks[0].Lease() != 5001 {
		t.Errorf("asked when there is one place: %v", asks)
	}

	large := &asks[1]
	for i, err := 0, error(kv.ErrRequestTooLarge); i < 2; i, err = i+1, nil {
		if answered(large, err) || m.leases.byID[large.Lease()] == nil {
			t.Fatalf("it has ended before the keys of all shards were gone: %d", i)
		}
		next := m.Asks()
		if len(next) != 1 || next[0].Request.Kind != kv.KindLeaseRelease || next[0].Lease() != large.Lease() || next[0].Request.LeaseBinding.Shard != kv.ShardID(i+2) {
			t.Fatalf("asked for a part of a lease that is too large for a transaction: %v", next)
		}
		large = &next[0]
	}
	if id := large.Lease(); !answered(large, nil) || m.leases.byID[id] != nil || len(m.lead.asking.pieces) > 0 {
		t.Error("all parts are answered, and the lease does not end")
	}
}

// TestKeysOfAnEndingLease: the system shard does not list keys of a lease that is ending. They may be gone here, and another shard may have listed its own before.
func TestKeysOfAnEndingLease(t *testing.T) {
	options := testOptions(1)
	options.Sequenced = true
	g := group{}
	if err := g.elect(mustOpen(options), 1); err != nil {
		t.Fatal(err)
	}
	m, s := g.leader, &keysShard{t: t, g: g, last: 1}
	s.batch(func(m *Machine) { m.lead.overlay.addOp(op{kind: opGrant, lease: 7, ttl: 60}) })
	s.apply()
	s.do("put m0 v lease=7")
	asked := &kv.Request{Kind: kv.KindLeaseKeys, LeaseBinding: &kv.LeaseBinding{Lease: 7, Incarnation: m.leases.byID[7].incarnation, Shard: kv.SystemShard}}
	for _, ending := range []bool{false, true} {
		if ending {
			s.batch(func(m *Machine) {
				m.lead.overlay.addOp(op{kind: opRegister, lease: 7, ttl: 60, shard: 2})
				m.lead.overlay.addOp(op{kind: opEnd, lease: 7, ttl: 60})
			})
			s.apply()
		}
		out := s.evaluate(asked)
		s.apply()
		if out.Response == nil || (out.Response.LeaseTimeToLive.Binding == nil) != ending || (len(out.Response.LeaseTimeToLive.Keys) == 0) != ending {
			t.Errorf("ending %v: %+v", ending, out)
		}
	}
}
