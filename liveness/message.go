package liveness

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/packed"
)

// Kind names a message. The numbers are on the wire: add, never renumber.
type Kind uint8

// The messages.
const (
	KindHeartbeat Kind = 1 // asks for a promise
	KindPromise   Kind = 2 // acknowledges a heartbeat: the promise is made
)

// Epoch names a time during which a promise held without interruption. The zero
// Epoch means "none". Epochs are compared for equality only.
type Epoch struct {
	Instance uint64 // the process that promised
	Number   uint64 // counts from 1
}

// Message is what two nodes say to each other. Epoch and Duration are used in promises only.
type Message struct {
	Kind Kind
	// Instance is the process that sent the heartbeat; a promise repeats it.
	Instance uint64
	// Seq counts the heartbeats of Instance to this peer, from 1; a promise repeats it.
	Seq      uint64
	Epoch    Epoch
	Duration time.Duration // of the promise, from the receipt of the heartbeat
}

// AppendMessage appends the encoding of m to dst:
//
//	kind      1 byte
//	instance  8 bytes, little endian
//	seq       uvarint
//	promises only: epoch instance 8 bytes, epoch number uvarint, duration in nanoseconds uvarint
func AppendMessage(dst []byte, m Message) []byte {
	dst = append(dst, byte(m.Kind))
	dst = binary.LittleEndian.AppendUint64(dst, m.Instance)
	dst = binary.AppendUvarint(dst, m.Seq)
	if m.Kind == KindPromise {
		dst = binary.LittleEndian.AppendUint64(dst, m.Epoch.Instance)
		dst = binary.AppendUvarint(dst, m.Epoch.Number)
		dst = binary.AppendUvarint(dst, uint64(m.Duration))
	}
	return dst
}

// DecodeMessage reads one message, which must fill src.
func DecodeMessage(src []byte) (Message, error) {
	if len(src) < 1 {
		return Message{}, fmt.Errorf("%w: it is empty", ErrMalformed)
	}
	r := packed.NewReader(src[1:])
	m := Message{Kind: Kind(src[0]), Instance: r.Fixed64(), Seq: r.Uvarint()}
	switch m.Kind {
	case KindHeartbeat:
	case KindPromise:
		m.Epoch = Epoch{Instance: r.Fixed64(), Number: r.Uvarint()}
		m.Duration = time.Duration(r.Uvarint())
	default:
		return Message{}, fmt.Errorf("%w: kind %d is unknown", ErrMalformed, src[0])
	}
	if !r.Done() || m.Duration < 0 {
		return Message{}, fmt.Errorf("%w: %d bytes do not fit kind %d", ErrMalformed, len(src), src[0])
	}
	return m, nil
}
