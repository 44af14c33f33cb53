package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/backup/target"
	"github.com/quoratedb/quorate/backup/target/memory"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/restore"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// backupShare: of one store in so many backups are made.
const backupShare = 8

// drawsBackups tells whether backups are made. Of groups that know nothing of each other, and of a cluster that is lost in the end, there are none.
func (p *Plan) drawsBackups() bool {
	hit := rand.New(rand.NewPCG(p.Seed, sourceBackup)).IntN(backupShare) == 0
	return hit && !p.LoseQuorum && p.Scene == "" && (p.Partition != nil || p.Shards <= 1)
}

// backups are made one after the other, each through one node, full and incremental. Whoever makes one dies with its node; the next goes on with what there is.
type backups struct {
	w       *world
	random  *rand.Rand
	objects *memory.Target
	busy    *node // that makes one, in its life since then; nil: nobody does
	since   uint64
	made    int
	over    bool
	err     error // of the last attempt
}

func newBackups(w *world) *backups {
	if !w.plan.Backups {
		return nil
	}
	b := &backups{w: w, random: w.source(sourceBackup, 1), objects: memory.New()}
	b.objects.Intercept = b.fault
	b.later()
	return b
}

// fault is what goes wrong at the target: now and then an answer, or a call, is lost.
func (b *backups) fault(context.Context, memory.Call) memory.Fault {
	if b.over || b.random.IntN(40) != 0 {
		return memory.Fault{}
	}
	b.w.mark("backup target failed")
	return memory.Fault{Err: target.ErrUnavailable, Lost: b.random.IntN(2) == 0}
}

func (b *backups) later() {
	b.w.after(100*time.Millisecond+time.Duration(b.random.Int64N(int64(600*time.Millisecond))), func() {
		if !b.over {
			b.begin()
			b.later()
		}
	})
}

// begin makes one through a node that is up.
func (b *backups) begin() {
	n := b.w.nodes[b.random.IntN(len(b.w.nodes))]
	if b.atWork() || !n.up || n.frozen() || n.backupGateway() == nil {
		return
	}
	b.busy, b.since = n, n.life
	n.spawn(func() {
		defer func() { b.busy = nil }() // when the process ends in the middle, too
		b.make(n)
	})
}

// atWork tells whether somebody makes one. A process may have ended before it began.
func (b *backups) atWork() bool { return b.busy != nil && b.busy.life == b.since }

// backupGateway is what clients of the store talk to.
func (n *node) backupGateway() *part {
	if p := n.parts[0]; p != nil && p.up() && p.gateway != nil {
		return p
	}
	return nil
}

func (b *backups) vault() *backup.Vault {
	return backup.Open(b.objects, backup.Options{FileBytes: 400, SaveEvery: 2, ReadAheadBytes: 1, Random: b.random.Uint32,
		Now: func() time.Time { return time.Unix(1_000_000_000, 0).Add(b.w.now) }})
}

func (b *backups) make(n *node) {
	v := b.vault()
	origin := &backedUp{b: b, node: n}
	retry := func(_ context.Context, failures int, err error) error {
		if failures > 10 || errors.Is(err, kv.ErrCompacted) || errors.Is(err, target.ErrUnavailable) || errors.Is(err, backup.ErrDamaged) {
			return err
		}
		n.sleep(50 * time.Millisecond)
		return nil
	}
	made, err := v.Create(context.Background(), origin, backup.CreateOptions{Incremental: b.made > 0 && b.random.IntN(3) > 0, Parallel: 1, Retry: retry, Fresh: b.random.IntN(4) == 0,
		Notice: func(text string) {
			if strings.HasPrefix(text, "going on with") {
				b.w.mark("backup gone on with")
			}
		}})
	b.err = err
	switch {
	case errors.Is(err, backup.ErrDamaged):
		b.w.fail(Correctness, "a backup through node %d: %v", n.id, err)
	case err != nil:
		b.w.mark("backup failed")
	default:
		b.made++
		if made.Parent == "" {
			b.w.mark("full backup")
		} else {
			b.w.mark("incremental backup")
		}
	}
}

