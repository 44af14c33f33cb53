package target_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quoratedb/quorate/backup/target"
)

func TestRelativeDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, address := range []string{"plain/a", "file://with/scheme", "file:./short", "./b:c"} {
		at := open(t, address)
		must(t, at.Put(t.Context(), "folder/x", []byte(address)))
		_, path, found := strings.Cut(address, "file:")
		if !found {
			path = address
		}
		content, err := os.ReadFile(filepath.Join(strings.TrimPrefix(path, "//"), "folder/x"))
		if err != nil || string(content) != address {
			t.Errorf("%q: %q, %v", address, content, err)
		}
		must(t, at.Close())
	}
}

// TestLookingMakesNothing: only a write makes the directory.
func TestLookingMakesNothing(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "none")
	at := open(t, directory)
	if _, err := at.Size(t.Context(), "a/b"); !errors.Is(err, target.ErrNotFound) {
		t.Error(err)
	}
	must(t, at.List(t.Context(), "", func(string, int64) error { return nil }))
	must(t, at.Delete(t.Context(), "a/b"))
	if _, err := os.Stat(directory); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a directory: %v", err)
	}
}

// TestNothingLeavesTheDirectory: symbolic links and whatever is no file are no objects, and links that lead out are followed by nothing.
func TestNothingLeavesTheDirectory(t *testing.T) {
	outside, root, ctx := t.TempDir(), t.TempDir(), t.Context()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(root, "out")))
	must(t, os.Symlink("../../../../../../../../.."+outside, filepath.Join(root, "relative")))
	must(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(root, "link")))
	must(t, os.Symlink(filepath.Join(outside, "made"), filepath.Join(root, "dangling")))
	must(t, syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	must(t, os.Mkdir(filepath.Join(root, "empty"), 0o700))
	at := open(t, root)
	for _, name := range []string{"out/secret", "relative/secret", "out/new", "link", "fifo", "empty", "dangling"} {
		if n, err := at.ReadAt(ctx, name, make([]byte, 6), 0); n != 0 || err == nil {
			t.Errorf("read of %s: %d bytes, %v", name, n, err)
		}
		if size, err := at.Size(ctx, name); err == nil {
			t.Errorf("%s has %d bytes", name, size)
		}
		_ = at.Delete(ctx, name)
	}
	for _, name := range []string{"out/new", "relative/new", "out/folder/new", "relative/secret"} {
		if err := at.Put(ctx, name, []byte("x")); err == nil {
			t.Errorf("%s is written", name)
		}
		if err := at.PutNew(ctx, name, []byte("x")); err == nil {
			t.Errorf("%s is written", name)
		}
	}
	must(t, at.Put(ctx, "link", []byte("x"))) // takes the place of the link
	if err := at.PutNew(ctx, "dangling", []byte("x")); !errors.Is(err, target.ErrExists) {
		t.Errorf("a new object in place of a link: %v", err)
	}
	var names []string
	must(t, at.List(ctx, "", func(name string, _ int64) error { names = append(names, name); return nil }))
	if !slices.Equal(names, []string{"link"}) {
		t.Errorf("listed: %q", names)
	}
	left, err := os.ReadDir(outside)
	must(t, err)
	if content, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(content) != "secret" || len(left) != 1 {
		t.Errorf("outside there is %v, and the secret is %q (%v)", left, content, err)
	}
	if _, err := os.Lstat(filepath.Join(root, "empty")); err != nil {
		t.Errorf("a folder is deleted: %v", err)
	}
}

// TestLeftOvers: temporary files are no objects; old ones are removed by the first write to their folder, young ones and files of others never.
func TestLeftOvers(t *testing.T) {
	root, ctx := t.TempDir(), t.Context()
	must(t, os.Mkdir(filepath.Join(root, "folder"), 0o700))
	old, young := time.Now().Add(-25*time.Hour), time.Now().Add(-23*time.Hour)
	files := map[string]time.Time{
		"folder/x~0123456789abcdef": old, "folder/y~0123456789abcdef": young, "folder/x~0123456789abcde": old, "folder/x.tmp": old, "folder/notes~": old, "x~0123456789abcdef": old,
	}
	for name, age := range files {
		must(t, os.WriteFile(filepath.Join(root, name), []byte("x"), 0o600))
		must(t, os.Chtimes(filepath.Join(root, name), age, age))
	}
	at := open(t, root)
	left := func() string {
		var names []string
		for name := range files {
			if _, err := os.Stat(filepath.Join(root, name)); err == nil {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	listed := func() (names []string) {
		must(t, at.List(ctx, "", func(name string, _ int64) error { names = append(names, name); return nil }))
		return names
	}
	if names := listed(); !slices.Equal(names, []string{"folder/x.tmp"}) {
		t.Errorf("listed: %q", names)
	}
	if len(strings.Fields(left())) != len(files) {
		t.Errorf("looking removes: %s are left", left())
	}
	must(t, at.Put(ctx, "folder/z", nil))
	if want := "folder/notes~ folder/x.tmp folder/x~0123456789abcde folder/y~0123456789abcdef x~0123456789abcdef"; left() != want {
		t.Errorf("left are %s, want %s", left(), want)
	}
	must(t, at.PutNew(ctx, "z", nil))
	if strings.Contains(" "+left(), " x~") {
		t.Errorf("left are %s", left())
	}
}

// TestPlacesThatCannotBeWritten say what to do, and leave nothing behind.
func TestPlacesThatCannotBeWritten(t *testing.T) {
	root, ctx := t.TempDir(), t.Context()
	must(t, os.WriteFile(filepath.Join(root, "file"), nil, 0o600))
	at := open(t, root)
	must(t, at.Put(ctx, "folder/x", []byte("1")))
	for what, err := range map[string]error{
		"a folder below a file":      at.Put(ctx, "file/x", nil),
		"a file in place of folder":  at.Put(ctx, "folder", nil),
		"a target that is a file":    open(t, filepath.Join(root, "file")).Put(ctx, "x", nil),
		"a target below a file":      open(t, filepath.Join(root, "file", "below")).Put(ctx, "x", nil),
		"a list of a file":           open(t, filepath.Join(root, "file")).List(ctx, "", nil),
		"a directory of the system":  open(t, "/proc/nothing").Put(ctx, "x", nil),
		"a new one in place of more": at.PutNew(ctx, "folder", nil),
	} {
		if err == nil || errors.Is(err, target.ErrUnavailable) || strings.Contains(what, "file") && !strings.Contains(err.Error(), "move it away") && !strings.Contains(err.Error(), "name another target") {
			t.Errorf("%s: %v", what, err)
		}
	}
	entries, err := os.ReadDir(root)
	must(t, err)
	if names := fmt.Sprint(entries); len(entries) != 2 {
		t.Errorf("there are %s", names)
	}
}

// TestReadOnlyDirectory: reading goes on, writing says what to do. The superuser may write everywhere.
func TestReadOnlyDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("the superuser may write to any directory; TestDiskErrors has the same error from a disk of the test")
	}
	root, ctx := t.TempDir(), t.Context()
	must(t, open(t, root).Put(ctx, "x", []byte("1")))
	must(t, os.Chmod(root, 0o500))
	at := open(t, root)
	if err := at.Put(ctx, "y", nil); err == nil || !strings.Contains(err.Error(), "the right to the directory") {
		t.Error(err)
	}
	if size, err := at.Size(ctx, "x"); size != 1 || err != nil {
		t.Errorf("%d, %v", size, err)
	}
}
