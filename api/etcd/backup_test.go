package etcd

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/backup/cluster"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// TestBackup reads a store through the calls that a backup is made by.
func TestBackup(t *testing.T) {
	w := start(t)
	node := cluster.Node{Name: "here", Conn: w.client().ActiveConnection()}
	origin := cluster.New([]cluster.Node{node}, time.Minute)
	p := must[*backup.Present](t)(origin.Present(w.ctx))
	if p.Cluster != 3 || p.Revision != 9 || p.Compacted != 2 || p.Time.Unix() != 5 || p.Source != "flags" || len(p.Shards) != 1 || p.Shards[0] != (backup.PresentShard{Shard: 4, Bytes: 70}) ||
		len(p.Leases) != 1 || p.Leases[0] != (kv.Lease{ID: 8, TTLSeconds: 60}) {
		t.Errorf("present: %+v", p)
	}
	export := func(shard kv.ShardID, begun func(kv.Revision) error, fn func(*backup.Version) error) error {
		return origin.Export(w.ctx, shard, mvcc.Locator{Rev: 5, Sub: 77}, 9, begun, fn)
	}
	var found []kv.Revision
	compacted := kv.Revision(0)
	collect := func(v *backup.Version) error {
		if string(v.Key) != "k" || v.Value[0] != 77 {
			t.Errorf("got %+v", v)
		}
		found = append(found, v.ModRevision)
		return nil
	}
	begun := func(at kv.Revision) error { compacted = at; return nil }
	if err := export(4, begun, collect); err != nil || len(found) != 5 || found[4] != 9 || compacted != 2 {
		t.Errorf("%v, compacted at %d: %v", found, compacted, err)
	}
	enough := errors.New("enough")
	for shard, wanted := range map[kv.ShardID]error{1: kv.ErrCompacted, 3: cluster.ErrUnavailable, 5: cluster.ErrUnavailable} {
		if err := export(shard, begun, func(*backup.Version) error { return nil }); !errors.Is(err, wanted) {
			t.Errorf("shard %d: %v", shard, err)
		}
	}
	if err := export(4, func(kv.Revision) error { return enough }, collect); !errors.Is(err, enough) {
		t.Errorf("refused at the beginning: %v", err)
	}
	if err := export(4, begun, func(*backup.Version) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("refused in the middle: %v", err)
	}
	impatient := cluster.New([]cluster.Node{node}, time.Millisecond)
	if err := impatient.Export(w.ctx, 2, mvcc.Locator{}, 9, begun, collect); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("a node that sends nothing: %v", err)
	}
	other := cluster.New([]cluster.Node{{Name: "other", Conn: notQuorate{}}, node}, time.Minute)
	must[*backup.Present](t)(other.Present(w.ctx)) // the other is passed over
}

// notQuorate knows no call.
type notQuorate struct{ grpc.ClientConnInterface }

func (notQuorate) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, unimplemented("/x")
}
