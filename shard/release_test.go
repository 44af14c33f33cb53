package shard

import (
	"errors"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// about is a question about a transaction of shard 1 over shards 1 and 2, to the latter.
func about(kind kv.Kind, number uint64, body kv.CommitRequest) *kv.Request {
	body.ID, body.Shard = kv.TransactionID{Anchor: 1, Term: 1, Number: number}, 2
	if kind == kv.KindTxnPrepare {
		body.Participants = []kv.ShardID{1, 2}
	}
	return &kv.Request{Kind: kind, Commit: &body}
}

func releasing(number uint64, id kv.LeaseID, incarnation uint64, patient bool) *kv.Request {
	share := &kv.Share{Release: &kv.LeaseBinding{Lease: id, Incarnation: incarnation, Shard: 2}}
	return about(kv.KindTxnPrepare, number, kv.CommitRequest{Share: share, Patient: patient})
}

// prepared expects that a share is prepared, and that it changes something, or does not.
func (s *keysShard) prepared(writes bool, r *kv.Request) {
	s.t.Helper()
	out := s.evaluate(r)
	if out.Response == nil || out.Response.Commit.Standing != kv.StandingPrepared || out.Response.Commit.Writes != writes {
		s.t.Fatalf("%+v, want it prepared, and to change something: %v", out, writes)
	}
	s.apply()
}

func (s *keysShard) end(number uint64, verdict kv.Verdict) {
	s.t.Helper()
	decision := kv.Decision{Verdict: verdict}
	if verdict == kv.Commit {
		s.last++
		decision.Revision = s.last
	}
	if out := s.evaluate(about(kv.KindTxnResolve, number, kv.CommitRequest{Decision: decision})); out.Response == nil {
		s.t.Fatalf("%+v", out)
	}
	s.apply()
}

func (s *keysShard) expectKeys(id kv.LeaseID, want int, note uint64) {
	s.t.Helper()
	m := s.g.leader
	if keys, err := m.attached(id, "", 0, nil); err != nil || len(keys) != want || m.leases.notes[id] != note {
		s.t.Errorf("lease %d has keys %q and note %d, %v; want %d, and note %d", id, keys, m.leases.notes[id], err, want, note)
	}
}

// TestReleaseShare: from its prepare on a share that ends a lease holds the lease's keys, and the lease gets no other. It deletes none of a later lease with the same
// ID, and leaves that one's note.
func TestReleaseShare(t *testing.T) {
	s := newKeysShard(t, testOptions(1))
	s.prepared(true, releasing(1, 8, 4, false))
	s.prepared(true, releasing(1, 8, 4, false)) // it comes twice
	s.blocked("prepared", true, "put m0 w", "del m1", "put n v lease=8")
	s.blocked("prepared", false, "put n v lease=7", "put o v")
	if out := s.evaluate(releasing(2, 8, 4, false)); out.Response == nil || !out.Response.Commit.Busy {
		t.Errorf("another transaction for the same lease: %+v", out)
	}
	s.batch(func(m *Machine) { m.lead.overlay.addOp(op{kind: opNote, lease: 8, incarnation: 9}) })
	s.apply()
	s.end(1, kv.Commit)
	s.expectKeys(8, 0, 9)
	s.do("put m0 v lease=8")

	s.prepared(false, releasing(3, 8, 4, false)) // it comes late
	s.end(3, kv.Commit)
	s.expectKeys(8, 1, 9)
	s.prepared(true, releasing(4, 8, 9, false))
	s.end(4, kv.Abort)
	s.expectKeys(8, 1, 9)
	s.blocked("aborted", false, "put m0 w lease=8")
	s.prepared(true, releasing(5, 8, 9, false))
	s.end(5, kv.Commit)
	s.expectKeys(8, 0, 0)
}

// TestReleaseShareWaits: it meets the lock of another transaction on one of the keys, or one that gives the lease a key.
func TestReleaseShareWaits(t *testing.T) {
	for _, o := range []kv.Op{
		{DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: []byte("m1")}}},
		{Put: &kv.PutRequest{Key: []byte("new"), Lease: 8}},
	} {
		s := newKeysShard(t, testOptions(1))
		s.prepared(true, about(kv.KindTxnPrepare, 1, kv.CommitRequest{Share: &kv.Share{Ops: []kv.PlacedOp{{Op: o}}}}))
		if out := s.evaluate(releasing(2, 8, 4, false)); out.Response == nil || !out.Response.Commit.Busy {
			t.Errorf("%+v, want it busy", out)
		}
		patient := s.evaluate(releasing(3, 8, 4, true))
		if patient.Beside == nil || !s.g.leader.Contended() {
			t.Errorf("%+v, want it to wait", patient)
		}
		s.apply()
		// Nobody gets a lock in front of it.
		later := about(kv.KindTxnPrepare, 5, kv.CommitRequest{Share: &kv.Share{Ops: []kv.PlacedOp{{Op: kv.Op{Put: &kv.PutRequest{Key: []byte("y")}}}}}})
		if out := s.evaluate(later); out.Response == nil || !out.Response.Commit.Busy {
			t.Errorf("a transaction that comes later: %+v", out)
		}
		s.blocked("waiting", true, "put n v lease=8", "put m0 w")
		s.blocked("waiting", false, "put n v", "put o v lease=7")
		if job := s.g.leader.NextBeside(); job != nil {
			t.Error("it goes on though a key is locked")
		}
		s.end(1, kv.Commit)
		s.beside(patient.Beside, true)
		s.prepared(true, releasing(3, 8, 4, true))
		put := about(kv.KindTxnPrepare, 4, kv.CommitRequest{Share: &kv.Share{Ops: []kv.PlacedOp{{Op: kv.Op{Put: &kv.PutRequest{Key: []byte("x"), Lease: 8}}}}}})
		if out := s.evaluate(put); out.Response == nil || !out.Response.Commit.Busy {
			t.Errorf("a transaction that gives the lease a key: %+v", out)
		}
		s.end(3, kv.Commit)
		s.expectKeys(8, 0, 0)
	}
}

