package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// memoryDisk is a disk that can lose its power: what was not synced may then be lost, entries of directories too.
type memoryDisk struct {
	fs     *vfs.MemFS
	before func(operation, name string) error // asked before everything that changes something
}

const memoryRoot = "/backups/of a cluster"

func (m *memoryDisk) path(name string) string { return path.Join(memoryRoot, name) }

func (m *memoryDisk) ask(operation, name string) error {
	if m.before == nil {
		return nil
	}
	return m.before(operation, name)
}

func (m *memoryDisk) prepare() error {
	for _, name := range []string{"/backups", memoryRoot} {
		if err := m.ask("make folder", name); err != nil {
			return err
		}
		if err := cmpOr(m.fs.MkdirAll(name, 0o700), m.syncPath(path.Dir(name))); err != nil {
			return err
		}
	}
	return nil
}

func cmpOr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

type memoryFile struct {
	vfs.File
	disk *memoryDisk
	name string
}

func (f *memoryFile) Write(p []byte) (int, error) {
	if err := f.disk.ask("write", f.name); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *memoryFile) Sync() error { return cmpOr(f.disk.ask("sync file", f.name), f.File.Sync()) }

func (m *memoryDisk) create(name string) (diskFile, error) {
	if err := m.ask("create", name); err != nil {
		return nil, err
	}
	file, err := m.fs.Create(m.path(name), vfs.WriteCategoryUnspecified)
	return &memoryFile{file, m, name}, err
}

func (m *memoryDisk) open(name string) (diskReader, error) {
	info, err := m.lookUp(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fs.ErrNotExist
	}
	return m.fs.Open(m.path(name))
}

func (m *memoryDisk) lookUp(name string) (fs.FileInfo, error) { return m.fs.Stat(m.path(name)) }

func (m *memoryDisk) entries(folder string) ([]fs.DirEntry, error) {
	names, err := m.fs.List(m.path(folder))
	var entries []fs.DirEntry
	for _, name := range names {
		info, problem := m.lookUp(path.Join(folder, name))
		if err = cmpOr(err, problem); err == nil {
			entries = append(entries, fs.FileInfoToDirEntry(info))
		}
	}
	return entries, err
}

func (m *memoryDisk) makeFolder(name string) error {
	if _, err := m.lookUp(name); err == nil {
		return fs.ErrExist
	}
	return cmpOr(m.ask("make folder", name), m.fs.MkdirAll(m.path(name), 0o700))
}

func (m *memoryDisk) rename(from, to string) error {
	return cmpOr(m.ask("rename", to), m.fs.Rename(m.path(from), m.path(to)))
}

func (m *memoryDisk) link(from, to string) error {
	return cmpOr(m.ask("link", to), m.fs.Link(m.path(from), m.path(to)))
}

func (m *memoryDisk) remove(name string) error {
	return cmpOr(m.ask("remove", name), m.fs.Remove(m.path(name)))
}

func (m *memoryDisk) sync(folder string) error {
	return cmpOr(m.ask("sync folder", folder), m.syncPath(m.path(folder)))
}

func (m *memoryDisk) syncPath(name string) error {
	folder, err := m.fs.OpenDir(name)
	if err != nil {
		return err
	}
	return cmpOr(folder.Sync(), folder.Close())
}

func (m *memoryDisk) same(a, b fs.FileInfo) bool { return false }
func (m *memoryDisk) close() error               { return nil }

