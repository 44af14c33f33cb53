package sim

import (
	"errors"

	"github.com/quoratedb/quorate/kv"
)

// checkRefusals: nothing is refused for the shards that it is in.
func (w *world) checkRefusals() {
	for i := range w.groups[0].history.Operations {
		o := &w.groups[0].history.Operations[i]
		if errors.Is(o.Err, kv.ErrManyShards) || errors.Is(o.Err, kv.ErrLeaseShards) {
			w.fail(Correctness, "client %d at node %d was refused: %v: %s", o.Client, o.Node, o.Err, describeRequest(o.Request))
		}
	}
}
