package backup

import (
	"encoding/binary"
	"math"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Version is one version of a key. Its number is 0 if it is a deletion.
type Version struct {
	kv.KeyValue
	// Sub is the position within the revision, as the shard had it: see mvcc.PlaceBits.
	Sub uint32
}

// At is where the version is in the history.
func (v *Version) At() mvcc.Locator { return mvcc.Locator{Rev: v.ModRevision, Sub: v.Sub} }

// A version is encoded as: how much its revision is above that of the one before it in the block, Sub, flags, the key, and unless it is a deletion how long
// before it the key was created, its number, its lease if there is one, and the value.
const (
	flagDeletion = 1 << iota
	flagLease
	knownFlags = 1<<iota - 1
)

func appendVersion(b []byte, v *Version, before kv.Revision) []byte {
	flags := byte(0)
	if v.Version == 0 {
		flags |= flagDeletion
	}
	if v.Lease != 0 {
		flags |= flagLease
	}
	b = binary.AppendUvarint(b, uint64(v.ModRevision-before))
	b = binary.AppendUvarint(b, uint64(v.Sub))
	b = append(b, flags)
	b = appendBytes(b, v.Key)
	if flags&flagDeletion != 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(v.ModRevision-v.CreateRevision))
	b = binary.AppendUvarint(b, uint64(v.Version))
	if flags&flagLease != 0 {
		b = binary.AppendUvarint(b, uint64(v.Lease))
	}
	return appendBytes(b, v.Value)
}

func appendBytes(b, content []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(content))), content...)
}

// decoding reads what a block has. The first failure stays.
type decoding struct {
	rest   []byte
	failed bool
}

func (d *decoding) uvarint(limit uint64) uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > limit {
		d.failed, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoding) byte() byte {
	if len(d.rest) == 0 {
		d.failed = true
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

// bytes aliases the block.
func (d *decoding) bytes() []byte {
	n := d.uvarint(math.MaxInt64)
	if uint64(len(d.rest)) < n {
		d.failed, d.rest = true, nil
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

// version reads one version into v, whose key and value alias the block.
func (d *decoding) version(v *Version, before kv.Revision) {
	*v = Version{}
	v.ModRevision = before + kv.Revision(d.uvarint(uint64(math.MaxInt64-before)))
	v.Sub = uint32(d.uvarint(math.MaxUint32))
	flags := d.byte()
	v.Key = d.bytes()
	if flags&^knownFlags != 0 || flags&flagDeletion != 0 && flags&flagLease != 0 || len(v.Key) == 0 {
		d.failed = true
	}
	if d.failed || flags&flagDeletion != 0 {
		return
	}
	v.CreateRevision = v.ModRevision - kv.Revision(d.uvarint(uint64(v.ModRevision)))
	v.Version = int64(d.uvarint(math.MaxInt64))
	if flags&flagLease != 0 {
		v.Lease = kv.LeaseID(d.uvarint(math.MaxUint64))
		d.failed = d.failed || v.Lease == 0
	}
	v.Value = d.bytes()
	d.failed = d.failed || v.Version == 0
}
