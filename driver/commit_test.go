package driver

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
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
			if kept := len(n.node.driver.driven(2).waits.held); kept > 8 {
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

// leaderOf is the node that leads a group.
func (s *cleanStore) leaderOf(group consensus.GroupID) *clusterNode {
	at := slices.IndexFunc(s.nodes, func(n *cleanNode) bool { return n.node.driver.Replica(group).IsLeader() })
	return s.nodes[at].node
}

func leasedPut(key string, lease kv.LeaseID) *kv.Request {
	return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte("v"), Lease: lease}}
}

// prepareRequest prepares the share of shard 2: a put.
func prepareRequest(number uint64, put *kv.PutRequest, patient bool) *kv.Request {
	return &kv.Request{Kind: kv.KindTxnPrepare, Commit: &kv.CommitRequest{
		ID: kv.TransactionID{Anchor: 1, Term: 1, Number: number}, Shard: 2, Participants: []kv.ShardID{1, 2}, Patient: patient,
		Share: &kv.Share{Ops: []kv.PlacedOp{{Op: kv.Op{Put: put}}}},
	}}
}

func resolveRequest(number uint64, decision kv.Decision) *kv.Request {
	return &kv.Request{Kind: kv.KindTxnResolve, Commit: &kv.CommitRequest{ID: kv.TransactionID{Anchor: 1, Term: 1, Number: number}, Shard: 2, Decision: decision}}
}

// TestRefusedPrepareLeavesTheQueue: a prepare that has waited for locks, and is refused then for a lease that another shard says it does not have, holds up
// nobody who comes after it.
func TestRefusedPrepareLeavesTheQueue(t *testing.T) {
	s := newCleanStore(t, 1, false)
	s.holder = 1
	s.awaitLeases()
	node := s.leaderOf(2)
	asked := 0
	node.driver.AskWith(func(req *kv.Request, done func(*kv.Response, error)) {
		asked++
		if req.Kind != kv.KindLeaseAttach {
			t.Errorf("asked for %d", req.Kind)
		}
		s.at(5*time.Millisecond, func() { done(nil, kv.ErrLeaseNotFound) })
	})
	leader := node.driver.Replica(2)
	first := proposeTo(leader, prepareRequest(1, leasedPut("k", 0).Put, false), nil)
	s.await("the first prepare", func() bool { return first.answers == 1 })
	second := proposeTo(leader, prepareRequest(2, leasedPut("k", 7).Put, true), nil)
	s.run(50*time.Millisecond, nil)
	if first.err != nil || second.answers != 0 || asked != 0 {
		t.Fatalf("the first prepare: %v; the second has %d answers, %d questions about its lease", first.err, second.answers, asked)
	}
	third := proposeTo(leader, prepareRequest(3, leasedPut("k", 0).Put, true), nil)
	resolved := proposeTo(leader, resolveRequest(1, kv.Decision{Verdict: kv.Abort}), nil)
	s.await("the end of the first", func() bool { return resolved.answers == 1 && second.answers == 1 })
	if !errors.Is(second.err, kv.ErrLeaseNotFound) || asked != 1 {
		t.Fatalf("the second prepare: %+v, %v; %d questions", second.resp, second.err, asked)
	}
	s.run(time.Second, nil)
	if third.answers != 1 || third.err != nil || third.resp.Commit.Standing != kv.StandingPrepared {
		t.Errorf("the prepare after the one that was refused: %d answers, %+v, %v", third.answers, third.resp, third.err)
	}
}

// TestJumpSaysBoth: who is told of a snapshot hears up to where it is closed, and what its highest revision is, if a transaction that is prepared lies between.
func TestJumpSaysBoth(t *testing.T) {
	s := newCleanStore(t, 1, false, func(o *Options) { o.FlushLogEntries, o.RetainLogEntries = 20, 1 })
	s.holder = 1
	s.awaitLeases()
	leader := s.leaderOf(2)
	behind := s.cluster.nodes[(leader.index+1)%3]
	if s.leaderOf(1) == behind {
		behind = s.cluster.nodes[(leader.index+2)%3]
	}
	var jumps []shard.Applied
	behind.driver.Replica(2).Subscribe(func(a *shard.Applied) {
		if a.Jump {
			jumps = append(jumps, *a)
		}
	})
	do := func(req *kv.Request) {
		p := proposeTo(leader.driver.Replica(2), req, nil)
		s.await("an answer", func() bool { return p.answers == 1 })
		if p.err != nil {
			t.Fatal(p.err)
		}
	}
	do(leasedPut("before", 0))
	behind.cut = true
	do(prepareRequest(1, leasedPut("k", 0).Put, false))
	for i := range 100 {
		do(leasedPut(fmt.Sprint("meanwhile ", i), 0))
	}
	machine := leader.driver.Replica(2).machine
	behind.cut = false
	s.await("a snapshot", func() bool { return len(jumps) > 0 })
	highest, closed := machine.Highest(), machine.Closed()
	if jumps[0].Revision != highest || jumps[0].Closed != closed || closed >= highest-50 {
		t.Errorf("the jump says revision %d, closed at %d; the shard has %d, closed at %d", jumps[0].Revision, jumps[0].Closed, highest, closed)
	}
}

