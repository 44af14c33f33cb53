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
	parts [][]Effect // in the order of their positions, as they were staged; copying millions of them would take a round too long
	count int        // of the effects
	bytes int        // of their keys and values
	// keys are those of the effects; their weight is what the pending ones do to the number of live keys.
	keys   tree[bulkKey]
	next   place // effects before it are applied
	passed int   // so many
	// revision is that of the effects. Before CommitBulk it stands for whichever they get.
	revision  kv.Revision
	committed bool
}

// place is where an effect of a bulk is.
type place struct{ part, at int32 }

func (p place) before(q place) bool { return p.part < q.part || p.part == q.part && p.at < q.at }

// bulkKey is what a bulk does to a key.
type bulkKey struct {
	last    place // the newest effect
	applied bool
}

func (b *bulk) effect(p place) *Effect { return &b.parts[p.part][p.at] }

// following is the place after one that is not the end.
func (b *bulk) following(p place) place {
	if int(p.at)+1 < len(b.parts[p.part]) {
		return place{p.part, p.at + 1}
	}
	return place{part: p.part + 1}
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
	return b.effect(e.value.last)
}

// at returns the effect with a locator, applied or not.
func (b *bulk) at(at Locator) *Effect {
	if !b.committed || at.Rev != b.revision {
		return nil
	}
	p, found := b.position(at.Sub)
	if !found {
		return nil
	}
	return b.effect(p)
}

// position finds the first effect that is not before the position.
func (b *bulk) position(sub uint32) (_ place, found bool) {
	part, _ := slices.BinarySearchFunc(b.parts, sub, func(p []Effect, sub uint32) int { return cmp.Compare(p[len(p)-1].At.Sub, sub) })
	if part == len(b.parts) {
		return place{part: int32(part)}, false
	}
	at, found := slices.BinarySearchFunc(b.parts[part], sub, func(e Effect, sub uint32) int { return cmp.Compare(e.At.Sub, sub) })
	return place{int32(part), int32(at)}, found
}

// between gives the effects of [from, to) to fn until it returns false.
func (b *bulk) between(from, to Locator, fn func(*Effect) (bool, error)) (proceed bool, err error) {
	var p place
	end := place{part: int32(len(b.parts))}
	if from.Rev == b.revision {
		p, _ = b.position(from.Sub)
	}
	if to.Rev == b.revision {
		end, _ = b.position(to.Sub)
	}
	for ; p.before(end); p = b.following(p) {
		if proceed, err := fn(b.effect(p)); err != nil || !proceed {
			return false, err
		}
	}
	return true, nil
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

// Stage takes the next effects of a bulk, in the order of their positions, all at one revision, which may be any. They, and the memory of their
// keys and values, belong to the store from now on. Exclusive.
func (s *Store) Stage(effects []Effect) {
	if len(effects) == 0 {
		return
	}
	b := &s.staged
	b.keys.shares = true
	var last *Effect
	if n := len(b.parts); n > 0 {
		last = &b.parts[n-1][len(b.parts[n-1])-1]
	}
	for i := range effects {
		e := &effects[i]
		if last != nil && (!last.At.Less(e.At) || e.At.Rev != last.At.Rev) || !e.Prev.Less(e.At) {
			panic(fmt.Sprintf("mvcc: effect at %d.%d with previous version %d.%d staged after %d effects of revision %d",
				e.At.Rev, e.At.Sub, e.Prev.Rev, e.Prev.Sub, b.count+i, b.revision))
		}
		last = e
		b.bytes += len(e.Key) + len(e.Value)
		at := place{int32(len(b.parts)), int32(i)}
		b.keys.set(e.Key, e.weight(), func(bulkKey, bool) bulkKey { return bulkKey{last: at} })
	}
	b.parts, b.count, b.revision = append(b.parts, effects), b.count+len(effects), last.At.Rev
}

// Staged is how many effects are staged. Shared.
func (s *Store) Staged() int { return s.staged.count }

// Unstage forgets what is staged. Exclusive.
func (s *Store) Unstage() { s.staged = bulk{} }

// CommitBulk lets what is staged take effect at a revision. It returns the effects as they were staged, which nobody may change, and how many bytes their
// keys and values have. Of the bulk before nothing may be pending. Exclusive.
func (s *Store) CommitBulk(rev kv.Revision) (parts [][]Effect, bytes int) {
	if s.bulk.committed || rev < s.staged.revision {
		panic(fmt.Sprintf("mvcc: bulk staged for revision %d committed at %d; is the one before still pending: %v", s.staged.revision, rev, s.bulk.committed))
	}
	if s.staged.count == 0 {
		return nil, 0
	}
	s.bulk, s.staged = s.staged, bulk{}
	b := &s.bulk
	for _, effects := range b.parts {
		for i := range effects {
			effects[i].move(b.revision, rev)
		}
	}
	b.revision, b.committed = rev, true
	s.under = &UnderBulk{bulk{parts: b.parts, revision: rev, committed: true}, s.active.clone(), s.frozen.clone()}
	s.revision = max(s.revision, rev)
	return b.parts, b.bytes
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
func (s *Store) Pending() int { return s.bulk.count - s.bulk.passed }

// ApplyBulk applies up to max pending effects, as Apply does, and gives them to fn, in order. The caller applies b before it releases the
// lock. Exclusive.
func (s *Store) ApplyBulk(b storage.Batch, max int, fn func(*Effect)) {
	for k := &s.bulk; k.passed < k.count && max > 0; k.next, k.passed = k.following(k.next), k.passed+1 {
		if k.pending(k.effect(k.next).Key) != nil {
			s.applyOfBulk(b, k.next, fn)
			max--
		}
	}
	if s.Pending() == 0 {
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
	var chain []place
	for at := newest.At; at.Rev == s.bulk.revision; {
		p, found := s.bulk.position(at.Sub)
		if !found || p.before(s.bulk.next) {
			break
		}
		chain = append(chain, p)
		at = s.bulk.effect(p).Prev
	}
	for _, p := range slices.Backward(chain) {
		s.applyOfBulk(b, p, fn)
	}
}

// applyOfBulk applies one effect.
func (s *Store) applyOfBulk(b storage.Batch, p place, fn func(*Effect)) {
	k := &s.bulk
	e := k.effect(p)
	k.keys.set(e.Key, -e.weight(), func(old bulkKey, _ bool) bulkKey { return bulkKey{old.last, old.last == p} })
	s.apply(b, e)
	fn(e)
}
