package driver

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/liveness"
	"github.com/quoratedb/quorate/shard"
)

// counters are what the driver counts.
type counters struct {
	rounds, syncs, proposals, entriesApplied atomic.Uint64
	engineFlushes                            atomic.Uint64
	dirtyBytes, cacheBytes                   atomic.Int64 // as of the beginning of the round's background work
	messagesRefused, framesDropped           atomic.Uint64
	messagesPutOff                           atomic.Uint64
	scrubPasses, scrubBytes, scrubFailures   atomic.Uint64
	longestRound                             atomic.Int64 // nanoseconds
	requestsUnwanted, requestsBeside         atomic.Uint64
	groupsFailed                             atomic.Uint64
	leases, effectsInFlight                  atomic.Int64
	effectsApplied, entriesVoid              atomic.Uint64
	leasesExpired                            atomic.Uint64
	undecided, prepared, records             atomic.Int64

	liveness livenessFigures
}

// livenessFigures are what package liveness has counted as of the last round, for other goroutines.
type livenessFigures struct {
	mu  sync.Mutex
	now liveness.Metrics
}

func (f *livenessFigures) set(now liveness.Metrics) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = now
}

func (f *livenessFigures) get() liveness.Metrics {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// reckon brings the node's figures up to what a machine has counted; known is what was counted of it before.
func (c *counters) reckon(known *shard.Metrics, of shard.Metrics) {
	if of == *known {
		return
	}
	c.leases.Add(int64(of.Leases - known.Leases))
	c.effectsInFlight.Add(int64(of.InFlightEffects - known.InFlightEffects))
	c.effectsApplied.Add(of.AppliedEffects - known.AppliedEffects)
	c.entriesVoid.Add(of.VoidEntries - known.VoidEntries)
	c.leasesExpired.Add(of.ExpiredLeases - known.ExpiredLeases)
	c.reckonTransactions(known, of)
	*known = of
}

// reckonReplaced is for a machine that is gone: what it held is not held any more, and what it counted stays counted.
func (c *counters) reckonReplaced(known *shard.Metrics) {
	c.leases.Add(-int64(known.Leases))
	c.effectsInFlight.Add(-int64(known.InFlightEffects))
	c.reckonTransactions(known, shard.Metrics{})
	*known = shard.Metrics{}
}

// reckonTransactions does so for those over several shards.
func (c *counters) reckonTransactions(known *shard.Metrics, of shard.Metrics) {
	c.undecided.Add(int64(of.UndecidedTransactions - known.UndecidedTransactions))
	c.prepared.Add(int64(of.PreparedBytes - known.PreparedBytes))
	c.records.Add(int64(of.TransactionRecords - known.TransactionRecords))
}

// Metrics are figures about the driver since its start.
type Metrics struct {
	Rounds          uint64
	Syncs           uint64
	Proposals       uint64
	EntriesApplied  uint64
	EngineFlushes   uint64 // for any number of groups each
	DirtyBytes      int64  // of all groups: keys that are not written to the engine yet
	CacheBytes      int64  // of all groups: newest versions of keys
	MessagesRefused uint64
	FramesDropped   uint64
	// BacklogBytes are those of entries that other nodes have sent and that are not durable here. MessagesPutOff were not taken because of them.
	BacklogBytes   int64
	MessagesPutOff uint64
	RequestsQueued int64
	RequestBytes   int64 // of the requests queued
	// RequestsUnwanted were not evaluated, because nobody waited for them any more when it was their turn.
	RequestsUnwanted uint64
	// LongestRound is how long heartbeats and others had to wait for the driver at most.
	LongestRound time.Duration
	// RequestsBeside were evaluated beside the rounds, because they looked at more than a round may.
	RequestsBeside uint64
	// GroupsFailed are replicas that have stopped while the node goes on.
	GroupsFailed uint64
	// Leases are those that the replicas of the node have. EffectsInFlight were evaluated here and are not applied yet.
	Leases, EffectsInFlight int64
	EffectsApplied          uint64
	EntriesVoid             uint64 // applied without effect: what they were evaluated on never took effect
	LeasesExpired           uint64 // by leaders here
	// UndecidedTransactions are those over several shards that replicas of the node have not heard the end of, each counted in each of them; PreparedBytes is what
	// they take. TransactionRecords are those and what is kept of others until all of their shards have heard the end.
	UndecidedTransactions, PreparedBytes, TransactionRecords int64
	// Liveness is about the heartbeats between this node and the others.
	Liveness liveness.Metrics
	// ScrubPasses are complete. ScrubFailures are passes that ended early: by damage, or because something could not be read.
	ScrubPasses, ScrubBytes, ScrubFailures uint64
}

// Metrics returns the current figures.
func (d *Driver) Metrics() Metrics {
	return Metrics{
		Rounds: d.metrics.rounds.Load(), Syncs: d.metrics.syncs.Load(), Proposals: d.metrics.proposals.Load(),
		EntriesApplied: d.metrics.entriesApplied.Load(), EngineFlushes: d.metrics.engineFlushes.Load(),
		DirtyBytes: d.metrics.dirtyBytes.Load(), CacheBytes: d.metrics.cacheBytes.Load(), MessagesRefused: d.metrics.messagesRefused.Load(),
		FramesDropped: d.metrics.framesDropped.Load(), MessagesPutOff: d.metrics.messagesPutOff.Load(), BacklogBytes: d.backlog.bytes.Load(), RequestsQueued: d.queued.Load(), RequestBytes: d.queuedBytes.Load(), RequestsUnwanted: d.metrics.requestsUnwanted.Load(),
		RequestsBeside: d.metrics.requestsBeside.Load(), LongestRound: time.Duration(d.metrics.longestRound.Load()),
		GroupsFailed: d.metrics.groupsFailed.Load(), Leases: d.metrics.leases.Load(), EffectsInFlight: d.metrics.effectsInFlight.Load(),
		EffectsApplied: d.metrics.effectsApplied.Load(), EntriesVoid: d.metrics.entriesVoid.Load(), LeasesExpired: d.metrics.leasesExpired.Load(),
		UndecidedTransactions: d.metrics.undecided.Load(), PreparedBytes: d.metrics.prepared.Load(), TransactionRecords: d.metrics.records.Load(),
		Liveness:    d.metrics.liveness.get(),
		ScrubPasses: d.metrics.scrubPasses.Load(), ScrubBytes: d.metrics.scrubBytes.Load(), ScrubFailures: d.metrics.scrubFailures.Load(),
	}
}

// checkFigures verifies that the node's figures are those of its replicas.
func (d *Driver) checkFigures() error {
	leases := int64(0)
	for _, r := range d.order {
		if of := r.machine.Metrics(); r.installing == nil && (of.Leases != r.figures.Leases || of.AppliedEffects != r.figures.AppliedEffects) {
			return fmt.Errorf("group %d has %d leases and %d effects, and was counted with %+v", r.group, of.Leases, of.AppliedEffects, r.figures)
		}
		leases += int64(r.figures.Leases)
	}
	if counted := d.metrics.leases.Load(); counted != leases {
		return fmt.Errorf("the groups have %d leases together, and the node counts %d", leases, counted)
	}
	return nil
}
