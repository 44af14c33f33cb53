package mvcc

import (
	"errors"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// TestHistoryFrom: a copy reaches back to where rows were deleted last, also of a key that has forgotten its tombstone, as long as no more of them are being
// deleted.
func TestHistoryFrom(t *testing.T) {
	b := newStepper(t)
	for _, w := range [][2]string{{"a", "1"}, {"b", "1"}, {"a", "2"}, {"b", ""}, {"a", "3"}, {"c", "1"}, {"a", "4"}} { // revisions 2 to 8
		b.write(w[0], w[1])
	}
	delete(b.last, "b") // whoever writes it anew does not know the tombstone, which is compacted there
	copied := func(compacted kv.Revision) (at []kv.Revision, err error) {
		_, done, err := b.store.Versions(Locator{}, compacted, b.store.Revision(), 1<<20, func(e *Effect) error {
			at = append(at, e.At.Rev)
			return nil
		})
		if err == nil && !done {
			t.Error("there is more")
		}
		return at, err
	}
	want := func(from kv.Revision, versions ...kv.Revision) {
		t.Helper()
		if got := b.store.HistoryFrom(); got != from {
			t.Fatalf("history from %d on, want %d", got, from)
		}
		if got, err := copied(from); err != nil || !slices.Equal(got, versions) {
			t.Fatalf("from %d on: %v, %v; want %v", from, got, err, versions)
		}
	}
	b.compact(3)
	b.flush()
	b.deleteCompacted()
	want(3, 2, 3, 4, 5, 6, 7, 8)
	b.compact(7)
	b.write("b", "2") // revision 9
	b.flush()
	want(3, 2, 3, 4, 5, 6, 7, 8, 9)
	if _, err := copied(5); !errors.Is(err, kv.ErrCompacted) {
		t.Errorf("from a revision on to which keys may have forgotten the way: %v", err)
	}
	b.commit(func(batch storage.Batch) error { _, err := b.store.CompactStep(batch, 2); return err })
	if !b.store.CompactBegun() {
		t.Fatal("the compaction is not begun, or over")
	}
	want(7, 6, 7, 8, 9)
	b.deleteCompacted()
	want(7, 6, 7, 8, 9)
}
