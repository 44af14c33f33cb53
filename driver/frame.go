package driver

import (
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/membership"
)

// peerOut is the frame for one peer that a round puts together.
type peerOut struct {
	node     kv.NodeID
	messages []outMessage
	notices  int                       // of the messages
	noticeOf map[consensus.GroupID]int // where in messages the last notice of a group is
	until    time.Duration             // when notices that wait must leave; 0: none wait
}

// outMessage is a message of a group. vouched: when it was sent, this replica followed the receiver in the
// message's term; see driven.acknowledged.
type outMessage struct {
	group   consensus.GroupID
	vouched bool
	life    uint64 // of this replica on its disk
	message consensus.Message
}

// outgoing are the frames that a round puts together.
type outgoing struct {
	out []peerOut // one a peer
}

// put adds a message to the frame for a node.
func (o *outgoing) put(node kv.NodeID, m outMessage) {
	for i := range o.out {
		if o.out[i].node == node {
			o.out[i].put(m)
			return
		}
	}
}

// put adds a message, in place of a notice that it makes superfluous. Under load every entry would be preceded by the news of the one before,
// which it tells too, and each costs the receiver a step and often an answer, which costs the sender another.
func (p *peerOut) put(m outMessage) {
	if p.notices > 0 && m.message.News {
		if at, ok := p.noticeOf[m.group]; ok && m.message.Replaces(&p.messages[at].message) {
			p.messages[at] = m
			if !m.message.Notice {
				p.notices--
				delete(p.noticeOf, m.group)
			}
			return
		}
	}
	p.messages = append(p.messages, m)
	if m.message.Notice {
		p.notices++
		if p.noticeOf == nil {
			p.noticeOf = make(map[consensus.GroupID]int)
		}
		p.noticeOf[m.group] = len(p.messages) - 1
	}
}

// maxFrameBytes is about how large a frame gets; the transport refuses frames of more than 48 MiB, and
// a follower that catches up may be sent more than that in one round.
const maxFrameBytes = 4 << 20

// noticeDelay is how long the news of what is committed waits at most for a message that takes it along: alone, it costs a
// write to each follower before the goroutines of those who were answered get the processor. The run loop does not wait that long; see drive.
const noticeDelay = 2 * time.Millisecond

// holdBack tells whether the frame for the peer may wait.
func (d *Driver) holdBack(p *peerOut) bool {
	if p.notices < len(p.messages) {
		return false
	}
	now := d.clock()
	if p.until == 0 {
		p.until = now + noticeDelay
	}
	d.holding.Store(true) // before hurry is read: who sets it reads this afterwards
	return now < p.until && !d.hurry.Load()
}

// sendFrames puts the messages of the round into one frame a peer, or several when they are large.
func (d *Driver) sendFrames() {
	held := false
	for i := range d.out {
		p := &d.out[i]
		if len(p.messages) == 0 {
			continue
		}
		if d.holdBack(p) {
			held = true
			continue
		}
		p.notices, p.until = 0, 0
		epoch, _ := d.live.PromiseEpoch(d.clock(), p.node)
		for from := 0; from < len(p.messages); {
			to, size := from, int64(0)
			for ; to < len(p.messages) && (to == from || size < maxFrameBytes); to++ {
				size += entriesBytes(p.messages[to].message.Entries)
			}
			d.sendFrame(p.node, epoch.Number, p.messages[from:to])
			from = to
		}
		clear(p.messages)
		clear(p.noticeOf)
		p.messages = p.messages[:0]
	}
	if !held {
		d.holding.Store(false)
		d.hurry.Store(false)
	}
}

func (d *Driver) sendFrame(node kv.NodeID, epoch uint64, messages []outMessage) {
	channel, marked := ChannelConsensus, d.node.Format(node) >= membership.FormatMarks
	if marked {
		channel = ChannelMarked
	}
	sent := d.opts.Transport.Append(node, channel, func(b []byte) []byte {
		b = appendFrameHeader(b, epoch, d.node.Sender(), marked)
		for i := range messages {
			b = appendGroupMessage(b, &messages[i])
		}
		return b
	})
	if !sent {
		d.metrics.framesDropped.Add(1)
	}
}
