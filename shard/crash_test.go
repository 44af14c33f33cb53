package shard

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Whatever prefix of the batches a crash leaves, replay from the durable applied index gives the same state,
// even if the replay itself is cut off by a crash.
func TestCrashAtEveryBatch(t *testing.T) {
	for seed := range uint64(4) {
		w, err := newTwin(seed + 1000)
		if err != nil {
			t.Fatal(err)
		}
		boundaries, rewound := 0, 0
		w.follower.afterBatch = func() {
			boundaries++
			again, err := crashTwice(w, w.follower)
			if err != nil {
				t.Fatalf("seed %d, batch %d: %v", seed, boundaries, err)
			}
			rewound += again
		}
		for i := range 500 {
			if err := w.stepWithoutCrash(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, i, err)
			}
		}
		if boundaries < 50 || rewound < 50 {
			t.Fatalf("seed %d: %d batches, %d entries replayed: the test tests too little", seed, boundaries, rewound)
		}
	}
}

// stepWithoutCrash makes the follower apply and flush more often than step does, and keeps it the follower.
func (t *twin) stepWithoutCrash() error {
	switch n := t.random.IntN(100); {
	case n < 55:
		return t.evaluate()
	case n < 65:
		t.propose()
		return nil
	case n < 75:
		return t.applyOne(t.group.leader)
	case n < 86:
		return t.applyOne(t.follower)
	case n < 88:
		return t.tick()
	case n < 97:
		_, err := t.follower.flushSome(1 + t.random.IntN(3))
		return err
	}
	return t.follower.compactSome(1 + t.random.IntN(3))
}

// crashTwice opens what a crash of the replica leaves, replays half, crashes again, replays everything and
// compares. It returns how many entries were replayed.
func crashTwice(w *twin, r *replica) (replayed int, err error) {
	first, err := openReplica(r.engine.Crash(w.random), r.options)
	if err != nil {
		return 0, err
	}
	target := r.AppliedIndex()
	if first.AppliedIndex() < r.DurableIndex() || first.AppliedIndex() > target {
		return 0, fmt.Errorf("found at entry %d; %d was durable, %d applied", first.AppliedIndex(), r.DurableIndex(), target)
	}
	replayed = int(target - first.AppliedIndex())
	if err := w.group.catchUp(first, first.AppliedIndex()+consensus.Index(w.random.IntN(replayed+1))); err != nil {
		return 0, fmt.Errorf("replay: %w", err)
	}
	if w.random.IntN(2) == 0 {
		if err := first.flushAll(); err != nil {
			return 0, err
		}
	}
	second, err := openReplica(first.engine.Crash(w.random), r.options)
	if err != nil {
		return 0, err
	}
	if err := w.group.catchUp(second, target); err != nil {
		return 0, fmt.Errorf("second replay: %w", err)
	}
	return replayed, sameState(r, second)
}

// sameState compares everything that two replicas can be asked for.
func sameState(a, b *replica) error {
	if err := b.Check(); err != nil {
		return err
	}
	da, db := dumpState(a), dumpState(b)
	if da != db {
		return fmt.Errorf("states differ:\n%s\n%s", da, db)
	}
	for rev := max(1, a.applied.Compacted); rev <= a.Revision(); rev++ {
		ha, errA := a.HashKV(rev)
		hb, errB := b.HashKV(rev)
		if errA != nil || errB != nil || ha != hb {
			return fmt.Errorf("hash at revision %d: %x (%v), %x (%v)", rev, ha, errA, hb, errB)
		}
	}
	return nil
}

func dumpState(r *replica) string {
	s := r.applied
	text := fmt.Sprintf("%d/%d chain %d/%d rev %d compacted %d clock %d alarms %v nodes %v\n", s.Index, s.Term, s.ChainTerm, s.ChainSeq, s.Revision, s.Compacted, s.LeaseClock, r.Alarms(), r.Nodes())
	for _, id := range r.leases.ids() {
		l := r.leases.byID[id]
		keys, err := r.attached(id)
		text += fmt.Sprintf("lease %d ttl %d deadline %d keys %q %v\n", id, l.ttl, l.deadline, keys, err)
	}
	everything := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte{0}, End: []byte{0}}}}
	found, err := r.Read(nil, 0, everything)
	return text + describe(found) + fmt.Sprint(err)
}

// A snapshot is the engine's spans at the end of a flush, whatever was applied meanwhile.
func TestSnapshotIsAState(t *testing.T) {
	w, err := newTwin(77)
	if err != nil {
		t.Fatal(err)
	}
	for range 800 {
		if err := w.stepWithoutCrash(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.follower.flushAll(); err != nil {
		t.Fatal(err)
	}
	snapshot := w.follower.engine.NewSnapshot()
	defer snapshot.Close()
	names, err := w.follower.engine.Export(t.Context(), snapshot, w.follower.StateSpans(), "snapshot", nil)
	if err != nil {
		t.Fatal(err)
	}
	// The receiver has a state of its own, which must disappear.
	other, err := newTwin(78)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		if err := other.stepWithoutCrash(); err != nil {
			t.Fatal(err)
		}
	}
	receiver := storage.NewMemory(storage.MemoryOptions{Files: w.follower.engine.Files()})
	if err := receiver.Ingest(t.Context(), names, StateSpans(kv.SystemShard)); err != nil {
		t.Fatal(err)
	}
	again, err := openReplica(receiver, w.follower.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.group.catchUp(again, w.follower.AppliedIndex()); err != nil {
		t.Fatal(err)
	}
	if err := sameState(w.follower, again); err != nil {
		t.Fatal(err)
	}
}

// One million leases: what a lease costs, how long opening takes, and that leadership costs nothing.
func TestManyLeases(t *testing.T) {
	count := 1_000_000
	if testing.Short() {
		count = 50_000
	}
	engine := storage.NewMemory(storage.MemoryOptions{})
	b := engine.NewBatch()
	table := newLeaseTable()
	random := rand.New(rand.NewPCG(1, 1))
	start := time.Now()
	for i := range count {
		table.grant(kv.LeaseID(random.Int64()), 60+int64(i%60), int64(random.IntN(60_000)))
	}
	granted := time.Since(start)
	m := &Machine{leases: table}
	m.flushLeases(b, table.takeDirty())
	if err := engine.Apply(b); err != nil {
		t.Fatal(err)
	}
	store, err := mvcc.Open(engine, mvcc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	opened, err := Open(store, engine, testOptions(1))
	if err != nil {
		t.Fatal(err)
	}
	loaded := time.Since(start)
	if opened.leases.size() != count {
		t.Fatalf("%d leases", opened.leases.size())
	}
	g := &group{log: []consensus.Entry{}}
	r := &replica{Machine: opened, engine: engine, store: store}
	start = time.Now()
	if err := g.elect(r, 1); err != nil {
		t.Fatal(err)
	}
	elected := time.Since(start)
	start = time.Now()
	g.now = 100 * time.Second // everything has expired; one tick does a bounded part of it
	if err := r.Tick(g.now); err != nil {
		t.Fatal(err)
	}
	ticked := time.Since(start)
	if got := r.lead.overlay.ops.size(); got != r.Machine.options.MaxRevokesPerTick {
		t.Fatalf("one tick revoked %d leases", got)
	}
	t.Logf("%d leases: granted in %v, opened in %v, leader in %v, one tick %v", count, granted, loaded, elected, ticked)
}
