package membership

import (
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// lossClaim is the word of a leader that entries are gone which this replica had acknowledged.
type lossClaim struct {
	from      consensus.ReplicaID
	term      consensus.Term
	since, at time.Duration // of the first and of the last time
}

// repeated notes that it was said again, and tells whether the same leader has kept to it for so long: one message is no proof, and a leader that
// has reason says so with every heartbeat.
func (c *lossClaim) repeated(from consensus.ReplicaID, term consensus.Term, now, patience time.Duration) bool {
	if c.from != from || c.term != term || now-c.at > patience/2 {
		*c = lossClaim{from: from, term: term, since: now}
	}
	c.at = now
	return now-c.since >= patience
}

// pending tells whether somebody has said so recently.
func (c *lossClaim) pending(now, patience time.Duration) bool {
	return c.from != 0 && now-c.at <= patience/2
}

// LossClaimed tells that a message says, in the given term, that entries are lost here which this replica had acknowledged. True: that is to be believed. A
// node that remembers how far this disk was says so itself when it is told where the disk is now, and this node compares that with what it knows
// (Node.Receive). Otherwise the leader must keep to its word; where nobody remembers disks, it is all there is.
func (g *Group) LossClaimed(now time.Duration, node kv.NodeID, from consensus.ReplicaID, term consensus.Term) bool {
	n := g.node
	// A node that this one has not been connected to yet spoke in the form of the newer versions, or its message was not admitted.
	if version := n.formats[node]; !n.marking() || version != 0 && version < FormatMarks {
		return true
	}
	n.tellMarks(now, node)
	return g.loss.repeated(from, term, now, n.options.ElectionTimeout)
}

// LossPending tells whether somebody has said recently that entries are lost here. Until it is clear, this replica votes for nobody: it might be true.
func (g *Group) LossPending(now time.Duration) bool {
	return g.loss.pending(now, g.node.options.ElectionTimeout)
}