// answered is the highest revision that a client was told.
func (b *backups) answered() (highest kv.Revision) {
	for i := range b.w.groups[0].history.Operations {
		if o := &b.w.groups[0].history.Operations[i]; o.Response != nil {
			highest = max(highest, o.Response.Revision)
		}
	}
	return highest
}

// backedUp is the store, as a node serves it. It implements backup.Origin.
type backedUp struct {
	b    *backups
	node *node
}

// backupPatience is how long a backup waits for what others have to do.
const backupPatience = 3 * time.Second

// patient is a context of somebody in a coroutine, who waits until then.
type patient struct {
	context.Context
	node  *node // whose coroutine it is
	until time.Duration
	done  chan struct{}
}

func (n *node) patient() *patient {
	return &patient{Context: context.Background(), node: n, until: n.w.now + backupPatience, done: make(chan struct{})}
}

func (p *patient) Done() <-chan struct{} { return p.done }

func (p *patient) Err() error {
	select {
	case <-p.done:
		return context.Canceled
	default:
		return nil
	}
}

// await is gateway.Options.Await. Nobody else waits.
func (n *node) await(ctx context.Context, there func() bool) {
	p, is := ctx.(*patient)
	if !is {
		return
	}
	for !there() && n.w.now < p.until {
		p.node.sleep(time.Millisecond)
	}
	if !there() && p.Err() == nil {
		close(p.done)
	}
}

func (o *backedUp) Present(context.Context) (*backup.Present, error) {
	w, p := o.b.w, o.node.backupGateway()
	if p == nil {
		return nil, kv.ErrStopped
	}
	answered := o.b.answered()
	state, err := p.gateway.OpenBackup(o.node.patient(), "")
	if err != nil {
		return nil, err
	}
	if state.Revision() < answered {
		w.fail(Correctness, "a backup through node %d is of revision %d, and %d was answered before", o.node.id, state.Revision(), answered)
	}
	defer state.Close()
	present := &backup.Present{Cluster: 1, Revision: state.Revision(), Compacted: state.Compacted(), Time: time.Unix(0, int64(w.now)), Leases: state.Leases()}
	for _, g := range w.groups {
		present.Shards = append(present.Shards, backup.PresentShard{Shard: g.id})
	}
	return present, nil
}

func (o *backedUp) Export(_ context.Context, id kv.ShardID, from mvcc.Locator, upTo kv.Revision, begun func(kv.Revision) error, fn func(*backup.Version) error) error {
	n := o.node
	other := o.b.w.nodes[o.b.random.IntN(len(o.b.w.nodes))]
	if o.b.random.IntN(2) == 0 || !other.up || other.frozen() {
		other = n
	}
	p := other.backupGateway()
	if p == nil {
		return kv.ErrStopped
	}
	life := other.life
	state, err := p.gateway.OpenExport(n.patient(), "", id, upTo)
	if err != nil {
		return err
	}
	if !other.up || other.life != life {
		return kv.ErrStopped // what it has read is gone with its process
	}
	defer state.Close()
	if err := begun(state.Compacted()); err != nil {
		return err
	}
	for done := false; !done; {
		from, done, err = state.Versions(from, 300, func(e *mvcc.Effect) error {
			return fn(&backup.Version{Sub: e.At.Sub, KeyValue: kv.KeyValue{Key: e.Key, Value: e.Value, CreateRevision: e.Create, ModRevision: e.At.Rev, Version: e.Version, Lease: e.Lease}})
		})
		if err != nil {
			return err
		}
		if other == n { // another one may end at any time
			n.dawdle(20 * time.Millisecond)
		}
	}
	return nil
}

