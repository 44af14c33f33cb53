package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// leftOverAge is how much older than a new temporary file of the same folder another one must be to be removed, by the clock of the file system:
	// no writer takes so long, so that it was left over by one that was killed.
	leftOverAge = 24 * time.Hour
	// writePieceBytes is written between two looks at the context.
	writePieceBytes = 1 << 20
)

// temporary are the names of files that are being written: the object's, a character that no name of an object has, and 16 random digits.
var temporary = regexp.MustCompile(`^[a-zA-Z0-9._-]+~[0-9a-f]{16}$`)

// disk is what a directory target does to a file system. Names are relative to the directory of the target, and cannot lead out of it; "." is the directory.
type disk interface {
	// prepare makes the directory of the target if it is missing, and its entry durable.
	prepare() error
	// create makes a file that was not there.
	create(name string) (diskFile, error)
	// open opens a regular file for reading; fs.ErrNotExist, too, if there is something else.
	open(name string) (diskReader, error)
	// lookUp gives what is there, without following a symbolic link at the end.
	lookUp(name string) (fs.FileInfo, error)
	entries(folder string) ([]fs.DirEntry, error)
	makeFolder(name string) error
	rename(from, to string) error
	// link gives a file another name; fs.ErrExist if that is taken.
	link(from, to string) error
	remove(name string) error
	// sync makes the entries of a folder durable.
	sync(folder string) error
	// same reports whether two files are one.
	same(a, b fs.FileInfo) bool
	close() error
}

type diskFile interface {
	io.WriteCloser
	Sync() error
}

type diskReader interface {
	io.ReaderAt
	io.Closer
}

// directory is a target of files.
type directory struct {
	disk  disk
	place string // the URL

	mutex   sync.Mutex
	durable map[string]bool // folders whose own entries are known to be durable
	cleaned map[string]bool // folders that were looked through for what others left over
}

func newDirectory(d disk, absolute string) *directory {
	place := url.URL{Scheme: "file", Path: absolute}
	return &directory{disk: d, place: place.String(), durable: make(map[string]bool), cleaned: make(map[string]bool)}
}

// String implements Target.
func (d *directory) String() string { return d.place }

// Close implements Target.
func (d *directory) Close() error { return d.disk.close() }

// Put implements Target.
func (d *directory) Put(ctx context.Context, name string, data []byte) error {
	err := d.write(ctx, name, data, func(temporary string) error { return d.disk.rename(temporary, name) })
	return failed("write", name, d.place, explain(err))
}

// PutNew implements Target.
func (d *directory) PutNew(ctx context.Context, name string, data []byte) error {
	err := d.write(ctx, name, data, func(temporary string) error {
		err := d.disk.link(temporary, name)
		switch {
		case errors.Is(err, fs.ErrExist) && !d.one(temporary, name):
			return ErrExists
		case errors.Is(err, fs.ErrExist):
			// A server of network files made the link, and its answer was lost.
		case isAny(err, syscall.EPERM, syscall.ENOTSUP, syscall.ENOSYS, syscall.EMLINK):
			return fmt.Errorf("the file system has no hard links, which keep two writers apart: choose a directory of another one: %w", err)
		case err != nil:
			return err
		}
		_ = d.disk.remove(temporary) // if it stays, it is a left-over as that of a killed process
		return nil
	})
	return failed("write", name, d.place, explain(err))
}

// one reports whether two names are of one file.
func (d *directory) one(a, b string) bool {
	first, err := d.disk.lookUp(a)
	second, problem := d.disk.lookUp(b)
	return err == nil && problem == nil && d.disk.same(first, second)
}

// write writes and syncs a temporary file beside the object, has it published under the object's name, and makes the name durable.
func (d *directory) write(ctx context.Context, name string, data []byte, publish func(temporary string) error) error {
	if err := checkWrite(ctx, name, data); err != nil {
		return err
	}
	folder := path.Dir(name)
	if err := d.makeFolders(folder); err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s~%016x", name, rand.Uint64())
	file, err := d.disk.create(temporary)
	if err != nil {
		return err
	}
	err = fill(ctx, file, data)
	if err == nil {
		err = file.Sync()
	}
	if err = cmp.Or(err, file.Close()); err == nil {
		d.clean(folder, temporary)
		err = publish(temporary)
	}
	if err != nil {
		_ = d.disk.remove(temporary) // the first error is the one that matters
		return err
	}
	return d.disk.sync(folder)
}