// contents are all objects of a target.
func contents(t *testing.T, at Target) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := at.List(t.Context(), "", func(name string, size int64) error {
		p := make([]byte, size+1)
		n, err := at.ReadAt(t.Context(), name, p, 0)
		found[name] = string(p[:n])
		return unless(err, io.EOF)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestPowerFailures: whatever was answered is there after a loss of power at any moment, and what was not is there whole or not at all.
func TestPowerFailures(t *testing.T) {
	type step struct{ operation, name, data string }
	steps := []step{
		{"put", "a", "first"}, {"put", "a", "second"}, {"put new", "folder/b", "new"}, {"put", "folder/deep/er/c", strings.Repeat("large", writePieceBytes/4)},
		{"put new", "folder/deep/d", ""}, {"delete", "a", ""}, {"put new", "a", "third"}, {"delete", "folder/b", ""}, {"put", "folder/b", "fourth"},
	}
	random, failures := rand.New(rand.NewPCG(5, 6)), 0
	disk := &memoryDisk{fs: vfs.NewCrashableMem()}
	at, sure, now := newDirectory(disk, memoryRoot), make(map[string]string), step{}
	fail := func(operation, name string) error {
		for _, percent := range []int{0, 0, 30, 50, 70, 100} {
			failures++
			left := &memoryDisk{fs: disk.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: random})}
			found := contents(t, newDirectory(left, memoryRoot))
			want, after := maps.Clone(sure), maps.Clone(sure)
			if after[now.name] = now.data; now.operation == "delete" {
				delete(after, now.name)
			}
			if now.operation == "" {
				after = want
			}
			if !maps.Equal(found, want) && !maps.Equal(found, after) {
				t.Fatalf("power lost in %v before %s of %s, %d %% of what was not synced is there: there is %.300q, want %.300q", now, operation, name, percent, found, want)
			}
		}
		return nil
	}
	disk.before = fail
	for _, now = range steps {
		var err error
		switch now.operation {
		case "put":
			err = at.Put(t.Context(), now.name, []byte(now.data))
		case "put new":
			err = at.PutNew(t.Context(), now.name, []byte(now.data))
		case "delete":
			err = at.Delete(t.Context(), now.name)
		}
		if err != nil {
			t.Fatal(err)
		}
		if sure[now.name] = now.data; now.operation == "delete" {
			delete(sure, now.name)
		}
		now = step{}
		_ = fail("the next step", "")
	}
	if failures < 300 {
		t.Errorf("only %d failures", failures)
	}
}

// TestDiskErrors: an error of any step is told, with what to do, leaves nothing behind, and the next try succeeds.
func TestDiskErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		says string
	}{
		{syscall.ENOSPC, "free space"}, {syscall.EDQUOT, "free space"}, {syscall.EROFS, "mount it for writing"}, {syscall.EACCES, "the right to the directory"},
		{syscall.EIO, "input/output error"},
	} {
		for _, newObject := range []bool{false, true} {
			seen := 0
			for fails := 1; ; fails++ {
				disk, count, at := &memoryDisk{fs: vfs.NewMem()}, 0, ""
				disk.before = func(operation, name string) error {
					if count++; count == fails {
						at = operation
						return &fs.PathError{Op: operation, Path: name, Err: c.err}
					}
					return nil
				}
				target := newDirectory(disk, memoryRoot)
				put := target.Put
				if newObject {
					put = target.PutNew
				}
				err := put(t.Context(), "folder/object", []byte("content"))
				if at == "" {
					break
				}
				seen++
				if at == "remove" { // of the temporary name, after the link
					if err != nil {
						t.Errorf("%v: %v", at, err)
					}
					continue
				}
				if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "folder/object") || errors.Is(err, ErrUnavailable) {
					t.Errorf("%v at %q: %v", c.err, at, err)
				}
				if names, _ := disk.fs.List(disk.path("folder")); slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, "~") }) {
					t.Errorf("%v at %q leaves %q", c.err, at, names)
				}
				disk.before = nil
				if err := put(t.Context(), "folder/object", []byte("content")); err != nil && !errors.Is(err, ErrExists) {
					t.Errorf("the next try after %v at %q: %v", c.err, at, err)
				}
				if found := contents(t, target); found["folder/object"] != "content" || len(found) != 1 {
					t.Errorf("after %v at %q there is %q", c.err, at, found)
				}
			}
			if seen < 8 {
				t.Errorf("only %d steps failed", seen)
			}
		}
	}
}

// TestContextEndsWrite: a write that nobody waits for stops between two pieces.
func TestContextEndsWrite(t *testing.T) {
	disk, pieces := &memoryDisk{fs: vfs.NewMem()}, 0
	ctx, cancel := context.WithCancel(t.Context())
	disk.before = func(operation, _ string) error {
		if operation == "write" {
			if pieces++; pieces == 2 {
				cancel()
			}
		}
		return nil
	}
	at := newDirectory(disk, memoryRoot)
	if err := at.Put(ctx, "object", bytes.Repeat([]byte("x"), 5*writePieceBytes)); !errors.Is(err, context.Canceled) || pieces != 2 {
		t.Errorf("after %d pieces: %v", pieces, err)
	}
	if found := contents(t, at); len(found) != 0 {
		t.Errorf("there is %q", fmt.Sprint(found)[:100])
	}
}
