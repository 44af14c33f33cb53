package sim

import (
	"time"

	"github.com/quoratedb/quorate/gateway"
)

// front is what a node's clients of a group talk to.
type front struct {
	node    *node
	group   *group // whose clients they are; if it is one of all shards of a store, the first
	gateway *gateway.Gateway
	asks    uint64 // the instance that the gateway asks in the name of
	reads   *int   // that the gateway does beside the rounds: whoever closes it waits for them
	streams []*serverStream
}

// fronts are those of the node that answer.
func (n *node) fronts() func(yield func(*front) bool) {
	return func(yield func(*front) bool) {
		for p := range n.held() {
			if p.gateway != nil && p.front.group == p.group && !yield(p.front) {
				return
			}
		}
	}
}

// countReads is how a gateway begins to read beside the rounds, and counts those who do.
func (f *front) countReads() func(work func()) {
	reads := new(int) // of this gateway
	f.reads = reads
	return func(work func()) {
		*reads++
		f.node.spawn(func() {
			work()
			*reads--
		})
	}
}

// wakeHub plans what the goroutine of the watch hub does.
func (f *front) wakeHub() {
	n := f.node
	n.push(n.w.now+n.roundLatency(), func() {
		if f.gateway == nil {
			return // the replica was removed meanwhile
		}
		for f.gateway.DispatchWatches() {
		}
		f.pollStreams()
	})
}

// wakeHubIn is wakeHub for later.
func (f *front) wakeHubIn(d time.Duration) { f.node.push(f.node.w.now+d, f.wakeHub) }

// tick lets the gateway notice deadlines.
func (f *front) tick(now time.Duration) {
	f.gateway.Tick(now)
	f.pollStreams()
}

// count adds what the gateway did to the marks.
func (f *front) count() {
	g, w := f.gateway.Metrics(), f.node.w
	w.count("barrier asked", g.BarrierCount)
	w.count("call forwarded", g.ForwardedCalls)
	w.count("call tried again", g.RetryCount)
	w.count("renewed without the log", g.LocalRenewals)
	w.count("call timed out", g.Timeouts)
	w.count("answer lost", g.LostAnswers)
	w.count("watch caught up from history", g.Watch.HistoryReadCount)
	w.count("watch caught up from memory", g.Watch.RingReadCount)
}
