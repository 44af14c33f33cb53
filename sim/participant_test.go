package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/oracle"
	"github.com/quoratedb/quorate/sim/workload"
)

// TestParticipantWithoutQuorum: a transaction has its revision when one of its participants, and no other shard, loses its quorum. The others decide, and forget
// what follows, but not this one: when the anchor has had another leader, and the participant is back, that still takes part in it. In the end nothing is left.
func TestParticipantWithoutQuorum(t *testing.T) {
	for _, protocol := range []Protocol{Raft, Paxos} {
		for _, commit := range []CommitProtocol{TwoPhase, ThreePhase} {
			for _, moves := range []bool{false, true} {
				name := fmt.Sprintf("%s, %s, anchor moves %v", protocol, commit, moves)
				t.Run(name, func(t *testing.T) { participantWithoutQuorum(t, protocol, commit, moves) })
			}
		}
	}
}

func participantWithoutQuorum(t *testing.T, protocol Protocol, commit CommitProtocol, moves bool) {
	w := wholeStore(t, protocol, commit, FaultParticipantSilent)
	anchor, away := w.group(2), w.group(4)
	clients := 0
	write := func(keys ...string) *client {
		clients++
		txn := &kv.TxnRequest{}
		for _, key := range keys {
			txn.Success = append(txn.Success, kv.Op{Put: &kv.PutRequest{Key: []byte(key), Value: fmt.Appendf(nil, "%d in %s", clients, key)}})
		}
		return w.groups[0].newClient(clients, "participant", func(c workload.Client) {
			_, _ = c.Do(1+clients%c.Nodes(), &kv.Request{Kind: kv.KindTxn, Txn: txn}, 0)
		})
	}
	first := write("b/1", "c/1", "d/1")
	if !w.runUntil(w.now+time.Second, 0, func() bool { return w.marks["transaction numbered"] > 0 }) {
		t.Fatalf("no transaction has a revision: %s", w.problem)
	}
	away.silent = 1
	wait := func(what string, limit time.Duration, until func() bool) {
		t.Helper()
		if !w.runUntil(w.now+limit, 5*time.Millisecond, until) {
			t.Fatalf("%s: not within %v %s", what, limit, w.problem)
		}
	}
	wait("the others decide", 5*time.Second, func() bool { return first.done })
	known := func(g *group) int { // the transactions of which the leader has records
		if l := g.leader(); l != nil {
			return l.machine.Metrics().TransactionRecords
		}
		return -1
	}
	goOn := func() {
		t.Helper()
		for range 5 {
			later := write("b/2", "c/2")
			wait("others go on", 5*time.Second, func() bool { return later.done })
		}
		wait("all but the first are forgotten", 10*time.Second, func() bool { return known(anchor) <= 1 && known(w.group(3)) <= 1 })
		w.runUntil(w.now+5*time.Second, 5*time.Millisecond, func() bool { return false })
		if known(anchor) != 1 || known(w.group(3)) != 1 {
			t.Errorf("the first is not over, and shards 2 and 3 remember %d and %d transactions", known(anchor), known(w.group(3)))
		}
	}
	goOn()
	if moves {
		was := anchor.leader().node
		w.transfer(anchor, w.source(sourceStore, 0))
		wait("the anchor has another leader", 10*time.Second, func() bool { return anchor.leader() != nil && anchor.leader().node != was })
		goOn()
	}
	away.silent = 0
	wait("all is forgotten", 20*time.Second, func() bool { return known(anchor) == 0 && known(w.group(3)) == 0 && known(away) == 0 })

	w.ended, w.healed = true, w.now
	w.heal()
	w.compare()
	w.groups[0].complete()
	if problems := oracle.Check(w.groups[0].history); w.verdict != "" || len(problems) > 0 {
		t.Fatalf("%s %s %v", w.verdict, w.problem, problems)
	}
	took := 0
	for _, e := range w.groups[0].history.Full {
		if string(e.KV.Value) == "1 in "+string(e.KV.Key) {
			took++
		}
	}
	if took != 3 {
		t.Errorf("the first transaction is in %d of 3 shards", took)
	}
}
