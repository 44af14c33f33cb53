package kv

import (
	"errors"
	"testing"
)

// room is a Memory with a limit.
type room struct{ left int64 }

func (r *room) Reserve(bytes int64) bool {
	if bytes > r.left {
		return false
	}
	r.left -= bytes
	return true
}

func (r *room) Release(bytes int64) { r.left += bytes }

// A tally never holds more than it has reserved, beyond what is free, whatever comes in whatever portions.
func TestTally(t *testing.T) {
	for _, portion := range []int64{1, 100, 1000, 5000, 70_000, 1 << 20} {
		const total = 4 << 20
		memory := &room{left: total}
		tally, added := NewTally(memory), int64(0)
		for {
			if err := tally.Add(portion); err != nil {
				if !errors.Is(err, ErrTooManyRequests) {
					t.Fatal(err)
				}
				break
			}
			added += portion
			if reserved := total - memory.left; added > reserved+tallyFreeBytes || reserved != tally.ReservedBytes() {
				t.Fatalf("portions of %d: %d bytes are held, %d are reserved, the tally says %d", portion, added, reserved, tally.ReservedBytes())
			}
			if ahead := total - memory.left - added; ahead > tallyStepBytes {
				t.Fatalf("portions of %d: %d bytes are reserved ahead", portion, ahead)
			}
		}
		if added < total-max(portion, tallyStepBytes) {
			t.Errorf("portions of %d: refused after %d of %d bytes", portion, added, total)
		}
		before := tally.ReservedBytes()
		if err := tally.Add(total); err == nil || tally.ReservedBytes() != before {
			t.Errorf("portions of %d: what was refused counts", portion)
		}
		if tally.Release(); memory.left != total {
			t.Errorf("portions of %d: %d bytes are not given back", portion, total-memory.left)
		}
	}
}

// A small answer costs no reservation, and without a memory nothing is counted.
func TestTallyOfLittle(t *testing.T) {
	memory := &room{left: 1 << 20}
	tally := NewTally(memory)
	if err := tally.Add(tallyFreeBytes); err != nil || memory.left != 1<<20 {
		t.Errorf("%v, %d left", err, memory.left)
	}
	if err := tally.Add(1); err != nil || memory.left != 1<<20-tallyFirstBytes {
		t.Errorf("%v, %d left", err, memory.left)
	}
	none := NewTally(nil)
	if err := none.Add(1 << 40); err != nil {
		t.Error(err)
	}
	none.Release()
}
