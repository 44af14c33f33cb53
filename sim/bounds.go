package sim

import (
	"math/rand/v2"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Bounds are limits that no run would reach at the size they have in production. 0: that size. Their names are those of the options that they set.
type Bounds struct {
	// Of the versions of keys. Each process draws how large values are that it keeps by key, if ByKey is set.
	CacheBytes int64 `json:"cache_bytes,omitempty"` // negative: no cache
	ChunkKeys  int   `json:"chunk_keys,omitempty"`
	ChunkBytes int64 `json:"chunk_bytes,omitempty"`
	ByKey      bool  `json:"by_key,omitempty"`
	// Of the state machine.
	MaxKeysPerExpiry      int `json:"max_keys_per_expiry,omitempty"`
	MaxExpiryBytes        int `json:"max_expiry_bytes,omitempty"`
	MaxRevokesPerTick     int `json:"max_revokes_per_tick,omitempty"`
	MaxRevokeKeysPerTick  int `json:"max_revoke_keys_per_tick,omitempty"`
	MaxRequestEffectBytes int `json:"max_request_effect_bytes,omitempty"`
	MaxBeside             int `json:"max_beside,omitempty"`
	// Of the driver.
	MaxRoundBytes   int    `json:"max_round_bytes,omitempty"`
	MaxQueued       int    `json:"max_queued,omitempty"`
	MaxQueuedBytes  int64  `json:"max_queued_bytes,omitempty"`
	RetainLogBytes  int64  `json:"retain_log_bytes,omitempty"`
	FlushLogEntries uint64 `json:"flush_log_entries,omitempty"`
	KeepHashes      int    `json:"keep_hashes,omitempty"`
	// Of the gateway.
	MaxCalls          int `json:"max_calls,omitempty"`
	MaxForwardedBytes int `json:"max_forwarded_bytes,omitempty"`
	MaxFrameBytes     int `json:"max_frame_bytes,omitempty"`
	MaxAnswerBytes    int `json:"max_answer_bytes,omitempty"`
	// PoorClients: one request in so many comes from a client whose connection has no memory left but for what is free; 0: none.
	PoorClients int `json:"poor_clients,omitempty"`
	// Of watches.
	WatchChunkBytes int `json:"watch_chunk_bytes,omitempty"`
	WatchBatchBytes int `json:"watch_batch_bytes,omitempty"`
	WatchMaxControl int `json:"watch_max_control,omitempty"`
	// PoorStreams: one in so many times that a stream of watches needs memory there is none; 0: nobody counts.
	PoorStreams int `json:"poor_streams,omitempty"`
	// LogSegmentBytes is of the real log.
	LogSegmentBytes int64 `json:"log_segment_bytes,omitempty"`
}

// drawBounds has a third of the runs do with those of production. In the others some are small or tiny.
func drawBounds(seed uint64) (b Bounds) {
	random := rand.New(rand.NewPCG(seed, sourceBounds))
	share := pick(random, 0, 0.15, 0.4)
	return Bounds{
		CacheBytes: bound(random, share, int64(2<<10), 256, -1),
		ChunkKeys:  bound(random, share, 8, 1),
		ChunkBytes: bound(random, share, int64(1<<10), 1),
		ByKey:      bound(random, share, true),

		MaxKeysPerExpiry:      bound(random, share, 2, 1),
		MaxExpiryBytes:        bound(random, share, 150, 1),
		MaxRevokesPerTick:     bound(random, share, 2, 1),
		MaxRevokeKeysPerTick:  bound(random, share, 3, 1),
		MaxRequestEffectBytes: bound(random, share, 450, 150),
		MaxBeside:             bound(random, share, 4, 1),

		MaxRoundBytes:   bound(random, share, 500, 1),
		MaxQueued:       bound(random, share, 10, 3),
		MaxQueuedBytes:  bound(random, share, int64(1000), 1),
		RetainLogBytes:  bound(random, share, int64(4<<10), 1),
		FlushLogEntries: bound(random, share, uint64(20), 1),
		KeepHashes:      bound(random, share, 10, 1),

		MaxCalls:          bound(random, share, 8, 3),
		MaxForwardedBytes: bound(random, share, 1000, 1),
		MaxFrameBytes:     bound(random, share, 500, 1),
		MaxAnswerBytes:    bound(random, share, 4<<10, 1<<10),
		PoorClients:       bound(random, share, 20, 4),

		WatchChunkBytes: bound(random, 0.7, 2<<10, 2<<10, 1),
		WatchBatchBytes: bound(random, 0.7, 1<<10, 1<<10, 1),
		WatchMaxControl: bound(random, share, 6, 3),

		LogSegmentBytes: pick(random, int64(8<<10), 16<<10),
		PoorStreams:     bound(random, share, 6, 2),
	}
}

// ofStore leaves room for a request over all shards: they are asked at once, and may all be led by the same node.
func (b *Bounds) ofStore(shards int) {
	atLeast(&b.MaxQueued, 2*shards+2)
	atLeast(&b.MaxQueuedBytes, int64(400*shards))
	atLeast(&b.MaxBeside, shards+1)
	atLeast(&b.MaxCalls, 2*shards+3)
	atLeast(&b.MaxForwardedBytes, 400*shards)
}

// atLeast raises a bound, if there is one.
func atLeast[T int | int64](bound *T, least T) {
	if *bound != 0 {
		*bound = max(*bound, least)
	}
}

// bound draws one of the values for a share of the runs.
func bound[T any](random *rand.Rand, share float64, values ...T) (drawn T) {
	taken, value := random.Float64() < share, pick(random, values...)
	if taken {
		drawn = value
	}
	return drawn
}

func (b *Bounds) versions(random *rand.Rand) (o mvcc.Options) {
	o.CacheBytes, o.ChunkKeys, o.ChunkBytes = b.CacheBytes, b.ChunkKeys, b.ChunkBytes
	if b.ByKey {
		o.ByKeyBytes = pick(random, -1, 0, 16)
	}
	return o
}

func (b *Bounds) machine(o *shard.Options) {
	o.MaxKeysPerExpiry, o.MaxExpiryBytes, o.MaxRevokesPerTick, o.MaxRevokeKeysPerTick = b.MaxKeysPerExpiry, b.MaxExpiryBytes, b.MaxRevokesPerTick, b.MaxRevokeKeysPerTick
	o.MaxRequestEffectBytes, o.MaxShareBytes, o.MaxBeside = b.MaxRequestEffectBytes, b.MaxRequestEffectBytes, b.MaxBeside
}

func (b *Bounds) driver(o *driver.Options) {
	o.MaxRoundBytes, o.MaxQueued, o.MaxQueuedBytes = b.MaxRoundBytes, b.MaxQueued, b.MaxQueuedBytes
	o.RetainLogBytes, o.FlushLogEntries, o.KeepHashes = b.RetainLogBytes, b.FlushLogEntries, b.KeepHashes
}

func (b *Bounds) gateway(o *gateway.Options) {
	o.Limits = gateway.Limits{MaxCalls: b.MaxCalls, MaxForwardedBytes: b.MaxForwardedBytes, MaxFrameBytes: b.MaxFrameBytes, MaxAnswerBytes: b.MaxAnswerBytes,
		MaxReaders: 1 << 20} // who waits for its turn to read would stop the whole world
	o.Watch.ChunkBytes, o.Watch.BatchBytes, o.Watch.MaxControl = b.WatchChunkBytes, b.WatchBatchBytes, b.WatchMaxControl
}

// noMemory is that of a client whose connection holds all it may.
type noMemory struct{}

func (noMemory) Reserve(int64) bool { return false }
func (noMemory) Release(int64)      {}

// poor tells whether the next request of the client comes when its connection has no memory left. Reads are spared: most workloads insist on them.
func (c *client) poor(r *kv.Request) bool {
	odds := c.w.plan.Limits.Bounds.PoorClients
	return odds > 0 && r.Kind != kv.KindRange && c.number < firstAside && c.link.IntN(odds) == 0
}

// account is what a node holds for requests that others have forwarded to it.
type account struct{ bytes int64 }

func (a *account) Reserve(bytes int64) bool {
	a.bytes += bytes
	return true
}

func (a *account) Release(bytes int64) { a.bytes -= bytes }

// guestMemory is gateway.Options.GuestMemory.
func (n *node) guestMemory(random *rand.Rand) func(kv.NodeID) kv.Memory {
	guests, odds := &n.guests, n.w.plan.Limits.Bounds.PoorClients
	return func(kv.NodeID) kv.Memory {
		if odds > 0 && !n.w.ended && random.IntN(odds) == 0 {
			n.w.mark("request without memory")
			return noMemory{}
		}
		return guests
	}
}

// keysPerExpiry is how many keys a lease loses at one revision at most; 0: all that it has. In a shard that is not the one of the lease they
// go as those of a request do.
func (b *Bounds) keysPerExpiry(shared bool) int {
	if shared && b.MaxRequestEffectBytes != 0 || b.MaxKeysPerExpiry == 0 && (b.MaxExpiryBytes != 0 || b.MaxRequestEffectBytes != 0) {
		return 1000
	}
	return b.MaxKeysPerExpiry
}
