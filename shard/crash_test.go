package shard

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// Whatever prefix of the batches a crash leaves, replay from the durable applied index gives the same state,
// even if the replay itself is cut off by a crash. The run is repeated for each batch at which it crashes.
func TestCrashAtEveryBatch(t *testing.T) {
	seeds, steps := uint64(3), 400
	if testing.Short() {
		seeds, steps = 1, 200
	}
	for seed := range seeds {
		replayed, batches := 0, 0
		for ; ; batches++ {
			n, crashed, err := crashAfter(seed+1000, batches, steps)
			if err != nil {
				t.Fatalf("seed %d, crash after batch %d: %v", seed, batches, err)
			}
			if !crashed {
				break
			}
			replayed += n
		}
		if batches < steps/10 || replayed < batches {
			t.Fatalf("seed %d: %d batches, %d entries replayed: the test tests too little", seed, batches, replayed)
		}
		t.Logf("seed %d: a crash after each of %d batches, %d entries replayed", seed, batches, replayed)
	}
}

func crashAfter(seed uint64, batches, steps int) (replayed int, crashed bool, err error) {
	w, err := newTwin(seed)
	if err != nil {
		return 0, false, err
	}
	for range steps {
		if w.follower.applies == batches {
			w.random = rand.New(rand.NewPCG(seed, uint64(batches)))
			replayed, err = crashTwice(w, w.follower)
			return replayed, true, err
		}
		if err := w.stepWithoutCrash(); err != nil {
			return 0, false, err
		}
	}
	return 0, false, nil
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
	want, err := dumpState(r)
	if err != nil {
		return 0, err
	}
	options := r.options
	options.LogEnd = r.AppliedIndex()
	first, err := openReplica(r.engine.Crash(w.random), options)
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
	second, err := openReplica(first.engine.Crash(w.random), options)
	if err != nil {
		return 0, err
	}
	if err := w.group.catchUp(second, target); err != nil {
		return 0, fmt.Errorf("second replay: %w", err)
	}
	if err := second.Check(); err != nil {
		return 0, err
	}
	return replayed, sameDump(want, second)
}

// What is shipped is the engine as it is, in the middle of a flush, of a bulk or of a replay. The log makes the same state of it, even if the receiver
// crashes on the way, or ships it on: the same as on the sender.
func TestShippedAtAnyMoment(t *testing.T) {
	const seeds = 40
	shipped, ahead, staged, pending := 0, 0, 0, 0
	for seed := range uint64(seeds) {
		w, err := newTwin(seed + 2000)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			if err := w.step(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, i, err)
			}
			if i%7 != 0 {
				continue
			}
			n, err := shipOnce(w, rand.New(rand.NewPCG(seed, uint64(i))))
			if err != nil {
				t.Fatalf("seed %d, shipped after step %d: %v", seed, i, err)
			}
			shipped, ahead = shipped+1, ahead+n
			if s, p := w.follower.Bulk(); s > 0 {
				staged++
			} else if p > 0 {
				pending++
			}
		}
	}
	t.Logf("shipped %d times, %d entries ahead, %d times beside a bulk that was staged, %d beside one that was pending", shipped, ahead, staged, pending)
	if ahead < shipped || staged < seeds/2 || pending < seeds/5 {
		t.Error("the test tests too little")
	}
}

// shipOnce returns how many entries the receiver has rows of that it has to apply.
func shipOnce(w *twin, random *rand.Rand) (ahead int, err error) {
	r, target := w.follower, w.follower.AppliedIndex()
	want, err := dumpState(r)
	if err != nil {
		return 0, err
	}
	options := r.options
	options.LogEnd = 0
	first, meta, err := shipTo(r, options)
	if err != nil {
		return 0, err
	}
	if first.AppliedIndex() != meta.Index || first.AppliedTerm() != meta.Term || !first.Config().Equal(meta.Config) || meta.Index > target {
		return 0, fmt.Errorf("announced is %+v, found %d of term %d with %v; the sender has %d", meta, first.AppliedIndex(), first.AppliedTerm(), first.Config(), target)
	}
	ahead = int(target - meta.Index)
	if err := w.group.catchUp(first, meta.Index+consensus.Index(random.IntN(ahead+1))); err != nil {
		return 0, err
	}
	if err := first.Check(); err != nil {
		return 0, err
	}
	// It crashes, or ships it on, before it has applied all that it has rows of; its log ends where it is.
	var second *replica
	if random.IntN(2) == 0 {
		second, _, err = shipTo(first, options)
	} else {
		options.LogEnd = first.AppliedIndex()
		second, err = openReplica(first.engine.Crash(random), options)
	}
	if err != nil {
		return 0, err
	}
	if err := second.Check(); err != nil {
		return 0, fmt.Errorf("reopened: %w", err)
	}
	if err := w.group.catchUp(second, target); err != nil {
		return 0, err
	}
	if err := second.Check(); err != nil {
		return 0, err
	}
	return ahead, sameDump(want, second)
}

// shipTo opens elsewhere what a replica ships.
func shipTo(r *replica, options Options) (*replica, consensus.SnapshotMeta, error) {
	b := r.engine.NewBatch()
	defer b.Close()
	meta := r.Ship(b)
	if err := r.engine.Apply(b); err != nil {
		return nil, meta, err
	}
	engine := storage.NewMemory(storage.MemoryOptions{CrashStates: 1 << 20, ManualFlush: true})
	rows := engine.NewBatch()
	defer rows.Close()
	for _, span := range r.StateSpans() {
		if err := eachRow(r.engine, span.Lower, span.Upper, func(key, value []byte) error { rows.Set(key, value); return nil }); err != nil {
			return nil, meta, err
		}
	}
	if err := engine.Apply(rows); err != nil {
		return nil, meta, err
	}
	engine.Flush(func(error) {})
	engine.CompleteFlush()
	to, err := openReplica(engine, options)
	return to, meta, err
}

