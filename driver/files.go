package driver

import (
	"errors"
	"io"
	"os"
)

// Files holds snapshots that are put together or received. Safe for concurrent use.
type Files interface {
	// TempDir makes a new directory in parent, with a name that begins with prefix.
	TempDir(parent, prefix string) (string, error)
	Create(name string) (SyncWriter, error)
	// Open also returns the size in bytes.
	Open(name string) (io.ReadCloser, int64, error)
	RemoveAll(dir string) error
}

// SyncWriter is a file that is being written.
type SyncWriter interface {
	io.WriteCloser
	Sync() error
}

// systemFiles is the file system.
type systemFiles struct{}

func (systemFiles) TempDir(parent, prefix string) (string, error) {
	return os.MkdirTemp(parent, prefix)
}
func (systemFiles) Create(name string) (SyncWriter, error) { return os.Create(name) }
func (systemFiles) RemoveAll(dir string) error             { return os.RemoveAll(dir) }

func (systemFiles) Open(name string) (io.ReadCloser, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}
