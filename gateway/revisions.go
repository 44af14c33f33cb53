package gateway

import "github.com/quoratedb/quorate/kv"

// Revisions says how far the store has come over all shards. Safe for concurrent use.
type Revisions interface {
	// Now returns the last revision that was issued, if this node issues them for certain at the end of the call (the lease of the system shard is
	// looked at after reading). false: ask with Learn.
	Now() (present kv.Present, certain bool)
	// Learn calls got once, at once or later, from any goroutine: with what was true at some moment after the call, or an error (kv.ErrNoLeader,
	// kv.ErrStopped, kv.ErrTimeout; nothing is known then). The present has one progress for each of the shards, in their order. No shards: only the
	// revision is wanted. Calls are gathered: it costs at most one frame in flight.
	Learn(shards []kv.ShardID, got func(kv.Present, error))
	// Multi has one revision issued for a transaction, to all shards that write in it (rule 5). got is called once, at once or later, from any goroutine; with an
	// error (kv.ErrStopped, kv.ErrTimeout) nothing is used.
	Multi(writers []kv.ShardID, got func(kv.Revision, error))
	// Known is the highest revision that this node has heard of as issued (by a frame, a number, or an answer).
	Known() kv.Revision
	// Hear says that a revision was issued: somebody told it in an answer.
	Hear(kv.Revision)
}
