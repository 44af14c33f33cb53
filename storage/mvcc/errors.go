package mvcc

import (
	"fmt"

	"github.com/quoratedb/quorate/storage"
)

func missing(at Locator, key []byte) error {
	return fmt.Errorf("version %d.%d of key %q is missing although it is current: %w", at.Rev, at.Sub, key, storage.ErrCorrupt)
}
