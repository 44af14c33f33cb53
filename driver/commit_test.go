package driver

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// impatient is an asker who can give up.
type impatient struct{ gone bool }

func (i *impatient) Waits() bool       { return !i.gone }
func (*impatient) Alone() bool         { return false }
func (*impatient) Elsewhere() bool     { return false }
func (*impatient) Left() time.Duration { return time.Hour }

// proposal is a request at a leader, and what became of it.
type proposal struct {
	resp    *kv.Response
	err     error
	answers int
}

func proposeTo(r *Replica, req *kv.Request, by kv.Asker) *proposal {
	p := &proposal{}
	r.Propose(req, by, func(resp *kv.Response, _ uint64, err error) { p.resp, p.err, p.answers = resp, err, p.answers+1 })
	return p
}

// TestPreparedTransaction: while a transaction is prepared its keys wait, on every replica, and its shard is not called clean. Who gives up is let go. When it is
// decided all go on.
func TestPreparedTransaction(t *testing.T) {
	for _, verdict := range []kv.Verdict{kv.Commit, kv.Abort} {
		s := newCleanStore(t, 1, false)
		s.holder = 1
		s.awaitLeases()
		at := slices.IndexFunc(s.nodes, func(n *cleanNode) bool { return n.node.driver.Replica(2).IsLeader() })
		driver := s.nodes[at].node.driver
		leader := driver.Replica(2)
		put := func(key, value string) *kv.Request {
			return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte(value)}}
		}
		commit := func(kind kv.Kind, body kv.CommitRequest) *proposal {
			body.ID, body.Shard = kv.TransactionID{Anchor: 1, Term: 1, Number: 1}, 2
			return proposeTo(leader, &kv.Request{Kind: kind, Commit: &body}, nil)
		}
		answered := func(what string, p *proposal) {
			t.Helper()
			s.await(what, func() bool { return p.answers == 1 })
			if p.err != nil {
				t.Fatalf("%s: %v", what, p.err)
			}
		}
		answered("a put", proposeTo(leader, put("k", "old"), nil))
		share := &kv.Share{Ops: []kv.PlacedOp{{Op: kv.Op{Put: put("k", "new").Put}}}}
		prepared := commit(kv.KindTxnPrepare, kv.CommitRequest{Participants: []kv.ShardID{1, 2}, Share: share})
		answered("the prepare", prepared)
		if prepared.resp.Commit.Standing != kv.StandingPrepared || !prepared.resp.Commit.Writes {
			t.Fatalf("%+v", prepared.resp.Commit)
		}
		s.run(200*time.Millisecond, nil) // it is applied everywhere
		revision := s.nodes[at].issue(1)
		driver.CallClean(2, 0)

		impatience := &impatient{}
		blocked, givenUp := proposeTo(leader, put("k", "next"), nil), proposeTo(leader, put("k", "never"), impatience)
		other := proposeTo(leader, put("other", "x"), nil)
		released := make([]int, len(s.nodes))
		for i, n := range s.nodes {
			r := n.node.driver.Replica(2)
			if !r.Held(rangeRequest("k"), revision) || r.Held(rangeRequest("other"), revision) || r.Held(rangeRequest("k"), revision-1) {
				t.Errorf("node %d does not hold what it has to, or more", n.node.id)
			}
			for range 50 {
				r.WaitReleased(rangeRequest("k"), revision, &impatient{gone: true}, func(error) {})
			}
			r.WaitReleased(rangeRequest("k"), revision, &impatient{}, func(err error) {
				if err != nil {
					t.Error(err)
				}
				released[i]++
			})
			if undecided := len(r.Undecided()); (undecided == 1) != (i == at) {
				t.Errorf("node %d has %d undecided", n.node.id, undecided)
			}
		}
		answered("a put of another key", other)
		s.run(200*time.Millisecond, nil)
		impatience.gone = true
		s.run(600*time.Millisecond, nil)
		switch {
		case !errors.Is(givenUp.err, kv.ErrTimeout):
			t.Errorf("who has given up: %d answers, %v", givenUp.answers, givenUp.err)
		case blocked.answers != 0 || slices.Max(released) != 0:
			t.Errorf("%d answers to a blocked put, %v reads released", blocked.answers, released)
		case len(s.words[2]) != 0:
			t.Errorf("the shard is called clean: %+v", s.words[2])
		}
		for _, n := range s.nodes {
			if kept := len(n.node.driver.Replica(2).waits.held); kept > 8 {
				t.Errorf("node %d keeps %d reads, of which one waits", n.node.id, kept)
			}
			if m := n.node.driver.Metrics(); m.UndecidedTransactions != 1 || m.PreparedBytes == 0 {
				t.Errorf("node %d counts %+v", n.node.id, m)
			}
		}

		decision := kv.Decision{Verdict: verdict}
		if verdict == kv.Commit {
			decision.Revision = revision
		}
		answered("the decision", commit(kv.KindTxnResolve, kv.CommitRequest{Decision: decision}))
		answered("the blocked put", blocked)
		s.await("all go on", func() bool { return slices.Min(released) == 1 && len(s.words[2]) > 0 })
		for _, n := range s.nodes {
			if m := n.node.driver.Metrics(); m.UndecidedTransactions != 0 || m.PreparedBytes != 0 || m.TransactionRecords != 1 {
				t.Errorf("node %d counts %+v", n.node.id, m)
			}
			resp, err := n.node.driver.Replica(2).ReadAt(rangeRequest("k"), kv.Present{Revision: revision})
			if want := map[kv.Verdict]string{kv.Commit: "new", kv.Abort: "old"}[verdict]; err != nil || string(resp.Range.KVs[0].Value) != want {
				t.Errorf("node %d has %+v, %v; want %s", n.node.id, resp, err, want)
			}
		}
		s.judge(1, 2, s.words[2])
	}
}

