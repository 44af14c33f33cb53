package lsm

import (
	"bytes"
	"context"
	"slices"
	"sync/atomic"
)

// reclaimChunkBytes is how much one manual compaction covers: about a second of one core,
// between two of which others get their turn.
const reclaimChunkBytes = 128 << 20

// reclaimer runs at most one reclamation at a time.
type reclaimer struct {
	running atomic.Bool
	context context.Context // ends with Close
	cancel  context.CancelFunc
}

// Reclaim implements storage.Engine. Deleted and overwritten rows are compacted away
// once over the whole engine, chunk by chunk, in the background. A call while
// that goes on does nothing.
func (e *Engine) Reclaim() {
	e.applying.Lock() // Close takes it before it waits for what is started here
	defer e.applying.Unlock()
	if e.err() != nil || e.options.ReadOnly || e.reclaim.running.Swap(true) {
		return
	}
	if e.options.Inline {
		defer e.reclaim.running.Store(false)
		if e.flushLockedAndWait(e.reclaim.context) == nil {
			e.compactAll()
			e.settle()
		}
		return
	}
	e.owned.Go(func() {
		defer e.reclaim.running.Store(false)
		if err := e.flushAndWait(e.reclaim.context); err != nil {
			return // the failure is reported elsewhere
		}
		e.compactAll()
	})
}

func (e *Engine) compactAll() {
	bounds, err := e.chunkBounds()
	for i := 1; i < len(bounds) && err == nil && e.err() == nil; i++ {
		err = e.db.Compact(e.reclaim.context, bounds[i-1], bounds[i], false)
	}
	if err != nil && e.reclaim.context.Err() == nil && e.options.Listener.Message != nil {
		e.options.Listener.Message("reclaiming space ended early: " + err.Error())
	}
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
