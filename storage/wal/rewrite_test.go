package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/consensus"
)

// checkSums adds up anew what the log keeps sums of.
func (l *Log) checkSums() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var retained, set int64
	for _, s := range l.segments {
		retained += s.size
	}
	for _, bytes := range l.aside.of {
		set += bytes
	}
	if retained != l.retained || set != l.aside.bytes {
		return fmt.Errorf("the segments have %d bytes and %d are set aside; the log believes %d and %d", retained, set, l.retained, l.aside.bytes)
	}
	return nil
}

// TestSumsOfRewriting: what decides about rewriting is a running sum, and is always what adding up gives, whatever happens to segments and groups.
func TestSumsOfRewriting(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		fs := vfs.NewCrashableMem()
		o := tiny(fs)
		l := mustOpen(t, o)
		largest, aside := int64(0), int64(0)
		for step := range 400 {
			group := consensus.GroupID(1 + random.IntN(5))
			last := l.Group(group).Last()
			var err error
			switch random.IntN(12) {
			case 0:
				l.SetAside(group, random.IntN(3) > 0)
			case 1:
				err = l.Drop(group)
			case 2:
				fs = fs.CrashClone(vfs.CrashCloneCfg{})
				o.FS = fs
				_ = l.Close()
				l = mustOpen(t, o)
			case 3: // beyond the end of a segment
				write(t, l, group, last+1, 1, 13<<10+random.IntN(4<<10))
			case 4, 5:
				err = l.Compact(group, last-consensus.Index(random.IntN(int(last)+1)))
			default:
				write(t, l, group, last+1, 1+random.IntN(8), 8+random.IntN(1000))
			}
			if err = errors.Join(err, l.Sync(), l.checkSums()); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			largest, aside = max(largest, l.retained), max(aside, l.aside.bytes)
		}
		if largest < 3*o.SegmentBytes || aside == 0 {
			t.Errorf("seed %d: a log of %d bytes at most, of which %d were set aside: nothing was tested", seed, largest, aside)
		}
		_ = l.Close()
	}
}
