package server

import (
	"cmp"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/native"
	"github.com/quoratedb/quorate/txn"
)

// protocolOf is the commit protocol as package txn knows it.
func protocolOf(p CommitProtocol) txn.Protocol {
	if p == Commit3PC {
		return txn.ThreePhase
	}
	return txn.TwoPhase
}

// Transactions says which transactions over several shards are not decided in the shards that this node leads.
func (n localNode) Transactions() native.TransactionList {
	s := n.s
	cluster := s.options.Cluster
	list := native.TransactionList{Cluster: cluster.ID(), Member: s.options.NodeID(), Commit: cluster.commit()}
	byID := map[kv.TransactionID]*native.Transaction{}
	s.eachUndecided(func(of kv.ShardID, u *kv.UnfinishedTransaction, age time.Duration) {
		t := byID[u.ID]
		if t == nil {
			t = &native.Transaction{ID: u.ID, Participants: u.Participants, AnchorLeader: s.leaderOf(u.ID.Anchor)}
			byID[u.ID] = t
		}
		t.AgeMilliseconds = max(t.AgeMilliseconds, uint64(age/time.Millisecond))
		t.Undecided = append(t.Undecided, of)
	})
	for _, t := range byID { // sorted below
		list.Transactions = append(list.Transactions, *t)
	}
	slices.SortFunc(list.Transactions, func(a, b native.Transaction) int {
		return cmp.Or(cmp.Compare(b.AgeMilliseconds, a.AgeMilliseconds), cmp.Compare(a.ID.Anchor, b.ID.Anchor), cmp.Compare(a.ID.Term, b.ID.Term), cmp.Compare(a.ID.Number, b.ID.Number))
	})
	return list
}

// eachUndecided calls fn for each transaction that is not decided in a shard which this node leads, by shard.
func (s *Server) eachUndecided(fn func(of kv.ShardID, u *kv.UnfinishedTransaction, age time.Duration)) {
	now := s.clock()
	for _, r := range s.replicas() {
		undecided := r.Undecided()
		for i := range undecided {
			if u := &undecided[i]; u.Decision.Verdict == kv.Undecided {
				fn(r.Shard(), u, max(0, now-u.Since))
			}
		}
	}
}

// oldestUndecided is for how long the oldest of them has waited.
func (s *Server) oldestUndecided() (oldest time.Duration) {
	s.eachUndecided(func(_ kv.ShardID, _ *kv.UnfinishedTransaction, age time.Duration) { oldest = max(oldest, age) })
	return oldest
}
