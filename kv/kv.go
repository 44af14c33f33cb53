// Package kv holds the words that every other package shares: keys, spans,
// revisions, identifiers, requests and responses.
//
// The meaning of every request is etcd's (https://etcd.io/docs/v3.7/learning/api/).
// The types are ours, so that the cores depend neither on gRPC nor on protobuf
// and so that a request can be decoded, forwarded and evaluated without
// reflection. Package kv is a core: plain data and pure functions.
package kv

import (
	"bytes"
	"fmt"
)

// Revision numbers the commit order of the whole cluster. An empty store is at
// revision 1; the first effective write is revision 2. Zero means "none" or,
// in a request, "the latest".
type Revision int64

// NodeID identifies one node: one process with one data directory.
type NodeID uint64

// String gives the form that etcd's tools print: lower-case hexadecimal.
func (id NodeID) String() string { return fmt.Sprintf("%x", uint64(id)) }

// ClusterID identifies a cluster. Nodes of different clusters refuse to talk.
type ClusterID uint64

// String gives the form that etcd's tools print: lower-case hexadecimal.
func (id ClusterID) String() string { return fmt.Sprintf("%x", uint64(id)) }

// ShardID identifies a shard. Shard 1 is the system shard; in a fresh cluster
// it holds all user keys too.
type ShardID uint64

// SystemShard is the shard every cluster starts with.
const SystemShard ShardID = 1

// LeaseID identifies a lease. Zero means "no lease".
type LeaseID int64

// Lease is a lease as it was granted.
type Lease struct {
	ID         LeaseID
	TTLSeconds int64
}

// Span is a range of keys with etcd's conventions for its end:
//
//	End empty            the single key Start
//	End == "\x00"        every key >= Start
//	otherwise            Start <= key < End
//
// A Start of "\x00" together with an End of "\x00" is the whole key space.
type Span struct {
	Start, End []byte
}

// Everything is the span of all keys.
func Everything() Span { return Span{Start: []byte{0}, End: []byte{0}} }

// Single tells whether the span is exactly one key.
func (s Span) Single() bool { return len(s.End) == 0 }

// unbounded tells whether the span has no upper bound.
func (s Span) unbounded() bool { return len(s.End) == 1 && s.End[0] == 0 }

// Bounds returns the half-open interval [lower, upper) of the span. A nil upper
// means "no bound".
func (s Span) Bounds() (lower, upper []byte) {
	switch {
	case s.Single():
		upper = make([]byte, len(s.Start)+1)
		copy(upper, s.Start)
		return s.Start, upper
	case s.unbounded():
		return s.Start, nil
	default:
		return s.Start, s.End
	}
}

// Contains tells whether key lies in the span.
func (s Span) Contains(key []byte) bool {
	if s.Single() {
		return bytes.Equal(key, s.Start)
	}
	return bytes.Compare(key, s.Start) >= 0 && (s.unbounded() || bytes.Compare(key, s.End) < 0)
}

// Empty tells whether no key can lie in the span (its end is at or before its start).
func (s Span) Empty() bool {
	return !s.Single() && !s.unbounded() && bytes.Compare(s.Start, s.End) >= 0
}

// KeyValue is one version of one key.
type KeyValue struct {
	Key            []byte
	Value          []byte
	CreateRevision Revision // revision that created the key, since its last deletion
	ModRevision    Revision // revision of this version
	Version        int64    // counts from 1 at creation
	Lease          LeaseID
}

// EventType says what happened to a key.
type EventType uint8

// The two kinds of events.
const (
	EventPut EventType = iota
	EventDelete
)

// Event is one change of one key. For a deletion only Key and ModRevision of KV
// are set. Prev is the version before the change; nil when there was none, when
// it is compacted, or when nobody asked for it.
type Event struct {
	Type EventType
	KV   KeyValue
	Prev *KeyValue
}
