package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/gateway/gather"
	"github.com/quoratedb/quorate/gateway/route"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/txn"
)

// transacting returns options of a store of two shards whose keys begin with their numbers, which serves writes over both.
func transacting(t testing.TB, protocol txn.Protocol) Options {
	t.Helper()
	scheme := partition.Scheme{Kind: partition.Range, Shards: 2, SplitKeys: [][]byte{[]byte("2")}}
	table, err1 := partition.New(scheme)
	router, err2 := route.By(scheme)
	gatherer, err3 := gather.By(scheme)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return Options{Router: router, Gather: gatherer, Table: table, Commit: protocol}
}

// run lets everything that is on its way arrive, and time go on.
func run(first, second *cluster, total time.Duration) {
	for range 2 {
		exchangeBoth(first, second)
	}
	for past := time.Duration(0); past < total; past += 50 * time.Millisecond {
		first.tick(50 * time.Millisecond)
		for _, n := range first.nodes {
			n.gateway.reading.wait()
		}
		exchangeBoth(first, second)
	}
}

func putTo(key, value string) kv.Op {
	return kv.Op{Put: &kv.PutRequest{Key: []byte(key), Value: []byte(value), PrevKV: true}}
}

func getFrom(key string) kv.Op {
	return kv.Op{Range: &kv.RangeRequest{Span: kv.Span{Start: []byte(key)}}}
}

func valueIs(key, value string) kv.Compare {
	return kv.Compare{Span: kv.Span{Start: []byte(key)}, Target: kv.CompareValue, Value: []byte(value)}
}

// opsText says what the operations of a transaction were answered.
func opsText(r *result) string {
	switch {
	case r.answers == 0:
		return ""
	case r.err != nil:
		return "error: " + errorText(r.err)
	}
	text := fmt.Sprintf("revision %d, %v:", r.resp.Revision, r.resp.Txn.Succeeded)
	for _, op := range r.resp.Txn.Responses {
		switch {
		case op.Put != nil && op.Put.Prev != nil:
			text += fmt.Sprintf(" was %s@%d", op.Put.Prev.Value, op.Put.Prev.ModRevision)
		case op.Put != nil:
			text += " new"
		case op.Range != nil:
			for _, e := range op.Range.KVs {
				text += fmt.Sprintf(" %s=%s@%d", e.Key, e.Value, e.ModRevision)
			}
		}
	}
	return text
}

func expect(t *testing.T, what string, r *result, want string) {
	t.Helper()
	if got := opsText(r); got != want || r.answers > 1 {
		t.Errorf("%s: answered %q, %d times; want %q", what, got, r.answers, want)
	}
}

// quiet checks that no transaction is undecided, no call in flight, and that the keys are free.
func quiet(t *testing.T, first, second *cluster) {
	t.Helper()
	for _, c := range []*cluster{first, second} {
		for id, n := range c.nodes {
			for _, u := range n.Undecided() {
				if u.Decision.Verdict == kv.Undecided {
					t.Errorf("node %d, shard %d: %+v is undecided", id, c.shard, u)
				}
			}
		}
	}
	for id, n := range first.nodes {
		if calls := n.gateway.Metrics().CallsInFlight; calls != 0 {
			t.Errorf("node %d has %d calls", id, calls)
		}
		if err := n.gateway.Check(); err != nil {
			t.Error(err)
		}
	}
	for _, key := range []string{"1a", "2a"} {
		r := submit(first.nodes[1].gateway, putValue(key, "free"))
		run(first, second, 0)
		if r.answers != 1 || r.err != nil {
			t.Errorf("put %s: %d answers, %v", key, r.answers, r.err)
		}
	}
}

