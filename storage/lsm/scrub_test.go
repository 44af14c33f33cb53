package lsm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/storagetest"
)

// filled is an engine with some tables, too few to be compacted, and nothing in memory.
func filled(t *testing.T, fs vfs.FS) *Engine {
	t.Helper()
	e := mustOpen(t, tiny(fs, "db"))
	random := rand.New(rand.NewPCG(1, 1))
	for range 3 {
		b := e.NewBatch()
		for range 60 {
			value := make([]byte, 100)
			for i := range value {
				value[i] = byte(random.Uint32())
			}
			b.Set(fmt.Appendf(nil, "key%05d", random.IntN(3000)), value)
		}
		if err := e.Apply(b); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if err := storagetest.Flush(e); err != nil {
			t.Fatal(err)
		}
	}
	// No compaction of its own shall replace tables while a test looks at them.
	if err := e.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	return e
}

func tableFiles(t *testing.T, e *Engine) (names []string) {
	t.Helper()
	tables, err := e.tables()
	if err != nil || len(tables) == 0 {
		t.Fatalf("%d tables: %v", len(tables), err)
	}
	for name := range tables {
		names = append(names, "db/"+string(name))
	}
	return names
}

func flip(t *testing.T, fs vfs.FS, name string, at int64) {
	t.Helper()
	file, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := file.ReadAt(one, at); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 0x10
	if _, err := file.WriteAt(one, at); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestScrubFindsEveryFlippedBit: there is no byte of a table that means nothing. The engine only reads, and is opened anew
// each time: whatever else it does in the background would change the files, or meet the damage and stop the engine.
func TestScrubFindsEveryFlippedBit(t *testing.T) {
	fs := vfs.NewMem()
	e := filled(t, fs)
	read, pieces := int64(0), 0
	scrub := func() error {
		t.Helper()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		o := tiny(fs, "db")
		o.ReadOnly = true
		e = mustOpen(t, o)
		var err error
		read, pieces, err = storagetest.ScrubAll(t, e.NewScrub(), 5000)
		return err
	}
	err := scrub()
	if size := e.NewScrub().SizeBytes(); err != nil || read < size*9/10 || read > size || pieces < 3 {
		t.Fatalf("%d of %d bytes in %d pieces: %v", read, size, pieces, err)
	}
	for _, name := range tableFiles(t, e) {
		info, err := fs.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(0); at < info.Size(); at += 1 + at*7919%211 {
			flip(t, fs, name, at)
			if err := scrub(); !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), strings.TrimPrefix(name, "db/")[:6]) {
				t.Errorf("a bit was flipped at offset %d of %s, which has %d bytes: %v", at, name, info.Size(), err)
			}
			flip(t, fs, name, at)
		}
	}
	if err := scrub(); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestScrubMissesNoFile: a table that is gone or too short is damage.
func TestScrubMissesNoFile(t *testing.T) {
	for _, shorten := range []bool{false, true} {
		fs := vfs.NewMem()
		e := filled(t, fs)
		name := tableFiles(t, e)[0]
		if err := fs.Remove(name); err != nil {
			t.Fatal(err)
		}
		if shorten {
			file, err := fs.Create(name, vfs.WriteCategoryUnspecified)
			if err == nil {
				_, err = file.Write(make([]byte, 100))
			}
			if err = errors.Join(err, file.Close()); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := storagetest.ScrubAll(t, e.NewScrub(), 5000); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("shortened %v: %v", shorten, err)
		}
		e.Close()
	}
}

// TestScrubBesideCompactions: tables that are replaced while a pass goes on are no damage.
func TestScrubBesideCompactions(t *testing.T) {
	for seed := range uint64(5) {
		fs := vfs.NewMem()
		e := mustOpen(t, tiny(fs, "db"))
		history := storagetest.NewEngineHistory(rand.New(rand.NewPCG(seed, 1)))
		pass, passes := e.NewScrub(), 0
		for i := range 400 {
			b := history.Prepare(e)
			if err := e.Apply(b); err != nil {
				t.Fatal(err)
			}
			b.Close()
			if i%10 == 0 {
				if err := storagetest.Flush(e); err != nil {
					t.Fatal(err)
				}
			}
			if i%100 == 0 {
				e.Reclaim(func(error) {})
			}
			_, done, err := pass.Next(500)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if done {
				if err := pass.Close(); err != nil {
					t.Fatal(err)
				}
				pass, passes = e.NewScrub(), passes+1
			}
		}
		if passes < 2 {
			t.Errorf("seed %d: only %d passes", seed, passes)
		}
		if err := errors.Join(pass.Close(), e.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
