package watch

import (
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/kv"
)

type counters struct {
	events, deliveries, lagging, gaps, historyReads, ringReads, walked, questions atomic.Int64
}

// Metrics are figures about a hub.
type Metrics struct {
	Streams, Watches, Groups int
	DispatchedRevision       kv.Revision // with several shards the lowest of those that somebody waits for
	EventCount               int64       // changes looked at while somebody watched
	DeliveryCount            int64       // changes put into outboxes, once per group
	LaggingCount             int64       // groups detached because an outbox was full
	GapCount                 int64       // interruptions of a feed
	HistoryReadCount         int64       // catch-up steps served by the engine
	RingReadCount            int64       // catch-up steps served from memory
	RingBytes                int
	WalkCount                int64 // watches, groups and streams that were looked at one by one

	// With several shards.
	Mergers        int           // sets of shards whose changes are merged for watches
	AsideRevisions int           // revisions with changes of shards, above one that a transaction may yet get there
	WaitingRecords int           // records of shards, above what all shards of some merger have closed
	StalledMergers int           // mergers in which something waits
	StalledShard   kv.ShardID    // the shard that has held one back for longest; 0: none does
	StalledFor     time.Duration // for how long it has
	QuestionCount  int64         // questions that were asked to close shards
}

// Metrics returns figures.
func (h *Hub) Metrics() Metrics {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.feedMu.Lock()
	defer h.feedMu.Unlock()
	m := Metrics{
		Streams: len(h.streams), Watches: h.watches,
		EventCount: h.metrics.events.Load(), DeliveryCount: h.metrics.deliveries.Load(),
		LaggingCount: h.metrics.lagging.Load(), GapCount: h.metrics.gaps.Load(),
		HistoryReadCount: h.metrics.historyReads.Load(), RingReadCount: h.metrics.ringReads.Load(),
		RingBytes: h.pool.usedBytes, WalkCount: h.metrics.walked.Load(), QuestionCount: h.metrics.questions.Load(),
	}
	lowest := endOfTime
	for _, s := range h.inOrder {
		m.Groups += s.live.size()
		m.AsideRevisions += s.aside.changes.size()
		if s.live.size() > 0 || h.only != nil {
			lowest = min(lowest, s.dispatched)
		}
	}
	for _, merger := range h.mergers.byKey { // sums, in any order
		m.Groups += merger.live.size()
		lowest = min(lowest, merger.dispatched)
		merger.figures(&m)
	}
	if lowest < endOfTime {
		m.DispatchedRevision = lowest
	}
	return m
}

// figures adds those of the merger. Of shards that have held back something for as long the first counts. The lock of the rings is held.
func (m *merger) figures(sum *Metrics) {
	sum.Mergers++
	sum.WaitingRecords = max(sum.WaitingRecords, m.waiting())
	by := m.stall.shard
	if by == nil {
		return
	}
	sum.StalledMergers++
	stalled := m.hub.options.Clock() - m.stall.since
	if sum.StalledShard == 0 || stalled > sum.StalledFor || stalled == sum.StalledFor && by.id < sum.StalledShard {
		sum.StalledShard, sum.StalledFor = by.id, stalled
	}
}

// walked counts what is looked at one by one, so that a test can hold the costs of an operation against what it is about.
func (h *Hub) walked(n int) { h.metrics.walked.Add(int64(n)) }
