package lock

import (
	"github.com/quoratedb/quorate/shard/latch"
)

// Queue has those who wait for locks, in the order of their arrival. Nobody passes one who came before, and waits for a lock that conflicts: so nobody starves,
// neither a large transaction behind small ones nor a write behind transactions.
//
// What is asked, or changed, costs what conflicts with it, and a logarithm of the others. An empty queue costs nothing. The zero value is empty. Not safe for
// concurrent use.
type Queue struct {
	exclusive, shared tree[*Waiter]
	last              uint64
	waiting           int
}

// Waiter stands in a queue.
type Waiter struct {
	Place    uint64 // in the order of arrival, from 1 on. No two of a queue have the same, ever
	accesses []latch.Access
	locks    []*node[*Waiter]
}

// Len is the number of those who wait.
func (q *Queue) Len() int { return q.waiting }

// Add puts somebody at the end who wants locks for the accesses. Their memory belongs to the queue until Remove.
func (q *Queue) Add(accesses []latch.Access) *Waiter {
	q.last++
	q.waiting++
	w := &Waiter{Place: q.last, accesses: accesses}
	for _, a := range accesses {
		switch {
		case a.Span.Empty():
		case a.Writes:
			w.locks = append(w.locks, q.exclusive.insert(a.Span, w))
		default:
			w.locks = append(w.locks, q.shared.insert(a.Span, w))
		}
	}
	return w
}

// Remove takes somebody out, who is in the queue, and returns what was waited for.
func (q *Queue) Remove(w *Waiter) []latch.Access {
	for _, n := range w.locks {
		n.in.remove(n)
	}
	w.locks = nil
	q.waiting--
	return w.accesses
}

// Behind tells whether an access conflicts with what somebody waits for who came before w; nil: w comes now.
func (q *Queue) Behind(w *Waiter, a latch.Access) bool {
	return !q.each(a, func(other *Waiter) bool { return w != nil && other.Place >= w.Place })
}

// Free tells whether one who waits conflicts with nobody who came before, and with nobody in a table.
func (q *Queue) Free(w *Waiter, held *Table) bool {
	for _, a := range w.accesses {
		if held.Conflicts(a) || q.Behind(w, a) {
			return false
		}
	}
	return true
}

// Touched calls fn with those who wait for something that conflicts with an access, in no order; one of them perhaps several times.
func (q *Queue) Touched(a latch.Access, fn func(*Waiter)) {
	q.each(a, func(w *Waiter) bool {
		fn(w)
		return true
	})
}

func (q *Queue) each(a latch.Access, fn func(*Waiter) bool) bool {
	if q.waiting == 0 || a.Span.Empty() {
		return true
	}
	return q.exclusive.root.each(&a.Span, fn) && (!a.Writes || q.shared.root.each(&a.Span, fn))
}
