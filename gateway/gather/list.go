package gather

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// List reads a span of several states in key order, portion by portion, as mvcc.List does that of one. Between calls it holds nothing but where it is.
// It is for one goroutine.
type List struct {
	lanes   []lane
	ordered bool
	limit   int64 // 0: none
	given   int64 // keys that Next returned
	more    bool  // there are keys behind the limit; known at the end, or after Measure
}

// lane is the part of a list that is in one state.
type lane struct {
	list  *mvcc.List
	given int64 // keys of it that Next returned
	ended bool  // it has no more
	// In a portion:
	ready      []kv.KeyValue // read, and not taken yet
	first      []byte        // of what was read
	read       int
	taken      int
	takenBytes int64
}

// list begins one. A request that is not mvcc.InKeyOrder is refused with kv.ErrInvalidRequest.
func (s *store) list(q *kv.RangeRequest) (*List, error) {
	r, err := s.begin(q)
	if err != nil {
		return nil, err
	}
	if !mvcc.InKeyOrder(q) {
		return nil, fmt.Errorf("list a range in portions: other orders, filters and counts need the whole range at once: %w", kv.ErrInvalidRequest)
	}
	return r.list(q)
}

// list begins one. The revision of the request does not count.
func (r *read) list(q *kv.RangeRequest) (*List, error) {
	l := &List{lanes: make([]lane, len(r.states)), ordered: r.ordered, limit: max(q.Limit, 0)}
	if l.limit == math.MaxInt64 {
		l.limit = 0
	}
	part := kv.RangeRequest{Span: q.Span, KeysOnly: q.KeysOnly}
	for i, s := range r.states {
		part.Revision, part.Span = within(s, r.at), r.spanIn(i)
		list, err := s.NewList(&part)
		if err != nil {
			return nil, err
		}
		l.lanes[i].list = list
	}
	return l, nil
}

// left is how many keys may still be returned.
func (l *List) left() int64 {
	if l.limit == 0 {
		return math.MaxInt64
	}
	return l.limit - l.given
}

// Next is mvcc.List.Next. If there is an error the list stays where it is. Beside what it returns it reads ahead about as much.
func (l *List) Next(bytes int64, tally *kv.Tally) ([]kv.KeyValue, error) {
	if l.left() == 0 {
		_, err := l.Ended()
		return nil, err
	}
	before := tally.HeldBytes()
	const most = 1 << 30 // keys; there are fewer in memory
	p := portion{list: l, keys: int(min(l.left(), most)), bytes: max(bytes, 1), tally: tally}
	err := p.gather()
	p.close(err == nil)
	if err != nil {
		tally.Rewind(before)
		return nil, err
	}
	if tally.Counts() {
		tally.Rewind(before + kv.MemoryBytes(p.kvs))
	}
	return p.kvs, nil
}

// portion is one that is being read.
type portion struct {
	list  *List
	keys  int   // that it may have at most
	bytes int64 // that it is to have
	tally *kv.Tally
	lanes int // that had more in the beginning

	kvs  []kv.KeyValue
	size int64 // of them
}

// gather takes the least key of all lanes again and again.
func (p *portion) gather() error {
	queue, err := p.open()
	if err != nil {
		return err
	}
	for len(queue) > 0 && len(p.kvs) < p.keys && p.size < p.bytes {
		first := queue[0]
		step := p.take
		if len(first.ready) == 0 {
			step = p.fill
		}
		if err := step(first); err != nil {
			return err
		}
		if first.ended {
			queue = queue[1:]
			continue
		}
		if !p.list.ordered && len(first.ready) > 0 {
			sink(queue)
		}
	}
	return nil
}

// open returns the lanes that have more, in the order of their first keys.
func (p *portion) open() ([]*lane, error) {
	var queue []*lane
	for i := range p.list.lanes {
		if lane := &p.list.lanes[i]; !lane.ended {
			queue = append(queue, lane)
		}
	}
	p.lanes = len(queue)
	if p.list.ordered {
		return queue, nil // each ends before the next one begins
	}
	for _, lane := range queue {
		if err := p.fill(lane); err != nil {
			return nil, err
		}
	}
	queue = slices.DeleteFunc(queue, func(l *lane) bool { return l.ended })
	slices.SortFunc(queue, func(a, b *lane) int { return bytes.Compare(a.ready[0].Key, b.ready[0].Key) })
	return queue, nil
}

// sink moves the first lane to where its first key belongs.
func sink(queue []*lane) {
	first, rest := queue[0], queue[1:]
	key := first.ready[0].Key
	if len(rest) == 0 || bytes.Compare(key, rest[0].ready[0].Key) < 0 {
		return
	}
	n, _ := slices.BinarySearchFunc(rest, key, func(l *lane, key []byte) int { return bytes.Compare(l.ready[0].Key, key) })
	copy(queue, rest[:n])
	queue[n] = first
}

