package wal

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A log that ends inside its last record is repaired, and Open says how much was cut off and where, however it was cut: the file ends
// early, or what did not reach the disk reads as zeros. A log that ends in order, a recycled segment included, says nothing.
func TestTornEndIsReported(t *testing.T) {
	last := func(t *testing.T, fs *vfs.MemFS) (l *Log, at, end int64) {
		l = mustOpen(t, tiny(fs))
		write(t, l, 1, 1, 3, 100)
		offsets := records(t, l)
		_ = l.lock.Close() // as if the process had died
		return l, offsets[len(offsets)-1], l.segments[len(l.segments)-1].end
	}
	for _, cut := range []int64{1, 7, 30, 100, 135, 142} {
		for _, how := range []string{"shorter", "zeros"} {
			t.Run(fmt.Sprint(how, cut), func(t *testing.T) {
				fs := vfs.NewMem()
				l, at, end := last(t, fs)
				path := l.segments[len(l.segments)-1].path
				if how == "shorter" {
					truncate(t, fs, path, end-cut)
				} else {
					content, err := fs.UnsafeGetFileDataBuffer(path)
					if err != nil {
						t.Fatal(err)
					}
					for i := max(end-cut, at+recordHeaderBytes); i < end; i++ {
						content[i] = 0
					}
					content[end-10] = 1 // so that something differs, whatever was there
				}
				again := mustOpen(t, tiny(fs))
				defer again.Close()
				found := again.Recovery()
				if again.Group(1).Last() != 2 || found.TornFile != path || found.TornBytes < 1 || found.TornBytes > end-at {
					t.Errorf("entry %d is the last; %+v, the last record was [%d, %d) of %s", again.Group(1).Last(), found, at, end, path)
				}
			})
		}
	}
	t.Run("in order", func(t *testing.T) {
		fs := vfs.NewMem()
		l := mustOpen(t, tiny(fs))
		for i := range 400 { // recycles segments
			write(t, l, 1, l.Group(1).Last()+1, 1, 300)
			if err := l.Compact(1, l.Group(1).Last()-1); err != nil {
				t.Fatal(err)
			}
			if i%50 != 49 {
				continue
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = mustOpen(t, tiny(fs))
			if found := l.Recovery(); found.TornBytes != 0 {
				t.Fatalf("a log that was closed says %+v", found)
			}
		}
		_ = l.Close()
	})
}

// truncate ends the file early.
func truncate(t *testing.T, fs *vfs.MemFS, path string, size int64) {
	t.Helper()
	content, err := fs.UnsafeGetFileDataBuffer(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := fs.Create(path+".cut", vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = file.Write(content[:size])
	}
	if err == nil {
		err = file.Close()
	}
	if err == nil {
		err = fs.Rename(path+".cut", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}
