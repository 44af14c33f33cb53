package sim

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/storage/wal"
)

// pebbleDisks are the real log and the real state engine on a file system in memory that forgets at a crash what was not synced.
//
// The engine does within its calls what it would do in the background, so that a seed is one run here, too. That a flush is over reaches the
// node as an event of its own.
type pebbleDisks struct {
	node   *node
	fs     *vfs.MemFS
	cut    powerCut // at a file operation
	log    *wal.Log
	engine *lsm.Engine
	staged int // number of the last directory for a snapshot
}

func newPebbleDisks(n *node) *pebbleDisks { return &pebbleDisks{node: n, fs: vfs.NewCrashableMem()} }

func (d *pebbleDisks) open() (*simLog, *simEngine, error) {
	err := d.fs.RemoveAll("staging")
	if err != nil {
		return nil, nil, err
	}
	fs := d.cut.wrap(d.fs)
	if d.log, err = wal.Open(wal.Options{Dir: "log", FS: fs, SegmentBytes: d.node.w.plan.Limits.Bounds.LogSegmentBytes, Inline: true}); err != nil {
		return nil, nil, err
	}
	if d.engine, err = lsm.Open(lsm.Options{Dir: "state", FS: fs, MemTableBytes: 64 << 10, CacheBytes: 1 << 20, Inline: true}); err != nil {
		return nil, nil, err
	}
	return &simLog{d.log, d.node}, &simEngine{d.engine, d.node}, nil
}

func (d *pebbleDisks) crash(random *rand.Rand) {
	found := d.cut.over()
	if found == nil {
		found = crashClone(d.fs, random)
	}
	d.close()
	d.fs = found
}

// close ends the goroutines of the engine. They work on what the dead process would have written: nobody sees it.
func (d *pebbleDisks) close() {
	if d.engine != nil {
		_ = d.engine.Close()
	}
	if d.log != nil {
		_ = d.log.Close()
	}
	d.engine, d.log = nil, nil
}

func (d *pebbleDisks) check() error   { return nil }
func (d *pebbleDisks) stopped() error { return d.log.Sync() }

// stagedCount counts a directory as a file.
func (d *pebbleDisks) stagedCount() (count int) {
	_ = walk(d.fs, "staging", func(string, bool) error { // it has no errors in memory
		count++
		return nil
	})
	return max(0, count-1)
}

func (d *pebbleDisks) stagedFiles() driver.Files { return diskFiles{d} }

// diskFiles are staged snapshots on the node's own file system: package lsm writes and ingests them there.
type diskFiles struct{ disks *pebbleDisks }

func (f diskFiles) TempDir(parent, prefix string) (string, error) {
	f.disks.staged++
	dir := fmt.Sprintf("%s/%s%d", parent, prefix, f.disks.staged)
	return dir, f.disks.fs.MkdirAll(dir, 0o700)
}

func (f diskFiles) Create(name string) (driver.SyncWriter, error) {
	return f.disks.fs.Create(name, vfs.WriteCategoryUnspecified)
}

func (f diskFiles) Open(name string) (io.ReadCloser, int64, error) {
	file, err := f.disks.fs.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

func (f diskFiles) RemoveAll(dir string) error { return f.disks.fs.RemoveAll(dir) }

// flush has the engine flush, and lets done be called as an event of the node when its goroutine has finished.
func (n *node) flush(engine *lsm.Engine, done func(error)) {
	finished := make(chan error, 1)
	engine.Flush(func(err error) { finished <- err })
	n.push(n.w.now+time.Duration(n.random.Int64N(int64(30*time.Millisecond))), func() {
		n.effect()
		done(<-finished)
	})
}
