package paxos

import "github.com/quoratedb/quorate/consensus"

// slot is what this replica has accepted at one index.
type slot struct {
	entry consensus.Entry // Data only if loaded
	// ballot under which the entry was accepted; 0: nothing was. For a slot known to be decided it is
	// not below the ballot that decided it.
	ballot consensus.Term
	size   int  // of the entry, data included
	loaded bool // false: the data is in the log only
	// decided: learned to be decided although the decided mark may not have got here.
	decided bool
	// write is the sequence number of the durable write that holds it.
	write uint64
}

// unwritten is the write of a slot that was not yet handed out in Ready.Append.
const unwritten = ^uint64(0)

// window holds the slots after base, those handed out for applying excluded.
type window struct {
	base  consensus.Index
	slots []slot
	room  []slot // the whole array of slots, empty; see advance
}

// keptRoom is how many elements an array may have that is used again. Larger ones are from times of trouble.
const keptRoom = 256

// again returns the slice without elements, to be filled again.
func again[E any](s []E) []E {
	if cap(s) > keptRoom {
		return nil
	}
	return s[:0]
}

// last is the highest index with a place in the window.
func (w *window) last() consensus.Index { return w.base + consensus.Index(len(w.slots)) }

// at returns the slot if something was accepted there.
func (w *window) at(i consensus.Index) *slot {
	if i <= w.base || i > w.last() {
		return nil
	}
	if s := &w.slots[i-w.base-1]; s.ballot != 0 {
		return s
	}
	return nil
}

// put stores what was accepted at the index, which must be above base.
func (w *window) put(s slot) *slot {
	i := s.entry.Index
	for w.last() < i {
		if len(w.slots) < cap(w.slots) {
			w.slots = append(w.slots, slot{})
			continue
		}
		w.slots = append(w.slots, slot{})
		w.room = again(w.slots)
	}
	w.slots[i-w.base-1] = s
	return &w.slots[i-w.base-1]
}

// advance forgets everything up to the index. When nothing is left, the array is filled from its beginning again.
func (w *window) advance(to consensus.Index) {
	n := min(int(to-w.base), len(w.slots))
	clear(w.slots[:n])
	w.slots = w.slots[n:]
	if w.base = to; len(w.slots) == 0 {
		w.slots = w.room
	}
}
