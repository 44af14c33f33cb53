package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/proto/native"
)

// historyHolds are the backups for which this node keeps rows that are compacted. They are in memory only: whoever makes a backup asks again after a restart.
//
// Invariant: held is set while there are holders, until limit has passed since the first of them came. Then all of them are told that it is over, so that others
// who come meanwhile do not prolong it.
type historyHolds struct {
	limit    time.Duration
	released func() // called when held is not set any more

	held atomic.Bool
	mu   sync.Mutex
	// holders are those of the present stretch; over is closed when it ends.
	holders int
	over    chan struct{}
	timer   *time.Timer
	expired atomic.Int64 // stretches that ended by the limit
}

// begin holds the history until end is called, or over is closed.
func (h *historyHolds) begin() (over <-chan struct{}, end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holders == 0 {
		h.over = make(chan struct{})
		mine := h.over
		h.timer = time.AfterFunc(h.limit, func() { h.expire(mine) })
		h.held.Store(true)
	}
	h.holders++
	mine := h.over
	return mine, func() { h.end(mine) }
}

// expire ends a stretch by the limit.
func (h *historyHolds) expire(stretch chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over == stretch && h.holders > 0 {
		h.expired.Add(1)
		h.finish()
	}
}

// end takes a holder of a stretch away.
func (h *historyHolds) end(stretch chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over != stretch || h.holders == 0 { // it is over
		return
	}
	if h.holders--; h.holders == 0 {
		h.timer.Stop()
		h.finish()
	}
}

func (h *historyHolds) finish() {
	h.holders = 0
	close(h.over)
	h.over = nil
	h.held.Store(false)
	h.released()
}

// holdMetrics say what is held.
type holdMetrics struct{ Holders, Expired int64 }

func (h *historyHolds) metrics() holdMetrics {
	h.mu.Lock()
	defer h.mu.Unlock()
	return holdMetrics{Holders: int64(h.holders), Expired: h.expired.Load()}
}

// holdInterval is how often whoever has the history held hears of it: a client that is gone is noticed by what cannot be sent to it.
const holdInterval = 5 * time.Second

// HoldHistory keeps the history that is here, whatever is compacted, until the context or the time for that ends.
func (n localNode) HoldHistory(ctx context.Context, send func(*native.HoldPart) error) error {
	h := &n.s.holds
	part := native.HoldPart{LimitSeconds: int64(h.limit / time.Second)}
	if h.limit < 0 { // it is switched off
		part.LimitSeconds, part.Over = 0, true
		return send(&part)
	}
	over, end := h.begin()
	defer end()
	n.s.logger.Info("a backup holds back the deletion of compacted history", "at_most", h.limit)
	ticker := time.NewTicker(holdInterval)
	defer ticker.Stop()
	for {
		if err := send(&part); err != nil {
			return err
		}
		if part.Over {
			n.s.logger.Warn("a backup has held back the deletion of compacted history for as long as it may: it goes on", "limit", h.limit)
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-over:
			part.Over = true
		case <-ticker.C:
		}
	}
}
