// Package lock is the table of the locks that prepared transactions hold.
//
// Who prepares a transaction asks first whether one of its accesses conflicts, and then acquires the locks of all of them at once. They are released together
// when the transaction is decided. Two accesses conflict if their spans have a key in common and at least one of them writes: a write is exclusive, a read
// is shared. The table does not wait and keeps no order; who has to wait stands in a Queue.
//
// There may be thousands of prepared transactions. So the locks stand in two trees of intervals, the exclusive and the shared ones, and a question or a change
// costs a logarithm of what is held. An empty table costs nothing.
//
// Package lock is a core: no goroutine, lock or clock. Where it comes from: interval trees as in Cormen, Leiserson, Rivest, Stein, Introduction to
// Algorithms, chapter 14.3, balanced as treaps (Seidel, Aragon, 1996).
package lock

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
)

// Table has the locks of all holders. The zero value is empty. Not safe for concurrent use.
type Table struct {
	exclusive, shared tree[kv.TransactionID]
	held              map[kv.TransactionID][]*node[kv.TransactionID]
}

// Len is the number of holders.
func (t *Table) Len() int { return len(t.held) }

// Acquire gives the holder locks for the accesses, beside what it has already. It does not look for conflicts. An access to no key needs no lock, but makes a
// holder, too. The memory of the keys belongs to the table until Release.
func (t *Table) Acquire(holder kv.TransactionID, accesses []latch.Access) {
	if t.held == nil {
		t.held = make(map[kv.TransactionID][]*node[kv.TransactionID])
	}
	locks := t.held[holder]
	for _, a := range accesses {
		if !a.Span.Empty() {
			locks = append(locks, t.like(a).insert(a.Span, holder))
		}
	}
	t.held[holder] = locks
}

// Release takes all locks of the holder back, if it has any.
func (t *Table) Release(holder kv.TransactionID) {
	locks, ok := t.held[holder]
	if !ok {
		return
	}
	for _, n := range locks {
		n.in.remove(n)
	}
	if delete(t.held, holder); len(t.held) == 0 {
		*t = Table{} // after a storm the map is large
	}
}

// Conflicts tells whether somebody holds a lock that the access has to wait for.
func (t *Table) Conflicts(a latch.Access) bool {
	_, any := t.Holder(a)
	return any
}

// Holder returns somebody who holds a lock that the access has to wait for. Of several it may be any.
func (t *Table) Holder(a latch.Access) (holder kv.TransactionID, any bool) {
	if len(t.held) == 0 || a.Span.Empty() {
		return kv.TransactionID{}, false
	}
	n := t.exclusive.overlapping(a.Span)
	if n == nil && a.Writes {
		n = t.shared.overlapping(a.Span)
	}
	if n == nil {
		return kv.TransactionID{}, false
	}
	return n.holder, true
}

// like has the locks for accesses like this one.
func (t *Table) like(a latch.Access) *tree[kv.TransactionID] {
	if a.Writes {
		return &t.exclusive
	}
	return &t.shared
}
