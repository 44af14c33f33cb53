package replica

import (
	"fmt"

	"github.com/quoratedb/quorate/consensus"
)

// flushState is where a replica stands with making its state durable.
//
// The latest rows of dirty keys are written lazily, in sorted runs, a chunk a round; the last chunk carries the
// index that was applied when the run was frozen. Once the engine has flushed, the log is needed only
// from there on.
type flushState struct {
	running  bool            // a run is being written
	syncing  int             // runs that are written; the engine flushes
	written  consensus.Index // applied when the last run that is written was frozen
	durable  consensus.Index
	logBytes int64 // appended since the last flush began
	// retainedBytes estimates what the log holds of the group.
	retainedBytes int64
}

// compactState is where a replica stands with deleting what compaction made superfluous. Rows go
// only once the entry that compacted is durable, so that a replay never meets a gap.
type compactState struct {
	requested consensus.Index // the entry that compacted last
	running   bool
}

// maintain does the background work of the groups that have some, a bounded piece each round.
func (s *Store) maintain() {
	kept := s.maintaining[:0]
	for _, r := range s.maintaining {
		more, err := r.maintain()
		if err != nil {
			s.fail(fmt.Errorf("group %d: %w", r.group, err))
			return
		}
		r.listedForMaintenance = more
		if more {
			kept = append(kept, r)
		}
	}
	clear(s.maintaining[len(kept):])
	s.maintaining = kept
	if len(kept) > 0 {
		s.kick()
	}
}

// needsMaintenance puts the replica on the list that maintain walks.
func (s *Store) needsMaintenance(r *Replica) {
	if !r.listedForMaintenance {
		r.listedForMaintenance = true
		s.maintaining = append(s.maintaining, r)
	}
}