// last makes a backup of the healthy cluster.
func (b *backups) last() {
	if b == nil || b.w.verdict != "" {
		return
	}
	w := b.w
	b.over = true
	made := b.made
	ended := w.runUntil(w.now+patience, 20*time.Millisecond, func() bool {
		if b.made == made {
			b.begin()
		}
		return !b.atWork() && b.made > made
	})
	if !ended && w.verdict == "" {
		through := "nobody makes one"
		if b.atWork() {
			through = fmt.Sprintf("one is under way through node %d", b.busy.id)
		}
		w.fail(Liveness, "%s after everything was healed there is no backup, %s; the last one ended with %v:%s", patience, through, b.err, w.describe())
	}
}

// check restores revisions of the backups into other shards, and compares them with what happened.
func (b *backups) check() {
	if b == nil || b.w.verdict != "" {
		return
	}
	b.objects.Intercept = nil
	if err := b.compare(context.Background()); err != nil {
		b.w.fail(Correctness, "backups: %v", err)
	}
}

func (b *backups) compare(ctx context.Context) error {
	v := b.vault()
	all, err := v.List(ctx)
	if err != nil {
		return err
	}
	wrong, err := v.VerifyRest(ctx)
	if err = errors.Join(append(wrong, err)...); err != nil {
		return err
	}
	for _, one := range all {
		wrong, err := v.Verify(ctx, one, func(int64) {})
		if err = errors.Join(append(wrong, err)...); err != nil {
			return fmt.Errorf("%s: %w", one.ID, err)
		}
	}
	for _, one := range all {
		revisions := []kv.Revision{one.Revision, one.HistoryFrom, one.HistoryFrom + kv.Revision(b.random.Int64N(int64(one.Revision-one.HistoryFrom)+1))}
		for _, revision := range revisions {
			chain, err := backup.Covering(all, revision)
			if err != nil {
				return err
			}
			if err := b.compareAt(ctx, v, chain, revision); err != nil {
				return fmt.Errorf("%s, restored at revision %d: %w", chain[len(chain)-1].ID, revision, err)
			}
		}
	}
	return nil
}

// compareAt compares what a chain has up to a revision.
func (b *backups) compareAt(ctx context.Context, v *backup.Vault, chain []*backup.Backup, revision kv.Revision) error {
	source, err := v.Source(ctx, chain, revision, nil)
	if err != nil {
		return err
	}
	from := source.HistoryFrom()
	events := b.w.groups[0].truth.events
	if b.w.shared() {
		events = b.w.storeEvents()
	}
	before, err := b.compareVersions(ctx, source, events, from, revision)
	if err != nil {
		return err
	}
	if err := sameKeys(before, liveAt(events, from)); err != nil {
		return fmt.Errorf("what was live at revision %d, where its history begins: %w", from, err)
	}
	restored, err := b.restore(ctx, source)
	if err != nil {
		return fmt.Errorf("restore it: %w", err)
	}
	for _, at := range []kv.Revision{revision, max(from, revision-kv.Revision(b.random.Int64N(3)))} {
		found, err := restored.keys(at)
		if err == nil {
			err = sameKeys(found, liveAt(events, at))
		}
		if err != nil {
			return fmt.Errorf("of the restored store at revision %d: %w", at, err)
		}
	}
	b.w.mark("backup restored")
	return nil
}

// compareVersions compares the history, change by change, and returns what was live where it begins.
func (b *backups) compareVersions(ctx context.Context, source *backup.Source, events []kv.Event, from, upTo kv.Revision) (map[string]kv.KeyValue, error) {
	live := map[string]kv.KeyValue{}
	i := 0
	for i < len(events) && events[i].KV.ModRevision <= from {
		i++
	}
	err := source.Versions(ctx, func(v *backup.Version, _ int64) error {
		if v.ModRevision <= from {
			delete(live, string(v.Key))
			if v.Version != 0 {
				live[string(v.Key)] = cloneOf(&v.KeyValue)
			}
			return nil
		}
		if i == len(events) || !sameVersion(&v.KeyValue, &events[i].KV) {
			return fmt.Errorf("it has %q=%q at revision %d, version %d, which is not what happened next", v.Key, v.Value, v.ModRevision, v.Version)
		}
		i++
		return nil
	})
	if err == nil && i < len(events) && events[i].KV.ModRevision <= upTo {
		err = fmt.Errorf("it lacks %q=%q at revision %d", events[i].KV.Key, events[i].KV.Value, events[i].KV.ModRevision)
	}
	return live, err
}