// beside decides a share beside the rounds, and expects that it is prepared, and that it changes something, or does not.
func (s *keysShard) beside(job *Beside, writes bool) {
	s.t.Helper()
	if next := s.g.leader.NextBeside(); next != job {
		s.t.Fatal("it is not to be run yet")
	}
	job.Run(func() bool { return false })
	var out Outcome
	s.batch(func(m *Machine) { out = m.FinishBeside(job) })
	if out.Response == nil || out.Response.Commit.Standing != kv.StandingPrepared || out.Response.Commit.Writes != writes {
		s.t.Fatalf("%+v, want it prepared, and to change something: %v", out, writes)
	}
	s.apply()
}

// TestReleaseShareOfManyKeys: one with many keys is decided beside the rounds, and is refused if it is too large for a transaction.
func TestReleaseShareOfManyKeys(t *testing.T) {
	for _, tooLarge := range []bool{false, true} {
		options := testOptions(1)
		if tooLarge {
			options.MaxShareBytes = 300
		}
		s := newKeysShard(t, options)
		out := s.evaluate(releasing(1, 7, 3, false))
		if out.Beside == nil {
			t.Fatalf("%+v, want it beside the rounds", out)
		}
		s.apply()
		job := s.g.leader.NextBeside()
		if job != out.Beside {
			t.Fatal("it is not to be run yet")
		}
		s.blocked("beside", true, "put l3 w", "put n v lease=7")
		job.Run(func() bool { return false })
		s.batch(func(m *Machine) { out = m.FinishBeside(job) })
		s.apply()
		if tooLarge {
			if !errors.Is(out.Err, kv.ErrRequestTooLarge) {
				t.Errorf("%+v, want that it is too large", out)
			}
			s.blocked("refused", false, "put l3 w lease=7")
			continue
		}
		if out.Response == nil || !out.Response.Commit.Writes {
			t.Fatalf("%+v", out)
		}
		s.blocked("prepared", true, "put l3 w", "put n v lease=7")
		s.end(1, kv.Commit)
		s.expectKeys(7, 0, 0)
	}
}
