package server

import (
	"slices"
	"sync"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// TestKeepUnless: shards are asked at one time, as many as may be and no more, and those that are not done are kept in order.
func TestKeepUnless(t *testing.T) {
	const atOnce = 3
	var mu sync.Mutex
	asked, most := 0, 0
	full := make(chan struct{})
	kept := keepUnless([]kv.ShardID{1, 2, 3, 4, 5, 6, 7}, atOnce, func(shard kv.ShardID) bool {
		mu.Lock()
		asked++
		if most = max(most, asked); most == atOnce {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		mu.Unlock()
		<-full // nobody is answered before so many are asked
		mu.Lock()
		asked--
		mu.Unlock()
		return shard%2 == 0
	})
	if most != atOnce || !slices.Equal(kept, []kv.ShardID{1, 3, 5, 7}) {
		t.Errorf("%d were asked at one time, and %v are kept", most, kept)
	}
	if kept := keepUnless(nil, atOnce, nil); kept != nil {
		t.Errorf("of none %v are kept", kept)
	}
}
