package server

import (
	"sync"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// rateInterval is how often it is looked what was done.
const rateInterval = time.Second

// rates are how much is done in each shard at this node. The zero value is ready.
type rates struct {
	mu      sync.Mutex
	byShard map[kv.ShardID]*shardRate
}

// shardRate is of one shard.
type shardRate struct{ reads, writes rate }

// rate is how quickly a counter grows: of what it was lately, the last interval counts half, the one before a quarter, and so on.
type rate struct {
	counted   uint64
	at        time.Duration
	begun     bool
	perSecond float64
}

// count takes note of what a counter has come to. One that has become smaller has begun anew.
func (r *rate) count(counted uint64, now time.Duration) {
	if seconds := (now - r.at).Seconds(); r.begun && seconds > 0 {
		grown := 0.0
		if counted > r.counted {
			grown = float64(counted - r.counted)
		}
		r.perSecond = (r.perSecond + grown/seconds) / 2
		if r.perSecond < 0.05 {
			r.perSecond = 0
		}
	}
	r.counted, r.at, r.begun = counted, now, true
}

// of returns reads and writes a second of a shard.
func (all *rates) of(shard kv.ShardID) (reads, writes float64) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if r := all.byShard[shard]; r != nil {
		return r.reads.perSecond, r.writes.perSecond
	}
	return 0, 0
}

func (all *rates) count(shard kv.ShardID, reads, writes uint64, now time.Duration) {
	all.mu.Lock()
	defer all.mu.Unlock()
	r := all.byShard[shard]
	if r == nil {
		if all.byShard == nil {
			all.byShard = make(map[kv.ShardID]*shardRate)
		}
		r = &shardRate{}
		all.byShard[shard] = r
	}
	r.reads.count(reads, now)
	r.writes.count(writes, now)
}

// watchRates counts from time to time.
func (s *Server) watchRates() {
	ticker := time.NewTicker(rateInterval)
	defer ticker.Stop()
	for {
		for _, r := range s.replicas() {
			s.rates.count(r.Shard(), r.Reads(), r.Effects(), s.clock())
		}
		select {
		case <-s.context.Done():
			return
		case <-ticker.C:
		}
	}
}
