package gateway

import (
	"encoding/binary"
	"errors"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
)

// Frames between gateways. On ChannelRequest:
//
//	1 requests: instance (8 bytes LE), then per request: id (uvarint), length (uvarint), etcdwire request
//	2 barrier:  instance (8 bytes LE), id (uvarint)
//	6 timed requests: as 1, and before each request how many milliseconds are left of its time (uvarint)
//
// On ChannelResponse, with the instance of the asking process:
//
//	3 answers:  instance (8 bytes LE), then per answer: id (uvarint), length (uvarint), outcome
//	4 barrier passed: instance, id (uvarint), index (uvarint)
//	5 barrier failed: instance, id (uvarint), etcdwire error
//
// An outcome is 0, applied index (uvarint), etcdwire response; or 1, etcdwire error.
const (
	messageRequests      byte = 1
	messageBarrier       byte = 2
	messageAnswers       byte = 3
	messageBarrierPassed byte = 4
	messageBarrierFailed byte = 5
	messageTimedRequests byte = 6
)

const (
	outcomeResponse byte = 0
	outcomeError    byte = 1
)

var errMalformed = errors.New("gateway: malformed message from another node")

func appendHeader(dst []byte, kind byte, instance uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, kind), instance)
}

// appendItem writes id, length and what body appends.
func appendItem(dst []byte, id uint64, body func([]byte) []byte) []byte {
	dst = binary.AppendUvarint(dst, id)
	// The length is known afterwards: leave room for the longest form of 4 bytes that still is a uvarint.
	at := len(dst)
	dst = append(dst, 0x80, 0x80, 0x80, 0)
	dst = body(dst)
	length := len(dst) - at - 4
	dst[at] |= byte(length & 0x7f)
	dst[at+1] |= byte(length >> 7 & 0x7f)
	dst[at+2] |= byte(length >> 14 & 0x7f)
	dst[at+3] = byte(length >> 21 & 0x7f)
	return dst
}

func appendOutcome(dst []byte, resp *kv.Response, applied uint64, err error, leader kv.NodeID) []byte {
	if err != nil {
		return etcdwire.AppendError(append(dst, outcomeError), err, etcdwire.Hints{Leader: leader})
	}
	dst = binary.AppendUvarint(append(dst, outcomeResponse), applied)
	return etcdwire.AppendResponse(dst, resp)
}

// outcome is a decoded answer.
type outcome struct {
	resp    *kv.Response
	applied uint64
	err     error
	leader  kv.NodeID // hint, with an error
}

func decodeOutcome(in []byte) (o outcome, bad error) {
	if len(in) == 0 {
		return o, errMalformed
	}
	switch in[0] {
	case outcomeResponse:
		applied, n := binary.Uvarint(in[1:])
		if n <= 0 {
			return o, errMalformed
		}
		o.applied = applied
		o.resp, bad = etcdwire.DecodeResponse(in[1+n:])
		return o, bad
	case outcomeError:
		var hints etcdwire.Hints
		o.err, hints, bad = etcdwire.DecodeError(in[1:])
		o.leader = hints.Leader
		return o, bad
	}
	return o, errMalformed
}

// decodeHeader splits a frame into kind, instance and the rest.
func decodeHeader(in []byte) (kind byte, instance uint64, rest []byte, err error) {
	if len(in) < 9 {
		return 0, 0, nil, errMalformed
	}
	return in[0], binary.LittleEndian.Uint64(in[1:9]), in[9:], nil
}

// eachItem calls fn for every item; what it gets aliases in.
func eachItem(in []byte, fn func(id uint64, body []byte)) error {
	for len(in) > 0 {
		id, n := binary.Uvarint(in)
		if n <= 0 {
			return errMalformed
		}
		in = in[n:]
		length, n := binary.Uvarint(in)
		if n <= 0 || length > uint64(len(in)-n) {
			return errMalformed
		}
		in = in[n:]
		fn(id, in[:length:length])
		in = in[length:]
	}
	return nil
}
