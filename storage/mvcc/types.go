package mvcc

import (
	"bytes"
	"cmp"

	"github.com/quoratedb/quorate/kv"
)

// Locator finds the row of one version: its revision, and the position of the
// change within the transaction that made it. The zero Locator means "none".
type Locator struct {
	Rev kv.Revision
	Sub uint32
}

// Less orders locators as the history does.
func (l Locator) Less(o Locator) bool { return l.Rev < o.Rev || l.Rev == o.Rev && l.Sub < o.Sub }

// PlaceBits are how many bits of Sub count the changes of one operation of a transaction over several shards, in one of them. The bits above are the place of
// the operation in the transaction (kv.PlacedOp). So what one shard has at such a revision is in the order of Sub, and of what several have that in the lower
// place comes first, then that of the lower key.
const PlaceBits = 22

// Place is the place of the operation that made a change at the revision of a transaction over several shards.
func (l Locator) Place() uint32 { return l.Sub >> PlaceBits }

// CompareHistory puts versions of different shards in the order of the history. Of one revision only transactions over several shards have changes in both.
func CompareHistory(a Locator, aKey []byte, b Locator, bKey []byte) int {
	return cmp.Or(cmp.Compare(a.Rev, b.Rev), cmp.Compare(a.Place(), b.Place()), bytes.Compare(aKey, bKey))
}

// Meta is the newest version of a key, without its value.
type Meta struct {
	Create   kv.Revision // revision that created the key since its last deletion; 0 for a tombstone
	At       Locator     // the version's row; At.Rev is the mod revision
	Version  int64       // 0: tombstone
	Lease    kv.LeaseID
	ValueLen uint32
}

// Deleted tells whether the newest version is a tombstone.
func (m Meta) Deleted() bool { return m.Version == 0 }

// Effect is one change of one key, complete in itself: a replica applies it
// without reading anything.
type Effect struct {
	Key, Value []byte
	At         Locator
	Create     kv.Revision // 0 for a deletion
	Version    int64       // 0: deletion
	Lease      kv.LeaseID
	// Prev is the row of the version before, a tombstone included; zero if there is none.
	// PrevLive tells whether that version was a live key, PrevLease its lease.
	Prev      Locator
	PrevLive  bool
	PrevLease kv.LeaseID
}

// Meta returns what the effect makes the newest version of its key.
func (e *Effect) Meta() Meta {
	return Meta{Create: e.Create, At: e.At, Version: e.Version, Lease: e.Lease, ValueLen: uint32(len(e.Value))}
}