// TestWritesOverShards: a write over two shards takes effect in both at one revision, with either protocol, whoever leads what and whoever is asked; compares are
// evaluated, and who reads afterwards finds it.
func TestWritesOverShards(t *testing.T) {
	for _, protocol := range []txn.Protocol{txn.TwoPhase, txn.ThreePhase} {
		for _, leaders := range [][3]kv.NodeID{{1, 1, 1}, {1, 2, 3}, {3, 2, 1}, {2, 1, 2}} {
			first, second, c := storeWith(t, transacting(t, protocol), leaders[0], leaders[1], leaders[2])
			for id := kv.NodeID(1); id <= 3; id++ {
				g := first.nodes[id].gateway
				value := fmt.Sprint("v", id)
				before := c.last
				write := &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{
					Compare: []kv.Compare{valueIs("2b", "old")}, Success: []kv.Op{putTo("1a", value), putTo("2a", value), getFrom("1a")},
				}}
				r := submit(g, write)
				run(first, second, 200*time.Millisecond)
				want := fmt.Sprintf("revision %d, true: was old@2 was old@3 1a=v1@%d", before+1, before+1)
				if id > 1 {
					want = fmt.Sprintf("revision %d, true: was v%d@%d was v%d@%d 1a=%s@%d", before+1, id-1, before, id-1, before, value, before+1)
				}
				expect(t, "a write over both", r, want)
				for at, n := range first.nodes {
					read := submit(n.gateway, getRange("1", "3"))
					run(first, second, 50*time.Millisecond)
					says(t, fmt.Sprintf("a list at node %d", at), read, fmt.Sprintf("revision %d: 1a=%s@%d 2a=%s@%d 2b=old@4", c.last, value, c.last, value, c.last))
				}
			}
			g := first.nodes[1].gateway
			write := &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{
				Compare: []kv.Compare{valueIs("2b", "new"), valueIs("1a", "v3")}, Success: []kv.Op{putTo("1a", "x"), putTo("2a", "x")}, Failure: []kv.Op{putTo("2b", "y"), putTo("1b", "y")},
			}}
			other := submit(g, write)
			run(first, second, 200*time.Millisecond)
			expect(t, "the other branch", other, fmt.Sprintf("revision %d, false: was old@4 new", c.last))
			reads := submit(g, &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{
				Compare: []kv.Compare{valueIs("2b", "old")}, Success: []kv.Op{putTo("1a", "x"), putTo("2a", "x")}, Failure: []kv.Op{getFrom("1b"), getFrom("2b")},
			}})
			run(first, second, 200*time.Millisecond)
			expect(t, "a branch that only reads", reads, fmt.Sprintf("revision %d, false: 1b=y@%d 2b=y@%d", c.last, c.last, c.last))
			all := submit(g, &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Everything(), PrevKV: true}})
			run(first, second, 200*time.Millisecond)
			if all.answers != 1 || all.err != nil || all.resp.DeleteRange.Deleted != 4 || len(all.resp.DeleteRange.Prev) != 4 {
				t.Errorf("a deletion in both: %d answers, %+v, %v", all.answers, all.resp, all.err)
			}
			sum := Metrics{}
			for _, n := range first.nodes {
				m := n.gateway.Metrics()
				sum.Transactions, sum.TransactionsDone = sum.Transactions+m.Transactions, sum.TransactionsDone+m.TransactionsDone
			}
			if sum.Transactions != 6 || sum.TransactionsDone != 6 {
				t.Errorf("%d writes over shards are counted, %d of them done", sum.Transactions, sum.TransactionsDone)
			}
			quiet(t, first, second)
		}
	}
}

func writeBoth(value string) *kv.Request {
	return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: []kv.Op{putTo("1a", value), putTo("2a", value)}}}
}

// TestWriteOverShardsIsCanceled: before it is asked to be decided it has no effect, and its keys are free again. Deadlines do the same.
func TestWriteOverShardsIsCanceled(t *testing.T) {
	for what, end := range map[string]func(*cluster, *Gateway, *Call){
		"request canceled":  func(_ *cluster, g *Gateway, c *Call) { g.Cancel(c) },
		"request timed out": func(c *cluster, _ *Gateway, _ *Call) { c.tick(8 * time.Second) },
	} {
		first, second, c := storeWith(t, transacting(t, txn.TwoPhase), 1, 2, 3)
		c.holdMulti = true
		g := first.nodes[1].gateway
		r := &result{}
		call := &Call{Req: writeBoth("x"), Done: func(resp *kv.Response, err error) { r.resp, r.err, r.answers = resp, err, r.answers+1 }}
		g.Submit(call)
		run(first, second, 0)
		if r.answers != 0 || len(c.multis) != 1 {
			t.Fatalf("%d answers and %d questions for a revision", r.answers, len(c.multis))
		}
		end(first, g, call)
		expect(t, what, r, "error: "+what)
		c.holdMulti = false
		c.multis[0]() // it comes late
		run(first, second, 500*time.Millisecond)
		read := submit(g, getRange("1", "3"))
		run(first, second, 1500*time.Millisecond) // nobody calls the shards clean here, so that it asks their leaders after a second
		if read.answers != 1 || strings.Contains(responseText(read.resp, read.err), "=x@") {
			t.Errorf("%s: afterwards there is %s", what, responseText(read.resp, read.err))
		}
		if m := g.Metrics(); m.TransactionsLate != 1 {
			t.Errorf("%s: counted as %+v", what, m)
		}
		quiet(t, first, second)
	}
}

