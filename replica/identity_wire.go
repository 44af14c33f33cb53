package replica

import (
	"encoding/binary"
	"errors"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// A frame on ChannelIdentity:
//
//	kind      1 byte   1 question, 2 answer
//	standing  1 byte   of the sender
//	flags     1 byte   1: sender and receiver had nothing at the same time; 2: confirmed by a leader
//	group     uvarint
//	disk      uvarint  that asks
//	replica   uvarint  the newest replica of the node that asked, as far as the sender knows; 0 if it does not
//	bound     uvarint  answer: the disk it is on; 0 if none is known
const (
	identityQuestion byte = 1
	identityAnswer   byte = 2

	identityFlagNew       = 1
	identityFlagConfirmed = 2
)

var errIdentityFrame = errors.New("replica: an identity frame makes no sense")

type identityMessage struct {
	kind           byte
	standing       standing
	new, confirmed bool
	group          consensus.GroupID
	disk           uint64
	replica        consensus.ReplicaID
	bound          uint64
}

func appendIdentity(b []byte, m *identityMessage) []byte {
	flags := byte(0)
	if m.new {
		flags |= identityFlagNew
	}
	if m.confirmed {
		flags |= identityFlagConfirmed
	}
	b = append(b, m.kind, byte(m.standing), flags)
	for _, v := range []uint64{uint64(m.group), m.disk, uint64(m.replica), m.bound} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func decodeIdentity(b []byte) (*identityMessage, error) {
	if len(b) < 3 {
		return nil, errIdentityFrame
	}
	m := &identityMessage{kind: b[0], standing: standing(b[1]), new: b[2]&identityFlagNew != 0, confirmed: b[2]&identityFlagConfirmed != 0}
	b = b[3:]
	var values [4]uint64
	for i := range values {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errIdentityFrame
		}
		values[i], b = v, b[n:]
	}
	m.group, m.disk, m.replica, m.bound = consensus.GroupID(values[0]), values[1], consensus.ReplicaID(values[2]), values[3]
	if len(b) > 0 || m.kind < identityQuestion || m.kind > identityAnswer || m.standing < standingMember || m.standing > standingLost ||
		m.disk == 0 || m.replica > shard.MaxReplicaID || m.kind == identityAnswer && m.replica == 0 {
		return nil, errIdentityFrame
	}
	return m, nil
}

func (s *Store) sendIdentity(to kv.NodeID, m identityMessage) {
	if !s.opts.Transport.Append(to, ChannelIdentity, func(b []byte) []byte { return appendIdentity(b, &m) }) {
		s.metrics.framesDropped.Add(1) // it is asked again
	}
}
