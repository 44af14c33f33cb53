package replica

import (
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/liveness"
)

// support is what other nodes promised to this node, readable by anyone. The driver writes it
// after every round in which a heartbeat was answered.
type support struct {
	index map[kv.NodeID]int // never changed
	peers []peerSupport
}

// peerSupport is one node's promise. The generation stands for the promise's epoch: it grows with
// every new one. 0: the node never promised anything.
type peerSupport struct {
	generation atomic.Uint64
	until      atomic.Int64   // on this node's monotonic clock
	epoch      liveness.Epoch // driver only
}

func newSupport(nodes []kv.NodeID) *support {
	s := &support{index: make(map[kv.NodeID]int, len(nodes)), peers: make([]peerSupport, len(nodes))}
	for i, node := range nodes {
		s.index[node] = i
	}
	return s
}

// set records a promise, and tells whether its epoch is new. The end is lowered before the
// generation changes, so that a reader never pairs a new generation with the end of an old one.
func (s *support) set(node kv.NodeID, epoch liveness.Epoch, until time.Duration) (changed bool) {
	if epoch == (liveness.Epoch{}) {
		return false
	}
	p := &s.peers[s.index[node]]
	if changed = p.epoch != epoch; changed {
		p.until.Store(0)
		p.epoch = epoch
		p.generation.Add(1)
	}
	p.until.Store(int64(until))
	return changed
}

// generation returns the current generation of the node's promise if the epoch is that one's; 0 otherwise.
func (s *support) generation(node kv.NodeID, epoch liveness.Epoch) uint64 {
	p := &s.peers[s.index[node]]
	if epoch == (liveness.Epoch{}) || p.epoch != epoch {
		return 0
	}
	return p.generation.Load()
}

// lease is a leader's claim to serve reads without asking anybody: of each voter set so many that nobody can be
// elected without one of them have acknowledged this leadership under a promise (identified by its epoch)
// that is still in force. It is immutable; the driver publishes a new one when an acknowledgement changes.
type lease struct {
	self   int
	voters [2]leaseVoters // Voters and, in a joint change, Outgoing
}

// leaseVoters is a set of voters of whom every quorum that can elect contains at least one of any `need`.
type leaseVoters struct {
	need   int
	voters []leaseVoter
}

type leaseVoter struct {
	node       int    // index into support.peers
	generation uint64 // of the promise under which it acknowledged; 0: it has not
}

// valid tells whether the lease holds at now.
func (l *lease) valid(s *support, now time.Duration) bool {
	for _, set := range l.voters {
		holding := 0
		for _, v := range set.voters {
			if v.node == l.self || s.holds(v, now) {
				holding++
			}
		}
		if holding < set.need {
			return false
		}
	}
	return len(l.voters[0].voters) > 0
}

// holds tells whether the voter acknowledged under a promise that is in force at now.
func (s *support) holds(v leaseVoter, now time.Duration) bool {
	if v.generation == 0 {
		return false
	}
	p := &s.peers[v.node]
	until := p.until.Load()
	return p.generation.Load() == v.generation && now < time.Duration(until)
}

// acknowledged notes that the replica vouched, while its node was bound by the promise of the given
// generation, that it follows this leader in this term. It has then voted in no higher term before, and
// the promise keeps it from doing so since; see package liveness, "Epochs".
func (r *Replica) acknowledged(from consensus.ReplicaID, generation uint64) {
	if generation == 0 || r.acks[from] == generation {
		return
	}
	r.acks[from] = generation
	r.publishLease()
}

// publishLease makes the lease that follows from the current acknowledgements visible to readers.
// There is none unless this replica leads and has applied its barrier.
func (r *Replica) publishLease() {
	if !r.leading {
		r.claim = nil
		r.lease.Store(nil)
		return
	}
	status := r.core.Status()
	l := &lease{self: r.store.support.index[r.store.opts.Self]}
	l.voters[0] = r.leaseVoters(status.Config.Voters)
	l.voters[1] = r.leaseVoters(status.Config.Outgoing)
	if status.LeaseVoters != 0 {
		l.voters[0].need = status.LeaseVoters
	}
	r.claim = l
	if r.store.opts.ReadSafety == ReadQuorum || status.LeaseForbidden {
		r.lease.Store(nil)
		return
	}
	r.lease.Store(l)
}

// leaseVoters gives the replicas with their acknowledgements; a majority of them is needed.
func (r *Replica) leaseVoters(replicas []consensus.ReplicaID) leaseVoters {
	if len(replicas) == 0 {
		return leaseVoters{}
	}
	voters := make([]leaseVoter, 0, len(replicas))
	for _, id := range replicas {
		node, ok := r.nodeOf(id)
		if !ok {
			node = 0
		}
		index, known := r.store.support.index[node]
		if !known {
			index = -1
		}
		v := leaseVoter{node: index}
		if known {
			v.generation = r.acks[id]
		}
		voters = append(voters, v)
	}
	return leaseVoters{need: len(replicas)/2 + 1, voters: voters}
}
