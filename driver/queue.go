package driver

import "container/heap"

// queue is a first-in first-out list that reuses its memory.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) len() int    { return len(q.items) - q.head }
func (q *queue[T]) push(item T) { q.items = append(q.items, item) }
func (q *queue[T]) front() *T   { return &q.items[q.head] }
func (q *queue[T]) at(i int) *T { return &q.items[q.head+i] }

// pop removes and returns the first item.
func (q *queue[T]) pop() T {
	item := q.items[q.head]
	var zero T
	q.items[q.head] = zero
	q.head++
	switch {
	case q.head == len(q.items):
		q.items, q.head = q.items[:0], 0
	case q.head >= 1024 && 2*q.head >= len(q.items):
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return item
}

// largeBytes is from which size on a request waits apart.
const largeBytes = 16 << 10

// requestQueue holds the requests that wait to be evaluated. Requests that wait at the same time may be evaluated in any order. The small ones
// come first, so that they do not wait until everything large is on disk; and each round that large ones wait for takes one of them at least.
type requestQueue struct {
	small, large queue[request]
	largeTaken   bool // in this round
}

func (q *requestQueue) len() int { return q.small.len() + q.large.len() }

func (q *requestQueue) push(r request) {
	if r.sizeBytes < largeBytes {
		q.small.push(r)
	} else {
		q.large.push(r)
	}
}

// beginRound is called before requests are taken for a round.
func (q *requestQueue) beginRound() { q.largeTaken = false }

// take removes and returns what the round evaluates next. room: it is not as large yet as a round should be.
func (q *requestQueue) take(room bool) (r request, ok bool) {
	switch {
	case room && q.small.len() > 0:
		return q.small.pop(), true
	case q.large.len() > 0 && (room || !q.largeTaken):
		q.largeTaken = true
		return q.large.pop(), true
	}
	return request{}, false
}

// pop removes and returns any of them.
func (q *requestQueue) pop() request {
	if q.small.len() > 0 {
		return q.small.pop()
	}
	return q.large.pop()
}

// wait is somebody who waits until the applied state has come to an index, a revision, or a proposal of this leadership.
type wait struct {
	until uint64
	done  func(error)
}

// waitHeap holds waits for the same kind of number, the lowest first.
type waitHeap []wait

func (h waitHeap) Len() int           { return len(h) }
func (h waitHeap) Less(i, j int) bool { return h[i].until < h[j].until }
func (h waitHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *waitHeap) Push(x any)        { *h = append(*h, x.(wait)) }
func (h *waitHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = wait{}
	*h = old[:len(old)-1]
	return last
}

// add has done called when the number is reached.
func (h *waitHeap) add(until uint64, done func(error)) { heap.Push(h, wait{until: until, done: done}) }

// all is above every number that is waited for.
const all = ^uint64(0)

// reached ends all waits up to the number.
func (h *waitHeap) reached(number uint64, err error) {
	for len(*h) > 0 && (*h)[0].until <= number {
		heap.Pop(h).(wait).done(err)
	}
}

// waits are those for numbers that the applied state comes to.
type waits struct {
	indices   waitHeap
	revisions waitHeap
	proposals waitHeap // of this leadership, in order
	held      []heldWait
}

func (w *waits) fail(err error) {
	w.indices.reached(all, err)
	w.revisions.reached(all, err)
	w.proposals.reached(all, err)
	held := w.held
	w.held = nil
	for i := range held {
		held[i].done(err)
	}
}
