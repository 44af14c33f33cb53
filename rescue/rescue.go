// Package rescue decides what becomes of the data of one node when most of the others are lost for good: a cluster of this node alone, of all shards. It reads
// and writes nothing; package server finds out what there is, and carries the plan out.
//
// All entries that the node has in its logs take effect, also those of which it does not know whether they are committed: a majority may have had
// each of them, and then a client was told of it. What is certainly not lost is what the node had acknowledged; what only others had is.
//
// A transaction over several shards is committed where one shard here knows that it was; the next leader of its anchor ends all others as ever.
//
// The list of members is then that of one, in a version that nobody has heard of; the IDs of all others stay taken.
package rescue

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/shard"
)

// Node is what there is of a node.
type Node struct {
	Self    kv.NodeID
	Removed bool // from the cluster
	// Remembered is the newest list of members that the node has heard of; nil: what the system shard has.
	Remembered *members.List
	Paxos      bool
	Quorums    bool // of other sizes than majorities
	// Shards are those that the node has something of, by number; of how many there are in the cluster.
	Shards []Shard
	Of     int
}

// Shard is what the node has of a shard, after all entries of its log were applied.
type Shard struct {
	ID      kv.ShardID
	Replica consensus.ReplicaID // that is on the node's disk; 0: none
	Applied consensus.Index     // that is, the end of the log, or of a snapshot that is ahead of it
	Term    consensus.Term      // above none that the node knows of
	Config  consensus.Config
	Roster  uint64 // version
	Highest kv.Revision
	// Transactions over several shards that it knows of, and the last one of each anchor that it has heard of.
	Transactions []kv.UnfinishedTransaction
	Heard        []kv.TransactionID
	// Of the system shard.
	List  *members.List
	Limit kv.Revision
}

// Plan is what is to be done. Nothing: the node is all of its cluster already.
type Plan struct {
	Nothing bool
	Lost    []members.Member // who is not counted on any more
	List    *members.List
	Shards  []shard.Rescued // as Node.Shards
}

// Why a node cannot be all of a cluster.
var (
	ErrRemoved    = errors.New("the node was removed from its cluster, and what it has is old: take another node")
	ErrIncomplete = errors.New("the node has not got everything: take another node, or restore from a backup")
	ErrQuorums    = errors.New("the cluster was created with quorums of other sizes than majorities, which one node cannot be: restore from a backup")
)

// Decide says what to do.
func Decide(n Node) (Plan, error) {
	switch {
	case n.Quorums:
		return Plan{}, ErrQuorums
	case n.Removed:
		return Plan{}, ErrRemoved
	case len(n.Shards) != n.Of || n.Of == 0 || n.Shards[0].ID != kv.SystemShard || n.Shards[0].List == nil:
		return Plan{}, fmt.Errorf("%d of %d shards are here: %w", len(n.Shards), n.Of, ErrIncomplete)
	}
	list, heard, highest := n.Shards[0].List, uint64(0), kv.Revision(0)
	if n.Remembered != nil && n.Remembered.Version > list.Version {
		list = n.Remembered
	}
	alone := len(list.Members) == 1
	for i := range n.Shards {
		s := &n.Shards[i]
		if s.Replica == 0 || s.Applied == 0 || !slices.Contains(s.Config.Members(), s.Replica) {
			return Plan{}, fmt.Errorf("its replica of shard %d has no data yet, or is no part of the shard any more: %w", s.ID, ErrIncomplete)
		}
		alone = alone && len(s.Config.Members()) == 1
		heard, highest = max(heard, s.Roster), max(highest, s.Highest)
	}
	if list.Member(n.Self) == nil {
		return Plan{}, ErrRemoved
	}
	p := Plan{Nothing: alone, List: list.Only(n.Self, heard)}
	for i := range list.Members {
		if list.Members[i].ID != n.Self {
			p.Lost = append(p.Lost, list.Members[i])
		}
	}
	for i := range n.Shards {
		p.Shards = append(p.Shards, n.fate(&n.Shards[i], p.List, highest))
	}
	return p, nil
}

func (n *Node) fate(s *Shard, list *members.List, highest kv.Revision) shard.Rescued {
	heard := n.heard(s)
	term := heard + 1
	if n.Paxos {
		term = paxos.BallotAbove(heard, s.Replica)
	}
	r := shard.Rescued{Roster: list.Roster(), Start: consensus.SnapshotMeta{Index: s.Applied + 1, Term: term, Config: consensus.Config{Voters: []consensus.ReplicaID{s.Replica}}},
		Committed: n.committed(s)}
	if s.ID == kv.SystemShard {
		r.List = list
		if n.Of > 1 { // no revision that a shard here has is given out again
			r.Limit = max(s.Limit, highest)
		}
	}
	return r
}

// heard is the highest term of a shard that anything here has heard of. Another shard may have heard of a later one than its own replica, by a transaction of a
// leader that is lost: only a later leader can say that nothing came of that, and none may call another one the same.
func (n *Node) heard(s *Shard) consensus.Term {
	term := s.Term
	for i := range n.Shards {
		for _, id := range n.Shards[i].Heard {
			if id.Anchor == s.ID {
				term = max(term, consensus.Term(id.Term))
			}
		}
	}
	return term
}

// committed are the transactions that are undecided in a shard, and that another one has heard to be committed.
func (n *Node) committed(s *Shard) (committed []shard.Committed) {
	for i := range s.Transactions {
		if s.Transactions[i].Decision.Verdict != kv.Undecided {
			continue
		}
		id := s.Transactions[i].ID
		for j := range n.Shards {
			of := n.Shards[j].Transactions
			if at := slices.IndexFunc(of, func(t kv.UnfinishedTransaction) bool { return t.ID == id && t.Decision.Verdict == kv.Commit }); at >= 0 {
				committed = append(committed, shard.Committed{ID: id, Revision: of[at].Decision.Revision})
				break
			}
		}
	}
	return committed
}
