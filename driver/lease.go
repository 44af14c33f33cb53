package driver

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/leadership"
	"github.com/quoratedb/quorate/liveness"
)

// support is what other nodes promised to this node, readable by anyone. The driver writes it
// after every round in which a heartbeat was answered.
type support struct {
	index map[kv.NodeID]int // driver only
	peers atomic.Pointer[[]*peerSupport]
}

// peerSupport is one node's promise. The generation stands for the promise's epoch: it grows with
// every new one. 0: the node never promised anything.
type peerSupport struct {
	generation atomic.Uint64
	until      atomic.Int64   // on this node's monotonic clock
	epoch      liveness.Epoch // driver only
}

func newSupport(nodes []kv.NodeID) *support {
	s := &support{index: make(map[kv.NodeID]int, len(nodes))}
	s.grow(nodes)
	return s
}

// grow makes room for nodes that come after those that there are. Nobody's position changes.
func (s *support) grow(nodes []kv.NodeID) {
	var peers []*peerSupport
	if p := s.peers.Load(); p != nil {
		peers = slices.Clone(*p)
	}
	for i := len(peers); i < len(nodes); i++ {
		s.index[nodes[i]] = i
		peers = append(peers, &peerSupport{})
	}
	s.peers.Store(&peers)
}

// of is the promise of the node; nil: it is not known.
func (s *support) of(node kv.NodeID) *peerSupport {
	i, known := s.index[node]
	if !known {
		return nil
	}
	return (*s.peers.Load())[i]
}

// set records a promise, and tells whether its epoch is new. The end is lowered before the
// generation changes, so that a reader never pairs a new generation with the end of an old one.
func (s *support) set(node kv.NodeID, epoch liveness.Epoch, until time.Duration) (changed bool) {
	if epoch == (liveness.Epoch{}) {
		return false
	}
	p := s.of(node)
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
	p := s.of(node)
	if epoch == (liveness.Epoch{}) || p == nil || p.epoch != epoch {
		return 0
	}
	return p.generation.Load()
}

// Holds implements leadership.Promised. Safe for concurrent use.
func (s *support) Holds(node int, generation uint64, now time.Duration) bool {
	if generation == 0 {
		return false
	}
	p := (*s.peers.Load())[node]
	until := p.until.Load()
	return p.generation.Load() == generation && now < time.Duration(until)
}

// acknowledged has the lease reckoned again when a replica has vouched under another promise than before.
func (r *driven) acknowledged(from consensus.ReplicaID, generation uint64) {
	if r.leadership.Acknowledge(from, generation) {
		r.reckonLease()
	}
}

// reckonLease makes the lease that follows from the acknowledgements and the membership visible to readers.
func (r *driven) reckonLease() {
	r.leadership.Reckon(r.electorate())
	r.publishLease()
}

// publishLease makes visible to readers what the core of leadership says of the lease.
func (r *driven) publishLease() {
	if r.driver.Err() == nil {
		r.lease.Store(r.leadership.Lease())
	}
}

// electorate is who a leader here needs for a lease.
func (r *driven) electorate() leadership.Electorate {
	status := r.core.Status()
	return leadership.Electorate{Voters: r.members(status.Config.Voters), Outgoing: r.members(status.Config.Outgoing),
		Need: status.LeaseVoters, Forbidden: status.LeaseForbidden}
}

func (r *driven) members(replicas []consensus.ReplicaID) []leadership.Member {
	members := make([]leadership.Member, 0, len(replicas))
	for _, id := range replicas {
		node, _ := r.membership.NodeOf(id)
		members = append(members, leadership.Member{Replica: id, Node: node})
	}
	return members
}
