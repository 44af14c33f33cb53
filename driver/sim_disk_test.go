package driver

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
)

// memoryDisks are the in-memory twins, which lose at a crash what disks would lose.
type memoryDisks struct {
	node   *simNode
	log    *storage.MemoryLog
	engine *storage.Memory
}

func newMemoryDisks(n *simNode) *memoryDisks {
	return &memoryDisks{node: n, log: storage.NewMemoryLog(), engine: storage.NewMemory(storage.MemoryOptions{
		ManualFlush: true, Files: diskFiles{}, ExportFileBytes: 256,
	})}
}

func (d *memoryDisks) open() (storage.Log, storage.Engine, error) {
	return &simLog{d.log, d.node}, &simEngine{d.engine, d.node}, nil
}

func (d *memoryDisks) crash(random *rand.Rand) {
	if random.IntN(3) == 0 {
		random = nil // nothing that was not synced survives
	}
	d.log, d.engine = d.log.Crash(random), d.engine.Crash(random)
}

// cut takes the last entries from the log, as if they had never been synced.
func (d *memoryDisks) cut(t testing.TB, count consensus.Index) {
	log := d.log.Group(1)
	last, hard := log.Last()-count, log.HardState()
	hard.Commit = min(hard.Commit, last)
	part := storage.GroupAppend{Group: 1, TruncateFrom: last + 1, HardState: &hard}
	if err := errors.Join(d.log.Write([]storage.GroupAppend{part}, nil), d.log.Sync()); err != nil {
		t.Fatal(err)
	}
}

func (d *memoryDisks) work(random *rand.Rand) {
	if d.engine.PendingFlushes() > 0 && random.IntN(4) == 0 {
		d.engine.CompleteFlush()
	}
}

func (d *memoryDisks) check() error { return d.engine.Check() }

// diskFiles are real files: snapshots travel through them.
type diskFiles struct{}

func (diskFiles) Create(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, content, 0o644)
}
func (diskFiles) Read(name string) ([]byte, error) { return os.ReadFile(name) }
func (diskFiles) Remove(name string) error         { return os.Remove(name) }

// simLog and simEngine put an effect before and after whatever touches the disk.
type simLog struct {
	storage.Log
	node *simNode
}

func (l *simLog) Write(parts []storage.GroupAppend, node *storage.NodeRecord) error {
	if l.node.driver == nil || !l.node.up {
		return l.Log.Write(parts, node)
	}
	l.node.effect()
	err := l.Log.Write(parts, node)
	l.node.effect()
	return err
}

func (l *simLog) Sync() error {
	if !l.node.up {
		return l.Log.Sync()
	}
	l.node.effect()
	if err := l.node.failNext; err != nil {
		return err
	}
	if l.node.slow {
		// The node does nothing else meanwhile, unless it syncs beside its rounds.
		took := time.Duration(l.node.w.random.Int64N(int64(60 * time.Millisecond)))
		if l.node.w.random.IntN(20) == 0 {
			took *= 20
		}
		l.node.stall += took
		l.node.pausedUntil = max(l.node.pausedUntil, l.node.w.now+took)
	}
	err := l.Log.Sync()
	l.node.effect()
	return err
}

func (l *simLog) Compact(group consensus.GroupID, index consensus.Index) error {
	l.node.effect()
	return l.Log.Compact(group, index)
}

type simEngine struct {
	storage.Engine
	node *simNode
}

func (e *simEngine) Apply(b storage.Batch) error {
	e.node.effect()
	err := e.Engine.Apply(b)
	e.node.effect()
	return err
}

func (e *simEngine) Ingest(ctx context.Context, files []string, spans []storage.Span) error {
	e.node.effect()
	err := e.Engine.Ingest(ctx, files, spans)
	e.node.effect()
	return err
}

func (e *simEngine) Flush(done func(error)) {
	e.node.effect()
	e.Engine.Flush(done)
	if m, ok := e.Engine.(*storage.Memory); ok && !e.node.up { // somebody waits for it while the node starts
		for m.CompleteFlush() {
		}
	}
}
