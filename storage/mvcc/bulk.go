package mvcc

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// A bulk is a change of one revision that is too large to be applied at once. It comes in three steps, each of them short:
//
//   - Stage brings its effects bit by bit. Nobody sees them.
//   - CommitBulk gives it a revision. From now on it is in force, as a whole. Its effects are *pending*: in memory only.
//   - ApplyBulk applies them bit by bit, as Apply would have. Whatever is pending covers what is in the dirty maps and in the engine.
//
// Nothing that is newer lies above a pending effect: who has another one for its key calls ApplyPending first.
type bulk struct {
	effects []Effect // in the order of their positions
	// keys are those of the effects; their weight is what the pending ones do to the number of live keys.
	keys tree[bulkKey]
	next int // effects before it are applied
	// revision is that of the effects. Before CommitBulk it stands for whichever they get.
	revision  kv.Revision
	committed bool
}

// bulkKey is what a bulk does to a key.
type bulkKey struct {
	last    int // the newest effect
	applied bool
}

// pending returns the newest effect of a key; nil if there is none that is not applied.
func (b *bulk) pending(key []byte) *Effect {
	if !b.committed {
		return nil
	}
	e, ok := b.keys.get(text(key))
	if !ok || e.value.applied {
		return nil
	}
	return &b.effects[e.value.last]
}

// at returns the effect with a locator, applied or not.
func (b *bulk) at(at Locator) *Effect {
	if !b.committed || at.Rev != b.revision {
		return nil
	}
	i, found := b.position(at.Sub)
	if !found {
		return nil
	}
	return &b.effects[i]
}

// position finds the first effect that is not before the position.
func (b *bulk) position(sub uint32) (int, bool) {
	return slices.BinarySearchFunc(b.effects, sub, func(e Effect, sub uint32) int { return cmp.Compare(e.At.Sub, sub) })
}

// between returns the effects of [from, to).
func (b *bulk) between(from, to Locator) []Effect {
	first, last := 0, len(b.effects)
	if from.Rev == b.revision {
		first, _ = b.position(from.Sub)
	}
	if to.Rev == b.revision {
		last, _ = b.position(to.Sub)
	}
	return b.effects[first:max(first, last)]
}

// asVersion is what the row of the effect's version would say, with the value.
func (e *Effect) asVersion() version {
	return version{
		at: e.At, create: e.Create, number: e.Version, lease: e.Lease, prev: e.Prev, prevLive: e.PrevLive,
		valueLen: uint32(len(e.Value)), key: e.Key, value: e.Value,
	}
}

// asDirty is what a dirty map would have of the effect.
func (e *Effect) asDirty() dirtyMeta {
	return dirtyMeta{latest: latest{e.Meta(), e.Prev}, byKey: len(e.Value) > 0, value: e.Value}
}

func (e *Effect) weight() int64 { return liveDelta(e.Version != 0, e.PrevLive) }

// UnderBulk is what Replaced, which takes no lock, does not find in the engine until a bulk is applied: its effects, and what the dirty maps held when
// it was committed. It never changes.
type UnderBulk struct {
	bulk           bulk
	active, frozen tree[dirtyMeta]
}

// version returns an effect of the bulk.
func (u *UnderBulk) version(at Locator) (version, bool) {
	if u == nil {
		return version{}, false
	}
	e := u.bulk.at(at)
	if e == nil {
		return version{}, false
	}
	return e.asVersion(), true
}

// value returns the value of a version that was dirty.
func (u *UnderBulk) value(key []byte, at Locator) ([]byte, bool) {
	if u == nil {
		return nil, false
	}
	return dirtyValue(key, at, &u.active, &u.frozen)
}

