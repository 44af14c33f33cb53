package leadership

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// Options of the Core of one group.
type Options struct {
	Group consensus.GroupID
	// Self is this node, and Nodes are all nodes of the cluster, this one included, in the same order everywhere.
	Self  kv.NodeID
	Nodes []kv.NodeID
	// HeartbeatInterval and PromiseDuration are those of package liveness.
	HeartbeatInterval, PromiseDuration time.Duration
	// ElectionTimeout is how long a follower waits for a leader that is silent although its node lives.
	ElectionTimeout time.Duration
	// ReadQuorum: leaders ask a quorum before they serve a read, and have no lease.
	ReadQuorum bool
	// Rand draws the jitter of campaigns.
	Rand *rand.Rand
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case !slices.Contains(o.Nodes, o.Self):
		return fmt.Errorf("leadership: node %v is not among the nodes of the cluster %v", o.Self, o.Nodes)
	case o.HeartbeatInterval <= 0:
		return fmt.Errorf("leadership: the heartbeat interval is %v, must be positive", o.HeartbeatInterval)
	case o.ElectionTimeout < 2*o.HeartbeatInterval:
		return fmt.Errorf("leadership: election timeout %v is less than two heartbeat intervals of %v", o.ElectionTimeout, o.HeartbeatInterval)
	case o.PromiseDuration <= 0:
		return fmt.Errorf("leadership: promises last %v, must be positive", o.PromiseDuration)
	case o.Rand == nil:
		return errors.New("leadership: a source of randomness must be given")
	}
	return nil
}
