package watch

import (
	"fmt"

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
		out.completeTo = min(out.completeTo, horizons[i].completeTo(view.Revision()))
	}
	return out, nil
}

func (f *frozen) Close() {
	for _, view := range f.views {
		view.Close() // it was only read
	}
}

// history is mergedHistory from a revision on, as far as there is everything.
func (f *frozen) history(from kv.Revision, limitBytes int64, fn func(*mvcc.Effect) error) (next kv.Revision, err error) {
	if len(f.views) == 1 {
		return historyOf(f.views[0], from, f.completeTo, limitBytes, fn)
	}
	return mergedHistory(f.views, from, f.completeTo, limitBytes, fn)
}

// historyOf is the history of a view that has nothing between its own revision and to.
func historyOf(view View, from, to kv.Revision, limitBytes int64, fn func(*mvcc.Effect) error) (next kv.Revision, err error) {
	newest := min(to, view.Revision())
	if from > newest {
		return to + 1, nil
	}
	if next, err = view.History(from, newest, limitBytes, fn); next > newest {
		next = to + 1
	}
	return next, err
}

// mergedHistory is View.History of several shards: it gives fn their changes in the order of revision and place in the transaction, in whole
// revisions. It reads a little of each at a time, and holds about limitBytes, but at least a revision of each.
func mergedHistory(views []View, from, to kv.Revision, limitBytes int64, fn func(*mvcc.Effect) error) (next kv.Revision, err error) {
	reads := make([]partialHistory, len(views))
	for i, view := range views {
		reads[i] = partialHistory{view: view, next: from, to: to, limitBytes: limitBytes/int64(len(views)) + 1}
	}
	last, size := kv.Revision(0), int64(0)
	for {
		first, err := earliest(reads)
		if err != nil || first == nil {
			return to + 1, err
		}
		effect := first.effects[0]
		if effect.At.Rev != last && size >= limitBytes {
			return effect.At.Rev, nil
		}
		first.effects[0] = nil
		first.effects = first.effects[1:]
		last = effect.At.Rev
		size += int64(len(effect.Key) + len(effect.Value))
		if err := fn(effect); err != nil {
			return last, err
		}
	}
}

// partialHistory is the history of one shard, of which some was read.
type partialHistory struct {
	view       View
	next, to   kv.Revision // what was not read
	limitBytes int64
	effects    []*mvcc.Effect
}

// fill reads on until there is something, or there is no more.
func (p *partialHistory) fill() (err error) {
	for err == nil && len(p.effects) == 0 && p.next <= p.to {
		p.effects = p.effects[:0]
		from := p.next
		p.next, err = historyOf(p.view, from, p.to, p.limitBytes, func(effect *mvcc.Effect) error {
			p.effects = append(p.effects, effect)
			return nil
		})
		if err == nil && p.next <= from {
			err = fmt.Errorf("watch: the history from revision %d on does not end after it", from)
		}
	}
	return err
}

// earliest returns the one that has the next change; nil: none has one.
func earliest(reads []partialHistory) (first *partialHistory, err error) {
	for i := range reads {
		p := &reads[i]
		if err := p.fill(); err != nil {
			return nil, err
		}
		if len(p.effects) > 0 && (first == nil || p.effects[0].At.Less(first.effects[0].At)) {
			first = p
		}
	}
	return first, nil
}
