package link

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
)

// Outcome is what became of a call at the leader.
type Outcome struct {
	Response *kv.Response
	// Applied is the index that contains what the response tells.
	Applied uint64

	Err    error
	Leader kv.NodeID // with an error: who leads, if it is known
}

const (
	outcomeResponse byte = 0
	outcomeError    byte = 1
)

// AppendAnswer writes the frame that answers one call.
func AppendAnswer(dst []byte, h Head, id uint64, o Outcome) []byte {
	return appendItem(h.append(dst, kindAnswers), id, func(dst []byte) []byte {
		if o.Err != nil {
			return etcdwire.AppendError(append(dst, outcomeError), o.Err, etcdwire.Hints{Leader: o.Leader})
		}
		dst = binary.AppendUvarint(append(dst, outcomeResponse), o.Applied)
		return etcdwire.AppendResponse(dst, o.Response)
	})
}

// AppendBarrierAnswer writes the frame that answers a barrier: with the index, or with an error and who leads.
func AppendBarrierAnswer(dst []byte, h Head, id, index uint64, err error, leader kv.NodeID) []byte {
	if err != nil {
		dst = binary.AppendUvarint(h.append(dst, kindBarrierFailed), id)
		return etcdwire.AppendError(dst, err, etcdwire.Hints{Leader: leader})
	}
	dst = binary.AppendUvarint(h.append(dst, kindBarrierPassed), id)
	return binary.AppendUvarint(dst, index)
}

// Answers is a decoded frame that answers: a barrier, or the calls that Each shows.
type Answers struct {
	Head
	Barrier bool
	ID      uint64 // of the barrier
	Index   uint64 // that it passed at
	Err     error  // or why it did not

	items []byte
}

// DecodeAnswers checks a frame that answers. The outcomes in it alias the payload.
func DecodeAnswers(payload []byte) (a Answers, err error) {
	k, head, rest, err := decodeHead(payload)
	if err != nil {
		return Answers{}, err
	}
	a.Head = head
	switch k {
	case kindAnswers:
		a.items = rest
		err = eachItem(rest, func(uint64, []byte) bool { return true })
	case kindBarrierPassed, kindBarrierFailed:
		a.Barrier = true
		err = a.decodeBarrier(k, rest)
	default:
		err = fmt.Errorf("%w (kind %d of those that answer)", errUnknown, k)
	}
	if err != nil {
		return Answers{}, err
	}
	return a, nil
}

func (a *Answers) decodeBarrier(k kind, in []byte) (err error) {
	var n int
	if a.ID, n = binary.Uvarint(in); n <= 0 {
		return errMalformed
	}
	in = in[n:]
	if k == kindBarrierFailed {
		var bad error
		a.Err, _, bad = etcdwire.DecodeError(in)
		return bad
	}
	if a.Index, n = binary.Uvarint(in); n <= 0 {
		return errMalformed
	}
	return nil
}

// Each calls fn for every answer to a call: the id of the call, and the outcome, for DecodeOutcome.
func (a *Answers) Each(fn func(id uint64, outcome []byte)) {
	_ = eachItem(a.items, func(id uint64, body []byte) bool { // it was checked
		fn(id, body)
		return true
	})
}

// DecodeOutcome reads what became of a call; bad says that in tells nothing.
func DecodeOutcome(in []byte) (o Outcome, bad error) {
	if len(in) == 0 {
		return o, errMalformed
	}
	switch in[0] {
	case outcomeResponse:
		applied, n := binary.Uvarint(in[1:])
		if n <= 0 {
			return o, errMalformed
		}
		o.Applied = applied
		o.Response, bad = etcdwire.DecodeResponse(in[1+n:])
		return o, bad
	case outcomeError:
		var hints etcdwire.Hints
		o.Err, hints, bad = etcdwire.DecodeError(in[1:])
		o.Leader = hints.Leader
		return o, bad
	}
	return o, errMalformed
}
