package partition

import (
	"bytes"
	"slices"
	"sort"

	"github.com/cespare/xxhash/v2"

	"github.com/quoratedb/quorate/kv"
)

// Slots is how many slots keys are hashed to. Each shard has slots in a row, about as many as any other.
const Slots = 1 << 14

// Descriptor says what a shard has.
type Descriptor struct {
	Shard kv.ShardID
	// Generation counts the changes of what the shard has. The first is 1.
	Generation uint64
	// Lower and Upper bound the keys of a shard by range, Upper exclusive. Nil: no bound.
	Lower, Upper []byte
	// FirstSlot and EndSlot bound the slots of a shard by hash, EndSlot exclusive.
	FirstSlot, EndSlot int
}

// Table finds the shard of a key. It does not change. Safe for concurrent use.
type Table struct {
	scheme Scheme
	shards []Descriptor
}

// New returns the table of a scheme.
func New(s Scheme) (*Table, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	t := &Table{scheme: s}
	for i, id := range s.ShardIDs() {
		d := Descriptor{Shard: id, Generation: 1}
		if s.Kind == Hash {
			d.FirstSlot, d.EndSlot = firstSlot(i, s.Shards), firstSlot(i+1, s.Shards)
		} else {
			if i > 0 {
				d.Lower = s.SplitKeys[i-1]
			}
			if i+1 < s.Shards {
				d.Upper = s.SplitKeys[i]
			}
		}
		t.shards = append(t.shards, d)
	}
	return t, nil
}

// firstSlot is the first slot of the i-th of n shards.
func firstSlot(i, n int) int { return (i*Slots + n - 1) / n }

// Descriptors lists the shards, in the order of their keys if they are partitioned by range. It is not to be changed.
func (t *Table) Descriptors() []Descriptor { return t.shards }

// position is that of the shard that has a key.
func (t *Table) position(key []byte) int {
	if t.scheme.Kind == Hash {
		return t.shardOf(Slot(key, t.scheme.HashPrefix))
	}
	return t.holding(key)
}

// holding is the position of the shard by range that has a key.
func (t *Table) holding(key []byte) int {
	return sort.Search(len(t.scheme.SplitKeys), func(i int) bool { return bytes.Compare(key, t.scheme.SplitKeys[i]) < 0 })
}

func (t *Table) shardOf(slot int) int { return slot * len(t.shards) / Slots }

// Overlapping returns the shards that may have keys of the span, as Descriptors does: none if it is empty. It is not to be changed.
func (t *Table) Overlapping(span kv.Span) []Descriptor {
	if span.Empty() {
		return nil
	}
	if len(t.shards) == 1 {
		return t.shards
	}
	if span.Single() {
		at := t.position(span.Start)
		return t.shards[at : at+1]
	}
	lower, upper := span.Bounds()
	if t.scheme.Kind == Hash {
		if !inDirectory(lower, upper, t.scheme.HashPrefix) {
			return t.shards
		}
		at := t.position(lower)
		return t.shards[at : at+1]
	}
	first, end := t.holding(lower), len(t.shards)
	if upper != nil { // the first shard that begins at or above it
		end = 1 + sort.Search(len(t.scheme.SplitKeys), func(i int) bool { return bytes.Compare(t.scheme.SplitKeys[i], upper) >= 0 })
	}
	return slices.Clip(t.shards[first:end])
}

// Slot is the slot of a key: the 14 highest bits of the 64 bits of XXH64, with seed 0, of its hashed part. It is the same in every version.
func Slot(key []byte, hashPrefix int) int {
	const slotBits = 14
	return int(xxhash.Sum64(key[:hashedBytes(key, hashPrefix)]) >> (64 - slotBits))
}

// hashedBytes is how much of a key is hashed: its first components, as many as hashPrefix says, without the slash that ends the last of them. A slash at the
// very beginning begins the first component and ends none; other than that, components may be empty.
func hashedBytes(key []byte, hashPrefix int) int {
	if hashPrefix == 0 || len(key) == 0 {
		return len(key)
	}
	for at := 1; at < len(key); at++ {
		if key[at] != '/' {
			continue
		}
		if hashPrefix--; hashPrefix == 0 {
			return at
		}
	}
	return len(key)
}

// inDirectory tells whether all keys from lower on and below upper (nil: no bound) have the same hashed part: they are in the directory that lower names with all
// components that are hashed, and the slash after the last.
func inDirectory(lower, upper []byte, hashPrefix int) bool {
	end := hashedBytes(lower, hashPrefix)
	if hashPrefix == 0 || end == len(lower) || upper == nil {
		return false
	}
	after := append(slices.Clone(lower[:end]), '/'+1)
	return bytes.Compare(upper, after) <= 0
}