// syncsSeen is an asker who takes note of when its request is evaluated.
type syncsSeen struct {
	impatient
	driver *Driver
	syncs  []uint64
}

func (s *syncsSeen) Waits() bool {
	s.syncs = append(s.syncs, s.driver.Metrics().Syncs)
	return true
}

// TestGranted: who has a share prepared hears when it has its locks, before it is in the log, without a lock held. What that brings is
// evaluated before the write.
func TestGranted(t *testing.T) {
	s := newCleanStore(t, 1, false)
	s.holder = 1
	s.awaitLeases()
	at := slices.IndexFunc(s.nodes, func(n *cleanNode) bool { return n.node.driver.Replica(2).IsLeader() })
	driver := s.nodes[at].node.driver
	leader := driver.driven(2)
	put := func(key string) *kv.Request {
		return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte("x")}}
	}
	evaluated, told := &syncsSeen{driver: driver}, uint64(0)
	granted, prepared, brought := 0, &proposal{}, &proposal{}
	body := kv.CommitRequest{ID: kv.TransactionID{Anchor: 1, Term: 1, Number: 1}, Shard: 2, Participants: []kv.ShardID{1, 2}, Patient: true,
		Share: &kv.Share{Ops: []kv.PlacedOp{{Op: kv.Op{Put: put("k").Put}}}}}
	body.Granted = func() {
		granted, told = granted+1, driver.Metrics().Syncs
		if leader.Held(rangeRequest("k"), 1<<40) || prepared.answers != 0 {
			t.Error("the prepare is applied, or answered, when its locks are told of")
		}
		if !leader.mu.TryLock() {
			t.Error("a lock of the replica is held")
		} else {
			leader.mu.Unlock()
		}
		next := kv.CommitRequest{ID: kv.TransactionID{Anchor: 1, Term: 1, Number: 2}, Shard: 2, Participants: body.Participants,
			Share: &kv.Share{Ops: []kv.PlacedOp{{Op: kv.Op{Put: put("b").Put}}}}}
		leader.Propose(&kv.Request{Kind: kv.KindTxnPrepare, Commit: &next}, evaluated, func(resp *kv.Response, _ uint64, err error) {
			*brought = proposal{resp, err, brought.answers + 1}
		})
	}
	leader.Propose(&kv.Request{Kind: kv.KindTxnPrepare, Commit: &body}, nil, func(resp *kv.Response, _ uint64, err error) {
		*prepared = proposal{resp, err, prepared.answers + 1}
	})
	s.await("a prepare, and what it brings", func() bool { return prepared.answers == 1 && brought.answers == 1 })
	switch {
	case prepared.err != nil || brought.err != nil:
		t.Fatal(prepared.err, brought.err)
	case granted != 1 || prepared.resp.Commit.Standing != kv.StandingPrepared:
		t.Errorf("locks are told of %d times; %+v", granted, prepared.resp.Commit)
	case len(evaluated.syncs) != 1 || evaluated.syncs[0] != told:
		t.Errorf("after %d syncs locks were told of, and what that brought was evaluated after %d", told, evaluated.syncs)
	}

	// When the leadership begins anew, it must not wait for them again.
	lost := &proposal{}
	q := request{replica: leader, req: &kv.Request{Kind: kv.KindTxnPrepare, Commit: &body}, granted: true}
	q.done = func(resp *kv.Response, _ uint64, err error) { *lost = proposal{resp, err, lost.answers + 1} }
	driver.letIn(0)
	leader.evaluateAgain(q)
	s.await("the answer to who lost its locks", func() bool { return lost.answers == 1 })
	if lost.err != nil || !lost.resp.Commit.Busy {
		t.Errorf("%+v, %v", lost.resp, lost.err)
	}
}

