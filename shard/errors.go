package shard

import "errors"

// Errors that stop a replica. Requests are answered with the sentinels of package kv instead.
var (
	// ErrInconsistent is wrapped when an entry contradicts the state it is applied to, or a
	// caller broke the order of calls. Nothing may be applied afterwards.
	ErrInconsistent = errors.New("shard: the log contradicts the state")
	// ErrMalformed is wrapped when an entry or a state row cannot be decoded.
	ErrMalformed = errors.New("shard: malformed data")
)
