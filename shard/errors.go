package shard

import "errors"

// ErrReadCompacted: the revision that a read of the newest state was to be as of is compacted by now. It is to be read as of a later one.
var ErrReadCompacted = errors.New("shard: the revision of the read is compacted; read as of a later one")

// Errors that stop a replica. Requests are answered with the sentinels of package kv instead.
var (
	// ErrInconsistent is wrapped when an entry contradicts the state it is applied to, or a
	// caller broke the order of calls. Nothing may be applied afterwards.
	ErrInconsistent = errors.New("shard: the log contradicts the state")
	// ErrMalformed is wrapped when an entry or a state row cannot be decoded.
	ErrMalformed = errors.New("shard: malformed data")
)