// TestAbortedWhileItWaits: a prepare that waits for locks is answered when its transaction is aborted, though the locks are not free, and so is the same prepare
// that was asked twice. Who waits behind it goes on.
func TestAbortedWhileItWaits(t *testing.T) {
	s := newCleanStore(t, 1, false)
	s.holder = 1
	s.awaitLeases()
	leader := s.leaderOf(2).driver.Replica(2)
	spans := func(number uint64, keys ...string) *kv.Request {
		r := prepareRequest(number, leasedPut(keys[0], 0).Put, true)
		for _, key := range keys[1:] {
			r.Commit.Share.Ops = append(r.Commit.Share.Ops, kv.PlacedOp{Place: 1, Op: kv.Op{Put: leasedPut(key, 0).Put}})
		}
		return r
	}
	first := proposeTo(leader, spans(1, "k"), nil)
	s.await("the first prepare", func() bool { return first.answers == 1 })
	second, twice := proposeTo(leader, spans(2, "k", "m"), nil), proposeTo(leader, spans(2, "k", "m"), nil)
	put := proposeTo(leader, leasedPut("m", 0), nil)
	s.run(100*time.Millisecond, nil)
	if second.answers+twice.answers+put.answers != 0 {
		t.Fatalf("%d, %d and %d answers to who waits", second.answers, twice.answers, put.answers)
	}
	proposeTo(leader, resolveRequest(2, kv.Decision{Verdict: kv.Abort}), nil)
	s.run(100*time.Millisecond, nil)
	for _, p := range []*proposal{second, twice} {
		if p.answers != 1 || p.err != nil || p.resp.Commit.Standing != kv.StandingResolved {
			t.Errorf("a prepare that is aborted while it waits: %d answers, %+v, %v", p.answers, p.resp, p.err)
		}
	}
	if put.answers != 1 || put.err != nil {
		t.Errorf("a put behind it: %d answers, %v", put.answers, put.err)
	}
}

// TestNobodyStarves: behind a transaction that is prepared wait a put of its key, a large transaction, and small ones; others come all the time. They have their
// turns in the order in which they came.
func TestNobodyStarves(t *testing.T) {
	s := newCleanStore(t, 1, false)
	s.holder = 1
	s.awaitLeases()
	leader := s.leaderOf(2).driver.Replica(2)
	keys := []string{"a", "b", "c", "d"}
	number := uint64(0)
	var order []string
	small := func() { // one key each, patient, and decided as soon as it is prepared
		number++
		n := number
		leader.Propose(prepareRequest(n, leasedPut(keys[n%4], 0).Put, true), nil, func(resp *kv.Response, _ uint64, err error) {
			if err != nil || resp.Commit.Standing != kv.StandingPrepared {
				t.Errorf("a small one: %+v, %v", resp, err)
			}
			order = append(order, fmt.Sprint("small ", n))
			s.at(time.Duration(20+7*(n%4))*time.Millisecond, func() { proposeTo(leader, resolveRequest(n, kv.Decision{Verdict: kv.Abort}), nil) })
		})
	}
	for range 8 {
		small() // two of each key, of which the second waits
	}
	s.run(5*time.Millisecond, nil)
	put := leasedPut("a", 0)
	leader.Propose(put, nil, func(*kv.Response, uint64, error) { order = append(order, "put") })
	s.run(time.Millisecond, nil)
	large := prepareRequest(1000, leasedPut("a", 0).Put, true)
	for i, key := range keys[1:] {
		large.Commit.Share.Ops = append(large.Commit.Share.Ops, kv.PlacedOp{Place: uint32(i + 1), Op: kv.Op{Put: leasedPut(key, 0).Put}})
	}
	leader.Propose(large, nil, func(*kv.Response, uint64, error) { order = append(order, "large") })
	s.run(time.Millisecond, nil)
	for len(order) < 40 && s.now < time.Hour {
		small()
		s.run(5*time.Millisecond, nil)
		if slices.Contains(order, "large") && number > 40 {
			break
		}
	}
	putAt, largeAt := slices.Index(order, "put"), slices.Index(order, "large")
	if putAt < 0 || largeAt != 9 || putAt > largeAt {
		t.Errorf("in order: %q; the put and the large one come behind the first 8", order)
	}
}
