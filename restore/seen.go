package restore

import "github.com/cespare/xxhash/v2"

const (
	seenBits   = 1 << 26 // 8 MiB
	seenProbes = 4
	// lineWords: all bits of a key are within a line of the processor's cache.
	lineWords = 8
)

// seen tells of keys whether they may have had a version already (a Bloom filter). Most versions of a backup are the first ones of their keys: for those the store
// need not look for the one before. With 10 million keys it is wrong about one in 20, with many more it is of no use, and does no harm.
type seen struct{ lines [][lineWords]uint64 }

func newSeen() *seen { return &seen{lines: make([][lineWords]uint64, seenBits/64/lineWords)} }

// add tells whether the key may have been added before. A no is certain.
func (s *seen) add(key []byte) (before bool) {
	hash := xxhash.Sum64(key)
	line := &s.lines[hash>>40%uint64(len(s.lines))]
	before = true
	for range seenProbes {
		word, bit := &line[hash%lineWords], uint64(1)<<(hash/lineWords%64)
		before = before && *word&bit != 0
		*word |= bit
		hash >>= 9
	}
	return before
}
