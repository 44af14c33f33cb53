package sim

import (
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/timeline"
)

// timesInterval is how often a node has the store keep which revision it has.
const timesInterval = time.Second

// offered is what nodes have asked to be recorded: by which of their clocks a revision was known, the earliest and the latest.
type offered map[kv.Revision][2]timeline.Time

// wallClock is what a node takes for the time: its own clock, and some seconds less than the nodes before it. A leader that follows on one of those goes back.
func (n *node) wallClock() timeline.Time {
	const epoch, behind = 1_000_000, 7_000
	return timeline.Time(epoch+n.now().Milliseconds()) - timeline.Time(behind*n.index)
}

// recordTime has the revision recorded that the node knows of, if it leads.
func (n *node) recordTime() {
	if r := n.partOf(consensus.GroupID(kv.SystemShard)).replica; r != nil && r.IsLeader() {
		revision, now := r.Revision(), n.wallClock()
		if n.issuer != nil {
			revision = n.issuer.Known()
		}
		clocks, found := n.w.offered[revision]
		if !found {
			clocks[0] = now
		}
		n.w.offered[revision] = [2]timeline.Time{min(clocks[0], now), max(clocks[1], now)}
		r.RecordTime(revision, now)
	}
	n.w.seenTimes()
	n.push(n.w.now+timesInterval, n.recordTime)
}

// checkTimes: all nodes have one series, whose points were offered; times do not descend, and are those of a clock unless the one before was later.
func (w *world) checkTimes() {
	if !w.plan.Times {
		return
	}
	at := map[kv.Revision]timeline.Time{}
	for _, n := range w.nodes {
		p := n.partOf(consensus.GroupID(kv.SystemShard))
		if p == nil || p.replica == nil {
			continue
		}
		last := timeline.Point{}
		for i, point := range p.replica.Times().Points() {
			clocks, was := w.offered[point.Revision]
			clamped := i == 0 || point.Time == last.Time // the one before the first may be compacted
			switch before, known := at[point.Revision]; {
			case !was:
				w.fail(Correctness, "node %d has a time of revision %d, which nobody has recorded", n.id, point.Revision)
			case point.Revision <= last.Revision || point.Time < last.Time || point.Revision < p.replica.Compacted():
				w.fail(Correctness, "node %d, compacted at %d: after %v comes %v", n.id, p.replica.Compacted(), last, point)
			case point.Time < clocks[0] || point.Time > clocks[1] && !clamped:
				w.fail(Correctness, "node %d has revision %d at %d, after %v; clocks said %v", n.id, point.Revision, point.Time, last, clocks)
			case known && before != point.Time:
				w.fail(Correctness, "revision %d is at %d for node %d, and at %d for another", point.Revision, point.Time, n.id, before)
			}
			if last.Time > 0 && point.Time == last.Time && clocks[1] < point.Time {
				w.mark("time stands still")
			}
			at[point.Revision], last = point.Time, point
		}
		if last.Revision > 0 {
			w.mark("times recorded")
		}
	}
}
