package leadership

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Options of the Core of one group.
type Options struct {
	// Self is this node, and Nodes are all nodes of the cluster, this one included, in the same order everywhere.
	Self  kv.NodeID
	Nodes []kv.NodeID
	// ReadQuorum: leaders ask a quorum before they serve a read, and have no lease.
	ReadQuorum bool
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	if !slices.Contains(o.Nodes, o.Self) {
		return fmt.Errorf("leadership: node %v is not among the nodes of the cluster %v", o.Self, o.Nodes)
	}
	return nil
}
