package gateway

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/txn"
)

// TestExport: a shard is exported by a node whose replica has come to the revision of the backup, and by no other one. Whoever is refused is no call in flight.
func TestExport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, _, _ := storeWith(t, transacting(t, txn.TwoPhase), 1, 2, 1)
		g := first.nodes[3].gateway
		for _, refused := range []struct {
			shard    kv.ShardID
			revision kv.Revision
			err      error
		}{{2, 1000, kv.ErrFutureRevision}, {1, 1000, kv.ErrFutureRevision}, {9, 3, kv.ErrShardNotHere}} {
			if _, err := g.OpenExport(t.Context(), "", refused.shard, refused.revision); !errors.Is(err, refused.err) {
				t.Errorf("shard %d at revision %d: %v, want %v", refused.shard, refused.revision, err, refused.err)
			}
		}
		e, err := g.OpenExport(t.Context(), "", 1, 2)
		if err != nil {
			t.Fatal(err)
		}
		if calls := g.Metrics().CallsInFlight; calls != 1 {
			t.Errorf("%d calls are in flight, of one export", calls)
		}
		var list []string
		_, done, err := e.Versions(mvcc.Locator{}, 1<<20, func(e *mvcc.Effect) error {
			list = append(list, fmt.Sprintf("%d %s=%s", e.At.Rev, e.Key, e.Value))
			return nil
		})
		if want := []string{"2 1a=old"}; err != nil || !done || !slices.Equal(list, want) {
			t.Errorf("shard 1 at revision 2 has %q, %v; want %q", list, err, want)
		}
		e.Close()
		if calls := g.Metrics().CallsInFlight; calls != 0 {
			t.Errorf("%d calls are in flight", calls)
		}
	})
}
