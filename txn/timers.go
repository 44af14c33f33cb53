package txn

import (
	"time"

	"github.com/quoratedb/quorate/kv"
)

// timer says what is to be done at some time: exactly one of its fields counts.
type timer struct {
	deadline Call   // the request's time is over
	number   uint64 // the transaction asks its participant again
	part     int
	notice   kv.ShardID // the shard is told what is finished
}

// timers is a heap of what is due, each at most once.
type timers struct {
	heap   []dueTimer
	places map[timer]int
}

type dueTimer struct {
	timer
	at time.Duration
}

// set has a timer fire at a time, whenever it was to before.
func (t *timers) set(what timer, at time.Duration) {
	t.stop(what)
	t.heap = append(t.heap, dueTimer{what, at})
	t.places[what] = len(t.heap) - 1
	t.up(len(t.heap) - 1)
}

func (t *timers) stop(what timer) {
	i, ok := t.places[what]
	if !ok {
		return
	}
	last := len(t.heap) - 1
	t.swap(i, last)
	t.heap = t.heap[:last]
	delete(t.places, what)
	if i < last {
		t.down(i)
		t.up(i)
	}
}

// due takes what is due, in its order.
func (t *timers) due(now time.Duration) (list []timer) {
	for len(t.heap) > 0 && t.heap[0].at <= now {
		list = append(list, t.heap[0].timer)
		t.stop(t.heap[0].timer)
	}
	return list
}

func (t *timers) swap(i, j int) {
	t.heap[i], t.heap[j] = t.heap[j], t.heap[i]
	t.places[t.heap[i].timer], t.places[t.heap[j].timer] = i, j
}

func (t *timers) up(i int) {
	for i > 0 && t.heap[i].at < t.heap[(i-1)/2].at {
		t.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (t *timers) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(t.heap); child++ {
			if t.heap[child].at < t.heap[least].at {
				least = child
			}
		}
		if least == i {
			return
		}
		t.swap(i, least)
		i = least
	}
}
