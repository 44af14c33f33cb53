package shard

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/keys"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// MaxLeaseTTLSeconds is the longest time to live of a lease, as in etcd.
const MaxLeaseTTLSeconds = 9_000_000_000

// Options of a Machine. All replicas of a shard must agree on MinLeaseTTLSeconds only
// for the sake of users; the outcome of an evaluation is in the log.
type Options struct {
	Shard kv.ShardID // default: kv.SystemShard
	// Sequenced: revisions are those that Number gives, because the shard is one of several. All replicas agree on it for ever.
	Sequenced bool
	// Versions has the limits of the versions. What they are opened at is read from the engine.
	Versions mvcc.Options
	// LogEnd is the last entry of the log when the shard is opened: what was applied before a crash is not after it. 0: the engine was not written to
	// since its state row was. Up to where a state that came from elsewhere has rows, it says itself.
	LogEnd consensus.Index
	// Rand chooses lease IDs. Required: a core has no randomness of its own.
	Rand *rand.Rand
	// MinLeaseTTLSeconds lengthens shorter leases. etcd derives it from the election
	// timeout: ceil(3/2 * election timeout). Default 2 (an election timeout of 1 s).
	MinLeaseTTLSeconds int64
	// MaxClockStep is by how much one Tick or TakeProposal may advance the lease clock while leases exist. A clock that jumps, or
	// a machine that was suspended, prolongs leases by what is above, instead of ending them early. 0: 500 ms.
	MaxClockStep time.Duration
	// LeaseCheckpointInterval bounds by how much a change of leader can lengthen a lease: while
	// leases exist and nothing else is proposed, the lease clock is logged that often. Default 3 s.
	LeaseCheckpointInterval time.Duration
	// MaxRevokesPerTick and MaxRevokeKeysPerTick bound the work of one Tick, as MaxExpiryBytes does. Default 500 and
	// 1,000. The second may be exceeded by one lease.
	MaxRevokesPerTick    int
	MaxRevokeKeysPerTick int
	// MaxKeysPerExpiry is how many keys of a lease that expired or is revoked are deleted at one revision. A
	// lease with more keys is emptied over several ticks, or rounds, and revisions. Default 1,000.
	MaxKeysPerExpiry int
	// MaxExpiryBytes is how many bytes of effects expiry leaves to be proposed, and takes from one lease at one revision; a
	// single key may exceed it. So what one proposal adds to it still fits into a log entry. Default: 4 MiB, and not above MaxRequestEffectBytes.
	MaxExpiryBytes int
	// RoundLooks is how many keys the evaluation of a request in a round may look at, and how many KiB of values it may read; what looks at more
	// is decided beside the rounds. Default 2,048: a few milliseconds.
	RoundLooks int64
	// RoundEffectBytes is how many bytes of effects the evaluation of a request in a round may have, for they are in one log entry; what has more is
	// decided beside the rounds. Default 40 MiB: an entry with it fits into one frame between nodes.
	RoundEffectBytes int
	// MaxLooks is how many any request may look at; beyond it the answer is kv.ErrRequestTooLarge. Default 20 million.
	MaxLooks int64
	// MaxBeside is how many requests may be decided beside the rounds, or wait for that; beyond it the answer is kv.ErrTooManyRequests. Default 64.
	MaxBeside int
	// PartBytes is how many bytes of effects of a request that is decided beside the rounds one log entry has, and take effect in one round; what has
	// more comes in parts. Default 64 KiB: about 2,000 keys that are deleted.
	PartBytes int
	// MaxRequestEffectBytes bounds the effects of one request (think of a DeleteRange of everything);
	// beyond it the answer is kv.ErrRequestTooLarge. Default 128 MiB: about two million keys that are deleted.
	MaxRequestEffectBytes int
	// MaxTransactions is in how many transactions over several shards that are not finished the shard may have a part, and MaxPreparedBytes what their locks
	// and effects may take; beyond it a prepare is answered with kv.ErrTooManyRequests. One may go beyond the latter. Default 16,384, and 64 MiB.
	MaxTransactions  int
	MaxPreparedBytes int
	// MaxShareBytes is how many bytes of effects such a transaction may have in the shard, for they are in one log entry; beyond it the answer is
	// kv.ErrRequestTooLarge. Default 16 MiB.
	MaxShareBytes int
}

// WithDefaults returns a copy with zero values replaced.
func (o Options) WithDefaults() Options {
	o.Shard = cmp.Or(o.Shard, kv.SystemShard)
	o.MaxClockStep = cmp.Or(o.MaxClockStep, 500*time.Millisecond)
	o.MinLeaseTTLSeconds = cmp.Or(o.MinLeaseTTLSeconds, 2)
	o.LeaseCheckpointInterval = cmp.Or(o.LeaseCheckpointInterval, 3*time.Second)
	o.MaxRevokesPerTick = cmp.Or(o.MaxRevokesPerTick, 500)
	o.MaxRevokeKeysPerTick = cmp.Or(o.MaxRevokeKeysPerTick, 1000)
	o.MaxKeysPerExpiry = cmp.Or(o.MaxKeysPerExpiry, 300)
	o.RoundLooks = cmp.Or(o.RoundLooks, 2048)
	o.RoundEffectBytes = cmp.Or(o.RoundEffectBytes, 40<<20)
	o.MaxLooks = cmp.Or(o.MaxLooks, 20_000_000)
	o.MaxBeside = cmp.Or(o.MaxBeside, 64)
	o.PartBytes = cmp.Or(o.PartBytes, 32<<10)
	o.MaxRequestEffectBytes = cmp.Or(o.MaxRequestEffectBytes, 128<<20)
	o.MaxTransactions = cmp.Or(o.MaxTransactions, 16384)
	o.MaxPreparedBytes = cmp.Or(o.MaxPreparedBytes, 64<<20)
	o.MaxShareBytes = cmp.Or(o.MaxShareBytes, 16<<20)
	o.MaxExpiryBytes = cmp.Or(o.MaxExpiryBytes, min(4<<20, o.MaxRequestEffectBytes))
	return o
}

// Validate checks options that have their defaults.
func (o Options) Validate() error {
	switch {
	case o.Shard > keys.MaxShard:
		return fmt.Errorf("shard: shard %d is above %d, the last that rows can be kept of", o.Shard, keys.MaxShard)
	case o.Rand == nil:
		return errors.New("shard: Options.Rand is required: it chooses lease IDs")
	case o.MinLeaseTTLSeconds < 1 || o.MinLeaseTTLSeconds > MaxLeaseTTLSeconds:
		return errors.New("shard: Options.MinLeaseTTLSeconds must be between 1 and 9,000,000,000")
	case o.LeaseCheckpointInterval < 0, o.MaxRevokesPerTick < 0, o.MaxRevokeKeysPerTick < 0,
		o.MaxKeysPerExpiry < 0, o.MaxRequestEffectBytes < 0, o.MaxExpiryBytes < 0,
		o.PartBytes < 0, o.RoundEffectBytes < 0, o.RoundLooks < 0, o.MaxLooks < 0, o.MaxBeside < 0,
		o.MaxTransactions < 0, o.MaxPreparedBytes < 0, o.MaxShareBytes < 0:
		return errors.New("shard: options must not be negative")
	}
	return nil
}

// MinLeaseTTLSeconds is etcd's rule for the shortest lease, from the election timeout.
func MinLeaseTTLSeconds(electionTimeout time.Duration) int64 {
	ttl := electionTimeout * 3 / 2
	return max(1, int64((ttl+time.Second-1)/time.Second))
}
