package membership

import (
	"encoding/binary"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/shard"
)

// A frame with a message:
//
//	kind      1 byte   1 question, 2 answer
//	standing  1 byte   of the sender
//	flags     1 byte   1: sender and receiver had nothing at the same time; 2: confirmed by a leader; 4: lives follow; 8: the group does without the receiver
//	group     uvarint
//	disk      uvarint  that asks
//	replica   uvarint  the newest replica of the node that asked, as far as the sender knows; 0 if it does not, or if there is none
//	bound     uvarint  answer: the disk it is on; 0 if none is known
//	lives     uvarint, uvarint   of the replica that asks, and of the one that is bound; missing if both are 0
//
// Versions that know nothing of lives refuse a frame that has some, and the standing "removed".

// Kind of a Message.
type Kind byte

// The kinds. The numbers are on the wire.
const (
	KindQuestion Kind = 1
	KindAnswer   Kind = 2
)

const (
	flagNew       = 1
	flagConfirmed = 2
	flagLives     = 4
	flagOut       = 8
	flagsKnown    = 15
)

// Message is what nodes say to each other about who is who in a group.
type Message struct {
	Kind     Kind
	Standing standing // of the sender
	// New: at some moment both nodes had nothing.
	New bool
	// Confirmed: a leader says so.
	Confirmed bool
	// Out: the receiver's node was removed, and its replica is no member of the group any more.
	Out   bool
	Group consensus.GroupID
	// Site is where the replica is, or would be, that asks.
	Site shard.Site
	// Replica is the newest one of the node that asks, as far as the sender knows; 0: it does not.
	Replica consensus.ReplicaID
	// Bound, in an answer, is where this replica is; zero: that is not known.
	Bound shard.Site
}

// AppendMessage appends the message.
func AppendMessage(b []byte, m *Message) []byte {
	flags := byte(0)
	if m.New {
		flags |= flagNew
	}
	if m.Confirmed {
		flags |= flagConfirmed
	}
	if m.Out {
		flags |= flagOut
	}
	lives := m.Site.Life != 0 || m.Bound.Life != 0
	if lives {
		flags |= flagLives
	}
	b = append(b, byte(m.Kind), byte(m.Standing), flags)
	for _, v := range []uint64{uint64(m.Group), m.Site.Disk, uint64(m.Replica), m.Bound.Disk} {
		b = binary.AppendUvarint(b, v)
	}
	if lives {
		b = binary.AppendUvarint(binary.AppendUvarint(b, m.Site.Life), m.Bound.Life)
	}
	return b
}

// DecodeMessage is the inverse of AppendMessage.
func DecodeMessage(b []byte) (*Message, error) {
	if len(b) < 3 {
		return nil, errMessage
	}
	m := &Message{Kind: Kind(b[0]), Standing: standing(b[1]), New: b[2]&flagNew != 0, Confirmed: b[2]&flagConfirmed != 0, Out: b[2]&flagOut != 0}
	flags, b := b[2], b[3:]
	var values [6]uint64
	for i := range values {
		if i == 4 && flags&flagLives == 0 {
			break
		}
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errMessage
		}
		values[i], b = v, b[n:]
	}
	m.Group, m.Replica = consensus.GroupID(values[0]), consensus.ReplicaID(values[2])
	m.Site, m.Bound = shard.Site{Disk: values[1], Life: values[4]}, shard.Site{Disk: values[3], Life: values[5]}
	if len(b) > 0 || flags > flagsKnown || !m.valid() || flags&flagLives != 0 && m.Site.Life == 0 && m.Bound.Life == 0 {
		return nil, errMessage
	}
	return m, nil
}

func (m *Message) valid() bool {
	kind := m.Kind >= KindQuestion && m.Kind <= KindAnswer && m.Standing >= standingMember && m.Standing <= standingRemoved
	sites := m.Site.Disk != 0 && m.Site.Life <= shard.MaxLife && m.Bound.Life <= shard.MaxLife && (m.Bound.Disk != 0 || m.Bound.Life == 0)
	return kind && sites && m.Replica <= shard.MaxReplicaID && (m.Kind != KindAnswer || m.Replica != 0 || m.Bound == shard.Site{})
}