// TestShareWaitsForALeaseBriefly: the share of a transaction over several shards waits for a second at most for what another shard says about a lease: the end of the
// lease may wait for the transaction. Others wait longer. Then its keys are free.
func TestShareWaitsForALeaseBriefly(t *testing.T) {
	s := newCleanStore(t, 1, false)
	s.holder = 1
	s.awaitLeases()
	at := slices.IndexFunc(s.nodes, func(n *cleanNode) bool { return n.node.driver.Replica(2).IsLeader() })
	driver := s.nodes[at].node.driver
	asked := 0
	driver.AskWith(func(req *kv.Request, _ func(*kv.Response, error)) { // nobody answers
		if req.Kind == kv.KindLeaseAttach {
			asked++
		}
	})
	leader := driver.Replica(2)
	put := func(key string, lease kv.LeaseID) *kv.PutRequest {
		return &kv.PutRequest{Key: []byte(key), Lease: lease}
	}
	share := &kv.Share{Ops: []kv.PlacedOp{{Op: kv.Op{Put: put("k", 9)}}}}
	prepare := &kv.Request{Kind: kv.KindTxnPrepare, Commit: &kv.CommitRequest{
		ID: kv.TransactionID{Anchor: 1, Term: 1, Number: 1}, Shard: 2, Participants: []kv.ShardID{1, 2}, Share: share}}
	prepared := proposeTo(leader, prepare, nil)
	waits := proposeTo(leader, &kv.Request{Kind: kv.KindPut, Put: put("other", 9)}, &impatient{})
	s.run(prepareWaits-200*time.Millisecond, nil)
	if asked != 1 || prepared.answers != 0 {
		t.Errorf("asked %d times; %d answers, %v: it does not wait", asked, prepared.answers, prepared.err)
	}
	s.await("the answer to the share", func() bool { return prepared.answers == 1 })
	if !errors.Is(prepared.err, kv.ErrLeaseWaits) {
		t.Errorf("the share: %v, want %v", prepared.err, kv.ErrLeaseWaits)
	}
	free := proposeTo(leader, &kv.Request{Kind: kv.KindPut, Put: put("k", 0)}, nil)
	s.await("a put of its key", func() bool { return free.answers == 1 })
	s.run(2*prepareWaits, nil)
	if free.err != nil || waits.answers != 0 {
		t.Errorf("a put of its key: %v; another put with the lease: %d answers, %v", free.err, waits.answers, waits.err)
	}
}
