// Package patientfs is a file system that waits when the process has no file descriptor left. Clients' connections are limited so that it does not come
// to that (package connlimit); if it does, because something else takes descriptors, they come back, and neither the log nor the state engine
// can go on without the file that they open: they would take the error for a failing disk, and end the node.
package patientfs

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrNoDescriptor: none became free in time. The disk is not at fault.
var ErrNoDescriptor = errors.New("the process has as many files and connections open as it may; raise the limit (ulimit -n, or LimitNOFILE= of systemd)")

// Options of a file system.
type Options struct {
	// Patience is how long a call waits at most, Pause between two tries. Defaults: 10 s, 20 ms.
	Patience, Pause time.Duration
	// Waiting is told when a call begins to wait. It may be nil and must be quick.
	Waiting func(path string, err error)
}

// New returns the file system with patience.
func New(inner vfs.FS, options Options) vfs.FS {
	if options.Patience == 0 {
		options.Patience = 10 * time.Second
	}
	if options.Pause == 0 {
		options.Pause = 20 * time.Millisecond
	}
	return &patient{inner, options}
}

type patient struct {
	vfs.FS
	options Options
}

// Unwrap implements vfs.FS.
func (p *patient) Unwrap() vfs.FS { return p.FS }

// Create implements vfs.FS.
func (p *patient) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return try(p, name, func() (vfs.File, error) { return p.FS.Create(name, c) })
}

// Open implements vfs.FS.
func (p *patient) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return try(p, name, func() (vfs.File, error) { return p.FS.Open(name, opts...) })
}

// OpenReadWrite implements vfs.FS.
func (p *patient) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return try(p, name, func() (vfs.File, error) { return p.FS.OpenReadWrite(name, c, opts...) })
}

// OpenDir implements vfs.FS.
func (p *patient) OpenDir(name string) (vfs.File, error) {
	return try(p, name, func() (vfs.File, error) { return p.FS.OpenDir(name) })
}

// List implements vfs.FS.
func (p *patient) List(dir string) ([]string, error) {
	return try(p, dir, func() ([]string, error) { return p.FS.List(dir) })
}

func try[T any](p *patient, path string, open func() (T, error)) (T, error) {
	result, err := open()
	if !exhausted(err) {
		return result, err
	}
	if p.options.Waiting != nil {
		p.options.Waiting(path, err)
	}
	for waited := time.Duration(0); waited < p.options.Patience; waited += p.options.Pause {
		time.Sleep(p.options.Pause)
		if result, err = open(); !exhausted(err) {
			return result, err
		}
	}
	return result, fmt.Errorf("open %s: %w: %w", path, ErrNoDescriptor, err)
}

func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
