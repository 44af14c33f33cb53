package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/quoratedb/quorate/backup"
	"github.com/quoratedb/quorate/backup/target"
	"github.com/quoratedb/quorate/backup/target/memory"
	"github.com/quoratedb/quorate/kv"
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
	held    bool // the nodes keep their history
	timed   []timed
	fence   fence
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
		defer func() { // when the process ends in the middle, too
			b.busy = nil
			b.release()
		}()
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
	b.drop(n) // of one that was not ended
	if b.fence.maybe || !b.w.ended && b.random.IntN(fenceShare) == 0 && !b.raise(n) {
		return
	}
	defer b.drop(n)
	v := b.vault()
	origin := &backedUp{b: b, node: n}
	retry := func(_ context.Context, failures int, err error) error {
		if failures > 10 || errors.Is(err, kv.ErrCompacted) || errors.Is(err, target.ErrUnavailable) || errors.Is(err, backup.ErrDamaged) {
			return err
		}
		n.sleep(50 * time.Millisecond)
		return nil
	}
	made, err := v.Create(context.Background(), origin, backup.CreateOptions{Incremental: b.made > 0 && b.random.IntN(3) > 0, Parallel: 1, Retry: retry, Fresh: b.random.IntN(4) == 0, Present: b.fence.maybe,
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
		b.carries(made, origin.times)
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
	b     *backups
	node  *node
	holds bool        // all nodes have kept their history since Present was asked
	at    kv.Revision // what that said
	times knownTimes
}

// Hold implements backup.Holder. Of some backups the nodes keep nothing.
func (o *backedUp) Hold(context.Context, func(string)) func() backup.HoldEnd {
	o.b.held = o.b.random.IntN(3) > 0
	o.holds = o.b.held
	return func() backup.HoldEnd {
		o.b.release()
		o.holds = false
		return backup.HoldEnd{}
	}
}

// compact has the store compacted at what it has come to, above what is being backed up, and gives nodes time to delete rows.
func (b *backups) compact(n *node) {
	if highest := b.answered(); highest > 1 {
		b.ask(n, &kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: highest}})
		n.dawdle(200 * time.Millisecond)
	}
}

// release has the nodes keep no history any more.
func (b *backups) release() {
	b.held = false
	for _, n := range b.w.nodes {
		if n.up && n.store != nil {
			n.store.HistoryReleased()
		}
	}
}

// holdHistory is driver.Options.HistoryHeld.
func (n *node) holdHistory() bool {
	held := n.w.backups != nil && n.w.backups.held
	if held {
		n.w.mark("compacted rows kept")
	}
	return held
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
	o.at = state.Revision()
	o.b.behind(o.at)
	present := &backup.Present{Cluster: 1, Revision: state.Revision(), Compacted: state.HistoryFrom(), Time: time.UnixMilli(int64(o.node.wallClock())), Leases: state.Leases()}
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
	if o.holds && o.b.random.IntN(4) == 0 {
		o.b.compact(n)
	}
	p := other.backupGateway()
	if p == nil {
		return kv.ErrStopped
	}
	life := other.life
	state, err := p.gateway.OpenExport(n.patient(), "", id, upTo)
	if errors.Is(err, kv.ErrCompacted) && o.holds && upTo == o.at {
		o.b.w.fail(Correctness, "a backup of revision %d: the history was to be kept, and is compacted at node %d", upTo, other.id)
	}
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
