package lsm

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/storagetest"
)

// damages are what can happen to a file as a whole.
var damages = map[string]func(content []byte) (left []byte, exists bool){
	"gone":           func([]byte) ([]byte, bool) { return nil, false },
	"empty":          func([]byte) ([]byte, bool) { return nil, true },
	"cut in half":    func(b []byte) ([]byte, bool) { return b[:len(b)/2], true },
	"7 bytes short":  func(b []byte) ([]byte, bool) { return b[:max(0, len(b)-7)], true },
	"first 99 bytes": func(b []byte) ([]byte, bool) { return b[:min(99, len(b))], true },
}

// TestDamagedFiles: whatever happens to one file of the engine, it is found out when the engine is opened or read, and taken for damage, which
// the node repairs from the others; or it has no consequence. It is never a new, empty engine, and never a problem of the disk.
func TestDamagedFiles(t *testing.T) {
	pristine := vfs.NewMem()
	e := filled(t, pristine)
	tables := tableFiles(t, e)
	before := contents(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := pristine.List("db")
	if err != nil {
		t.Fatal(err)
	}
	if len(tables) == 0 || len(before) == 0 {
		t.Fatal("there is nothing to be damaged")
	}
	for _, name := range names {
		for what, damage := range damages {
			fs := vfs.NewMem()
			for _, other := range names {
				content, err := pristine.UnsafeGetFileDataBuffer("db/" + other)
				if err != nil {
					t.Fatal(err)
				}
				exists := true
				if other == name {
					content, exists = damage(content)
				}
				if exists {
					place(t, fs, other, content)
				}
			}
			after, err := openAndRead(tiny(fs, "db"))
			switch {
			case err == nil && strings.HasPrefix(name, "MANIFEST-"):
				// A manifest that ends early is one that a crash interrupted: the engine is as it was a moment before. Whether the log still
				// reaches back that far is looked at by package driver.
			case err == nil && fmt.Sprint(after) != fmt.Sprint(before):
				t.Errorf("%s %s: %d of %d keys are left, and nothing is said", name, what, len(after), len(before))
			case err != nil && !errors.Is(err, storage.ErrCorrupt):
				t.Errorf("%s %s: not taken for damage: %v", name, what, err)
			case err == nil && (strings.HasSuffix(name, ".sst") || strings.HasPrefix(name, "marker.") && what == "gone"):
				t.Errorf("%s %s: nothing is said", name, what)
			}
		}
	}
}

func place(t *testing.T, fs vfs.FS, name string, content []byte) {
	t.Helper()
	err := fs.MkdirAll("db", 0o755)
	var file vfs.File
	if err == nil {
		file, err = fs.Create("db/"+name, vfs.WriteCategoryUnspecified)
	}
	if err == nil {
		_, err = file.Write(content)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// openAndRead opens an engine and reads everything.
func openAndRead(o Options) (content storagetest.EngineModel, err error) {
	e, err := Open(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return read(e)
}

func read(e *Engine) (storagetest.EngineModel, error) {
	content := storagetest.EngineModel{}
	it := e.NewIterator(nil, nil)
	for ok := it.First(); ok; ok = it.Next() {
		content[string(it.Key())] = string(it.Value())
	}
	return content, errors.Join(it.Error(), it.Close())
}

func contents(t *testing.T, e *Engine) storagetest.EngineModel {
	t.Helper()
	content, err := read(e)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
