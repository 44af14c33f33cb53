package restore

import "github.com/cespare/xxhash/v2"

const (
	seenBits   = 1 << 26 // 8 MiB
	seenProbes = 4
)

// seen tells of keys whether they may have had a version already (a Bloom filter). Most versions of a backup are the first ones of their keys: for those the store
// need not look for the one before. With 10 million keys it is wrong about one in 25, with many more it is of no use, and does no harm.
type seen struct{ bits []uint64 }

func newSeen() *seen { return &seen{bits: make([]uint64, seenBits/64)} }

// add tells whether the key may have been added before. A no is certain.
func (s *seen) add(key []byte) (before bool) {
	hash := xxhash.Sum64(key)
	step := hash>>32 | 1
	before = true
	for range seenProbes {
		word, bit := &s.bits[hash%seenBits/64], uint64(1)<<(hash%64)
		before = before && *word&bit != 0
		*word |= bit
		hash += step
	}
	return before
}
