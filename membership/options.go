package membership

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// Options of a Node.
type Options struct {
	// Self is this node, and Nodes are all nodes of the cluster, this one included, in the same order everywhere.
	Self  kv.NodeID
	Nodes []kv.NodeID
	// Instance tells this process apart from all others.
	Instance uint64
	// Disk tells what is stored on this node apart from everything that was stored there before; 0: disks are not told apart, and nothing
	// is decided about them.
	Disk uint64
	// Lost: the disk is empty because what was there is known to be lost.
	Lost bool
	// HeartbeatInterval is the time between two ticks.
	HeartbeatInterval time.Duration
	// ElectionTimeout is how long a silent leader is waited for.
	ElectionTimeout time.Duration
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case !slices.Contains(o.Nodes, o.Self):
		return fmt.Errorf("membership: node %v is not among the nodes of the cluster %v", o.Self, o.Nodes)
	case o.Lost && o.Disk == 0:
		return errors.New("membership: a node that has lost its data needs a new disk ID")
	case o.HeartbeatInterval <= 0 || o.ElectionTimeout <= 0:
		return fmt.Errorf("membership: the heartbeat interval is %v, the election timeout %v; both must be positive", o.HeartbeatInterval, o.ElectionTimeout)
	}
	return nil
}

// foundingPatience is how long nodes that have nothing wait for the others before they take a group for new: those may have the data, and still be
// reading it. When all have been heard, nobody waits.
func (o *Options) foundingPatience() time.Duration { return 3 * o.ElectionTimeout }

// witnessPatience is how long a node waits for witnesses until it says that they are missing: when all nodes restart, they need a moment.
func (o *Options) witnessPatience() time.Duration { return 2 * o.ElectionTimeout }

// Liveness is what is known of the processes of other nodes. Package liveness implements it.
type Liveness interface {
	// Instance is the process of the node whose heartbeats come; 0: none was heard.
	Instance(kv.NodeID) uint64
	// Alive tells whether they still do.
	Alive(kv.NodeID) bool
}

// Home is the node that a replica lives on.
type Home struct {
	Node    kv.NodeID
	Replica consensus.ReplicaID
}

// GroupState is what a group has on this disk.
type GroupState struct {
	Group consensus.GroupID
	// First are the replicas that the group began with, this node's included, in the same order everywhere.
	First []Home
	// Founders is how many of those nodes, this one included, must have nothing at the same moment until they take the group for a new one.
	Founders int
	// Row is what Ready.Save had written; nil: nothing.
	Row []byte
	// Empty: this replica has never taken part in anything.
	Empty bool
	// Config and Table are the membership and the placements as applied.
	Config consensus.Config
	Table  []shard.Placement
	// Roster is on which nodes the group is to be, as applied. Without a version those of First.
	Roster kv.Roster
	// Known, on a node that the group began without, are nodes to ask as long as there is no roster, this one included.
	Known []kv.NodeID
}

// Validate tells what is wrong with the state of a group on the node.
func (s *GroupState) validate(self kv.NodeID) error {
	here := s.Roster.Version != 0 || len(s.First) == 0 && slices.Contains(s.Known, self)
	for i, h := range s.First {
		if h.Replica == 0 || h.Replica > shard.MaxReplicaID {
			return fmt.Errorf("membership: group %d: %d is no replica ID", s.Group, h.Replica)
		}
		for _, o := range s.First[:i] {
			if o.Node == h.Node || o.Replica == h.Replica {
				return fmt.Errorf("membership: group %d: replica %d of node %v and replica %d of node %v", s.Group, o.Replica, o.Node, h.Replica, h.Node)
			}
		}
		here = here || h.Node == self
	}
	if !here {
		return fmt.Errorf("membership: group %d began without node %v, at %v", s.Group, self, s.First)
	}
	return nil
}
