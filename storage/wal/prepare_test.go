package wal

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestFillFollowsTheLog: the segment after the head gets its zeros as the head is used, is there before it is needed, and
// is gone when the log is closed before that.
func TestFillFollowsTheLog(t *testing.T) {
	for _, inline := range []bool{true, false} {
		fs := vfs.NewMem()
		o := Options{Dir: "log", FS: fs, SegmentBytes: 2 << 20, FillBytes: 64 << 10, Inline: inline}
		l := mustOpen(t, o)
		if names := segmentFiles(t, fs); len(names) != 1 {
			t.Fatalf("a log that holds nothing has %v", names)
		}
		var next string
		for i := 1; l.head().generation == 1; i++ {
			write(t, l, 1, l.Group(1).Last()+1, 1, 10_000)
			fill := l.next.fill
			allowed := min(fill.allowed.Load(), fill.size)
			used := float64(l.head().end) / float64(l.head().size)
			if share := float64(allowed) / float64(fill.size); l.head().generation == 1 && (share > used*4/3+0.01 || share < min(1, used*4/3)-0.05) {
				t.Fatalf("%.2f of the head are used, and %.2f of the next segment may be filled", used, share)
			}
			if inline && l.head().generation == 1 && fill.written != allowed/fill.piece*fill.piece {
				t.Fatalf("%d bytes are filled, %d may be", fill.written, allowed)
			}
			next = fill.path
		}
		for range 20 {
			write(t, l, 1, l.Group(1).Last()+1, 1, 10_000)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if names := segmentFiles(t, fs); len(names) != 2 {
			t.Errorf("a closed log left %v behind; the head is %s, the next would have been %s", names, l.head().path, next)
		}
		last := l.groups[1].last()
		l = mustOpen(t, o)
		if l.Group(1).Last() != last {
			t.Errorf("%d entries, want %d", l.Group(1).Last(), last)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
