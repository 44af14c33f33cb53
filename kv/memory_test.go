package kv

import (
	"errors"
	"math/rand/v2"
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
			if reserved := total - memory.left; added > reserved+tallyFreeBytes || reserved != tally.reserved {
				t.Fatalf("portions of %d: %d bytes are held, %d are reserved, the tally says %d", portion, added, reserved, tally.reserved)
			}
			if ahead := total - memory.left - added; ahead > tallyStepBytes {
				t.Fatalf("portions of %d: %d bytes are reserved ahead", portion, ahead)
			}
		}
		if added < total-max(portion, tallyStepBytes) {
			t.Errorf("portions of %d: refused after %d of %d bytes", portion, added, total)
		}
		before := tally.reserved
		if err := tally.Add(total); err == nil || tally.reserved != before {
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

// TestTallyForgets: what is forgotten is there for what is added next, and much of it for others.
func TestTallyForgets(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const total = 1 << 20
	memory := &room{left: total}
	tally := NewTally(memory)
	held, refused := int64(0), 0
	for range 20_000 {
		switch bytes := random.Int64N(100 << 10); {
		case random.IntN(2) == 0 && held > 0:
			bytes = min(bytes, held)
			tally.Forget(bytes)
			held -= bytes
		case random.IntN(50) == 0:
			mark := random.Int64N(held + 1)
			tally.Rewind(mark)
			held = mark
		case tally.Add(bytes) == nil:
			held += bytes
		default:
			refused++
		}
		reserved := total - memory.left
		if tally.HeldBytes() != held || reserved != tally.reserved {
			t.Fatalf("the tally holds %d of %d, and has %d of %d reserved", tally.HeldBytes(), held, tally.reserved, reserved)
		}
		if over := reserved - held; over < -tallyFreeBytes || over > 3*tallyStepBytes {
			t.Fatalf("%d bytes are reserved for %d", reserved, held)
		}
	}
	if tally.Release(); memory.left != total || refused == 0 {
		t.Fatalf("%d bytes are not given back, %d refusals", total-memory.left, refused)
	}
}

// TestNoTally: nobody counts.
func TestNoTally(t *testing.T) {
	var none *Tally
	unpaid := NewTally(nil)
	for _, tally := range []*Tally{none, &unpaid, {}} {
		if err := tally.Add(1 << 40); err != nil || tally.Counts() {
			t.Fatal(err, tally.Counts())
		}
		tally.Forget(1 << 39)
		tally.Rewind(0)
		tally.Release()
	}
}
