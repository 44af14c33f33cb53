//go:build !unix

package datadir

import (
	"fmt"
	"os"
)

// lockDirectory opens the lock file. There is no lock that ends with the
// process in Go's standard library here, so two processes are not kept apart.
func lockDirectory(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotWritable, err)
	}
	return file, nil
}
