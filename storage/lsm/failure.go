package lsm

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/storage"
)

// failure is the first thing that went wrong for good.
type failure struct {
	once   sync.Once
	cause  atomic.Pointer[error]
	failed chan struct{} // closed once cause is set
	// closing is closed when the engine begins to close.
	closing chan struct{}
	// opened: Open has succeeded, so that Close will come.
	opened atomic.Bool
}

func newFailure() *failure {
	return &failure{failed: make(chan struct{}), closing: make(chan struct{})}
}

func (f *failure) err() error {
	if p := f.cause.Load(); p != nil {
		return *p
	}
	return nil
}

// fail stops the engine. It is called by Pebble with its locks held, so it does nothing but remember.
func (f *failure) fail(err error) {
	f.once.Do(func() {
		f.cause.Store(&err)
		close(f.failed)
	})
}

// describe says for people what happened and what to do about it.
func describe(dir string, err error) error {
	switch {
	case errors.Is(err, storage.ErrUnusable) || errors.Is(err, storage.ErrClosed) || errors.Is(err, storage.ErrCorrupt):
		return err
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("%w: the state in %s: %w; remove the node's data directory and add the node again, it gets everything from the others", storage.ErrCorrupt, dir, err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: the disk of the state in %s is full: %w; free space and restart the node", storage.ErrUnusable, dir, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: no permission for the state in %s: %w; correct the permissions and restart the node", storage.ErrUnusable, dir, err)
	default:
		return fmt.Errorf("%w: the state in %s: %w; check the disk and restart the node", storage.ErrUnusable, dir, err)
	}
}

// gate is the file system that Pebble sees. After a failure nothing passes it that
// would change the disk: what is durable stays a prefix of what was applied.
// Pebble retries a failed flush at once and forever; the gate holds it until Close.
type gate struct {
	vfs.FS
	dir string
	*failure
}

// Unwrap implements vfs.FS.
func (g *gate) Unwrap() vfs.FS { return g.FS }

// hold waits for the end of a failed engine, so that a retry costs nothing.
func (g *gate) hold() error {
	if g.err() == nil {
		return nil
	}
	if g.opened.Load() {
		<-g.closing
	}
	return g.err()
}

func (g *gate) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := g.hold(); err != nil {
		return nil, err
	}
	f, err := g.FS.Create(name, c)
	return g.wrap(f, err)
}

func (g *gate) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := g.err(); err != nil {
		return nil, err
	}
	f, err := g.FS.OpenReadWrite(name, c, opts...)
	return g.wrap(f, err)
}

func (g *gate) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := g.hold(); err != nil {
		return nil, err
	}
	f, err := g.FS.ReuseForWrite(oldname, newname, c)
	return g.wrap(f, err)
}

func (g *gate) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &gateDir{f, g}, nil
}

func (g *gate) Link(oldname, newname string) error {
	if err := g.err(); err != nil {
		return err
	}
	return g.FS.Link(oldname, newname)
}

func (g *gate) Rename(oldname, newname string) error {
	if err := g.err(); err != nil {
		return err
	}
	return g.FS.Rename(oldname, newname)
}

func (g *gate) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &gateFile{f, g}, nil
}

type gateFile struct {
	vfs.File
	gate *gate
}

func (f *gateFile) Write(p []byte) (int, error) {
	if err := f.gate.err(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *gateFile) WriteAt(p []byte, offset int64) (int, error) {
	if err := f.gate.err(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, offset)
}

func (f *gateFile) Sync() error     { return f.synced(f.File.Sync) }
func (f *gateFile) SyncData() error { return f.synced(f.File.SyncData) }

func (f *gateFile) SyncTo(length int64) (full bool, err error) {
	err = f.synced(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

// synced: after a failed sync the kernel may have dropped the pages and report success the next time.
func (f *gateFile) synced(sync func() error) error {
	if err := f.gate.err(); err != nil {
		return err
	}
	if err := sync(); err != nil {
		f.gate.fail(describe(f.gate.dir, fmt.Errorf("sync failed: %w", err)))
		return err
	}
	return nil
}

// gateDir is a directory. Pebble panics, in a goroutine of its own, when a directory cannot be synced. So
// it does not learn of it: the engine has stopped before Sync returns, and acknowledges nothing any more.
type gateDir struct {
	vfs.File
	gate *gate
}

func (d *gateDir) Sync() error {
	if d.gate.err() != nil {
		return nil
	}
	if err := d.File.Sync(); err != nil {
		d.gate.fail(describe(d.gate.dir, fmt.Errorf("sync of the directory failed: %w", err)))
	}
	return nil
}
