package lsm

import (
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/storage"
)

// TestSubtract compares with sets of letters.
func TestSubtract(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	make26 := func() (spans []storage.Span, letters [26]bool) {
		for at := random.IntN(4); at < 22; at += random.IntN(4) {
			upper := at + 1 + random.IntN(4)
			spans = append(spans, storage.Span{Lower: []byte{byte('a' + at)}, Upper: []byte{byte('a' + upper)}})
			for ; at < upper; at++ {
				letters[at] = true
			}
		}
		return spans, letters
	}
	for range 5000 {
		spans, all := make26()
		covered, without := make26()
		gaps := subtract(spans, covered)
		if err := storage.ValidateSpans(gaps); err != nil {
			t.Fatal(err)
		}
		var left [26]bool
		for _, g := range gaps {
			for at := g.Lower[0]; at < g.Upper[0]; at++ {
				left[at-'a'] = true
			}
		}
		for i := range left {
			if left[i] != (all[i] && !without[i]) {
				t.Fatalf("%q without %q is %q", spans, covered, gaps)
			}
		}
	}
}
