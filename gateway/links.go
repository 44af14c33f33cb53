package gateway

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quoratedb/quorate/gateway/link"
	"github.com/quoratedb/quorate/kv"
)

// links are those of all shards here. Whoever has to look at them looks at the busy ones: idle links cost memory and nothing else.
type links struct {
	byShard map[kv.ShardID]*leaderLink // does not change
	// sizeBytes of the requests that wait for leaders, or for their answers.
	sizeBytes atomic.Int64

	mu   sync.Mutex // after a link's lock
	busy []*leaderLink
}

// open makes the links of the shards.
func (all *links) open(g *Gateway, shards map[kv.ShardID]Shard) {
	all.byShard = make(map[kv.ShardID]*leaderLink, len(shards))
	for id, local := range shards {
		all.byShard[id] = &leaderLink{gateway: g, shard: id, itself: [1]kv.ShardID{id}, local: local, core: link.New(link.Options{
			Self: g.options.Self, MaxFrameBytes: g.options.Limits.MaxFrameBytes,
			LeaderGrace: g.options.LeaderGrace, BarrierTimeout: g.options.BarrierTimeout,
		})}
	}
}

// reserve counts a request that is to be put into a link, unless that makes too many bytes. One may be of any size.
func (all *links) reserve(sizeBytes, limit int) bool {
	if sum := all.sizeBytes.Add(int64(sizeBytes)); sum > int64(limit) && sum > int64(sizeBytes) {
		all.sizeBytes.Add(-int64(sizeBytes))
		return false
	}
	return true
}

// enter lists a link that has become busy. Its lock is held.
func (all *links) enter(l *leaderLink) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.busy = append(all.busy, l)
	l.place = len(all.busy)
}

// leave takes a link out of the list. Its lock is held.
func (all *links) leave(l *leaderLink) {
	all.mu.Lock()
	defer all.mu.Unlock()
	last := len(all.busy)
	moved := all.busy[last-1]
	all.busy[l.place-1], moved.place = moved, l.place
	all.busy[last-1], l.place = nil, 0
	all.busy = all.busy[:last-1]
}

// areBusy returns the links that were busy at some time since the last Tick.
func (all *links) areBusy() []*leaderLink {
	all.mu.Lock()
	defer all.mu.Unlock()
	return slices.Clone(all.busy)
}

// figures adds up those of all links.
func (all *links) figures() (sum link.Figures) {
	for _, l := range all.areBusy() {
		l.mu.Lock()
		one := l.core.Figures()
		l.mu.Unlock()
		sum.Queued, sum.Sent = sum.Queued+one.Queued, sum.Sent+one.Sent
	}
	sum.SizeBytes = int(all.sizeBytes.Load())
	return sum
}