// opened resets the background work for a machine that was just opened: what it holds is durable, and
// a compaction may have been interrupted.
func (r *Replica) opened() {
	r.flush = flushState{written: r.machine.AppliedIndex(), durable: r.machine.AppliedIndex(), retainedBytes: r.sampleLogBytes()}
	r.compact = compactState{running: r.machine.Compacted() > 0}
	r.hashes.opened()
	r.publishState(true)
	if r.compact.running {
		r.store.needsMaintenance(r)
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
	flush, staged, pending := false, 0, 0
	if staged, pending = r.machine.Bulk(); !r.flush.running && staged+pending == 0 {
		if flush, err = r.shipWhenFlushed(); err != nil {
			return false, err
		}
	}
	if !r.flush.running && (flush || r.flush.syncing == 0 && r.wantsFlush()) {
		r.mu.Lock()
		r.flush.running = r.machine.Freeze()
		r.mu.Unlock()
		r.flush.logBytes = 0
	}
	if r.flush.running {
		if err := r.flushChunk(r.store.opts.FlushChunkRows); err != nil {
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
	compacting := r.compact.requested != 0 || r.compact.running
	r.compacting.Store(compacting || r.hashes.running) // the hash is taken from a view, which keeps what is deleted
	if !compacting && len(r.physical) > 0 {
		r.finishPhysical()
		r.store.kick()
	}
	// What waits for the rest of a bulk is looked at again when an entry is applied.
	return r.flush.running || pending > 0 || staged == 0 && len(r.outgoing) > 0 || r.compact.running && hashed, nil
}

// applyBulk writes some of the effects of a bulk that is in force.
func (r *Replica) applyBulk() error {
	if _, pending := r.machine.Bulk(); pending == 0 {
		return nil
	}
	engine := r.store.opts.Engine
	batch := engine.NewBatch()
	defer batch.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.machine.ApplyBulk(batch, r.store.opts.FlushChunkRows)
	return engine.Apply(batch)
}

// Compacting tells whether rows that compactions made superfluous are still to be deleted.
func (r *Replica) Compacting() bool { return r.compacting.Load() }

// wantsFlush tells whether the state should be made durable: the dirty keys are many, the log is long,
// a compaction waits for it, or the membership changed. Which entries are decided need not survive a crash, and a replica that
// has forgotten that a change is over would look for a majority of the membership before it, whose members may be gone.
func (r *Replica) wantsFlush() bool {
	return r.configAt > r.flush.durable && r.flush.syncing == 0 || r.machine.NeedsFlush() || r.flush.logBytes > r.store.opts.FlushLogBytes ||
		r.machine.AppliedIndex()-r.flush.durable > consensus.Index(r.store.opts.FlushLogEntries) && r.flush.syncing == 0 || r.compact.requested > r.flush.durable
}

// flushChunk writes the next rows of the run; after the last it has the engine flush.
func (r *Replica) flushChunk(rows int) error {
	done, index, err := r.writeChunk(rows)
	if err != nil || !done {
		return err
	}
	r.flush.running = false
	r.flushEngine(index)
	return nil
}

// flushEngine makes durable what was written, the index included.
func (r *Replica) flushEngine(index consensus.Index) {
	r.flush.syncing++
	machine := r.machine
	r.store.opts.Engine.Flush(func(err error) {
		r.store.call(func() { r.flushed(machine, index, err) })
	})
}

// writeChunk writes rows of the run, and with the last ones the index that will be durable.
func (r *Replica) writeChunk(rows int) (done bool, index consensus.Index, err error) {
	engine := r.store.opts.Engine
	batch := engine.NewBatch()
	defer batch.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if done, err = r.machine.FlushChunk(batch, rows); err != nil {
		return false, 0, err
	}
	if err := engine.Apply(batch); err != nil {
		return false, 0, err
	}
	if done {
		index = r.machine.FlushDone()
		r.flush.written = index
	}
	return done, index, nil
}

// flushed lets the log go up to what the engine holds durably now.
func (r *Replica) flushed(machine Machine, index consensus.Index, err error) {
	if err != nil {
		r.store.fail(fmt.Errorf("group %d: the state engine could not flush: %w", r.group, err))
		return
	}
	if machine != r.machine || r.installing != nil {
		return // a snapshot takes its place
	}
	r.flush.syncing--
	r.flush.durable = max(r.flush.durable, index)
	r.mu.Lock()
	r.machine.MarkDurable(index)
	r.mu.Unlock()
	if r.configAt != 0 && r.configAt <= index {
		r.configAt = 0
		r.noteStanding()
	}
	if err := r.compactLog(); err != nil {
		r.store.fail(err)
		return
	}
	r.store.needsMaintenance(r)
}

// compactLog drops entries that are durable in the engine, but for as many as a follower that
// is a little behind may need.
func (r *Replica) compactLog() error {
	first, last := r.log.First(), r.log.Last()
	upTo := min(r.flush.durable, last)
	retain := consensus.Index(r.store.opts.RetainLogEntries)
	if entries := last + 1 - first; entries > 0 && r.flush.retainedBytes > r.store.opts.RetainLogBytes {
		// Entries of about equal size: keep the share that fits.
		retain = min(retain, consensus.Index(float64(entries)*float64(r.store.opts.RetainLogBytes)/float64(r.flush.retainedBytes)))
	}
	if last > retain {
		upTo = min(upTo, last-retain)
	} else {
		upTo = 0
	}
	if upTo < first {
		return nil
	}
	entries := last + 1 - first
	r.flush.retainedBytes -= int64(float64(r.flush.retainedBytes) * float64(upTo+1-first) / float64(entries))
	r.core.Compact(upTo)
	return r.store.opts.Log.Compact(r.group, upTo)
}

// compactChunk deletes a bounded number of superseded rows.
func (r *Replica) compactChunk() error {
	engine := r.store.opts.Engine
	batch := engine.NewBatch()
	defer batch.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	more, err := r.machine.CompactStep(batch, r.store.opts.FlushChunkRows)
	if err != nil {
		return err
	}
	r.compact.running = more
	return engine.Apply(batch)
}

// Flush makes the whole state durable, so that a restart need not replay the log. It is part of a clean
// shutdown: call it after Close.
func (s *Store) Flush() error {
	for _, r := range s.order {
		if err := r.flushAll(); err != nil {
			return err
		}
	}
	return await(s.opts.Engine.Flush)
}

// await has an engine flush, and waits for it.
func await(flush func(func(error))) error {
	done := make(chan error, 1)
	flush(func(err error) { done <- err })
	return <-done
}

// flushNow writes everything dirty to the engine, for a snapshot of it, and has it made durable.
func (r *Replica) flushNow() error {
	before := r.flush.written
	if err := r.flushAll(); err != nil {
		return err
	}
	if r.flush.written != before {
		r.flushEngine(r.flush.written)
	}
	return nil
}

// flushAll writes everything dirty to the engine. It does not make it durable.
func (r *Replica) flushAll() error {
	if r.flush.running {
		// An older run: write it, then what came since.
		if err := r.writeRun(); err != nil {
			return err
		}
	}
	r.mu.Lock()
	frozen := r.machine.Freeze()
	r.mu.Unlock()
	if !frozen {
		return nil // nothing was applied since the last run
	}
	return r.writeRun()
}

func (r *Replica) writeRun() error {
	for {
		done, _, err := r.writeChunk(1 << 16)
		if err != nil {
			return err
		}
		if done {
			r.flush.running = false
			return nil
		}
	}
}
