package patientfs

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// starved fails as the system does, so many times.
type starved struct {
	vfs.FS
	failures int
}

func (s *starved) fail(name string) error {
	if s.failures == 0 {
		return nil
	}
	s.failures--
	return &os.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
}

func (s *starved) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := s.fail(name); err != nil {
		return nil, err
	}
	return s.FS.Create(name, c)
}

func (s *starved) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := s.fail(name); err != nil {
		return nil, err
	}
	return s.FS.Open(name, opts...)
}

func (s *starved) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := s.fail(name); err != nil {
		return nil, err
	}
	return s.FS.OpenReadWrite(name, c, opts...)
}

func (s *starved) OpenDir(name string) (vfs.File, error) {
	if err := s.fail(name); err != nil {
		return nil, err
	}
	return s.FS.OpenDir(name)
}

func (s *starved) List(name string) ([]string, error) {
	if err := s.fail(name); err != nil {
		return nil, err
	}
	return s.FS.List(name)
}

func TestPatience(t *testing.T) {
	open := map[string]func(vfs.FS) error{
		"create":          func(f vfs.FS) error { _, err := f.Create("new", vfs.WriteCategoryUnspecified); return err },
		"open":            func(f vfs.FS) error { _, err := f.Open("there"); return err },
		"open read write": func(f vfs.FS) error { _, err := f.OpenReadWrite("there", vfs.WriteCategoryUnspecified); return err },
		"open directory":  func(f vfs.FS) error { _, err := f.OpenDir("/"); return err },
		"list":            func(f vfs.FS) error { _, err := f.List("/"); return err },
	}
	for name, do := range open {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := &starved{FS: vfs.NewMem()}
				if _, err := inner.Create("there", vfs.WriteCategoryUnspecified); err != nil {
					t.Fatal(err)
				}
				told := 0
				patient := New(inner, Options{Patience: time.Second, Pause: 100 * time.Millisecond, Waiting: func(string, error) { told++ }})
				inner.failures = 5
				began := time.Now()
				if err := do(patient); err != nil || told != 1 || time.Since(began) != 500*time.Millisecond {
					t.Fatalf("%v after %v, told %d times", err, time.Since(began), told)
				}
				inner.failures = 1000
				if err := do(patient); !errors.Is(err, ErrNoDescriptor) || !errors.Is(err, syscall.EMFILE) {
					t.Fatalf("for ever: %v", err)
				}
			})
		})
	}
}

// TestOtherErrors are not waited for.
func TestOtherErrors(t *testing.T) {
	patient := New(vfs.NewMem(), Options{Patience: time.Hour, Waiting: func(string, error) { t.Error("it waits") }})
	if _, err := patient.Open("missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
