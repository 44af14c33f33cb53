package gather

import (
	"errors"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// View is what several shards had at a revision: what a watch that is behind reads (package gateway/watch).
type View struct {
	states []State
	at     kv.Revision
}

// NewView returns the view of states at a revision up to which they are complete. Closing it closes them.
func NewView(states []State, at kv.Revision) *View { return &View{states, at} }

// Revision is up to where the view reaches.
func (v *View) Revision() kv.Revision { return v.at }

// Compacted is where history was compacted: from there on all states have it.
func (v *View) Compacted() (compacted kv.Revision) {
	for _, s := range v.states {
		compacted = max(compacted, s.Compacted())
	}
	return compacted
}

// Close closes the states.
func (v *View) Close() error {
	var all error
	for _, s := range v.states {
		all = errors.Join(all, s.Close())
	}
	return all
}

// History is mvcc.Reader.History of all states together. What several shards have of a revision comes as one, in the order of the positions in it. Beside
// about limitBytes of changes (none: historyBytes) it holds a revision of each state.
func (v *View) History(from, to kv.Revision, limitBytes int64, fn func(*mvcc.Effect) error) (next kv.Revision, err error) {
	if to <= 0 || to > v.at {
		to = v.at
	}
	if from < v.Compacted() {
		return from, kv.ErrCompacted
	}
	h := history{to: to, limit: limitBytes, fn: fn}
	for _, s := range v.states {
		h.sources = append(h.sources, source{state: s, next: from})
	}
	for done := false; err == nil && !done; {
		if err = h.read(); err == nil {
			done, err = h.give()
		}
	}
	return max(h.closed(), from), err
}

// historyBytes is how much of the history of all states is read ahead if there is no limit.
const historyBytes = 1 << 20

// history merges that of several states.
type history struct {
	sources []source
	to      kv.Revision
	limit   int64 // 0: none
	fn      func(*mvcc.Effect) error

	given int64 // bytes
	last  kv.Revision
}

// source is what was read of one state's history.
type source struct {
	state State
	next  kv.Revision    // the first revision that was not read, behind the last one if all was
	ready []*mvcc.Effect // in order
}

// closed is the first revision that may have changes which were not read.
func (h *history) closed() kv.Revision {
	closed := h.to + 1
	for i := range h.sources {
		closed = min(closed, h.sources[i].next)
	}
	return closed
}

// read goes on with the state that the others wait for: all of them in the beginning.
func (h *history) read() error {
	behind := h.closed()
	for i := range h.sources {
		if s := &h.sources[i]; s.next == behind && s.next <= h.to {
			if err := h.readFrom(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *history) readFrom(s *source) error {
	to := min(h.to, s.state.Revision())
	if s.next <= to {
		bytes := int64(historyBytes)
		if h.limit > 0 {
			bytes = h.limit
		}
		next, err := s.state.History(s.next, to, max(bytes/int64(len(h.sources)), 1), func(e *mvcc.Effect) error {
			s.ready = append(s.ready, e)
			return nil
		})
		if err != nil {
			return err
		}
		s.next = next
	}
	if s.next > to {
		s.next = h.to + 1
	}
	return nil
}

// give gives what is complete, until there is enough. done: there is, or no more. Then the sources go on with the first revision that was not given.
func (h *history) give() (done bool, err error) {
	closed := h.closed()
	var all []*mvcc.Effect
	for i := range h.sources {
		s := &h.sources[i]
		n := slices.IndexFunc(s.ready, func(e *mvcc.Effect) bool { return e.At.Rev >= closed })
		if n < 0 {
			n = len(s.ready)
		}
		all, s.ready = append(all, s.ready[:n]...), s.ready[n:]
	}
	slices.SortFunc(all, func(a, b *mvcc.Effect) int {
		if a.At.Less(b.At) {
			return -1
		}
		return 1
	})
	for _, e := range all {
		if e.At.Rev != h.last && h.full() {
			for i := range h.sources {
				h.sources[i].next = min(h.sources[i].next, e.At.Rev)
			}
			return true, nil
		}
		h.last = e.At.Rev
		h.given += int64(len(e.Key) + len(e.Value))
		if err := h.fn(e); err != nil {
			return true, err
		}
	}
	return h.full() || closed > h.to, nil
}

func (h *history) full() bool { return h.limit > 0 && h.given >= h.limit }
