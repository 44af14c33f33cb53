package lsm

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
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
	// refused is the last write that the disk did not take. Pebble sees it too, and normally reports it; when
	// it panics while opening, this says why.
	refused atomic.Pointer[error]
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
		return corrupt(dir, err)
	case errors.Is(err, fs.ErrNotExist):
		return corrupt(dir, fmt.Errorf("a file is missing: %w", err))
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: the disk of the state in %s is full: %w; free space and restart the node", storage.ErrUnusable, dir, err)
	case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("%w: the state in %s: a file cannot be opened because too many are open: %w; raise the limit (ulimit -n, or LimitNOFILE= of systemd) and restart the node", storage.ErrUnusable, dir, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: no permission for the state in %s: %w; correct the permissions and restart the node", storage.ErrUnusable, dir, err)
	default:
		return fmt.Errorf("%w: the state in %s: %w; check the disk and restart the node", storage.ErrUnusable, dir, err)
	}
}

// corrupt says that what is in the directory is not what was written.
func corrupt(dir string, err error) error {
	return fmt.Errorf("%w: the state in %s: %w; see \"A node that lost its data\" in docs/operations.md", storage.ErrCorrupt, dir, oneLine{err})
}

// oneLine leaves out what Pebble's errors carry for machines, in further lines.
type oneLine struct{ error }

func (e oneLine) Error() string {
	first, _, _ := strings.Cut(e.error.Error(), "\n")
	return first
}

func (e oneLine) Unwrap() error { return e.error }

// gate is the file system that Pebble sees. After a failure nothing passes it that
// would change the disk: what is durable stays a prefix of what was applied.
// Pebble retries a failed flush at once and forever; the gate holds it until Close.
type gate struct {
	vfs.FS
	dir string
	*failure
	pace func(vfs.File, vfs.DiskWriteCategory) vfs.File
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

// Create implements vfs.FS. See silentFile for the files that never fail.
func (g *gate) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if silent(g.FS.PathBase(name)) {
		return g.createSilent(name, c), nil
	}
	if err := g.hold(); err != nil {
		return nil, err
	}
	f, err := g.FS.Create(name, c)
	if f, err = g.wrap(f, err); err != nil {
		return nil, err
	}
	return g.pace(f, c), nil
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
	return &silentFile{File: f, gate: g}, nil
}

// Remove implements vfs.FS. After a failure the manifest on disk may still name what Pebble thinks obsolete.
func (g *gate) Remove(name string) error {
	if g.err() != nil {
		return nil
	}
	return g.FS.Remove(name)
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
		g.refused.Store(&err)
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
	n, err := f.File.Write(p)
	if err != nil {
		f.gate.refused.Store(&err)
	}
	return n, err
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

// silent tells whether Pebble cannot stand an error of the file: it would end the process, or panic in a
// goroutine of its own and on a state that fits neither memory nor disk.
func silent(base string) bool {
	return strings.HasPrefix(base, "MANIFEST-") || strings.HasPrefix(base, "marker.")
}

// silentFile is the manifest, a marker or a directory. It hides errors from Pebble, after it stopped the engine:
// so nothing that Pebble believes to be durable from then on is ever acknowledged, nothing more is written,
// and no file is removed. Pebble goes on in memory, consistently, until it is closed.
type silentFile struct {
	vfs.File // nil if it could not be created
	gate     *gate
}

func (g *gate) createSilent(name string, c vfs.DiskWriteCategory) vfs.File {
	s := &silentFile{gate: g}
	_ = s.hide("create "+name, func() (err error) {
		s.File, err = g.FS.Create(name, c)
		return err
	})
	return s
}

// hide runs the operation if the engine works, and stops the engine if it fails.
func (s *silentFile) hide(what string, operation func() error) error {
	if s.gate.err() != nil {
		return nil
	}
	if err := operation(); err != nil {
		s.gate.fail(describe(s.gate.dir, fmt.Errorf("%s: %w", what, err)))
	}
	return nil
}

func (s *silentFile) Write(p []byte) (int, error) {
	return len(p), s.hide("write the manifest", func() error { _, err := s.File.Write(p); return err })
}

func (s *silentFile) Sync() error {
	return s.hide("sync the manifest or its directory", func() error { return s.File.Sync() })
}

func (s *silentFile) SyncData() error {
	return s.hide("sync the manifest", func() error { return s.File.SyncData() })
}

func (s *silentFile) SyncTo(length int64) (full bool, err error) {
	err = s.hide("sync the manifest", func() (err error) { full, err = s.File.SyncTo(length); return err })
	return full, err
}

// Preallocate is an optimization; Pebble ignores what becomes of it.
func (s *silentFile) Preallocate(offset, length int64) error {
	if s.File == nil {
		return nil
	}
	return s.File.Preallocate(offset, length)
}

func (s *silentFile) Fd() uintptr {
	if s.File == nil {
		return vfs.InvalidFd
	}
	return s.File.Fd()
}

func (s *silentFile) Close() error {
	if s.File == nil {
		return nil
	}
	if err := s.File.Close(); err != nil {
		return s.hide("close the manifest", func() error { return err })
	}
	return nil
}
