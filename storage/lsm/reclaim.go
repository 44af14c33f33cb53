package lsm

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/quoratedb/quorate/storage"
)

// reclaimChunkBytes is how much one manual compaction covers: about a second of one core,
// between two of which others get their turn.
const reclaimChunkBytes = 128 << 20

// reclaimer runs one reclamation at a time.
type reclaimer struct {
	turn    sync.Mutex
	context context.Context // ends with Close
	cancel  context.CancelFunc
}

// Reclaim implements storage.Engine. Deleted and overwritten rows are compacted away
// once over the whole engine, chunk by chunk, in the background.
func (e *Engine) Reclaim(done func(error)) {
	if ended, err := e.startReclaiming(done); ended {
		done(err)
	}
}

// startReclaiming tells whether done is to be called at once.
func (e *Engine) startReclaiming(done func(error)) (ended bool, err error) {
	e.applying.Lock() // Close takes it before it waits for what is started here
	defer e.applying.Unlock()
	if err := e.err(); err != nil {
		return true, err
	}
	if e.options.ReadOnly {
		return true, errors.New("lsm: the engine was opened for reading only")
	}
	if e.options.Inline {
		return true, e.reclaimNow(e.reclaim.context, e.flushLockedAndWait)
	}
	e.owned.Go(func() {
		e.reclaim.turn.Lock()
		defer e.reclaim.turn.Unlock()
		done(e.reclaimNow(e.reclaim.context, e.flushAndWait))
	})
	return false, nil
}

func (e *Engine) reclaimNow(ctx context.Context, flush func(context.Context) error) error {
	if err := flush(ctx); err != nil {
		return err // the failure is reported elsewhere
	}
	err := e.compactAll(ctx)
	e.settle()
	if err == nil {
		err = e.waitForDeletions(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return storage.ErrClosed
	case e.err() != nil:
		return e.err()
	}
	return err
}

// compactAll compacts everything, and says so if it ends early for no reason that is reported elsewhere.
func (e *Engine) compactAll(ctx context.Context) error {
	bounds, err := e.chunkBounds()
	for i := 1; i < len(bounds) && err == nil && e.err() == nil; i++ {
		err = e.db.Compact(ctx, bounds[i-1], bounds[i], false)
	}
	if err != nil && ctx.Err() == nil && e.options.Listener.Message != nil {
		e.options.Listener.Message("reclaiming space ended early: " + err.Error())
	}
	return err
}

// zombiePatience is how long files are waited for that somebody still reads. Pebble itself does for a moment; a client may for long.
const zombiePatience = 2 * time.Second

// waitForDeletions waits until the files that a compaction replaced are gone: Pebble deletes them in the background.
func (e *Engine) waitForDeletions(ctx context.Context) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); e.err() == nil; {
		table := e.db.Metrics().Table
		if table.Local.ObsoleteSize == 0 && (table.Local.ZombieSize == 0 || time.Since(began) > zombiePatience) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

// chunkBounds returns keys between which there are about reclaimChunkBytes of tables.
func (e *Engine) chunkBounds() ([][]byte, error) {
	levels, err := e.db.SSTables()
	if err != nil {
		return nil, err
	}
	type table struct {
		smallest, largest []byte
		bytes             uint64
	}
	var tables []table
	for _, level := range levels {
		for _, t := range level {
			tables = append(tables, table{t.Smallest.UserKey, t.Largest.UserKey, t.Size})
		}
	}
	if len(tables) == 0 {
		return nil, nil
	}
	slices.SortFunc(tables, func(a, b table) int { return bytes.Compare(a.smallest, b.smallest) })
	bounds, size := [][]byte{tables[0].smallest}, uint64(0)
	last := tables[0].largest
	for _, t := range tables {
		if size > reclaimChunkBytes && bytes.Compare(bounds[len(bounds)-1], t.smallest) < 0 {
			bounds, size = append(bounds, t.smallest), 0
		}
		size += t.bytes
		if bytes.Compare(last, t.largest) < 0 {
			last = t.largest
		}
	}
	return append(bounds, append(bytes.Clone(last), 0)), nil
}
