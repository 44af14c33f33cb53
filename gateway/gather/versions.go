package gather

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// versionChunkBytes is about how much of keys and values is read ahead, of all states together.
const versionChunkBytes = 4 << 20

// Versions gives all that a copy of the store at a revision has, which is complete in all of the states, to fn: the versions since the store is compacted, and
// those before that were live there, in the order of the history. position is that of the change within its revision, over all states, from 0 on. A chunk of
// each state is held.
func Versions(states []State, at kv.Revision, fn func(e *mvcc.Effect, position int64) error) error {
	sources := make([]*versions, len(states))
	for i, s := range states {
		sources[i] = &versions{state: s, compacted: Compacted(states), to: at, bytes: max(1, versionChunkBytes/int64(len(states)))}
	}
	last, position := kv.Revision(0), int64(0)
	for {
		var first *versions
		for _, s := range sources {
			if ok, err := s.fill(); err != nil {
				return err
			} else if ok && (first == nil || s.compare(first) < 0) {
				first = s
			}
		}
		if first == nil {
			return nil
		}
		e := first.take()
		if position++; e.At.Rev != last {
			last, position = e.At.Rev, 0
		}
		if err := fn(e, position); err != nil {
			return err
		}
	}
}

// versions are those of one state.
type versions struct {
	state         State
	compacted, to kv.Revision
	bytes         int64
	next          mvcc.Locator
	done          bool
	ahead         []*mvcc.Effect
	taken         int // of those
}

// fill tells whether there is a version to take.
func (v *versions) fill() (bool, error) {
	for v.taken == len(v.ahead) && !v.done {
		clear(v.ahead)
		v.ahead, v.taken = v.ahead[:0], 0
		var err error
		v.next, v.done, err = v.state.Versions(v.next, v.compacted, v.to, v.bytes, func(e *mvcc.Effect) error {
			v.ahead = append(v.ahead, e)
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	return v.taken < len(v.ahead), nil
}

func (v *versions) take() *mvcc.Effect {
	v.taken++
	return v.ahead[v.taken-1]
}

// compare tells which of two states has the next version.
func (v *versions) compare(o *versions) int {
	a, b := v.ahead[v.taken], o.ahead[o.taken]
	return mvcc.CompareHistory(a.At, a.Key, b.At, b.Key)
}
