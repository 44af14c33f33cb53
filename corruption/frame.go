package corruption

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/packed"
)

// A frame begins with its kind (1 byte), and the instance of the process that asks (8 bytes, little-endian). Then, in uvarints:
//
//	1 question  id, shard, revision, compacted
//	2 answer    id, state, compacted, and with a hash its sum (8 bytes, little-endian)
const (
	kindQuestion byte = 1
	kindAnswer   byte = 2
)

// State says what an answer is.
type State uint8

// The states.
const (
	Hashed   State = iota // Sum is the hash
	Ahead                 // history is compacted farther, up to Compacted
	NotReady              // the replica is not there, not readable, or has not come to the revision in time
	states
)

// Question asks for the hash of what a shard has up to a revision, as if history was compacted at another one, which is not above it.
type Question struct {
	Instance  uint64
	ID        uint64 // of the question, for its answer
	Shard     kv.ShardID
	Revision  kv.Revision
	Compacted kv.Revision
}

// Answer answers a Question.
type Answer struct {
	Instance  uint64 // of the process that asked
	ID        uint64
	State     State
	Sum       uint64
	Compacted kv.Revision
}

// ErrMalformed is what Decode returns for what no node of this version sends.
var ErrMalformed = errors.New("corruption: malformed message from another node")

// Append writes the frame.
func (q Question) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, kindQuestion), q.Instance)
	for _, v := range [...]uint64{q.ID, uint64(q.Shard), uint64(q.Revision), uint64(q.Compacted)} {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

// Append writes the frame.
func (a Answer) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, kindAnswer), a.Instance)
	for _, v := range [...]uint64{a.ID, uint64(a.State), uint64(a.Compacted)} {
		dst = binary.AppendUvarint(dst, v)
	}
	if a.State == Hashed {
		dst = binary.LittleEndian.AppendUint64(dst, a.Sum)
	}
	return dst
}

// Decode takes a frame apart: one of the two is not nil, or there is an error.
func Decode(payload []byte) (*Question, *Answer, error) {
	if len(payload) == 0 {
		return nil, nil, ErrMalformed
	}
	r := packed.NewReader(payload[1:])
	revision := func() kv.Revision { return kv.Revision(r.UpTo(math.MaxInt64)) }
	instance := r.Fixed64()
	id := r.Uvarint()
	var q *Question
	var a *Answer
	switch payload[0] {
	case kindQuestion:
		q = &Question{Instance: instance, ID: id, Shard: kv.ShardID(r.UpTo(uint64(^kv.ShardID(0)))), Revision: revision(), Compacted: revision()}
		if q.Shard == 0 || q.Compacted > q.Revision {
			r.Fail()
		}
	case kindAnswer:
		a = &Answer{Instance: instance, ID: id, State: State(r.UpTo(uint64(states) - 1)), Compacted: revision()}
		if a.State == Hashed {
			a.Sum = r.Fixed64()
		}
	default:
		return nil, nil, fmt.Errorf("%w: kind %d", ErrMalformed, payload[0])
	}
	if !r.Done() {
		return nil, nil, ErrMalformed
	}
	return q, a, nil
}