// Stage takes the next effects of a bulk, in the order of their positions, all at one revision, which may be any. Exclusive.
//
// expected is how many the bulk has in all, or a guess. The effects belong to the store from now on.
func (s *Store) Stage(effects []Effect, expected int) {
	b := &s.staged
	if b.effects == nil {
		b.effects = make([]Effect, 0, max(expected, len(effects)))
	}
	for i := range effects {
		e, at := &effects[i], len(b.effects)
		if at > 0 && !b.effects[at-1].At.Less(e.At) || at > 0 && e.At.Rev != b.revision || !e.Prev.Less(e.At) {
			panic(fmt.Sprintf("mvcc: effect at %d.%d with previous version %d.%d staged after %d effects of revision %d",
				e.At.Rev, e.At.Sub, e.Prev.Rev, e.Prev.Sub, at, b.revision))
		}
		b.revision = e.At.Rev
		b.effects = append(b.effects, *e)
		b.keys.set(e.Key, e.weight(), func(bulkKey, bool) bulkKey { return bulkKey{last: at} })
	}
}

// Staged is how many effects are staged. Shared.
func (s *Store) Staged() int { return len(s.staged.effects) }

// Unstage forgets what is staged. Exclusive.
func (s *Store) Unstage() { s.staged = bulk{} }

// CommitBulk lets what is staged take effect at a revision, and returns the effects, which nobody may change. Of the bulk before nothing may be
// pending. Exclusive.
func (s *Store) CommitBulk(rev kv.Revision) []Effect {
	if s.bulk.committed || rev < s.staged.revision {
		panic(fmt.Sprintf("mvcc: bulk staged for revision %d committed at %d; is the one before still pending: %v", s.staged.revision, rev, s.bulk.committed))
	}
	if len(s.staged.effects) == 0 {
		return nil
	}
	s.bulk, s.staged = s.staged, bulk{}
	b := &s.bulk
	for i := range b.effects {
		b.effects[i].move(b.revision, rev)
	}
	b.revision, b.committed = rev, true
	s.under = &UnderBulk{bulk{effects: b.effects, revision: rev, committed: true}, s.active.clone(), s.frozen.clone()}
	s.revision = max(s.revision, rev)
	return b.effects
}

// move replaces one revision by another.
func (e *Effect) move(from, to kv.Revision) {
	for _, rev := range [...]*kv.Revision{&e.At.Rev, &e.Create, &e.Prev.Rev} {
		if *rev == from {
			*rev = to
		}
	}
}

// UnderBulk returns what Replaced needs, for versions that were replaced before the call; nil: nothing. Shared.
func (s *Store) UnderBulk() *UnderBulk { return s.under }

// Pending is how many effects of a bulk that is in force are not applied yet. Shared.
func (s *Store) Pending() int { return len(s.bulk.effects) - s.bulk.next }

// ApplyBulk applies up to max pending effects, as Apply does, and gives them to fn, in order. The caller applies b before it releases the
// lock. Exclusive.
func (s *Store) ApplyBulk(b storage.Batch, max int, fn func(*Effect)) {
	for k := &s.bulk; k.next < len(k.effects) && max > 0; k.next++ {
		if e := &k.effects[k.next]; k.pending(e.Key) != nil {
			s.applyOfBulk(b, k.next, fn)
			max--
		}
	}
	if s.bulk.next == len(s.bulk.effects) {
		s.bulk = bulk{}
	}
}

// ApplyPending applies what is pending of one key: call it for the key of each effect before Apply. Exclusive.
func (s *Store) ApplyPending(b storage.Batch, key []byte, fn func(*Effect)) {
	newest := s.bulk.pending(key)
	if newest == nil {
		return
	}
	// A transaction may change a key more than once.
	var chain []int
	for at := newest.At; at.Rev == s.bulk.revision; {
		i, found := s.bulk.position(at.Sub)
		if !found || i < s.bulk.next {
			break
		}
		chain = append(chain, i)
		at = s.bulk.effects[i].Prev
	}
	for _, i := range slices.Backward(chain) {
		s.applyOfBulk(b, i, fn)
	}
}

// applyOfBulk applies one effect.
func (s *Store) applyOfBulk(b storage.Batch, i int, fn func(*Effect)) {
	k := &s.bulk
	e := &k.effects[i]
	k.keys.set(e.Key, -e.weight(), func(old bulkKey, _ bool) bulkKey { return bulkKey{old.last, old.last == i} })
	s.apply(b, e)
	fn(e)
}
