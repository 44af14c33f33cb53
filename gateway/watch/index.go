package watch

import (
	"bytes"

	"github.com/quoratedb/quorate/kv"
)

// spot is one span in an index, with the groups that watch it.
type spot struct {
	span   kv.Span
	lower  []byte
	upper  []byte // nil: no bound
	groups []*group

	// The tree: a treap by (lower, upper), each node with the greatest upper bound below it.
	left, right *spot
	priority    uint64
	maxUpper    []byte
	unbounded   bool // some span of the subtree has no bound
}

// index finds the groups whose span contains a key: single keys in a map, spans in an interval tree.
// An event costs what it matches, plus a logarithm. Not safe for concurrent use.
type index struct {
	keys   map[string]*spot
	root   *spot
	random uint64 // state of the priorities' generator; the shape of the tree is all it decides
	size   int    // groups
}

// add registers the group under its span.
func (x *index) add(g *group) {
	s := x.find(g.span)
	if s == nil {
		s = x.insert(g.span)
	}
	g.spot, g.spotAt = s, len(s.groups)
	s.groups = append(s.groups, g)
	x.size++
}

// remove is the opposite of add. It moves the last group of the spot into the gap.
func (x *index) remove(g *group) {
	s := g.spot
	last := len(s.groups) - 1
	s.groups[g.spotAt] = s.groups[last]
	s.groups[g.spotAt].spotAt = g.spotAt
	s.groups[last] = nil
	s.groups = s.groups[:last]
	g.spot = nil
	x.size--
	if last > 0 {
		return
	}
	if s.span.Single() {
		delete(x.keys, string(s.span.Start))
		return
	}
	x.root = without(x.root, s)
}

// match appends the spots whose span contains the key.
func (x *index) match(key []byte, out []*spot) []*spot {
	if s := x.keys[string(key)]; s != nil {
		out = append(out, s)
	}
	return stab(x.root, key, out)
}

func (x *index) find(span kv.Span) *spot {
	if span.Single() {
		return x.keys[string(span.Start)]
	}
	lower, upper := span.Bounds()
	for s := x.root; s != nil; {
		switch order := compareBounds(lower, upper, s); {
		case order == 0:
			return s
		case order < 0:
			s = s.left
		default:
			s = s.right
		}
	}
	return nil
}

func (x *index) insert(span kv.Span) *spot {
	s := &spot{span: span}
	if span.Single() {
		if x.keys == nil {
			x.keys = map[string]*spot{}
		}
		x.keys[string(span.Start)] = s
		return s
	}
	s.lower, s.upper = span.Bounds()
	// splitmix64
	x.random += 0x9e3779b97f4a7c15
	z := x.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	s.priority = z ^ z>>31
	s.update()
	x.root = with(x.root, s)
	return s
}

// compareBounds orders (lower, upper) against the spot's; a missing upper bound is the greatest.
func compareBounds(lower, upper []byte, s *spot) int {
	if order := bytes.Compare(lower, s.lower); order != 0 {
		return order
	}
	switch {
	case upper == nil && s.upper == nil:
		return 0
	case upper == nil:
		return 1
	case s.upper == nil:
		return -1
	}
	return bytes.Compare(upper, s.upper)
}

// update recomputes what the spot knows of its subtree.
func (s *spot) update() {
	s.maxUpper, s.unbounded = s.upper, s.upper == nil
	for _, child := range [...]*spot{s.left, s.right} {
		if child == nil {
			continue
		}
		s.unbounded = s.unbounded || child.unbounded
		if bytes.Compare(child.maxUpper, s.maxUpper) > 0 {
			s.maxUpper = child.maxUpper
		}
	}
}

func with(root, s *spot) *spot {
	if root == nil {
		return s
	}
	if compareBounds(s.lower, s.upper, root) < 0 {
		root.left = with(root.left, s)
		if root.left.priority > root.priority {
			return rotateRight(root)
		}
	} else {
		root.right = with(root.right, s)
		if root.right.priority > root.priority {
			return rotateLeft(root)
		}
	}
	root.update()
	return root
}

func without(root, s *spot) *spot {
	switch order := compareBounds(s.lower, s.upper, root); {
	case order < 0:
		root.left = without(root.left, s)
	case order > 0:
		root.right = without(root.right, s)
	default:
		return join(root.left, root.right)
	}
	root.update()
	return root
}

// join merges two trees of which every span of the first is before every span of the second.
func join(left, right *spot) *spot {
	switch {
	case left == nil:
		return right
	case right == nil:
		return left
	case left.priority > right.priority:
		left.right = join(left.right, right)
		left.update()
		return left
	default:
		right.left = join(left, right.left)
		right.update()
		return right
	}
}

func rotateRight(s *spot) *spot {
	top := s.left
	s.left, top.right = top.right, s
	s.update()
	top.update()
	return top
}

func rotateLeft(s *spot) *spot {
	top := s.right
	s.right, top.left = top.left, s
	s.update()
	top.update()
	return top
}

func stab(s *spot, key []byte, out []*spot) []*spot {
	for s != nil {
		if !s.unbounded && bytes.Compare(key, s.maxUpper) >= 0 {
			return out // every span here ends at or before the key
		}
		out = stab(s.left, key, out)
		if bytes.Compare(key, s.lower) < 0 {
			return out // it and everything right of it starts after the key
		}
		if s.upper == nil || bytes.Compare(key, s.upper) < 0 {
			out = append(out, s)
		}
		s = s.right
	}
	return out
}