func fill(ctx context.Context, file io.Writer, data []byte) error {
	for piece := range slices.Chunk(data, writePieceBytes) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if _, err := file.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

// makeFolders makes a folder and those above it, and their entries durable: also those that are there already, for whoever made them may have been
// killed before they were durable. It does so once for each folder: nobody removes them.
func (d *directory) makeFolders(folder string) error {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.makeFolder(folder)
}

func (d *directory) makeFolder(folder string) error {
	if d.durable[folder] {
		return nil
	}
	if folder == "." {
		if err := d.disk.prepare(); err != nil {
			return err
		}
	} else {
		above := path.Dir(folder)
		if err := d.makeFolder(above); err != nil {
			return err
		}
		if err := d.disk.makeFolder(folder); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := d.disk.sync(above); err != nil {
			return err
		}
	}
	d.durable[folder] = true
	return nil
}

// clean removes the temporary files that killed processes left over in a folder, at the first write to it. It does what it can: they are in nobody's way.
func (d *directory) clean(folder, own string) {
	d.mutex.Lock()
	done := d.cleaned[folder]
	d.cleaned[folder] = true
	d.mutex.Unlock()
	if done {
		return
	}
	mine, err := d.disk.lookUp(own)
	entries, problem := d.disk.entries(folder)
	if err != nil || problem != nil {
		return
	}
	for _, entry := range entries {
		if !temporary.MatchString(entry.Name()) {
			continue
		}
		other := path.Join(folder, entry.Name())
		if info, err := d.disk.lookUp(other); err == nil && info.Mode().IsRegular() && mine.ModTime().Sub(info.ModTime()) > leftOverAge {
			_ = d.disk.remove(other)
		}
	}
}

// ReadAt implements Target.
func (d *directory) ReadAt(ctx context.Context, name string, p []byte, offset int64) (n int, err error) {
	if err := checkRead(ctx, name, p, offset); err != nil {
		return 0, failed("read", name, d.place, err)
	}
	file, err := d.disk.open(name)
	if err != nil {
		return 0, failed("read", name, d.place, explain(missing(err)))
	}
	n, err = file.ReadAt(p, offset)
	err = cmp.Or(err, file.Close())
	if errors.Is(err, io.EOF) {
		return n, io.EOF
	}
	return n, failed("read", name, d.place, explain(err))
}

// Size implements Target.
func (d *directory) Size(ctx context.Context, name string) (int64, error) {
	err := checkRead(ctx, name, nil, 0)
	if err != nil {
		return 0, failed("look for", name, d.place, err)
	}
	info, err := d.disk.lookUp(name)
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotFound
	}
	if err != nil {
		return 0, failed("look for", name, d.place, explain(missing(err)))
	}
	return info.Size(), nil
}

// missing makes ErrNotFound of what the system says when a name, or a folder of it, is not there.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return ErrNotFound
	}
	return err
}

// Delete implements Target.
func (d *directory) Delete(ctx context.Context, name string) error {
	return failed("delete", name, d.place, explain(d.delete(ctx, name)))
}

func (d *directory) delete(ctx context.Context, name string) error {
	if err := checkRead(ctx, name, nil, 0); err != nil {
		return err
	}
	info, err := d.disk.lookUp(name)
	if err != nil || !info.Mode().IsRegular() {
		return unless(missing(err), ErrNotFound) // folders stay
	}
	if err := d.disk.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.disk.sync(path.Dir(name))
}

// List implements Target.
func (d *directory) List(ctx context.Context, prefix string, fn func(name string, size int64) error) error {
	if err := CheckPrefix(prefix); err != nil {
		return failed("list", prefix, d.place, err)
	}
	folder := "."
	if slash := strings.LastIndexByte(prefix, '/'); slash >= 0 {
		folder = prefix[:slash]
	}
	err := d.walk(ctx, folder, prefix, fn)
	if own := (final{}); errors.As(err, &own) {
		return own.error
	}
	return failed("list", prefix, d.place, explain(err))
}

// walk gives the objects of a folder, and of those in it, to fn.
func (d *directory) walk(ctx context.Context, folder, prefix string, fn func(name string, size int64) error) error {
	entries, err := d.disk.entries(folder)
	if err != nil {
		return unless(missing(err), ErrNotFound)
	}
	for _, name := range namesIn(folder, entries) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		below, isFolder := strings.CutSuffix(name, "/")
		switch {
		case isFolder && (strings.HasPrefix(name, prefix) || strings.HasPrefix(prefix, name)):
			if err := d.walk(ctx, below, prefix, fn); err != nil {
				return err
			}
		case !isFolder && strings.HasPrefix(name, prefix):
			info, err := d.disk.lookUp(name)
			if err != nil {
				if errors.Is(missing(err), ErrNotFound) {
					continue // deleted just now
				}
				return err
			}
			if err := fn(name, info.Size()); err != nil {
				return final{err}
			}
		}
	}
	return nil
}

// namesIn are the names of the objects and, with a slash at the end, of the folders in a folder, in the order of all names that begin with them. What no
// object may be called is left out: temporary files, and what others put there.
func namesIn(folder string, entries []fs.DirEntry) []string {
	var names []string
	for _, entry := range entries {
		name := path.Join(folder, entry.Name())
		if CheckName(name) != nil {
			continue
		}
		if entry.IsDir() {
			names = append(names, name+"/")
		} else if entry.Type().IsRegular() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// explain adds what to do to what the system says.
func explain(err error) error {
	switch {
	case isAny(err, syscall.ENOSPC, syscall.EDQUOT):
		return fmt.Errorf("the disk, or the user's share of it, is full: free space, or choose another target: %w", err)
	case isAny(err, syscall.EROFS):
		return fmt.Errorf("the file system is mounted for reading only: mount it for writing, or choose another target: %w", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not: give the user of this program the right to the directory, or choose another target: %w", err)
	case isAny(err, syscall.ENOTDIR, syscall.EISDIR, syscall.EEXIST):
		return fmt.Errorf("there is a file where a folder should be, or a folder where the object should be: move it away: %w", err)
	}
	return err
}

func isAny(err error, numbers ...syscall.Errno) bool {
	return slices.ContainsFunc(numbers, func(number syscall.Errno) bool { return errors.Is(err, number) })
}
