package history

import (
	"github.com/quoratedb/quorate/kv"
)

// checkWatcher: what a watch delivered is exactly what happened in its span from its start to the end, in
// order, each event once, no revision split over two messages, and progress tells the truth.
func (c *checker) checkWatcher(w *Watcher) {
	var want []kv.Event
	for _, e := range c.Full {
		if e.KV.ModRevision >= w.Start && w.Span.Contains(e.KV.Key) {
			want = append(want, e)
		}
	}
	delivered := w.Start - 1 // everything up to here
	next := 0                // in want
	for _, b := range w.Batches {
		if b.Progress {
			if next < len(want) && want[next].KV.ModRevision <= b.Revision {
				c.problem("watcher %s: progress up to %d was told, but not%s", w.Name, b.Revision, describeEvents(want[next:next+1], false))
				return
			}
			delivered = max(delivered, b.Revision)
			continue
		}
		for i := range b.Events {
			e := &b.Events[i]
			at := e.KV.ModRevision
			switch {
			case i == 0 && at <= delivered:
				c.problem("watcher %s: event at revision %d after everything up to %d was delivered: a repetition, or a revision that was split", w.Name, at, delivered)
				return
			case at > b.Revision:
				c.problem("watcher %s: event at revision %d under the header of revision %d", w.Name, at, b.Revision)
			case next == len(want):
				c.problem("watcher %s: event that never happened:%s", w.Name, describeEvents(b.Events[i:i+1], false))
				return
			}
			prev := w.PrevKV && want[next].Prev != nil
			if got, expected := describeEvents(b.Events[i:i+1], prev), describeEvents(want[next:next+1], prev); got != expected {
				c.problem("watcher %s: got%s, the next event is%s", w.Name, got, expected)
				return
			}
			next++
		}
		if n := len(b.Events); n > 0 {
			delivered = b.Events[n-1].KV.ModRevision
		}
	}
	if next < len(want) {
		c.problem("watcher %s: %d events are missing at the end, the first is%s", w.Name, len(want)-next, describeEvents(want[next:next+1], false))
	}
}
