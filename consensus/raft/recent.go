package raft

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/quoratedb/quorate/consensus"
)

// recent holds the entries that were handed out for writing and are not applied, in the library's form and in ours. Each is converted once,
// for the log, for every follower and for the state machine, and nothing is read back from the log that was handed out a moment ago. It is a
// shortcut only: whoever does not find an entry here reads the log.
//
// Ownership: what is given out of it is shared and never changed. The arrays are only appended to; what is to be
// replaced or has become too much is left to those who hold it, and the rest goes on in new arrays.
type recent struct {
	// Invariant: as long as each other, the same entries, without gaps.
	library []*raftpb.Entry
	entries []consensus.Entry
	bytes   int // of the data that the arrays hold, forgotten entries too
}

const (
	recentEntries = 16       // what new arrays have room for at least
	recentKept    = 64       // how many entries move to new arrays at most
	recentBytes   = 64 << 10 // with more data than this the arrays are left, for they keep forgotten entries in memory
	recentIdle    = 16 << 10 // the same when nothing in them is needed: an idle group must not hold much
)

// last is the index of the newest entry; there must be one.
func (r *recent) last() consensus.Index { return r.entries[len(r.entries)-1].Index }

// add takes entries that follow those it holds, or replace some. It returns them in our form.
func (r *recent) add(library []*raftpb.Entry) []consensus.Entry {
	first := consensus.Index(library[0].GetIndex())
	kept := r.entries
	if len(kept) > 0 && first != r.last()+1 {
		kept = kept[:r.find(first)]
	}
	if len(kept) < len(r.entries) || len(kept)+len(library) > cap(r.entries) || r.bytes > recentBytes {
		r.renew(len(kept), len(library))
	}
	at := len(r.entries)
	for _, pb := range library {
		e := fromEntry(pb)
		r.library, r.entries = append(r.library, pb), append(r.entries, e)
		r.bytes += e.SizeBytes()
	}
	return slices.Clip(r.entries[at:])
}

// find returns where the entry at the index is or would be. An index beyond the end finds nothing to keep: there would be a gap.
func (r *recent) find(index consensus.Index) int {
	if len(r.entries) == 0 || index <= r.entries[0].Index || index > r.last()+1 {
		return 0
	}
	return int(index - r.entries[0].Index)
}

// renew moves the newest of the first n entries to new arrays with room for more.
func (r *recent) renew(n, more int) {
	from, bytes := n, 0
	for from > 0 && n-from < recentKept && bytes+r.entries[from-1].SizeBytes() <= recentBytes/2 {
		from--
		bytes += r.entries[from].SizeBytes()
	}
	room := max(recentEntries, 2*(n-from+more))
	r.library = append(make([]*raftpb.Entry, 0, room), r.library[from:n]...)
	r.entries = append(make([]consensus.Entry, 0, room), r.entries[from:n]...)
	r.bytes = bytes
}

// converted returns entries of the library in our form, if they are the ones that were added.
func (r *recent) converted(library []*raftpb.Entry) ([]consensus.Entry, bool) {
	if len(r.entries) == 0 {
		return nil, false
	}
	first, n := consensus.Index(library[0].GetIndex()), len(library)
	if first < r.entries[0].Index || first+consensus.Index(n) > r.last()+1 {
		return nil, false
	}
	at := int(first - r.entries[0].Index)
	if r.library[at] != library[0] || r.library[at+n-1] != library[n-1] {
		return nil, false
	}
	return r.entries[at : at+n : at+n], true
}

// slice returns entries in [lo, hi) in the library's form, as many as fit into maxBytes but at least one, as the log would. It
// returns none if it does not hold all of them.
func (r *recent) slice(lo, hi consensus.Index, maxBytes int) []*raftpb.Entry {
	if len(r.entries) == 0 || lo < r.entries[0].Index || lo >= hi || hi > r.last()+1 {
		return nil
	}
	from, to := int(lo-r.entries[0].Index), int(hi-r.entries[0].Index)
	size := 0
	for i := from; i < to; i++ {
		if size += r.entries[i].SizeBytes(); size > maxBytes && i > from {
			to = i
		}
	}
	return r.library[from:to:to]
}

// forget lets entries up to the index go.
func (r *recent) forget(index consensus.Index) {
	if len(r.entries) == 0 || index < r.entries[0].Index {
		return
	}
	n := min(int(index-r.entries[0].Index)+1, len(r.entries))
	r.library, r.entries = r.library[n:], r.entries[n:]
	if len(r.entries) == 0 && r.bytes > recentIdle {
		*r = recent{}
	}
}
