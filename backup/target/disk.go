package target

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// rootedDisk is the system's file system below one directory. os.Root follows symbolic links only as long as they stay in it.
type rootedDisk struct {
	path string // absolute

	mutex sync.Mutex
	root  *os.Root // nil until the directory was there
}

// below gives the directory; fs.ErrNotExist if it is not there.
func (r *rootedDisk) below() (*os.Root, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.root == nil {
		root, err := os.OpenRoot(r.path)
		if err != nil {
			if info, problem := os.Stat(r.path); problem == nil && !info.IsDir() {
				err = fmt.Errorf("%s is a file, and not a directory: name another target", r.path)
			}
			return nil, err
		}
		r.root = root
	}
	return r.root, nil
}

// prepare implements disk.
func (r *rootedDisk) prepare() error {
	if err := makeDirectory(r.path); err != nil {
		return err
	}
	_, err := r.below()
	return err
}

// makeDirectory makes a directory and those above it, each durable before there is one in it.
func makeDirectory(name string) error {
	above := filepath.Dir(name)
	err := os.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrNotExist) && above != name {
		if err := makeDirectory(above); err != nil {
			return err
		}
		err = os.Mkdir(name, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		// Whoever made it may have been killed before it was durable. If its administrator did not let us look above it, it was another.
		return unless(syncDirectory(os.Open(above)), fs.ErrPermission)
	}
	return cmp.Or(err, syncDirectory(os.Open(above)))
}

// syncDirectory syncs an open directory, and closes it. Some file systems of networks have no such operation.
func syncDirectory(folder *os.File, err error) error {
	if err != nil {
		return err
	}
	err = folder.Sync()
	if isAny(err, syscall.EINVAL, syscall.ENOTSUP) {
		err = nil
	}
	return cmp.Or(err, folder.Close())
}

// create implements disk.
func (r *rootedDisk) create(name string) (diskFile, error) {
	root, err := r.below()
	if err != nil {
		return nil, err
	}
	return root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// open implements disk.
func (r *rootedDisk) open(name string) (diskReader, error) {
	info, err := r.lookUp(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file: %w", name, fs.ErrNotExist)
	}
	root, err := r.below()
	if err != nil {
		return nil, err
	}
	return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// lookUp implements disk.
func (r *rootedDisk) lookUp(name string) (fs.FileInfo, error) {
	root, err := r.below()
	if err != nil {
		return nil, err
	}
	return root.Lstat(name)
}

// entries implements disk.
func (r *rootedDisk) entries(folder string) ([]fs.DirEntry, error) {
	root, err := r.below()
	if err != nil {
		return nil, err
	}
	opened, err := root.Open(folder)
	if err != nil {
		return nil, err
	}
	entries, err := opened.ReadDir(-1)
	return entries, cmp.Or(err, opened.Close())
}

// makeFolder implements disk.
func (r *rootedDisk) makeFolder(name string) error {
	return r.with(func(root *os.Root) error { return root.Mkdir(name, 0o700) })
}

// rename implements disk.
func (r *rootedDisk) rename(from, to string) error {
	return r.with(func(root *os.Root) error { return root.Rename(from, to) })
}

// link implements disk.
func (r *rootedDisk) link(from, to string) error {
	return r.with(func(root *os.Root) error { return root.Link(from, to) })
}

// remove implements disk.
func (r *rootedDisk) remove(name string) error {
	return r.with(func(root *os.Root) error { return root.Remove(name) })
}

// sync implements disk.
func (r *rootedDisk) sync(folder string) error {
	return r.with(func(root *os.Root) error { return syncDirectory(root.Open(folder)) })
}

func (r *rootedDisk) with(do func(*os.Root) error) error {
	root, err := r.below()
	if err != nil {
		return err
	}
	return do(root)
}

// same implements disk.
func (r *rootedDisk) same(a, b fs.FileInfo) bool { return os.SameFile(a, b) }

// close implements disk.
func (r *rootedDisk) close() error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.root == nil {
		return nil
	}
	err := r.root.Close()
	r.root = nil
	return err
}
