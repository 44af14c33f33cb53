package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
)

// disks are the durable parts of a node.
type disks interface {
	// open gives what a process that starts now finds.
	open() (*simLog, *simEngine, error)
	// crash lets random say what survives of what was not synced; nil: nothing.
	crash(random *rand.Rand)
	stagedFiles() driver.Files
	// stagedCount is how many files of snapshots there are.
	stagedCount() int
	// stopped makes durable what a process has written that ends in order: the machine goes on.
	stopped() error
	// close ends what runs beside the node.
	close()
	check() error
}

// slowness is how slow syncs are, and what else the disk refuses to do.
type slowness struct {
	sync    time.Duration // at most, each
	least   time.Duration
	failing error // of the next sync or write
	full    bool
	// shardSync is how slow those are, at most, that make something of the shard durable.
	shardSync time.Duration
	shard     kv.ShardID
}

var (
	errSyncFailed = errors.New("sim: input/output error")
	errDiskFull   = errors.New("sim: no space left on device")
)

// memoryDisks are the in-memory twins, which lose at a crash what disks would lose.
type memoryDisks struct {
	node   *node
	log    *storage.MemoryLog
	engine *storage.Memory
	staged *files
}

func newMemoryDisks(n *node) *memoryDisks {
	d := &memoryDisks{node: n, log: storage.NewMemoryLog(), staged: newFiles()}
	d.engine = storage.NewMemory(storage.MemoryOptions{ManualFlush: true, Files: engineFiles{d.staged}, ExportFileBytes: 512, CrashStates: 64})
	return d
}

func (d *memoryDisks) open() (*simLog, *simEngine, error) {
	// Opening the log reads all of it.
	for p := range d.node.held() {
		if log := d.log.Group(p.groupID()); log.First() <= log.Last() {
			if err := d.node.damage.log(p.groupID(), log.First(), log.Last()+1); err != nil {
				return nil, nil, err
			}
		}
	}
	return &simLog{d.log, d.node}, &simEngine{d.engine, d.node}, nil
}

func (d *memoryDisks) crash(random *rand.Rand) {
	d.log, d.engine = d.log.Crash(random), d.engine.Crash(random)
	_ = d.staged.RemoveAll("staging") // has no errors
}

func (d *memoryDisks) stopped() error            { return d.log.Sync() }
func (d *memoryDisks) stagedFiles() driver.Files { return stagedFiles{d.staged} }
func (d *memoryDisks) stagedCount() int          { return len(d.staged.content) }
func (d *memoryDisks) close()                    {}
func (d *memoryDisks) check() error              { return errors.Join(d.engine.Check(), d.log.Check()) }

// simLog and simEngine put an effect before and after whatever touches the disk, and let faults happen there.
type simLog struct {
	storage.Log
	node *node
}

// refuses tells whether the disk fails now.
func (n *node) diskFails() error {
	switch {
	case !n.up:
		return nil
	case n.slow.failing != nil:
		err := n.slow.failing
		n.slow.failing, n.excused = nil, true
		return err
	case n.slow.full:
		n.excused = true
		return errDiskFull
	}
	return nil
}

func (l *simLog) Write(parts []storage.GroupAppend, node *storage.NodeRecord) error {
	l.node.effect()
	if err := l.node.diskFails(); err != nil {
		return err
	}
	err := l.Log.Write(parts, node)
	l.node.wrote(parts)
	l.node.effect()
	return err
}

