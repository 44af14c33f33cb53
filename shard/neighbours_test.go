package shard

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// neighbours are shards on one engine. The follower of each twin is there; its leader has an engine of its own and stands for what must come out.
type neighbours struct {
	t      *testing.T
	random *rand.Rand
	files  storage.Files
	engine *storage.Memory
	shards []kv.ShardID
	twins  []*twin
	counts map[string]int
}

func newNeighbours(t *testing.T, seed uint64) *neighbours {
	files := storage.NewMemoryFiles()
	n := &neighbours{
		t: t, random: rand.New(rand.NewPCG(seed, 5)), files: files, counts: map[string]int{},
		engine: storage.NewMemory(storage.MemoryOptions{CrashStates: 1 << 20, ManualFlush: true, Files: files}),
		shards: []kv.ShardID{1, 2, 3, 256}, // 256: its keys begin with a byte of others
	}
	for i, shard := range n.shards {
		w, err := newTwin(seed + uint64(i))
		n.must(err)
		options := testOptions(seed)
		options.Shard = shard
		w.follower, err = openReplica(n.engine, options)
		n.must(err)
		n.twins = append(n.twins, w)
	}
	return n
}

func (n *neighbours) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// crash loses what of the engine is not durable, and opens all shards again.
func (n *neighbours) crash() {
	n.engine = n.engine.Crash(n.random)
	for _, w := range n.twins {
		w.follower.engine = n.engine
		n.must(w.follower.reopen())
		n.must(w.group.catchUp(w.follower, w.follower.reached))
	}
	n.counts["crash"]++
}

// ship replaces a shard by a snapshot of a replica of it elsewhere, which is as far as its leader.
func (n *neighbours) ship(w *twin) {
	options := w.follower.options
	source := mustOpenSharing(n.files, options)
	n.must(w.group.catchUp(source, w.group.leader.AppliedIndex()))
	n.must(source.flushAll())
	view := source.engine.NewSnapshot()
	defer view.Close()
	dir := fmt.Sprintf("ship-%d", n.counts["ship"])
	names, err := source.engine.Export(n.t.Context(), view, source.StateSpans(), dir, nil)
	n.must(err)
	n.must(n.engine.Ingest(n.t.Context(), names, w.follower.StateSpans()))
	w.follower.reached = 0 // nothing is left of what was applied
	n.must(w.follower.reopen())
	if w.follower.AppliedIndex() != w.group.leader.AppliedIndex() {
		n.t.Fatalf("the snapshot of shard %d is at entry %d, not %d", options.Shard, w.follower.AppliedIndex(), w.group.leader.AppliedIndex())
	}
	n.counts["ship"]++
}

// drop deletes everything of a shard, which then applies its log from the beginning.
func (n *neighbours) drop(w *twin) {
	batch := n.engine.NewBatch()
	defer batch.Close()
	for _, span := range w.follower.StateSpans() {
		batch.DeleteRange(span.Lower, span.Upper)
	}
	n.must(n.engine.Apply(batch))
	n.engine.Flush(n.must)
	n.engine.CompleteFlush()
	w.follower.reached = 0
	n.must(w.follower.reopen())
	if w.follower.AppliedIndex() != 0 || w.follower.Closed() != 1 || w.follower.leases.size() != 0 {
		n.t.Fatalf("shard %d is at entry %d, revision %d after it was dropped", w.follower.options.Shard, w.follower.AppliedIndex(), w.follower.Closed())
	}
	n.counts["drop"]++
}

// compare has each shard apply its log, and holds it against its leader.
func (n *neighbours) compare() {
	n.t.Helper()
	for i, w := range n.twins {
		to := max(w.group.leader.AppliedIndex(), w.follower.AppliedIndex())
		n.must(w.group.catchUp(w.group.leader, to))
		n.must(w.group.catchUp(w.follower, to))
		want, err := dumpState(w.group.leader)
		n.must(err)
		if err := sameDump(want, w.follower); err != nil {
			n.t.Fatalf("shard %d beside its neighbours: %v", n.shards[i], err)
		}
		n.must(w.follower.Check())
		n.must(w.follower.CheckVersions())
	}
}

// Several shards live on one engine: each is what it would be alone, whatever the others write, flush and compact, whatever a crash leaves, and while
// snapshots of them are installed and shards are dropped.
func TestNeighbours(t *testing.T) {
	seeds, steps := uint64(12), 1500
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		n := newNeighbours(t, 100*seed+1)
		for range steps {
			w := n.twins[n.random.IntN(len(n.twins))]
			switch k := n.random.IntN(300); {
			case k == 0:
				n.crash()
			case k == 1:
				n.ship(w)
			case k == 2:
				n.drop(w)
			case k == 3:
				n.compare()
			default:
				n.must(w.stepWithoutCrash())
			}
		}
		n.compare()
		if n.counts["crash"] == 0 || n.counts["ship"] == 0 {
			t.Errorf("seed %d: %v", seed, n.counts)
		}
	}
}

// A snapshot of a shard has its rows and nobody else's, and nobody else's rows are read as if they were its own.
func TestSnapshotOfANeighbour(t *testing.T) {
	n := newNeighbours(t, 7)
	for range 1000 {
		n.must(n.twins[n.random.IntN(len(n.twins))].stepWithoutCrash())
	}
	for i, w := range n.twins {
		n.must(w.follower.flushAll()) // that under way
		n.must(w.follower.flushAll())
		view := n.engine.NewSnapshot()
		names, err := n.engine.Export(t.Context(), view, w.follower.StateSpans(), fmt.Sprint("of-", i), nil)
		n.must(err)
		n.must(view.Close())
		for j, shard := range n.shards {
			row, found, err := n.engine.Inspect(t.Context(), names, keys.Spans(shard), keys.State(shard))
			if i != j {
				if err == nil && found {
					t.Errorf("the snapshot of shard %d is taken for one of shard %d", n.shards[i], shard)
				}
				continue
			}
			n.must(err)
			state, err := DecodeState(row)
			n.must(err)
			if !found || state.Index != w.follower.AppliedIndex() {
				t.Errorf("the snapshot of shard %d holds the state at %d, %v, not at %d", shard, state.Index, found, w.follower.AppliedIndex())
			}
		}
	}
}

// A shard whose number no key can hold is refused by name.
func TestShardOutOfRange(t *testing.T) {
	options := testOptions(1)
	options.Shard = keys.MaxShard + 1
	if _, err := Open(storage.NewMemory(storage.MemoryOptions{}), options); err == nil {
		t.Error("it was opened")
	}
	options.Shard = keys.MaxShard
	if _, err := Open(storage.NewMemory(storage.MemoryOptions{}), options); err != nil {
		t.Error(err)
	}
}
