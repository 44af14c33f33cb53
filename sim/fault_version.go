package sim

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
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
	if n.nextFormat = driver.FormatNewest + driver.FormatOldest - n.format; n.nextFormat == driver.FormatOldest {
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
	return slices.ContainsFunc(w.nodes, func(n *node) bool { return min(n.format, n.nextFormat) != driver.FormatNewest })
}

// understands tells whether a process of the node's version knows the channel. What it does not know it drops.
func (n *node) understands(channel byte) bool {
	if n.format >= driver.FormatNewest || channel <= driver.ChannelIdentity || channel == gateway.ChannelRequest || channel == gateway.ChannelResponse {
		return true
	}
	n.w.mark("frame of a newer version")
	return false
}

// expectKind fails for a frame of the gateway that no process of the node's version understands. The kinds are those of package gateway/link. Every
// version ignores an answer to an earlier process of its node, whatever its kind.
func (p *part) expectKind(from kv.NodeID, channel byte, payload []byte) {
	n := p.node
	if channel == gateway.ChannelResponse && binary.LittleEndian.Uint64(payload[1:]) != p.asks {
		return
	}
	kind := payload[0]
	newest := byte(22)
	switch {
	case n.format < driver.FormatDeadlines:
		newest = 5
	case n.format < driver.FormatShards:
		newest = 6
	case n.w.shared():
		newest = 23
	}
	if kind > newest {
		n.w.fail(Crash, "node %d sent node %d, which speaks version %d, a frame of kind %d", from, n.id, n.format, kind)
	}
}

// checkGateway tells whether a gateway, all of whose calls are answered, is at rest.
func (p *part) checkGateway() {
	g := p.group
	if err := p.gateway.Check(); err != nil {
		g.fail(Crash, "node %d: %v", p.node.id, err)
	}
	if m := p.gateway.Metrics(); m.CallsInFlight != 0 || m.QueuedCalls != 0 || m.SentCalls != 0 || m.ForwardedBytes != 0 {
		g.fail(Crash, "the gateway of node %d counts %d calls, %d queued and %d sent of %d bytes; all are answered",
			p.node.id, m.CallsInFlight, m.QueuedCalls, m.SentCalls, m.ForwardedBytes)
	}
}

// kindOf is the channel that counts for faults: two are of consensus.
func kindOf(channel byte) byte {
	if channel == driver.ChannelMarked {
		return driver.ChannelConsensus
	}
	return channel
}
