package driver

import (
	"fmt"

	"github.com/quoratedb/quorate/consensus"
)

// compactState is where a replica stands with deleting what compaction made superfluous. Rows go
// only once the entry that compacted is durable, so that a replay never meets a gap.
type compactState struct {
	requested consensus.Index // the entry that compacted last
	running   bool
}

// unfinished tells whether rows are still to be deleted.
func (c *compactState) unfinished() bool { return c.requested != 0 || c.running }

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

// needsMaintenance puts the replica on the list that maintain walks.
func (d *Driver) needsMaintenance(r *Replica) {
	if !r.in.maintaining {
		r.in.maintaining = true
		d.maintaining = append(d.maintaining, r)
	}
}

// opened resets the background work for a machine that was just opened: what it holds is durable, and
// a compaction may have been interrupted.
func (r *Replica) opened() {
	r.flush = flushState{durable: r.machine.AppliedIndex(), retainedBytes: r.sampleLogBytes()}
	r.compact = compactState{running: r.machine.Compacted() > 0}
	r.reckonMemory()
	r.hashes.opened()
	r.publishState(true)
	if r.compact.running {
		r.driver.needsMaintenance(r)
	}
}

// sampleLogBytes estimates what the log holds of the group from its newest entries.
func (r *Replica) sampleLogBytes() int64 {
	first, last := r.log.First(), r.log.Last()
	if first > last {
		return 0
	}
	from := max(first, last-min(last-first, 255))
	sample, err := r.log.Entries(from, last+1, 1<<20)
	if err != nil || len(sample) == 0 {
		return 0 // an estimate is not worth an error; reading the log in earnest will tell
	}
	return entriesBytes(sample) * int64(last+1-first) / int64(len(sample))
}

// maintain starts or continues a flush and a compaction, and tells whether it wants another round.
func (r *Replica) maintain() (more bool, err error) {
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
	hashed := len(r.hashes.queued) == 0 // until then the rows are needed
	if r.compact.running && hashed {
		if err := r.compactChunk(); err != nil {
			return false, err
		}
	}
	compacting := r.compact.unfinished()
	r.compacting.Store(compacting || r.hashes.running) // the hash is taken from a view, which keeps what is deleted
	if !compacting {
		r.rowsDeleted()
	}
	// What waits for the rest of a bulk is looked at again when an entry is applied.
	return r.flush.running || pending > 0 || r.mayShip() && staged == 0 || r.compact.running && hashed, nil
}

// applyBulk writes some of the effects of a bulk that is in force.
func (r *Replica) applyBulk() error {
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
func (r *Replica) compactLog() error {
	first, last := r.log.First(), r.log.Last()
	upTo := min(r.flush.durable, last)
	retain := consensus.Index(r.driver.opts.RetainLogEntries)
	if entries := last + 1 - first; entries > 0 && r.flush.retainedBytes > r.driver.opts.RetainLogBytes {
		// Entries of about equal size: keep the share that fits.
		retain = min(retain, consensus.Index(float64(entries)*float64(r.driver.opts.RetainLogBytes)/float64(r.flush.retainedBytes)))
	}
	if last > retain {
		upTo = min(upTo, last-retain)
	} else {
		upTo = 0
	}
	for _, index := range r.shipments.keptFor {
		upTo = min(upTo, index)
	}
	return r.cutLog(upTo)
}

// cutLog drops the entries up to the index, which are durable in the engine.
func (r *Replica) cutLog(upTo consensus.Index) error {
	first, last := r.log.First(), r.log.Last()
	if upTo < first {
		return nil
	}
	entries := last + 1 - first
	r.flush.retainedBytes -= int64(float64(r.flush.retainedBytes) * float64(upTo+1-first) / float64(entries))
	r.core.Compact(upTo)
	return r.driver.opts.Log.Compact(r.group, upTo)
}

// compactChunk deletes a bounded number of superseded rows.
func (r *Replica) compactChunk() error {
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
