package native

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quoratedb/quorate/kv"
)

// ListShards is the path of the call.
const ListShards = "/quorate.v1.Shards/List"

// ErrMalformed is wrapped by what decoding returns.
var ErrMalformed = errors.New("native: a message is malformed")

// ShardList is the answer to ListShards.
type ShardList struct {
	Cluster kv.ClusterID
	Member  kv.NodeID
	// Protocol is that of consensus; Partition has the flags that say which shards there are.
	Protocol, Partition string
	Shards              []Shard
}

// Shard is what a node knows of one.
type Shard struct {
	ID kv.ShardID
	// Lower and Upper bound its keys, Upper exclusive; nil: no bound.
	Lower, Upper []byte
	// FirstSlot and EndSlot bound the slots of a shard by hash, EndSlot exclusive. EndSlot 0: it is one by range.
	FirstSlot, EndSlot uint32
	Leader             kv.NodeID // 0: unknown
	Term               uint64
	Applied            uint64
	Keys               int64
	// Bytes are in files, about: what is not flushed is missing.
	Bytes int64
	// Reads are what the node did a second, Writes the changes of keys.
	Reads, Writes float64
	Closed        kv.Revision
	// State is "member", or what is wrong with the replica.
	State string
}

// The fields of the messages.
const (
	listCluster   protowire.Number = 1
	listMember    protowire.Number = 2
	listProtocol  protowire.Number = 3
	listPartition protowire.Number = 4
	listShards    protowire.Number = 5

	shardID        protowire.Number = 1
	shardLower     protowire.Number = 2
	shardUpper     protowire.Number = 3
	shardFirstSlot protowire.Number = 4
	shardEndSlot   protowire.Number = 5
	shardLeader    protowire.Number = 6
	shardTerm      protowire.Number = 7
	shardApplied   protowire.Number = 8
	shardKeys      protowire.Number = 9
	shardBytes     protowire.Number = 10
	shardReads     protowire.Number = 11
	shardWrites    protowire.Number = 12
	shardClosed    protowire.Number = 13
	shardState     protowire.Number = 14
)

// Append encodes the list.
func (l *ShardList) Append(dst []byte) []byte {
	dst = appendNumber(dst, listCluster, uint64(l.Cluster))
	dst = appendNumber(dst, listMember, uint64(l.Member))
	dst = appendBytes(dst, listProtocol, []byte(l.Protocol))
	dst = appendBytes(dst, listPartition, []byte(l.Partition))
	for i := range l.Shards {
		dst = protowire.AppendTag(dst, listShards, protowire.BytesType)
		dst = protowire.AppendBytes(dst, l.Shards[i].append(nil))
	}
	return dst
}

func (s *Shard) append(dst []byte) []byte {
	dst = appendNumber(dst, shardID, uint64(s.ID))
	dst = appendBytes(dst, shardLower, s.Lower)
	if s.Upper != nil {
		dst = protowire.AppendTag(dst, shardUpper, protowire.BytesType)
		dst = protowire.AppendBytes(dst, s.Upper)
	}
	dst = appendNumber(dst, shardFirstSlot, uint64(s.FirstSlot))
	dst = appendNumber(dst, shardEndSlot, uint64(s.EndSlot))
	dst = appendNumber(dst, shardLeader, uint64(s.Leader))
	dst = appendNumber(dst, shardTerm, s.Term)
	dst = appendNumber(dst, shardApplied, s.Applied)
	dst = appendNumber(dst, shardKeys, uint64(s.Keys))
	dst = appendNumber(dst, shardBytes, uint64(s.Bytes))
	dst = appendDouble(dst, shardReads, s.Reads)
	dst = appendDouble(dst, shardWrites, s.Writes)
	dst = appendNumber(dst, shardClosed, uint64(s.Closed))
	return appendBytes(dst, shardState, []byte(s.State))
}

func appendNumber(dst []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), n)
}

func appendBytes(dst []byte, field protowire.Number, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), b)
}

func appendDouble(dst []byte, field protowire.Number, f float64) []byte {
	if f == 0 {
		return dst
	}
	return protowire.AppendFixed64(protowire.AppendTag(dst, field, protowire.Fixed64Type), math.Float64bits(f))
}

// DecodeShardList reads what Append wrote. Fields that it does not know, of later versions, are passed over.
func DecodeShardList(in []byte) (l ShardList, err error) {
	err = eachField(in, func(f field) error {
		switch f.number {
		case listCluster:
			l.Cluster = kv.ClusterID(f.varint)
		case listMember:
			l.Member = kv.NodeID(f.varint)
		case listProtocol:
			l.Protocol = string(f.bytes)
		case listPartition:
			l.Partition = string(f.bytes)
		case listShards:
			s, err := decodeShard(f.bytes)
			if err != nil {
				return err
			}
			l.Shards = append(l.Shards, s)
		}
		return nil
	})
	return l, err
}

func decodeShard(in []byte) (s Shard, err error) {
	err = eachField(in, func(f field) error {
		switch f.number {
		case shardID:
			s.ID = kv.ShardID(f.varint)
		case shardLower:
			s.Lower = f.bytes
		case shardUpper:
			s.Upper = f.bytes
		case shardFirstSlot:
			s.FirstSlot = uint32(f.varint)
		case shardEndSlot:
			s.EndSlot = uint32(f.varint)
		case shardLeader:
			s.Leader = kv.NodeID(f.varint)
		case shardTerm:
			s.Term = f.varint
		case shardApplied:
			s.Applied = f.varint
		case shardKeys:
			s.Keys = int64(f.varint)
		case shardBytes:
			s.Bytes = int64(f.varint)
		case shardReads:
			s.Reads = math.Float64frombits(f.fixed)
		case shardWrites:
			s.Writes = math.Float64frombits(f.fixed)
		case shardClosed:
			s.Closed = kv.Revision(f.varint)
		case shardState:
			s.State = string(f.bytes)
		}
		return nil
	})
	return s, err
}

// field is one of a message. What its type does not have is empty.
type field struct {
	number        protowire.Number
	varint, fixed uint64
	bytes         []byte // not nil if it is of that type
}

func eachField(in []byte, fn func(field) error) error {
	for len(in) > 0 {
		number, kind, n := protowire.ConsumeTag(in)
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n))
		}
		in = in[n:]
		f := field{number: number}
		switch kind {
		case protowire.VarintType:
			f.varint, n = protowire.ConsumeVarint(in)
		case protowire.Fixed64Type:
			f.fixed, n = protowire.ConsumeFixed64(in)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(in)
			f.bytes = append([]byte{}, f.bytes...)
		default:
			n = protowire.ConsumeFieldValue(number, kind, in)
		}
		if n < 0 {
			return fmt.Errorf("%w: field %d: %w", ErrMalformed, number, protowire.ParseError(n))
		}
		in = in[n:]
		if err := fn(f); err != nil {
			return err
		}
	}
	return nil
}
