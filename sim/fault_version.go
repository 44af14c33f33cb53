package sim

import (
	"math/rand/v2"
	"slices"

	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/replica"
)

// FaultOtherVersion stops Node in order or by a crash, and starts it as a process of the oldest version that the others still talk to, or, if it was
// one, as one of the newest: an upgrade that goes on node by node, and back. Nodes of the oldest version take part in no test of what only
// the newest can notice (stale-disk, double), nor after one: who has heard the second process say that it has nothing refuses processes that
// do not say which one they are.
const FaultOtherVersion FaultKind = "other-version"

func (w *world) injectVersion(f *Fault, n *node, random *rand.Rand) bool {
	if f.Kind != FaultOtherVersion {
		return false
	}
	if w.double != nil || w.doubleEnded != 0 || slices.ContainsFunc(w.nodes, func(other *node) bool { return other.damage.stale }) {
		return true
	}
	if !n.up {
		return true
	}
	if n.nextFormat = replica.FormatNewest + replica.FormatOldest - n.format; n.nextFormat == replica.FormatOldest {
		w.mark("downgraded")
	} else {
		w.mark("upgraded")
	}
	if random.IntN(2) == 0 {
		w.stopInOrder(f, n, random)
	} else {
		w.power(f, n, random)
	}
	return true
}

// mixed tells whether a node runs an older version.
func (w *world) mixed() bool {
	return slices.ContainsFunc(w.nodes, func(n *node) bool { return min(n.format, n.nextFormat) != replica.FormatNewest })
}

// understands tells whether a process of the node's version knows the channel. What it does not know it drops.
func (n *node) understands(channel byte) bool {
	if n.format >= replica.FormatNewest || channel <= replica.ChannelIdentity || channel == gateway.ChannelRequest || channel == gateway.ChannelResponse {
		return true
	}
	n.w.mark("frame of a newer version")
	return false
}

// kindOf is the channel that counts for faults: two are of consensus.
func kindOf(channel byte) byte {
	if channel == replica.ChannelMarked {
		return replica.ChannelConsensus
	}
	return channel
}
