package watch

import (
	"bytes"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// frozen is the history of a feed's shards.
type frozen struct {
	views      []View
	compacted  kv.Revision // of the shard that was compacted furthest
	completeTo kv.Revision // up to here the views have everything
}

// freeze freezes the history of the feed.
func (f *feed) freeze() (*frozen, error) {
	horizons := f.horizons() // before the views, which may have more
	out := &frozen{completeTo: endOfTime}
	for i, s := range f.shards {
		view, err := s.source.View()
		if err != nil {
			out.Close()
			return nil, err
		}
		out.views = append(out.views, view)
		out.compacted = max(out.compacted, view.Compacted())
		out.completeTo = min(out.completeTo, horizons[i].completeTo(view.Closed()))
	}
	return out, nil
}

func (f *frozen) Close() {
	for _, view := range f.views {
		view.Close() // it was only read
	}
}

// history is mergedHistory from a revision on, as far as there is everything.
func (f *frozen) history(from kv.Revision, limitBytes, aheadBytes int64, fn func(*mvcc.Effect) error) (next kv.Revision, err error) {
	if len(f.views) == 1 {
		return historyOf(f.views[0], from, f.completeTo, limitBytes, fn)
	}
	return mergedHistory(f.views, from, f.completeTo, limitBytes, aheadBytes, fn)
}

// historyOf is the history of a view that has nothing between its closed revision and to.
func historyOf(view View, from, to kv.Revision, limitBytes int64, fn func(*mvcc.Effect) error) (next kv.Revision, err error) {
	newest := min(to, view.Closed())
	if from > newest {
		return to + 1, nil
	}
	if next, err = view.History(from, newest, limitBytes, fn); next > newest {
		next = to + 1
	}
	return next, err
}

// mergedHistory is View.History of several shards: it gives fn their changes in the order of their turns, in whole
// revisions. It holds up to aheadBytes of changes whose turn has not come, of all shards together: what is too large for a shard's share of
// that is read when its turn has come.
func mergedHistory(views []View, from, to kv.Revision, limitBytes, aheadBytes int64, fn func(*mvcc.Effect) error) (next kv.Revision, err error) {
	share := aheadBytes / int64(len(views))
	reads := make([]partialHistory, len(views))
	for i, view := range views {
		reads[i].begin(view, from, to)
	}
	last, size := kv.Revision(0), int64(0)
	pass := func(effect *mvcc.Effect) error {
		last = effect.At.Rev
		size += int64(len(effect.Key) + len(effect.Value))
		return fn(effect)
	}
	for {
		first, other, err := earliest(reads, share, endOf(to))
		if err != nil || first == nil {
			return to + 1, err
		}
		if next, _ := first.head(); next.at.Rev != last && size >= limitBytes {
			return next.at.Rev, nil
		}
		if err := first.pass(other, share, limitBytes, pass); err != nil {
			return last, err
		}
	}
}

// partialHistory is the history of one shard, of which some was read.
type partialHistory struct {
	view  View
	to    kv.Revision
	ahead []*mvcc.Effect // read, and not passed on

	// The first change that was not read.
	more  bool // there is one
	next  turn
	bytes int64
}

func (p *partialHistory) begin(view View, from, to kv.Revision) {
	p.view, p.to = view, min(to, view.Closed())
	p.next, p.more = turn{at: mvcc.Locator{Rev: from}}, from <= p.to
}

// head is whose turn is next.
func (p *partialHistory) head() (next turn, ok bool) {
	if len(p.ahead) > 0 {
		return turnOf(p.ahead[0]), true
	}
	return p.next, p.more
}

// read gives fn what was not read, up to the first that is not wanted.
func (p *partialHistory) read(want func(t turn, bytes int64) bool, fn func(*mvcc.Effect) error) error {
	p.more = false
	return p.view.Changes(p.next.at, p.to, func(at mvcc.Locator, key []byte, size int64) bool {
		if size += eventOverheadBytes; want(turn{at, key}, size) {
			return true
		}
		p.next, p.bytes, p.more = turn{at, bytes.Clone(key)}, size, true
		return false
	}, fn)
}

// fill reads as much ahead as has room, if nothing was. Then the head is known.
func (p *partialHistory) fill(room int64) error {
	if len(p.ahead) > 0 || !p.more || p.bytes > room {
		return nil
	}
	p.ahead = p.ahead[:0]
	return p.read(func(_ turn, bytes int64) bool {
		room -= bytes
		return room >= 0
	}, func(effect *mvcc.Effect) error {
		p.ahead = append(p.ahead, effect)
		return nil
	})
}

// pass gives fn the head, which comes before the next change of any other shard. If it was too large to be read ahead, so are those of the same
// revision that follow it, as many as come before other, too, and up to a limit.
func (p *partialHistory) pass(other turn, share, limitBytes int64, fn func(*mvcc.Effect) error) error {
	if len(p.ahead) > 0 {
		effect := p.ahead[0]
		p.ahead[0] = nil
		p.ahead = p.ahead[1:]
		return fn(effect)
	}
	first, passed := p.next, int64(0)
	return p.read(func(t turn, bytes int64) bool {
		ok := t.at == first.at || t.at.Rev == first.at.Rev && t.before(other) && bytes > share && passed < limitBytes
		passed += bytes
		return ok
	}, fn)
}

// earliest returns the one whose turn is next, or nil if none has a change before end, and the next turn of any other.
func earliest(reads []partialHistory, share int64, end turn) (first *partialHistory, other turn, err error) {
	least, other := end, end
	for i := range reads {
		p := &reads[i]
		if err := p.fill(share); err != nil {
			return nil, end, err
		}
		switch next, ok := p.head(); {
		case !ok || !next.before(other):
		case next.before(least):
			first, least, other = p, next, least
		default:
			other = next
		}
	}
	return first, other, nil
}
