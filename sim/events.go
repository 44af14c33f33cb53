package sim

import "time"

// event is something that happens at a moment of virtual time. One that belongs to a node's process does not happen
// once that process is gone, and waits while it is paused.
type event struct {
	at   time.Duration
	seq  uint64 // events of one moment happen in the order of their making
	node *node  // nil: the world's
	life uint64 // of the node's process; 0: any
	run  func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// eventQueue is a heap of events, the next one first.
type eventQueue struct {
	heap []event
	seq  uint64
}

func (q *eventQueue) push(e event) {
	q.seq++
	e.seq = q.seq
	q.heap = append(q.heap, e)
	h := q.heap
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !e.before(&h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = e
}

// pop takes out the next event. The queue must not be empty.
func (q *eventQueue) pop() event {
	h := q.heap
	top := h[0]
	last := len(h) - 1
	e := h[last]
	h[last] = event{}
	h = h[:last]
	q.heap = h
	if last == 0 {
		return top
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && h[child+1].before(&h[child]) {
			child++
		}
		if !h[child].before(&e) {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = e
	return top
}
