package watch

import "container/heap"

// queue gives out what comes first, and lets go of anything, at the cost of a logarithm. Not safe for concurrent use.
type queue[T any] struct{ heap byOrder[T] }

// byOrder implements heap.Interface.
type byOrder[T any] struct {
	items []T
	less  func(a, b T) bool
	place func(item T) *int // where the item keeps its place; -1: not in the queue
}

func newQueue[T any](less func(a, b T) bool, place func(T) *int) queue[T] {
	return queue[T]{byOrder[T]{less: less, place: place}}
}

func (q *queue[T]) size() int { return len(q.heap.items) }
func (q *queue[T]) first() T  { return q.heap.items[0] }
func (q *queue[T]) add(item T) {
	heap.Push(&q.heap, item)
}

// remove takes the item out, if it is in.
func (q *queue[T]) remove(item T) {
	if at := *q.heap.place(item); at >= 0 {
		heap.Remove(&q.heap, at)
	}
}

func (h *byOrder[T]) Len() int           { return len(h.items) }
func (h *byOrder[T]) Less(i, j int) bool { return h.less(h.items[i], h.items[j]) }

func (h *byOrder[T]) Swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	*h.place(h.items[i]), *h.place(h.items[j]) = i, j
}

func (h *byOrder[T]) Push(item any) {
	*h.place(item.(T)) = len(h.items)
	h.items = append(h.items, item.(T))
}

func (h *byOrder[T]) Pop() any {
	last := len(h.items) - 1
	item := h.items[last]
	*h.place(item) = -1
	clear(h.items[last:])
	h.items = h.items[:last]
	return item
}