// TestCoordinatorIsDeposed: what its leadership has not asked to be decided has no effect, and begins again at the next leader, who also frees what was prepared.
func TestCoordinatorIsDeposed(t *testing.T) {
	for _, protocol := range []txn.Protocol{txn.TwoPhase, txn.ThreePhase} {
		first, second, c := storeWith(t, transacting(t, protocol), 1, 2, 3)
		c.holdMulti = true
		r := submit(first.nodes[3].gateway, writeBoth("x"))
		run(first, second, 0)
		if r.answers != 0 || len(c.multis) != 1 {
			t.Fatalf("%d answers and %d questions for a revision", r.answers, len(c.multis))
		}
		c.holdMulti = false
		first.elect(2)
		for _, n := range first.nodes {
			n.gateway.LeaderChanged(kv.SystemShard)
		}
		c.multis[0]()
		run(first, second, 4*time.Second)
		expect(t, "begun again", r, fmt.Sprintf("revision %d, true: was old@2 was old@3", c.last))
		if m := first.nodes[1].gateway.Metrics(); m.Transactions != 1 || m.TransactionsMoved != 1 {
			t.Errorf("the leader before counts %+v", m)
		}
		quiet(t, first, second)
	}
}

// TestCoordinatorIsGone: the process that coordinates ends after all have prepared. Whoever leads its anchor next ends the transaction.
func TestCoordinatorIsGone(t *testing.T) {
	for _, protocol := range []txn.Protocol{txn.TwoPhase, txn.ThreePhase} {
		first, second, c := storeWith(t, transacting(t, protocol), 1, 2, 3)
		c.holdMulti = true
		r := submit(first.nodes[1].gateway, writeBoth("x"))
		run(first, second, 0)
		if r.answers != 0 || len(c.multis) != 1 || len(second.nodes[2].Undecided()) != 1 {
			t.Fatalf("%d answers, %d questions for a revision, undecided are %+v", r.answers, len(c.multis), second.nodes[2].Undecided())
		}
		c.holdMulti = false
		first.nodes[1].gateway.committing.close() // and says nothing more to anybody
		first.elect(3)
		run(first, second, 6*time.Second)
		questions := int64(0)
		for _, n := range first.nodes {
			questions += n.gateway.Metrics().RecoveryQuestions
		}
		if questions == 0 {
			t.Error("nobody has asked anything")
		}
		quiet(t, first, second)
	}
}

// TestOneTenureATerm: a coordinator that was ended does not come back in its term, in which it has given IDs to transactions.
func TestOneTenureATerm(t *testing.T) {
	first, second, _ := storeWith(t, transacting(t, txn.TwoPhase), 1, 2, 3)
	g := first.nodes[1].gateway
	r := submit(g, writeBoth("x"))
	run(first, second, 200*time.Millisecond)
	expect(t, "in the first tenure", r, "revision 5, true: was old@2 was old@3")
	m := &g.links.byShard[1].commits
	g.committing.close()
	if again := m.current(true); again != nil {
		t.Errorf("there is a second tenure of term %d", again.term)
	}
	first.elect(1)
	run(first, second, 0)
	if next := m.current(true); next == nil || next.term != uint64(first.term) {
		t.Errorf("the next leadership has %+v", next)
	}
}