func cloneOf(v *kv.KeyValue) kv.KeyValue {
	c := *v
	c.Key, c.Value = bytes.Clone(v.Key), bytes.Clone(v.Value)
	return c
}

func sameVersion(a, b *kv.KeyValue) bool {
	return bytes.Equal(a.Key, b.Key) && a.ModRevision == b.ModRevision && a.Version == b.Version &&
		(a.Version == 0 || bytes.Equal(a.Value, b.Value) && a.CreateRevision == b.CreateRevision && a.Lease == b.Lease)
}

// liveAt are the keys at a revision.
func liveAt(events []kv.Event, revision kv.Revision) map[string]kv.KeyValue {
	live := map[string]kv.KeyValue{}
	for i := range events {
		switch e := &events[i]; {
		case e.KV.ModRevision > revision:
			return live
		case e.Type == kv.EventDelete:
			delete(live, string(e.KV.Key))
		default:
			live[string(e.KV.Key)] = e.KV
		}
	}
	return live
}

func sameKeys(found, want map[string]kv.KeyValue) error {
	keys := map[string]bool{}
	for key := range found {
		keys[key] = true
	}
	for key := range want {
		keys[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		a, b := found[key], want[key]
		if !sameVersion(&a, &b) {
			return fmt.Errorf("%q is %q of revision %d, and was %q of revision %d", key, a.Value, a.ModRevision, b.Value, b.ModRevision)
		}
	}
	return nil
}

// restoredStore is what a store of other shards has.
type restoredStore []*shard.Machine

// restore makes a store of a backup, divided in another way, and opens it as a node does after a restart.
func (b *backups) restore(ctx context.Context, source *backup.Source) (restoredStore, error) {
	scheme := partition.Scheme{Kind: partition.Range, Shards: 1 + b.random.IntN(5)}
	if b.random.IntN(2) == 0 && scheme.Shards > 1 {
		scheme.Kind, scheme.HashPrefix = partition.Hash, b.random.IntN(2)
	} else {
		for _, i := range b.random.Perm(len(splitKeys))[:scheme.Shards-1] {
			scheme.SplitKeys = append(scheme.SplitKeys, []byte(splitKeys[i]))
		}
		slices.SortFunc(scheme.SplitKeys, bytes.Compare)
	}
	table, err := partition.New(scheme)
	if err != nil {
		return nil, err
	}
	engine := storage.NewMemory(storage.MemoryOptions{})
	seed := b.random.Uint64()
	into := restore.Options{Table: table, Sequenced: scheme.Shards > 1, MinLeaseTTLSeconds: 1, Members: consensus.Config{Voters: []consensus.ReplicaID{1}},
		Rand: func() *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }}
	filled, err := restore.Fill(ctx, engine, source, 0, into)
	if err != nil {
		return nil, err
	}
	if filled.Revision != source.Revision() {
		return nil, fmt.Errorf("it goes on from revision %d", filled.Revision)
	}
	var store restoredStore
	for _, id := range scheme.ShardIDs() {
		m, err := shard.Open(engine, shard.Options{Shard: id, Sequenced: into.Sequenced, Rand: into.Rand(), MinLeaseTTLSeconds: 1})
		if err != nil {
			return nil, err
		}
		store = append(store, m)
	}
	return store, nil
}

// keys are all keys at a revision.
func (s restoredStore) keys(at kv.Revision) (map[string]kv.KeyValue, error) {
	all := map[string]kv.KeyValue{}
	for _, m := range s {
		view := m.View()
		answer, err := m.Read(view, 0, &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything(), Revision: at}})
		_ = view.Close() // it was only read
		if err != nil {
			return nil, err
		}
		for _, row := range answer.Range.KVs {
			all[string(row.Key)] = row
		}
	}
	return all, nil
}
