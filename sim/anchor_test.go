package sim

import (
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/history"
	"github.com/quoratedb/quorate/sim/oracle"
	"github.com/quoratedb/quorate/sim/workload"
)

// TestAnchorWithoutQuorum: a transaction has its revision when its anchor, and no other shard, loses its quorum. With two-phase commit, or with two participants,
// the keys that others have locked wait until it is back, and no others do. With three-phase commit and three participants those go on. In the end the
// transaction is in all of its shards or in none. So it is, too, if the coordinator's node is lost at the same moment.
func TestAnchorWithoutQuorum(t *testing.T) {
	for _, protocol := range []Protocol{Raft, Paxos} {
		for _, commit := range []CommitProtocol{TwoPhase, ThreePhase} {
			for _, participants := range []int{2, 3} {
				for _, lost := range []bool{false, true} {
					name := fmt.Sprintf("%s, %s, %d participants, coordinator lost %v", protocol, commit, participants, lost)
					t.Run(name, func(t *testing.T) { anchorWithoutQuorum(t, protocol, commit, participants, lost) })
				}
			}
		}
	}
}

const (
	anchorAway   = 20 * time.Second // how long the anchor has no quorum, if it is waited for
	goesOnWithin = 6 * time.Second  // without the anchor: an election, a second until somebody asks it, and a second of silence
)

// wholeStore is a store of four shards, a to d, which is whole. Requests may be given up as if the fault were drawn; the test strikes by itself.
func wholeStore(t *testing.T, protocol Protocol, commit CommitProtocol, fault FaultKind) *world {
	election.Lock()
	before := cryptorand.Reader // see election
	t.Cleanup(func() {
		cryptorand.Reader = before
		election.Unlock()
	})
	p := sameness(1, protocol, Memory, &Partition{Kind: ByRange, SplitKeys: []string{"b", "c", "d"}})
	p.Commit, p.Faults = commit, []Fault{{Kind: fault}}
	w := newWorld(p, RunOptions{})
	t.Cleanup(w.finish)
	cryptorand.Reader = chance{w.source(sourceElection, 0)}
	for _, n := range w.nodes {
		n.start()
	}
	w.begun()
	w.runUntil(w.now+patience, 5*time.Millisecond, w.whole)
	return w
}

func anchorWithoutQuorum(t *testing.T, protocol Protocol, commit CommitProtocol, participants int, lost bool) {
	w := wholeStore(t, protocol, commit, FaultAnchorSilent)
	anchor := w.group(2) // the system shard has its quorum: revisions are issued all the time
	clients := 0
	ask := func(req *kv.Request) *client {
		clients++
		value := 0
		return w.groups[0].newClient(clients, "anchor", func(c workload.Client) {
			for node := 0; ; node++ {
				r := *req
				if req.Put != nil { // each attempt has a value of its own
					value++
					r.Put = &kv.PutRequest{Key: req.Put.Key, Value: fmt.Appendf(nil, "%s %d", req.Put.Key, value)}
				}
				if _, err := c.Do(1+node%c.Nodes(), &r, 0); err == nil || req.Txn != nil || c.Sleep(10*time.Millisecond) != nil {
					return
				}
			}
		})
	}
	put := func(key string) *client {
		return ask(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key)}})
	}
	keys := []string{"b/1", "c/1", "d/1"}[:participants]
	txn := &kv.TxnRequest{}
	for _, key := range keys {
		txn.Success = append(txn.Success, kv.Op{Put: &kv.PutRequest{Key: []byte(key), Value: []byte("of the transaction in " + key)}})
	}
	ask(&kv.Request{Kind: kv.KindTxn, Txn: txn})
	if !w.runUntil(w.now+time.Second, 0, func() bool { return w.marks["transaction numbered"] > 0 }) {
		t.Fatalf("no transaction has a revision: %s", w.problem)
	}
	anchor.silent = 1
	if lost {
		w.power(&Fault{Duration: time.Hour}, anchor.leader().node, w.source(sourceStore, 0))
	}
	began := w.now
	locked, other := []*client{}, put("c/2")
	for _, key := range keys[1:] {
		locked = append(locked, put(key))
	}
	waits := func(c *client) bool { return !c.done }
	held := func(g *group) bool {
		l := g.leader()
		return l != nil && slices.ContainsFunc(l.replica.Undecided(), func(u kv.UnfinishedTransaction) bool { return u.Decision.Verdict == kv.Undecided })
	}
	others := w.groups[2 : 1+participants]
	goesOn := w.runUntil(began+anchorAway, 5*time.Millisecond, func() bool { return !slices.ContainsFunc(locked, waits) })
	after := w.now - began
	switch want := commit == ThreePhase && participants == 3; {
	case goesOn != want:
		t.Errorf("keys of other shards were free: %v, after %v", goesOn, after)
	case want && after > goesOnWithin:
		t.Errorf("keys of other shards were free after %v", after)
	case want && slices.ContainsFunc(others, held):
		t.Error("keys are free, and the transaction is not decided there")
	case !want && (len(others) != len(slices.DeleteFunc(slices.Clone(others), func(g *group) bool { return !held(g) })) || !slices.ContainsFunc(locked, waits)):
		t.Error("the transaction is decided without its anchor")
	}
	if !other.done {
		t.Error("a key that nobody has locked waits")
	}

	w.ended, w.healed = true, w.now
	w.heal()
	w.compare()
	w.groups[0].complete()
	if problems := oracle.Check(w.groups[0].history); w.verdict != "" || len(problems) > 0 {
		t.Fatalf("%s %s %v", w.verdict, w.problem, problems)
	}
	took := 0
	for _, e := range w.groups[0].history.Full {
		if slices.Contains(keys, string(e.KV.Key)) && len(e.KV.Value) > 0 && e.KV.Value[0] == 'o' {
			took++
		}
	}
	operations := w.groups[0].history.Operations
	o := operations[slices.IndexFunc(operations, func(o history.Operation) bool { return o.Request.Kind == kv.KindTxn })]
	if took != 0 && took != participants || o.Err == nil && took == 0 || o.Err != nil && !errors.Is(o.Err, kv.ErrOutcomeUnknown) && took > 0 {
		t.Errorf("the transaction is in %d of %d shards, and its client was told %v", took, participants, o.Err)
	}
	t.Logf("free after %v: %v; the transaction is in %d shards, and its client was told %v", after, goesOn, took, o.Err)
}
