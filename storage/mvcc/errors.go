package mvcc

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/storage"
)

// ErrForgotten: what was to be hashed may be deleted.
var ErrForgotten = errors.New("history that the hash covers is deleted")

func missing(at Locator, key []byte) error {
	return fmt.Errorf("version %d.%d of key %q is missing although it is current: %w", at.Rev, at.Sub, key, storage.ErrCorrupt)
}
