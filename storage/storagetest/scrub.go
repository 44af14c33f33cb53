package storagetest

import (
	"testing"

	"github.com/quoratedb/quorate/storage"
)

// ScrubAll does a whole pass in pieces of about so many bytes, and returns how much it read and what it found. A pass
// that does not end fails the test.
func ScrubAll(t testing.TB, s storage.Scrub, pieceBytes int) (read int64, pieces int, err error) {
	t.Helper()
	for limit := 1_000_000; ; pieces++ {
		n, done, err := s.Next(pieceBytes)
		read += n
		if done || err != nil {
			if closing := s.Close(); closing != nil {
				t.Error("close: ", closing)
			}
			return read, pieces + 1, err
		}
		if pieces == limit {
			t.Fatalf("a pass has not ended after %d pieces", pieces)
		}
	}
}
