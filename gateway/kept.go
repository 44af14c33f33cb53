package gateway

import (
	"sync"

	"github.com/quoratedb/quorate/kv"
)

// A node asks on the connection that it made, and is answered on the one that was made to it. After a restart of either the first may be there before
// the second. An answer that finds no connection is kept until there is one: whoever asked would wait for it until its time is over.

// maxKeptBytes bounds the answers that are kept for one node.
const maxKeptBytes = 1 << 20

// keptAnswers are those that wait for a connection, by node.
type keptAnswers struct {
	mu     sync.Mutex
	byNode map[kv.NodeID]*answersTo
}

type answersTo struct {
	frames    [][]byte
	sizeBytes int
}

// keep takes an answer that could not be sent, and tells whether there was room.
func (k *keptAnswers) keep(to kv.NodeID, frame []byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byNode == nil {
		k.byNode = make(map[kv.NodeID]*answersTo)
	}
	kept := k.byNode[to]
	if kept == nil {
		kept = &answersTo{}
		k.byNode[to] = kept
	}
	if kept.sizeBytes+len(frame) > maxKeptBytes {
		return false
	}
	kept.frames, kept.sizeBytes = append(kept.frames, frame), kept.sizeBytes+len(frame)
	return true
}

// take hands out what is kept for the node.
func (k *keptAnswers) take(to kv.NodeID) [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept := k.byNode[to]
	if kept == nil {
		return nil
	}
	delete(k.byNode, to)
	return kept.frames
}

// sendAnswer puts an answer into the buffer of the node that asked, or keeps it while there is no connection. false: it is lost, because the buffer is full, or
// the connection has just broken, or too much is kept. The peer finds out about a connection as it does for any lost answer.
func (g *Gateway) sendAnswer(to kv.NodeID, encode func([]byte) []byte) bool {
	if g.options.Sender.Append(to, ChannelResponse, encode) {
		return true
	}
	if g.peers.connected(to) || !g.kept.keep(to, encode(nil)) {
		return false
	}
	if g.peers.connected(to) { // by now, so that nobody else may look
		g.sendKept(to)
	}
	return true
}

// sendKept sends what was kept for a node to which there is a connection.
func (g *Gateway) sendKept(to kv.NodeID) {
	frames := g.kept.take(to)
	for _, frame := range frames {
		if !g.options.Sender.Append(to, ChannelResponse, func(dst []byte) []byte { return append(dst, frame...) }) {
			g.metrics.lostAnswers.Add(1)
		}
	}
	if len(frames) > 0 {
		g.options.Sender.Kick(to)
	}
}
