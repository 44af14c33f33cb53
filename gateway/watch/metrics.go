package watch

import (
	"sync/atomic"

	"github.com/quoratedb/quorate/kv"
)

type counters struct {
	events, deliveries, lagging, gaps, historyReads, ringReads, walked atomic.Int64
}

// Metrics are figures about a hub.
type Metrics struct {
	Streams, Watches, Groups int
	DispatchedRevision       kv.Revision
	EventCount               int64 // changes looked at while somebody watched
	DeliveryCount            int64 // changes put into outboxes, once per group
	LaggingCount             int64 // groups detached because an outbox was full
	GapCount                 int64 // interruptions of the feed
	HistoryReadCount         int64 // catch-up steps served by the engine
	RingReadCount            int64 // catch-up steps served from memory
	RingBytes                int
	WalkCount                int64 // watches, groups and streams that were looked at one by one
}

// Metrics returns figures.
func (h *Hub) Metrics() Metrics {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.feedMu.Lock()
	defer h.feedMu.Unlock()
	return Metrics{
		Streams: len(h.streams), Watches: h.watches, Groups: h.live.size(), DispatchedRevision: h.dispatched,
		EventCount: h.metrics.events.Load(), DeliveryCount: h.metrics.deliveries.Load(),
		LaggingCount: h.metrics.lagging.Load(), GapCount: h.metrics.gaps.Load(),
		HistoryReadCount: h.metrics.historyReads.Load(), RingReadCount: h.metrics.ringReads.Load(),
		RingBytes: h.feed.sizeBytes, WalkCount: h.metrics.walked.Load(),
	}
}

// walked counts what is looked at one by one, so that a test can hold the costs of an operation against what it is about.
func (h *Hub) walked(n int) { h.metrics.walked.Add(int64(n)) }
