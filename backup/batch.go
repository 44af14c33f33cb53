package backup

import "github.com/quoratedb/quorate/kv"

// Batch is versions of a shard on their way from a node to whoever writes a backup, encoded as in a block of a data file.
type Batch struct {
	Bytes  []byte
	before kv.Revision
}

// Add adds a version.
func (b *Batch) Add(v *Version) {
	b.Bytes = appendVersion(b.Bytes, v, b.before)
	b.before = v.ModRevision
}

// Reset empties it.
func (b *Batch) Reset() { b.Bytes, b.before = b.Bytes[:0], 0 }

// EachVersion gives the versions of an encoded batch to fn. They are fn's until it returns.
func EachVersion(batch []byte, fn func(*Version) error) error {
	d := decoding{rest: batch}
	var v Version
	before := kv.Revision(0)
	for len(d.rest) > 0 {
		d.version(&v, before)
		if d.failed {
			return damagedf("a version cannot be read")
		}
		before = v.ModRevision
		if err := fn(&v); err != nil {
			return err
		}
	}
	return nil
}
