package driver

import (
	"fmt"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// upkeep is where a replica stands with what is done for its state in the background.
type upkeep struct {
	flush   flushState
	compact compactState
	hashing hashing
	memory  mvcc.Memory   // as last reckoned
	figures shard.Metrics // what the node counts for this replica
}

// compactState is where a replica stands with deleting what compaction made superfluous. Rows go
// only once the entry that compacted is durable, so that a replay never meets a gap.
type compactState struct {
	requested consensus.Index // the entry that compacted last
	running   bool
	held      bool // running, but backups still read what it would delete
}

// unfinished tells whether rows are still to be deleted, as soon as that is possible.
func (c *compactState) unfinished() bool { return c.requested != 0 || c.active() }

// active tells whether there are rows that may be deleted now.
func (c *compactState) active() bool { return c.running && !c.held }

// HistoryReleased says that Options.HistoryHeld does not hold any more.
func (d *Driver) HistoryReleased() {
	d.call(func() {
		for _, r := range d.order {
			if r.compact.held {
				d.needsMaintenance(r)
			}
		}
	})
}

// maintain does the background work of the groups that have some, a bounded piece each round.
func (d *Driver) maintain() {
	d.relieveMemory()
	if err := d.relieveLog(); err != nil {
		d.fail(err)
		return
	}
	kept := d.maintaining[:0]
	for _, r := range d.maintaining {
		more := false
		if !r.ended && d.Err() == nil {
			var err error
			if more, err = r.maintain(); err != nil {
				r.fail(fmt.Errorf("group %d: %w", r.group, err))
				more = false
			}
		}
		r.in.maintaining = more
		if more {
			kept = append(kept, r)
		}
	}
	clear(d.maintaining[len(kept):])
	d.maintaining = kept
	d.flushEngine()
	if len(kept) > 0 {
		d.kick()
	}
}

// opened resets the background work for a machine that was just opened: what it holds is durable, and
// a compaction may have been interrupted.
func (r *driven) opened() {
	r.flush = flushState{durable: r.machine.AppliedIndex(), retainedBytes: sampleLogBytes(r.log)}
	r.compact = compactState{running: r.machine.Compacted() > 0}
	r.reckonMemory()
	r.hashing.opened(&r.hashes)
	r.publishState(true)
	if r.compact.running {
		r.driver.needsMaintenance(r)
	}
}

// sampleLogBytes estimates what the log holds of a group from its newest entries.
func sampleLogBytes(log storage.GroupLog) int64 {
	first, last := log.First(), log.Last()
	if first > last {
		return 0
	}
	from := max(first, last-min(last-first, 255))
	sample, err := log.Entries(from, last+1, 1<<20)
	if err != nil || len(sample) == 0 {
		return 0 // an estimate is not worth an error; reading the log in earnest will tell
	}
	return entriesBytes(sample) * int64(last+1-first) / int64(len(sample))
}

// maintain starts or continues a flush and a compaction, and tells whether it wants another round.
func (r *driven) maintain() (more bool, err error) {
	if r.installing != nil {
		return false, nil // of another state; opened begins anew
	}
	if err := r.applyBulk(); err != nil {
		return false, err
	}
	if err := r.letKeptGo(); err != nil {
		return false, err
	}
	staged, pending := r.machine.Bulk()
	if !r.flush.running && pending == 0 {
		wanted, err := r.shipWaiting(staged)
		if err != nil {
			return false, err
		}
		if staged == 0 && (wanted || r.mayFlush() && r.wantsFlush()) { // no run begins before a bulk is written
			r.freeze()
		}
	}
	if r.flush.running {
		if err := r.flushChunk(r.driver.opts.FlushChunkRows); err != nil {
			return false, err
		}
	}
	r.takeHashes()
	if r.compact.requested != 0 && r.machine.CompactReady() {
		r.compact.requested, r.compact.running = 0, true
	}
	hashed := len(r.hashing.queued) == 0 // until then the rows are needed
	// What is begun is ended: the history is whole from there on, and from nowhere below.
	r.compact.held = r.compact.running && r.driver.opts.HistoryHeld() && !r.machine.CompactBegun()
	if r.compact.active() && hashed {
		if err := r.compactChunk(); err != nil {
			return false, err
		}
	}
	compacting := r.compact.unfinished()
	r.compacting.Store(compacting || r.hashing.running) // the hash is taken from a view, which keeps what is deleted
	if !compacting {
		r.rowsDeleted()
	}
	// What waits for the rest of a bulk is looked at again when an entry is applied.
	return r.flush.running || pending > 0 || r.mayShip() && staged == 0 || r.compact.active() && hashed, nil
}

// applyBulk writes some of the effects of a bulk that is in force.
func (r *driven) applyBulk() error {
	if _, pending := r.machine.Bulk(); pending == 0 {
		return nil
	}
	engine := r.driver.opts.Engine
	batch := engine.NewBatch()
	defer batch.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.machine.ApplyBulk(batch, r.driver.opts.FlushChunkRows)
	defer r.reckonMemory()
	return ofShared(engine.Apply(batch))
}

// Compacting tells whether rows that compactions made superfluous are still to be deleted.
func (r *Replica) Compacting() bool { return r.compacting.Load() }

// compactLog drops entries that are durable in the engine, but for as many as a follower that
// is a little behind may need.
func (r *driven) compactLog() error {
	upTo := r.flush.superfluous(r.log.First(), r.log.Last(), &r.driver.opts)
	for _, index := range r.shipments.keptFor {
		upTo = min(upTo, index)
	}
	return r.cutLog(upTo)
}

// superfluous is up to where a log from the first to the last entry may be dropped.
func (f *flushState) superfluous(first, last consensus.Index, o *Options) consensus.Index {
	retain := consensus.Index(o.RetainLogEntries)
	if entries := last + 1 - first; entries > 0 && f.retainedBytes > o.RetainLogBytes {
		// Entries of about equal size: keep the share that fits.
		retain = min(retain, consensus.Index(float64(entries)*float64(o.RetainLogBytes)/float64(f.retainedBytes)))
	}
	if last <= retain {
		return 0
	}
	return min(f.durable, last, last-retain)
}

// cutLog drops the entries up to the index, which are durable in the engine.
func (r *driven) cutLog(upTo consensus.Index) error {
	first, last := r.log.First(), r.log.Last()
	if upTo < first {
		return nil
	}
	r.flush.cut(upTo+1-first, last+1-first)
	r.core.Compact(upTo)
	return r.driver.opts.Log.Compact(r.group, upTo)
}

// cut notes that so many entries of the log are dropped.
func (f *flushState) cut(dropped, of consensus.Index) {
	f.retainedBytes -= int64(float64(f.retainedBytes) * float64(dropped) / float64(of))
}

// compactChunk deletes a bounded number of superseded rows.
func (r *driven) compactChunk() error {
	engine := r.driver.opts.Engine
	batch := engine.NewBatch()
	defer batch.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	more, err := r.machine.CompactStep(batch, r.driver.opts.FlushChunkRows)
	if err != nil {
		return err
	}
	r.compact.running = more
	return ofShared(engine.Apply(batch))
}