// fill reads more of a lane.
func (p *portion) fill(l *lane) error {
	keys, bytes := p.ask(l)
	kvs, err := l.list.NextKeys(keys, bytes, p.tally)
	if err != nil {
		return err
	}
	if l.ended = kvs == nil; l.ended {
		return nil
	}
	if l.read == 0 {
		l.first = kvs[0].Key
	}
	l.ready, l.read = kvs, l.read+len(kvs)
	return nil
}

// leastBytes is what is read of a lane at a time: a few keys.
const leastBytes = 1 << 10

// ask tells how much to read of a lane: all that is wanted, if the next ones are its own; otherwise its share, and somewhat more because it may
// have more than that. A lane that has given more before is asked for as much again.
func (p *portion) ask(l *lane) (keys int, bytes int64) {
	keys, bytes = p.keys-len(p.kvs), p.bytes-p.size
	if p.list.ordered {
		return keys, bytes
	}
	share, shareBytes := keys/p.lanes, bytes/int64(p.lanes)
	keys = min(keys, max(share+int(math.Sqrt(float64(share)))+2, l.taken))
	bytes = min(bytes, max(shareBytes+shareBytes/4, leastBytes, l.takenBytes))
	return keys, bytes
}

func (p *portion) take(l *lane) error {
	if n := len(p.kvs); n == cap(p.kvs) {
		if err := p.tally.Add(int64(n+1) * kv.KeyValueBytes); err != nil { // the list is copied as it grows
			return err
		}
	}
	e := l.ready[0]
	size := kv.KeyValueBytes + int64(len(e.Key)+len(e.Value))
	l.ready, l.taken, l.takenBytes = l.ready[1:], l.taken+1, l.takenBytes+size
	p.kvs, p.size = append(p.kvs, e), p.size+size
	return nil
}

// close gives back what was not taken, or everything that was read.
func (p *portion) close(keep bool) {
	l := p.list
	for i := range l.lanes {
		lane := &l.lanes[i]
		if !keep && lane.read > 0 {
			lane.list.Unread(lane.first, lane.read)
			lane.ended = false
		} else if n := len(lane.ready); n > 0 {
			lane.list.Unread(lane.ready[0].Key, n)
			l.more = l.more || int64(len(p.kvs)) == l.left()
		}
		if keep {
			lane.given += int64(lane.taken)
		}
		lane.ready, lane.first, lane.read, lane.taken, lane.takenBytes = nil, nil, 0, 0, 0
	}
	if keep {
		l.given += int64(len(p.kvs))
	}
}

// Ended tells whether the last key was returned: whether Next will return nil.
func (l *List) Ended() (bool, error) {
	if l.more && l.left() == 0 {
		return true, nil
	}
	for i := range l.lanes {
		if ended, err := l.lanes[i].list.Ended(); err != nil {
			return false, err
		} else if !ended {
			l.more = l.left() == 0
			return l.more, nil
		}
	}
	return true, nil
}

// measureBytes is how many keys are looked at together to learn which are within the limit.
const measureBytes = 256 << 10

// Measure is mvcc.List.Measure, but for the order of the keys: those of one state come after those of another.
func (l *List) Measure(tally *kv.Tally, fn func(key []byte, m mvcc.Meta) error) error {
	if l.limit > 0 {
		return l.measureLimited(tally, fn)
	}
	for i := range l.lanes {
		if err := l.lanes[i].list.Measure(tally, fn); err != nil {
			return err
		}
	}
	return nil
}

// measureLimited looks at the keys first, to learn how many of each lane are within the limit.
func (l *List) measureLimited(tally *kv.Tally, fn func(key []byte, m mvcc.Meta) error) error {
	if l.left() == 0 {
		_, err := l.Ended()
		return err
	}
	ahead := List{lanes: make([]lane, len(l.lanes)), ordered: l.ordered, limit: l.left()}
	for i := range l.lanes {
		ahead.lanes[i].list = l.lanes[i].list.Ahead(0)
	}
	if err := ahead.skip(tally); err != nil {
		return err
	}
	l.more = ahead.more
	for i := range l.lanes {
		if n := ahead.lanes[i].given; n > 0 {
			if err := l.lanes[i].list.Ahead(n).Measure(tally, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// skip goes to the end of a list without values.
func (l *List) skip(tally *kv.Tally) error {
	for {
		kvs, err := l.Next(measureBytes, tally)
		if kvs == nil || err != nil {
			return err
		}
		if tally.Counts() {
			tally.Forget(kv.MemoryBytes(kvs))
		}
	}
}

// More tells whether the limit cut anything off. It is known once Next returned nil, Ended said yes, or after Measure.
func (l *List) More() bool { return l.more }

// Count is the number of keys in the span, whatever the limit.
func (l *List) Count(tally *kv.Tally) (sum int64, err error) {
	for i := range l.lanes {
		count, err := l.lanes[i].list.Count(tally)
		if err != nil {
			return 0, err
		}
		sum += count
	}
	return sum, nil
}
