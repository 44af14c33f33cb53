package watch

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// TestIndexAgainstList compares the index with asking every span.
func TestIndexAgainstList(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 1))
		key := func() []byte {
			b := make([]byte, 1+random.IntN(3))
			for i := range b {
				b[i] = byte('a' + random.IntN(5))
			}
			return b
		}
		var x index
		var list []*group
		for step := range 400 {
			if len(list) > 0 && random.IntN(3) == 0 {
				i := random.IntN(len(list))
				x.remove(list[i])
				list = slices.Delete(list, i, i+1)
			} else {
				span := kv.Span{Start: key()}
				switch random.IntN(4) {
				case 0:
					span.End = []byte{0}
				case 1, 2:
					if span.End = key(); span.Empty() {
						continue
					}
				}
				g := &group{span: span}
				x.add(g)
				list = append(list, g)
			}
			if err := x.check(len(list)); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			probe := key()
			found := map[*group]bool{}
			for _, s := range x.match(probe, nil) {
				for _, g := range s.groups {
					if found[g] {
						t.Fatalf("seed %d step %d: %q found a group twice", seed, step, probe)
					}
					found[g] = true
				}
			}
			for _, g := range list {
				if g.span.Contains(probe) != found[g] {
					t.Fatalf("seed %d step %d: key %q in span %q: found %v", seed, step, probe, g.span, found[g])
				}
			}
		}
	}
}

// check verifies the tree's invariants.
func (x *index) check(groups int) error {
	if x.size != groups {
		return fmt.Errorf("size %d instead of %d", x.size, groups)
	}
	var last *spot
	var walk func(s *spot) error
	walk = func(s *spot) error {
		if s == nil {
			return nil
		}
		if err := walk(s.left); err != nil {
			return err
		}
		if last != nil && compareBounds(last.lower, last.upper, s) >= 0 {
			return fmt.Errorf("span %q is not after %q", s.span, last.span)
		}
		if len(s.groups) == 0 {
			return fmt.Errorf("span %q has no groups", s.span)
		}
		last = s
		for _, child := range [...]*spot{s.left, s.right} {
			if child == nil {
				continue
			}
			if child.priority > s.priority {
				return fmt.Errorf("span %q is below one of less priority", child.span)
			}
			if bytes.Compare(child.maxUpper, s.maxUpper) > 0 || child.unbounded && !s.unbounded {
				return fmt.Errorf("span %q forgot the bound of a child", s.span)
			}
		}
		return walk(s.right)
	}
	return walk(x.root)
}
