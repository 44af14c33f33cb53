package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/proto/etcdwire"
)

// Frames between the links of one shard on two nodes. Each begins with its kind (1 byte) and the instance of the asking process (8 bytes LE). A
// kind with ofShard added has the shard's number (uvarint) after the instance; without, it is of the system shard. Then, of those that ask:
//
//	1 requests: per request its id (uvarint), length (uvarint), etcdwire request
//	2 barrier:  id (uvarint)
//	6 timed requests: as 1, and before each request how many milliseconds are left of its time (uvarint)
//	7 settle:   id (uvarint), revision (uvarint): a barrier behind which the state is complete up to that revision of the whole store
//
// and of those that answer:
//
//	3 answers:  per answer the request's id (uvarint), length (uvarint), outcome
//	4 barrier passed: id (uvarint), index (uvarint)
//	5 barrier failed: id (uvarint), etcdwire error
//
// An outcome is 0, applied index (uvarint), etcdwire response; or 1, etcdwire error.
type kind byte

const (
	kindRequests      kind = 1
	kindBarrier       kind = 2
	kindAnswers       kind = 3
	kindBarrierPassed kind = 4
	kindBarrierFailed kind = 5
	kindTimedRequests kind = 6
	kindSettle        kind = 7

	ofShard kind = 16
)

// Dialect is what another node understands of the frames that ask. It is answered as it asked.
type Dialect struct {
	Deadlines bool // how much time is left of a request
	Shards    bool // of which shard a frame is; it may be another one than the system shard
	Revisions bool // that a barrier is as of a revision
}

// Head is what a frame begins with, and its answer, too.
type Head struct {
	Instance uint64 // of the process that asks
	Shard    kv.ShardID
	// Numbered: the shard's number is in the frame. Without it is the system shard.
	Numbered bool
}

// Errors of frames. Nothing of such a frame has been looked at further.
var (
	errMalformed = errors.New("gateway: malformed message from another node")
	errUnknown   = errors.New("gateway: a message of a kind that this version does not know; is the sender newer?")
)

func (h Head) append(dst []byte, k kind) []byte {
	if h.Numbered {
		k += ofShard
	}
	dst = binary.LittleEndian.AppendUint64(append(dst, byte(k)), h.Instance)
	if h.Numbered {
		dst = binary.AppendUvarint(dst, uint64(h.Shard))
	}
	return dst
}

// decodeHead splits a frame into kind, head and the rest.
func decodeHead(in []byte) (k kind, h Head, rest []byte, err error) {
	if len(in) < 9 {
		return 0, Head{}, nil, errMalformed
	}
	k, h, rest = kind(in[0]), Head{Instance: binary.LittleEndian.Uint64(in[1:9]), Shard: kv.SystemShard}, in[9:]
	if k <= ofShard {
		return k, h, rest, nil
	}
	shard, n := binary.Uvarint(rest)
	if n <= 0 || shard == 0 || uint64(kv.ShardID(shard)) != shard {
		return 0, Head{}, nil, errMalformed
	}
	h.Shard, h.Numbered = kv.ShardID(shard), true
	return k - ofShard, h, rest[n:], nil
}

// AppendRequests writes the frame that asks for calls.
func AppendRequests(dst []byte, h Head, to Dialect, now time.Duration, calls []*Item) []byte {
	if !to.Deadlines {
		dst = h.append(dst, kindRequests)
		for _, i := range calls {
			dst = appendItem(dst, i.id, func(dst []byte) []byte { return etcdwire.AppendRequest(dst, i.Request) })
		}
		return dst
	}
	dst = h.append(dst, kindTimedRequests)
	for _, i := range calls {
		dst = appendItem(dst, i.id, func(dst []byte) []byte {
			dst = binary.AppendUvarint(dst, uint64(max(0, i.Expires-now)/time.Millisecond))
			return etcdwire.AppendRequest(dst, i.Request)
		})
	}
	return dst
}

// AppendBarrier writes the frame that asks for a read barrier. settles is the revision up to which the state is to be complete behind it, if it is not 0.
func AppendBarrier(dst []byte, h Head, id uint64, settles kv.Revision) []byte {
	if settles == 0 {
		return binary.AppendUvarint(h.append(dst, kindBarrier), id)
	}
	dst = binary.AppendUvarint(h.append(dst, kindSettle), id)
	return binary.AppendUvarint(dst, uint64(settles))
}

// Questions is a decoded frame that asks: for a barrier, or for the calls that Each shows.
type Questions struct {
	Head
	Barrier bool
	ID      uint64      // of the barrier
	Settles kv.Revision // up to which the state is to be complete behind it; 0: it is a mere barrier

	timed bool
	items []byte
}

// DecodeQuestions checks a frame that asks, as far as the links go. The requests in it alias the payload and are not looked at.
func DecodeQuestions(payload []byte) (q Questions, err error) {
	k, head, rest, err := decodeHead(payload)
	if err != nil {
		return Questions{}, err
	}
	q.Head = head
	switch {
	case k == kindBarrier || k == kindSettle:
		if err := q.decodeBarrier(k, rest); err != nil {
			return Questions{}, err
		}
		return q, nil
	case k == kindTimedRequests, k == kindRequests:
		q.timed, q.items = k == kindTimedRequests, rest
	default:
		return Questions{}, fmt.Errorf("%w (kind %d of those that ask)", errUnknown, k)
	}
	err = eachItem(rest, func(_ uint64, body []byte) bool {
		if !q.timed {
			return true
		}
		_, n := binary.Uvarint(body)
		return n > 0
	})
	if err != nil {
		return Questions{}, err
	}
	return q, nil
}

func (q *Questions) decodeBarrier(k kind, in []byte) error {
	id, n := binary.Uvarint(in)
	if n <= 0 {
		return errMalformed
	}
	q.Barrier, q.ID = true, id
	if k == kindBarrier {
		return nil
	}
	settles, n := binary.Uvarint(in[n:])
	if n <= 0 || settles == 0 || settles > math.MaxInt64 {
		return errMalformed
	}
	q.Settles = kv.Revision(settles)
	return nil
}

// Each calls fn for every request: its id, how much is left of its time, and itself. No request has more time than the longest.
func (q *Questions) Each(longest time.Duration, fn func(id uint64, left time.Duration, request []byte)) {
	_ = eachItem(q.items, func(id uint64, body []byte) bool { // it was checked
		left := longest
		if q.timed {
			told, n := binary.Uvarint(body)
			left = time.Duration(min(told, uint64(longest/time.Millisecond))) * time.Millisecond
			body = body[n:]
		}
		fn(id, left, body)
		return true
	})
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

// eachItem calls fn for every item; what it gets aliases in. It ends when fn says that an item is malformed.
func eachItem(in []byte, fn func(id uint64, body []byte) (sound bool)) error {
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
		if !fn(id, in[:length:length]) {
			return errMalformed
		}
		in = in[length:]
	}
	return nil
}