// TestStateOfALiveTransaction: who asks what became of a transaction that is coordinated is told that it is not decided, although the machine could not say so yet.
// Nobody here ends it either, however long it takes.
func TestStateOfALiveTransaction(t *testing.T) {
	first, second, c := storeWith(t, transacting(t, txn.TwoPhase), 1, 2, 3)
	id := kv.TransactionID{Anchor: 1, Term: uint64(first.term), Number: 1}
	ask := func(id kv.TransactionID, at kv.NodeID) (kv.Decision, bool) {
		answer := &result{}
		done := func(resp *kv.Response, err error) {
			answer.resp, answer.err, answer.answers = resp, err, answer.answers+1
		}
		first.nodes[at].gateway.Ask(&kv.Request{Kind: kv.KindTxnState, Commit: &kv.CommitRequest{ID: id, Shard: 1}}, done)
		run(first, second, 0)
		if answer.answers != 1 || answer.err != nil {
			return kv.Decision{}, false
		}
		return answer.resp.Commit.Decision, true
	}
	c.hold, c.holdMulti = true, true
	r := submit(first.nodes[1].gateway, writeBoth("x"))
	run(first, second, 0)
	for _, at := range []kv.NodeID{1, 2} {
		if got, answered := ask(id, at); !answered || got.Verdict != kv.Undecided {
			t.Errorf("from node %d: answered %v, it is %+v", at, answered, got)
		}
	}
	c.hold = false
	for first.nodes[1].number() || second.nodes[2].number() {
	}
	run(first, second, 3*time.Second)
	later := id
	later.Number++
	if got, answered := ask(later, 2); !answered || got.Verdict != kv.Abort {
		t.Errorf("one that never began: answered %v, it is %+v", answered, got)
	}
	c.holdMulti = false
	c.multis[0]()
	run(first, second, 100*time.Millisecond)
	expect(t, "the write", r, "revision 5, true: was old@2 was old@3")
	if got, answered := ask(id, 2); !answered || got != (kv.Decision{Verdict: kv.Commit, Revision: 5}) {
		t.Errorf("afterwards it is %+v", got)
	}
	quiet(t, first, second)
}

// TestNoRoomForCalls: as many calls as there may be do not hold up the end of the transactions that they wait for.
func TestNoRoomForCalls(t *testing.T) {
	options := transacting(t, txn.TwoPhase)
	options.Limits.MaxCalls = 1
	first, second, c := storeWith(t, options, 1, 2, 3)
	g := first.nodes[1].gateway
	r := submit(g, writeBoth("x"))
	run(first, second, 200*time.Millisecond)
	expect(t, "with room for one call", r, fmt.Sprintf("revision %d, true: was old@2 was old@3", c.last))
	g.calls.Add(1)
	if refused := submit(g, writeBoth("y")); !errors.Is(refused.err, kv.ErrTooManyRequests) {
		t.Errorf("a client's call more than there may be: %v", refused.err)
	}
	g.calls.Add(-1)
	quiet(t, first, second)
}

// TestWritesOverShardsAreNotServed by a node that has no table of the shards.
func TestWritesOverShardsAreNotServed(t *testing.T) {
	options := transacting(t, txn.TwoPhase)
	options.Table = nil
	first, _, _ := storeWith(t, options, 1, 2, 3)
	if r := submit(first.nodes[1].gateway, writeBoth("x")); !errors.Is(r.err, kv.ErrManyShards) {
		t.Errorf("%v", r.err)
	}
}

// TestHeldReads: a read for which the state is complete but for a transaction that is prepared waits for its end, whichever way it has come: in place, at another
// node, as a part of a list, or frozen.
func TestHeldReads(t *testing.T) {
	for _, leaders := range [][3]kv.NodeID{{1, 1, 1}, {1, 1, 2}, {3, 2, 2}} {
		for _, unclean := range []bool{false, true} {
			first, second, c := storeWith(t, transacting(t, txn.TwoPhase), leaders[0], leaders[1], leaders[2])
			c.unclean[1], c.unclean[2] = unclean, unclean
			c.last++ // so that no shard has come to the present
			holds := true
			for _, n := range second.nodes {
				n.heldReads = func(req *kv.Request, rev kv.Revision) bool { return holds && rev == 5 }
			}
			g := first.nodes[1].gateway
			one, list, other := submit(g, get("2a")), submit(g, getRange("1", "3")), submit(g, get("1a"))
			run(first, second, 100*time.Millisecond)
			says(t, "one key", one, "")
			says(t, "a list", list, "")
			says(t, "of another shard", other, "revision 5: 1a=old@2")
			gone := &Call{Req: get("2b"), Done: func(*kv.Response, error) {}}
			g.Submit(gone)
			run(first, second, 100*time.Millisecond)
			g.Cancel(gone)
			holds = false
			writeKey(t, first, second, "2b", "new") // something is applied
			run(first, second, 100*time.Millisecond)
			says(t, "one key", one, "revision 5: 2a=old@3")
			says(t, "a list", list, "revision 5: 1a=old@2 2a=old@3 2b=old@4")
			if m := g.Metrics(); m.HeldReads != 3 || m.CallsInFlight != 0 {
				t.Errorf("leaders %v, unclean %v: %d reads were held, %d calls are in flight", leaders, unclean, m.HeldReads, m.CallsInFlight)
			}
		}
	}
}