func sameDump(want string, r *replica) error {
	got, err := dumpState(r)
	if err == nil && got != want {
		err = fmt.Errorf("states differ:\n got %s\nwant %s", got, want)
	}
	return err
}

// dumpState prints everything that a replica can be asked for.
func dumpState(r *replica) (string, error) {
	s := r.applied
	text := fmt.Sprintf("%d/%d chain %d/%d rev %d compacted %d clock %d alarms %v nodes %v\n", s.Index, s.Term, s.ChainTerm, s.ChainSeq, s.Revision, s.Compacted, s.LeaseClock, r.Alarms(), r.Nodes())
	for _, id := range sortedLeases(byTimeLeft(r.leases.ends(r.leaderSince()))) {
		l := r.leases.byID[id]
		keys, err := r.attached(id, "", 0, nil)
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf("lease %d ttl %d deadline %d keys %q\n", id, l.ttl, l.deadline, keys)
	}
	for rev := max(1, s.Compacted); rev <= s.Revision; rev++ {
		hash, err := r.HashKV(rev)
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf("%d:%x ", rev, hash)
	}
	everything := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}}
	found, err := r.Read(nil, 0, everything)
	return text + describe(found), err
}

// A snapshot is the engine's spans at the end of a flush, whatever was applied meanwhile.
func TestSnapshotIsAState(t *testing.T) {
	files := storage.NewMemoryFiles()
	w, err := newTwin(77)
	if err != nil {
		t.Fatal(err)
	}
	w.follower = mustOpenSharing(files, testOptions(77))
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
	for range 20 { // the snapshot is a moment in the middle of things; take it so
		if err := w.applyOne(w.follower); err != nil {
			t.Fatal(err)
		}
	}
	names, err := w.follower.engine.Export(t.Context(), snapshot, w.follower.StateSpans(), "snapshot", nil)
	if err != nil {
		t.Fatal(err)
	}
	// The receiver has a state of its own, which must disappear.
	other, err := newTwin(78)
	if err != nil {
		t.Fatal(err)
	}
	other.follower = mustOpenSharing(files, testOptions(78))
	for range 300 {
		if err := other.stepWithoutCrash(); err != nil {
			t.Fatal(err)
		}
	}
	receiver := other.follower.engine
	if err := receiver.Ingest(t.Context(), names, keys.Spans(kv.SystemShard)); err != nil {
		t.Fatal(err)
	}
	again, err := openReplica(receiver, w.follower.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.group.catchUp(again, w.follower.AppliedIndex()); err != nil {
		t.Fatal(err)
	}
	want, err := dumpState(w.follower)
	if err != nil {
		t.Fatal(err)
	}
	if err := sameDump(want, again); err != nil {
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
		table.grant(kv.LeaseID(random.Int64()), 60+int64(i%60), int64(random.IntN(60_000)), 1)
	}
	granted := time.Since(start)
	m := &Machine{options: Options{Shard: kv.SystemShard}, leases: table}
	m.flushLeases(b, table.takeDirty())
	if err := engine.Apply(b); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	opened, err := Open(engine, testOptions(1))
	if err != nil {
		t.Fatal(err)
	}
	loaded := time.Since(start)
	if opened.leases.size() != count {
		t.Fatalf("%d leases", opened.leases.size())
	}
	g := &group{log: []consensus.Entry{}}
	r := &replica{Machine: opened, engine: engine, store: opened.store}
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

// What a crash leaves of a later compaction is not taken for one of the log: the row of the compacted revision survives, the entry is applied
// again. Which interval a compaction takes together is the same on all replicas.
func TestCompactedBeforeAfterACrash(t *testing.T) {
	r, g := mustOpen(testOptions(1)), &group{}
	if err := g.elect(r, 1); err != nil {
		t.Fatal(err)
	}
	put := func() {
		t.Helper()
		if _, err := g.do(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("key")}}); err != nil {
			t.Fatal(err)
		}
	}
	compact := func(at kv.Revision) {
		t.Helper()
		if _, err := g.do(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: at}}); err != nil {
			t.Fatal(err)
		}
	}
	put() // revision 2
	compact(2)
	put()
	if err := r.flushAll(); err != nil { // the state row: revision 3, compacted at 2
		t.Fatal(err)
	}
	put()
	compact(4)
	r.engine.Flush(func(error) {})
	r.engine.CompleteFlush() // the row of the compacted revision, and no state row
	if err := r.reopen(); err != nil {
		t.Fatal(err)
	}
	if r.store.Compacted() != 3 || r.applied.Compacted != 2 {
		t.Fatalf("reopened with the store compacted at %d, the state at %d: this is not the case in question", r.store.Compacted(), r.applied.Compacted)
	}
	for int(r.AppliedIndex()) < len(g.log) {
		done, err := r.apply(g.log[r.AppliedIndex()])
		if err != nil {
			t.Fatal(err)
		}
		if done.Compacted != 0 && (done.Compacted != 4 || done.CompactedBefore != 2) {
			t.Errorf("the compaction at %d goes on from %d, want 2", done.Compacted, done.CompactedBefore)
		}
	}
}
