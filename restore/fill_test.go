package restore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
)

// written is a history of few keys, with values of all sizes, deletions and leases.
type written []kv.KeyValue

func randomHistory(random *rand.Rand) (all written) {
	newest := map[string]kv.KeyValue{}
	for rev := kv.Revision(2); rev < 160; rev++ {
		for _, i := range random.Perm(12)[:1+random.IntN(3)] {
			key := fmt.Sprintf("key/%02d", i)
			old := newest[key]
			v := kv.KeyValue{Key: []byte(key), ModRevision: rev}
			if old.Version == 0 || random.IntN(5) > 0 {
				v.CreateRevision, v.Version = max(old.CreateRevision, 0), old.Version+1
				if old.Version == 0 {
					v.CreateRevision = rev
				}
				v.Value = make([]byte, []int{0, 3, 40, 1 << 10, 3 << 10}[random.IntN(5)])
				for i := range v.Value {
					v.Value[i] = byte(random.Uint32())
				}
				v.Lease = kv.LeaseID(random.IntN(3))
			}
			newest[key] = v
			all = append(all, v)
		}
	}
	return all
}

// History gives what is reused afterwards.
func (w written) History(_ context.Context, fn func(*kv.KeyValue, int64) error) (kv.Revision, error) {
	last, position := kv.Revision(0), int64(0)
	for _, v := range w {
		if position++; v.ModRevision != last {
			last, position = v.ModRevision, 0
		}
		v.Key, v.Value = slices.Clone(v.Key), slices.Clone(v.Value)
		if err := fn(&v, position); err != nil {
			return 0, err
		}
		clear(v.Key)
		clear(v.Value)
	}
	return last, nil
}

func (w written) From() kv.Revision { return 0 }

func (w written) Granted(_ context.Context, fn func(kv.LeaseID, int64) error) error { return fn(1, 60) }

// at is what there was at a revision.
func (w written) at(revision kv.Revision) map[string]kv.KeyValue {
	live := map[string]kv.KeyValue{}
	for _, v := range w {
		if v.ModRevision > revision {
			break
		}
		if delete(live, string(v.Key)); v.Version != 0 {
			live[string(v.Key)] = v
		}
	}
	return live
}

// TestFillInRuns: a history that is written in many runs, into a few shards and into one, reads as it was at each revision.
func TestFillInRuns(t *testing.T) {
	for seed := range uint64(3) {
		random := rand.New(rand.NewPCG(seed, 1))
		history := randomHistory(random)
		for _, rows := range []int{4, 50, 0} {
			for name, engine := range map[string]storage.Engine{"memory": storage.NewMemory(storage.MemoryOptions{}), "disk": onDisk(t, seed%2 == 0)} {
				if err := fillAndRead(t.Context(), engine, history, rows, 1+random.IntN(3)); err != nil {
					t.Errorf("seed %d, %s, runs of %d: %v", seed, name, rows, err)
				}
				if err := engine.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func onDisk(t *testing.T, inline bool) storage.Engine {
	engine, err := lsm.Open(lsm.Options{Dir: "state", FS: vfs.NewMem(), Inline: inline})
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func fillAndRead(ctx context.Context, engine storage.Engine, history written, rows, shards int) error {
	table, err := partition.New(partition.Scheme{Kind: partition.Hash, Shards: shards})
	if err != nil {
		return err
	}
	o := Options{Table: table, Sequenced: shards > 1, MinLeaseTTLSeconds: 1, FlushRows: rows, TableBytes: rows / 4, Members: consensus.Config{Voters: []consensus.ReplicaID{1}},
		Rand: func() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }}
	filled, err := Fill(ctx, engine, history, 0, o)
	if err != nil || filled.Versions != int64(len(history)) || filled.Leases != 2 {
		return fmt.Errorf("filled %+v: %w", filled, err)
	}
	var machines []*shard.Machine
	for _, d := range table.Descriptors() {
		m, err := shard.Open(engine, shard.Options{Shard: d.Shard, Sequenced: o.Sequenced, Rand: o.Rand(), MinLeaseTTLSeconds: 1})
		if err != nil {
			return err
		}
		machines = append(machines, m)
	}
	for at := kv.Revision(2); at <= filled.Revision; at++ {
		found := map[string]kv.KeyValue{}
		for _, m := range machines {
			view := m.View()
			answer, err := m.Read(view, 0, &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything(), Revision: at}})
			if err = errors.Join(err, view.Close()); err != nil {
				return err
			}
			for _, row := range answer.Range.KVs {
				found[string(row.Key)] = row
			}
		}
		want := history.at(at)
		for key, v := range want {
			if got := found[key]; string(got.Value) != string(v.Value) || got.Version != v.Version || got.CreateRevision != v.CreateRevision || got.Lease != v.Lease {
				return fmt.Errorf("%s at revision %d: version %d of %d bytes, want %d of %d", key, at, got.Version, len(got.Value), v.Version, len(v.Value))
			}
		}
		if len(found) != len(want) {
			return fmt.Errorf("%d keys at revision %d, want %d: %v", len(found), at, len(want), reflect.ValueOf(found).MapKeys())
		}
	}
	return nil
}

// TestFillFails: what the engine cannot write is no success, at whichever run.
func TestFillFails(t *testing.T) {
	history := randomHistory(rand.New(rand.NewPCG(1, 1)))
	for _, rows := range []int{10, 0} {
		engine := &failing{Engine: storage.NewMemory(storage.MemoryOptions{})}
		if err := fillAndRead(t.Context(), engine, history, rows, 1); !errors.Is(err, errFull) {
			t.Errorf("runs of %d: %v", rows, err)
		}
	}
}

var errFull = errors.New("the disk is full")

// failing is an engine that writes no tables.
type failing struct{ storage.Engine }

func (f *failing) Load(_ []storage.Rows, done func(error)) { go done(errFull) }
