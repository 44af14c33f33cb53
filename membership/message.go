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
//	flags     1 byte   1: sender and receiver had nothing at the same time; 2: confirmed by a leader
//	group     uvarint
//	disk      uvarint  that asks
//	replica   uvarint  the newest replica of the node that asked, as far as the sender knows; 0 if it does not
//	bound     uvarint  answer: the disk it is on; 0 if none is known

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
)

// Message is what nodes say to each other about who is who in a group.
type Message struct {
	Kind     Kind
	Standing standing // of the sender
	// New: at some moment both nodes had nothing.
	New bool
	// Confirmed: a leader says so.
	Confirmed bool
	Group     consensus.GroupID
	Disk      uint64 // that asks
	// Replica is the newest one of the node that asks, as far as the sender knows; 0: it does not.
	Replica consensus.ReplicaID
	// Bound, in an answer, is the disk that this replica is on; 0: none is known.
	Bound uint64
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
	b = append(b, byte(m.Kind), byte(m.Standing), flags)
	for _, v := range []uint64{uint64(m.Group), m.Disk, uint64(m.Replica), m.Bound} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// DecodeMessage is the inverse of AppendMessage.
func DecodeMessage(b []byte) (*Message, error) {
	if len(b) < 3 {
		return nil, errMessage
	}
	m := &Message{Kind: Kind(b[0]), Standing: standing(b[1]), New: b[2]&flagNew != 0, Confirmed: b[2]&flagConfirmed != 0}
	b = b[3:]
	var values [4]uint64
	for i := range values {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errMessage
		}
		values[i], b = v, b[n:]
	}
	m.Group, m.Disk, m.Replica, m.Bound = consensus.GroupID(values[0]), values[1], consensus.ReplicaID(values[2]), values[3]
	if len(b) > 0 || m.Kind < KindQuestion || m.Kind > KindAnswer || m.Standing < standingMember || m.Standing > standingLost ||
		m.Disk == 0 || m.Replica > shard.MaxReplicaID || m.Kind == KindAnswer && m.Replica == 0 {
		return nil, errMessage
	}
	return m, nil
}
