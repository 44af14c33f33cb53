package backup

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Digest says which versions there are, in whatever order and however they are divided: the digests of two sets add up to that of both. It does not depend
// on Sub.
type Digest struct {
	Versions int64 `json:"versions"`
	Bytes    int64 `json:"bytes"` // of keys and values
	// Sum is the sum of the hashes of the versions, modulo 2^64. Many readers of JSON have no such integers.
	Sum uint64 `json:"sum,string"`
}

// Add adds a version.
func (d *Digest) Add(v *Version) {
	var buf [7 * binary.MaxVarintLen64]byte
	b := binary.AppendUvarint(buf[:0], uint64(v.ModRevision))
	b = binary.AppendUvarint(b, uint64(v.CreateRevision))
	b = binary.AppendUvarint(b, uint64(v.Version))
	b = binary.AppendUvarint(b, uint64(v.Lease))
	b = binary.AppendUvarint(b, uint64(len(v.Key)))
	b = binary.AppendUvarint(b, xxhash.Sum64(v.Key))
	b = binary.AppendUvarint(b, xxhash.Sum64(v.Value))
	d.Sum += xxhash.Sum64(b)
	d.Versions++
	d.Bytes += int64(len(v.Key) + len(v.Value))
}

// Include adds all that another digest is of.
func (d *Digest) Include(o Digest) {
	d.Versions += o.Versions
	d.Bytes += o.Bytes
	d.Sum += o.Sum
}

// exclude takes away what another digest is of.
func (d *Digest) exclude(o Digest) {
	d.Versions -= o.Versions
	d.Bytes -= o.Bytes
	d.Sum -= o.Sum
}