func (l *simLog) Sync() error {
	n := l.node
	if n.crashAtSync && n.up {
		n.fuse = 1
	}
	n.effect()
	n.w.happened(traceSync, n.number(), 0, 0)
	began := n.now()
	if n.up {
		n.sleep(n.slow.least)
	}
	if n.up && n.slow.sync > 0 {
		took := time.Duration(n.random.Int64N(int64(n.slow.sync)))
		if n.random.IntN(20) == 0 {
			took *= 10
		}
		n.sleep(took)
	}
	if n.up && n.writesSlowly() {
		n.sleep(time.Duration(n.random.Int64N(int64(n.slow.shardSync))))
	}
	n.checkWait(began)
	if err := n.diskFails(); err != nil {
		return err
	}
	if n.damage.lying {
		n.damage.lied = true
		n.w.mark("sync that lies")
		return nil
	}
	err := l.Log.Sync()
	n.unsynced = nil
	n.damage.lied = false
	n.effect()
	return err
}

// What a round may take: everything in it but a sync takes no virtual time, and after one that took longer than longSync none is waited for in a
// round for the time of longSyncFor, as package driver promises.
const (
	longSync    = 5 * time.Millisecond
	longSyncFor = time.Second
)

// checkWait looks at a sync that has just ended.
func (n *node) checkWait(began time.Duration) {
	if !n.up || n.now()-began <= longSync {
		return
	}
	if n.inRound() && n.waited != 0 && began < n.waited+longSyncFor {
		n.w.fail(Liveness, "a round of node %d waited %s for its disk, %s after the disk had been slow: nobody hears of the node meanwhile",
			n.id, seconds(n.now()-began), seconds(began-n.waited))
	}
	n.waited = n.now()
}

// wrote notes what would be lost in a crash.
func (n *node) wrote(parts []storage.GroupAppend) {
	for _, a := range parts {
		a.Entries = slices.Clone(a.Entries) // the driver uses it again
		n.unsynced = append(n.unsynced, a)
	}
}

// Group returns the log as a process finds it: rotten entries are found when they are read.
func (l *simLog) Group(id consensus.GroupID) storage.GroupLog {
	return rottenLog{l.Log.Group(id), id, &l.node.damage}
}

// NewScrub reads what a process would find, rotten entries included.
func (l *simLog) NewScrub() storage.Scrub {
	if _, memory := l.Log.(*storage.MemoryLog); memory {
		return storage.NewLogScrub(l)
	}
	return l.Log.NewScrub()
}

func (l *simLog) Compact(group consensus.GroupID, index consensus.Index) error {
	l.node.effect()
	return l.Log.Compact(group, index)
}

type simEngine struct {
	storage.Engine
	node *node
}

// NewScrub is as that of simLog.
func (e *simEngine) NewScrub() storage.Scrub {
	if _, memory := e.Engine.(*storage.Memory); memory {
		return storage.NewReaderScrub(e, e.Metrics().DiskBytes)
	}
	return e.Engine.NewScrub()
}

func (e *simEngine) Apply(b storage.Batch) error {
	e.node.effect()
	err := e.Engine.Apply(b)
	e.node.effect()
	return err
}

func (e *simEngine) Ingest(ctx context.Context, files []string, spans []storage.Span) error {
	if e.node.inRound() {
		e.node.w.fail(Liveness, "node %d installs a snapshot within a round: it may take seconds, and nobody hears of the node meanwhile", e.node.id)
	}
	e.node.effect()
	e.node.pause()
	err := e.Engine.Ingest(ctx, files, spans)
	e.node.effect()
	e.node.pause()
	return err
}

func (e *simEngine) Flush(done func(error)) {
	n := e.node
	n.effect()
	if real, ok := e.Engine.(*lsm.Engine); ok && n.up && !n.founding {
		n.flush(real, done)
		return
	}
	e.Engine.Flush(done)
	m, ok := e.Engine.(*storage.Memory)
	switch {
	case !ok: // the engine's own goroutine tells whoever waits while the node starts
	case !n.up || n.founding:
		for m.CompleteFlush() {
		}
	default:
		n.push(n.w.now+time.Duration(n.random.Int64N(int64(30*time.Millisecond))), func() {
			n.effect()
			if m.PendingFlushes() > 0 {
				m.CompleteFlush()
			}
		})
	}
}
