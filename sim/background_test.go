package sim

import (
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// TestRowsSince counts the versions that are needed, and holds the count against a look at every version by itself.
func TestRowsSince(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	diedLater := 0
	for range 300 {
		x := newTruth(&group{})
		for revision := kv.Revision(2); revision < 15; revision++ {
			for sub := range uint32(1 + random.IntN(3)) {
				e := &mvcc.Effect{Key: []byte{byte('a' + random.IntN(5))}, At: mvcc.Locator{Rev: revision, Sub: sub}}
				if random.IntN(3) > 0 {
					e.Version = 1
				} else if _, lives := x.live[string(e.Key)]; !lives {
					continue // nothing to delete
				}
				x.record(e)
			}
		}
		for compacted := kv.Revision(0); compacted < 16; compacted++ {
			want := 0
			for i := range x.events {
				if x.needed(i, compacted) {
					want++
				}
			}
			if got := x.rowsSince(compacted); got != want {
				t.Fatalf("history was compacted at revision %d: %d versions are needed, not %d:\n%v", compacted, want, got, x.events)
			}
			if want > len(x.live)+x.eventsSince(compacted) {
				diedLater++
			}
		}
	}
	if diedLater == 0 {
		t.Error("nowhere keys died after history was compacted")
	}
}

// needed tells whether somebody may ask for the version of an event: watches from the compacted revision on, or reads there or later.
func (t *truth) needed(i int, compacted kv.Revision) bool {
	e := &t.events[i]
	if e.KV.ModRevision >= compacted {
		return true
	}
	if e.Type == kv.EventDelete {
		return false
	}
	for _, later := range t.events[i+1:] {
		if string(later.KV.Key) == string(e.KV.Key) {
			return later.KV.ModRevision > compacted
		}
	}
	return true
}

func (t *truth) eventsSince(compacted kv.Revision) (count int) {
	for i := range t.events {
		if t.events[i].KV.ModRevision >= compacted {
			count++
		}
	}
	return count
}
