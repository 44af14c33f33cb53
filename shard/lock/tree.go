package lock

import (
	"bytes"

	"github.com/quoratedb/quorate/kv"
)

// tree has locks in the order of where their spans begin. Each node knows how far the spans below it reach, so one path down finds out whether any
// of them has a key in common with another span.
//
// Invariants: no span is empty. A node comes before another one if its span begins before, or at the same key and it was made before. The ticket of a node is
// at or above those below it; tickets are as good as random, so that the depth is about twice the logarithm, whatever the keys are.
type tree[H any] struct {
	root *node[H]
	made uint64 // nodes so far
}

type node[H any] struct {
	span   kv.Span
	holder H
	in     *tree[H]
	number uint64 // in the order of their making
	ticket uint64
	reach  *kv.Span // of the spans here and below, one that ends last
	left   *node[H]
	right  *node[H]
}

// insert adds a lock.
func (t *tree[H]) insert(span kv.Span, holder H) *node[H] {
	t.made++
	n := &node[H]{span: span, holder: holder, in: t, number: t.made, ticket: scatter(t.made)}
	at := &t.root
	for *at != nil && (*at).ticket >= n.ticket {
		if endsBefore((*at).reach, &n.span) {
			(*at).reach = &n.span
		}
		at = (*at).side(n)
	}
	n.left, n.right = split(*at, n)
	n.measure()
	*at = n
	return n
}

// remove takes a lock out, which is in the tree.
func (t *tree[H]) remove(n *node[H]) { t.root = without(t.root, n) }

// without is the tree below a node, itself included, after a node there was removed.
func without[H any](from, n *node[H]) *node[H] {
	if from == n {
		return join(n.left, n.right)
	}
	at := from.side(n)
	*at = without(*at, n)
	from.measure()
	return from
}

// overlapping returns a lock whose span has a key in common with a span that is not empty; nil if there is none.
//
// If the spans on the left reach beyond where the span begins, there is one among them, or none at all: the one that reaches farthest, if it does not overlap,
// begins at or after the end of the span, and so does everything on the right.
func (t *tree[H]) overlapping(span kv.Span) *node[H] {
	for n := t.root; n != nil; {
		switch {
		case beginsWithin(&span, &n.span) && beginsWithin(&n.span, &span):
			return n
		case n.left != nil && beginsWithin(&span, n.left.reach):
			n = n.left
		default:
			n = n.right
		}
	}
	return nil
}

// each calls fn with the holders of the locks at or below a node whose spans have a key in common with one that is not empty, until fn returns false; each returns
// that. It costs what there is of them, and the paths to them.
func (n *node[H]) each(span *kv.Span, fn func(H) bool) bool {
	switch {
	case n == nil || !beginsWithin(span, n.reach): // all end before it
		return true
	case !n.left.each(span, fn):
		return false
	case !beginsWithin(&n.span, span): // and so does everything on the right
		return true
	case beginsWithin(span, &n.span) && !fn(n.holder):
		return false
	}
	return n.right.each(span, fn)
}

// split takes the tree below a node, itself included, apart: what comes before another node, and what comes after it.
func split[H any](from, at *node[H]) (before, after *node[H]) {
	switch {
	case from == nil:
		return nil, nil
	case from.before(at):
		from.right, after = split(from.right, at)
		before = from
	default:
		before, from.left = split(from.left, at)
		after = from
	}
	from.measure()
	return before, after
}

// join makes one tree of two, all of the first of which comes before the second.
func join[H any](a, b *node[H]) *node[H] {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.ticket >= b.ticket:
		a.right = join(a.right, b)
		a.measure()
		return a
	}
	b.left = join(a, b.left)
	b.measure()
	return b
}

// side is where another node stands below this one, or would.
func (n *node[H]) side(other *node[H]) **node[H] {
	if other.before(n) {
		return &n.left
	}
	return &n.right
}

func (n *node[H]) before(other *node[H]) bool {
	if order := bytes.Compare(n.span.Start, other.span.Start); order != 0 {
		return order < 0
	}
	return n.number < other.number
}

// measure finds out how far the spans reach again, when something below has changed.
func (n *node[H]) measure() {
	n.reach = &n.span
	for _, below := range [...]*node[H]{n.left, n.right} {
		if below != nil && endsBefore(n.reach, below.reach) {
			n.reach = below.reach
		}
	}
}

// beginsWithin tells whether a begins before the end of b.
func beginsWithin(a, b *kv.Span) bool {
	switch {
	case b.Single():
		return bytes.Compare(a.Start, b.Start) <= 0
	case unbounded(b):
		return true
	}
	return bytes.Compare(a.Start, b.End) < 0
}

// endsBefore tells whether a ends before b. If both end at the same place it may say either.
func endsBefore(a, b *kv.Span) bool {
	switch {
	case unbounded(a):
		return false
	case unbounded(b):
		return true
	case a.Single() && b.Single():
		return bytes.Compare(a.Start, b.Start) < 0
	case a.Single(): // a key ends right after it, so at or before whatever lies after it
		return bytes.Compare(a.Start, b.End) < 0
	case b.Single():
		return bytes.Compare(a.End, b.Start) <= 0
	}
	return bytes.Compare(a.End, b.End) < 0
}

func unbounded(s *kv.Span) bool { return len(s.End) == 1 && s.End[0] == 0 }

// scatter makes numbers that follow one another look like random ones (the finalizer of splitmix64).
func scatter(n uint64) uint64 {
	n *= 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
