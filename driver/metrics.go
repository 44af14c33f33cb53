package driver

import (
	"sync/atomic"
	"time"
)

// counters are what the driver counts.
type counters struct {
	rounds, syncs, proposals, entriesApplied atomic.Uint64
	engineFlushes                            atomic.Uint64
	dirtyBytes, cacheBytes                   atomic.Int64 // as of the beginning of the round's background work
	messagesRefused, framesDropped           atomic.Uint64
	scrubPasses, scrubBytes, scrubFailures   atomic.Uint64
	longestRound                             atomic.Int64 // nanoseconds
	requestsUnwanted, requestsBeside         atomic.Uint64
	groupsFailed                             atomic.Uint64
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
	RequestsQueued  int64
	RequestBytes    int64 // of the requests queued
	// RequestsUnwanted were not evaluated, because nobody waited for them any more when it was their turn.
	RequestsUnwanted uint64
	// LongestRound is how long heartbeats and others had to wait for the driver at most.
	LongestRound time.Duration
	// RequestsBeside were evaluated beside the rounds, because they looked at more than a round may.
	RequestsBeside uint64
	// GroupsFailed are replicas that have stopped while the node goes on.
	GroupsFailed uint64
	// ScrubPasses are complete. ScrubFailures are passes that ended early: by damage, or because something could not be read.
	ScrubPasses, ScrubBytes, ScrubFailures uint64
}

// Metrics returns the current figures.
func (d *Driver) Metrics() Metrics {
	return Metrics{
		Rounds: d.metrics.rounds.Load(), Syncs: d.metrics.syncs.Load(), Proposals: d.metrics.proposals.Load(),
		EntriesApplied: d.metrics.entriesApplied.Load(), EngineFlushes: d.metrics.engineFlushes.Load(),
		DirtyBytes: d.metrics.dirtyBytes.Load(), CacheBytes: d.metrics.cacheBytes.Load(), MessagesRefused: d.metrics.messagesRefused.Load(),
		FramesDropped: d.metrics.framesDropped.Load(), RequestsQueued: d.queued.Load(), RequestBytes: d.queuedBytes.Load(), RequestsUnwanted: d.metrics.requestsUnwanted.Load(),
		RequestsBeside: d.metrics.requestsBeside.Load(), LongestRound: time.Duration(d.metrics.longestRound.Load()),
		GroupsFailed: d.metrics.groupsFailed.Load(),
		ScrubPasses:  d.metrics.scrubPasses.Load(), ScrubBytes: d.metrics.scrubBytes.Load(), ScrubFailures: d.metrics.scrubFailures.Load(),
	}
}
