// Package latch decides who may touch which keys while an operation is under way that does not end at once.
//
// An operation takes all its latches together, before it begins, and gives them back together: so there is no deadlock. Latches are
// granted in the order in which they were asked for: an operation waits for every conflicting one that asked before it, whether that one is under way or
// waits itself. So nobody starves. Two latches conflict if their spans have a key in common and at least one of the operations writes.
//
// The table is meant for few operations, each of them large: what it costs grows with the spans in it. While it is empty it costs nothing.
//
// Package latch is a core: no goroutine, lock or clock. Where it comes from: the latches of a storage engine that serves requests in order of
// arrival, as in CockroachDB's spanlatch; here without its tree.
package latch

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Access is what an operation does to the keys of a span.
type Access struct {
	Span   kv.Span
	Writes bool // false: it only reads
}

// ID names an operation in a Table. No two have the same, and later ones have larger ones.
type ID uint64

// Table holds the latches of all operations. The zero value is empty.
type Table struct {
	last       ID
	operations []operation // in the order of their arrival
}

type operation struct {
	id       ID
	accesses []Access
	open     bool // Conflicts does not tell of it
}

// Len is the number of operations, those that wait included.
func (t *Table) Len() int { return len(t.operations) }

// Add asks for latches. Granted tells whether the operation has them.
func (t *Table) Add(accesses []Access) ID {
	t.last++
	t.operations = append(t.operations, operation{id: t.last, accesses: accesses})
	return t.last
}

// AddOpen asks for latches of which Conflicts does not tell until Close: other operations in the table wait for them, and whoever asks Conflicts has to find out
// otherwise what they must not touch.
func (t *Table) AddOpen(accesses []Access) ID {
	id := t.Add(accesses)
	t.operations[len(t.operations)-1].open = true
	return id
}

// Close has Conflicts tell of an operation that was added by AddOpen.
func (t *Table) Close(id ID) error {
	at := t.find(id)
	if at < 0 {
		return fmt.Errorf("latch: operation %d, which is to be closed, is not in the table", id)
	}
	t.operations[at].open = false
	return nil
}

// Granted tells whether nothing stands before the operation any more. An operation that is not in the table has no latches.
func (t *Table) Granted(id ID) bool {
	at := t.find(id)
	if at < 0 {
		return false
	}
	for _, a := range t.operations[at].accesses {
		if conflict(t.operations[:at], a, true) {
			return false
		}
	}
	return true
}

// Conflicts tells whether an access has to wait for an operation in the table, whether that one has its latches or not.
func (t *Table) Conflicts(a Access) bool { return conflict(t.operations, a, false) }

// Remove ends an operation: others may have their latches now.
func (t *Table) Remove(id ID) error {
	at := t.find(id)
	if at < 0 {
		return fmt.Errorf("latch: operation %d is not in the table", id)
	}
	t.operations = slices.Delete(t.operations, at, at+1)
	return nil
}

func (t *Table) find(id ID) int {
	return slices.IndexFunc(t.operations, func(o operation) bool { return o.id == id })
}

// conflict tells whether an access conflicts with one of the operations, of open ones too or not.
func conflict(operations []operation, a Access, open bool) bool {
	for i := range operations {
		if operations[i].open && !open {
			continue
		}
		for _, b := range operations[i].accesses {
			if (a.Writes || b.Writes) && Overlap(a.Span, b.Span) {
				return true
			}
		}
	}
	return false
}

// Overlap tells whether a key lies in both spans. It allocates nothing.
func Overlap(a, b kv.Span) bool {
	switch {
	case a.Empty() || b.Empty():
		return false
	case a.Single():
		return b.Contains(a.Start)
	case b.Single():
		return a.Contains(b.Start)
	}
	return beginsBeforeEnd(a, b) && beginsBeforeEnd(b, a)
}

// beginsBeforeEnd tells whether a begins before the end of b, which is not a single key.
func beginsBeforeEnd(a, b kv.Span) bool {
	unbounded := len(b.End) == 1 && b.End[0] == 0
	return unbounded || bytes.Compare(a.Start, b.End) < 0
}

// maxAccesses is how many accesses Merge leaves.
const maxAccesses = 64

// Merge makes few accesses of many, so that asking the table stays cheap: one that covers all the reads and one that covers all the writes. It may
// cover keys that nobody named; that delays others, and does no harm.
func Merge(accesses []Access) []Access {
	if len(accesses) <= maxAccesses {
		return accesses
	}
	var merged []Access
	for _, writes := range []bool{false, true} {
		if all, any := hull(accesses, writes); any {
			merged = append(merged, Access{Span: all, Writes: writes})
		}
	}
	return merged
}

// hull is the smallest interval that covers the accesses of one kind.
func hull(accesses []Access, writes bool) (all kv.Span, any bool) {
	var lower, upper []byte
	for _, a := range accesses {
		if a.Writes != writes || a.Span.Empty() {
			continue
		}
		from, to := a.Span.Bounds()
		switch {
		case !any:
			lower, upper, any = from, to, true
			continue
		case bytes.Compare(from, lower) < 0:
			lower = from
		}
		if to == nil || upper != nil && bytes.Compare(to, upper) > 0 {
			upper = to
		}
	}
	if upper == nil {
		upper = []byte{0}
	}
	return kv.Span{Start: lower, End: upper}, any
}
