package replica

import (
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
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
// message's term; see Replica.acknowledged.
type outMessage struct {
	group   consensus.GroupID
	vouched bool
	message consensus.Message
}

// put adds a message to the frame for a node.
func (s *Store) put(node kv.NodeID, m outMessage) {
	for i := range s.out {
		if s.out[i].node == node {
			s.out[i].put(m)
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
