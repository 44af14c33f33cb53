package driver

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/liveness"
	"github.com/quoratedb/quorate/membership"
)

// A consensus frame carries everything one node says to another in one round. On ChannelMarked:
//
//	instance  uvarint  of the sender
//	number    uvarint  of the epoch of its promise to the receiver, 0 if there is none
//	disk      uvarint  of the sender
//	position  uvarint  the last of its writes that is durable
//	then, until the end:
//	group   uvarint
//	flags   uvarint  1: vouched; above it, the life of the sender on its disk
//	length  uvarint
//	message (consensus.AppendMessage)
//
// On ChannelConsensus, for nodes of version 2, instance is 0 if there is no promise, and position is missing.

var errShortFrame = errors.New("driver: consensus frame is cut short")

func appendFrameHeader(b []byte, number uint64, s membership.Sender, marked bool) []byte {
	if !marked && number == 0 {
		s.Instance = 0
	}
	for _, v := range [...]uint64{s.Instance, number, s.Disk} {
		b = binary.AppendUvarint(b, v)
	}
	if marked {
		b = binary.AppendUvarint(b, s.Position)
	}
	return b
}

// appendGroupMessage appends one message of a frame.
func appendGroupMessage(b []byte, m *outMessage) []byte {
	b = binary.AppendUvarint(b, uint64(m.group))
	flags := m.life << 1
	if m.vouched {
		flags |= 1
	}
	b = binary.AppendUvarint(b, flags)
	// The length comes before the message and is known only after it: leave a fixed-width
	// uvarint of four bytes (28 bits, more than any frame may hold).
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = consensus.AppendMessage(b, &m.message)
	n := uint32(len(b) - at - 4)
	b[at], b[at+1], b[at+2], b[at+3] = byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14)|0x80, byte(n>>21)&0x7f
	return b
}

// decodeFrame splits a consensus frame. The messages alias the payload.
func decodeFrame(payload []byte, marked bool) ([]groupMessage, error) {
	var header [4]uint64
	var err error
	for i := range header {
		if i == 3 && !marked {
			break
		}
		if header[i], payload, err = uvarint(payload); err != nil {
			return nil, err
		}
	}
	sender := membership.Sender{Disk: header[2]}
	if marked {
		sender.Instance, sender.Position = header[0], header[3]
	}
	var epoch liveness.Epoch
	if header[1] != 0 {
		epoch = liveness.Epoch{Instance: header[0], Number: header[1]}
	}
	var messages []groupMessage
	for len(payload) > 0 {
		var group, flags, length uint64
		if group, payload, err = uvarint(payload); err != nil {
			return nil, err
		}
		if flags, payload, err = uvarint(payload); err != nil {
			return nil, err
		}
		if length, payload, err = uvarint(payload); err != nil {
			return nil, err
		}
		if length > uint64(len(payload)) {
			return nil, errShortFrame
		}
		m, err := consensus.DecodeMessage(payload[:length])
		if err != nil {
			return nil, fmt.Errorf("driver: message for group %d: %w", group, err)
		}
		payload = payload[length:]
		g := groupMessage{group: consensus.GroupID(group), sender: sender, life: flags >> 1, message: m}
		if flags&1 != 0 {
			g.epoch = epoch
		}
		messages = append(messages, g)
	}
	return messages, nil
}

func uvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, errShortFrame
	}
	return v, b[n:], nil
}
