package driver

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
)

// flushState is where a replica stands with making its state durable.
//
// The latest rows of dirty keys are written lazily, in sorted runs, a chunk a round; the last chunk carries the
// index that was applied when the run was frozen. Once the engine has flushed, the log is needed only
// from there on.
type flushState struct {
	running  bool // a run is being written
	later    bool // it is not one of those that the engine's next flush waits for
	asked    bool // a run is to begin although the group has no need of it
	missed   bool // a bulk began when a run was wanted
	syncing  int  // runs that are written, and not durable yet
	durable  consensus.Index
	logBytes int64 // appended since the last flush began
	since    int64 // how much the node had written to its log before that
	// retainedBytes estimates what the log holds of the group.
	retainedBytes int64
}

// mayFlush tells whether a run may begin for reasons of space.
func (r *driven) mayFlush() bool {
	return !r.flush.running && r.flush.syncing == 0 && r.installing == nil
}

// wantsFlush tells whether the state should be made durable: the dirty keys are many, the log is long,
// a compaction waits for it, or the membership changed. Which entries are decided need not survive a crash, and a replica that
// has forgotten that a change is over would look for a majority of the membership before it, whose members may be gone.
func (r *driven) wantsFlush() bool {
	return r.flush.asked || r.membership.Unflushed() && r.flush.syncing == 0 || r.machine.NeedsFlush() || r.flush.logBytes > r.driver.opts.FlushLogBytes ||
		r.machine.AppliedIndex()-r.flush.durable > consensus.Index(r.driver.opts.FlushLogEntries) && r.flush.syncing == 0 || r.compact.requested > r.flush.durable
}

// flushComesFirst tells whether nothing more is applied until a run has begun. No run begins while effects of a bulk are staged or pending; for a follower
// that is behind one bulk may follow another so closely that there is no moment in between, and its log would grow without a bound. So a run that was
// wanted before a bulk has its turn after it. A leader's bulks wait for those before them anyway (shard.Machine.StepBulk), and its other requests need not.
func (r *driven) flushComesFirst() bool {
	if !r.flush.missed || !r.mayFlush() || !r.wantsFlush() {
		return false
	}
	staged, pending := r.machine.Bulk()
	return staged == 0 && (pending == 0 || !r.leading)
}

// freeze begins a run, if anything was applied since the last one.
func (r *driven) freeze() {
	r.mu.Lock()
	r.flush.running = r.machine.Freeze()
	r.mu.Unlock()
	r.flush.logBytes, r.flush.asked, r.flush.missed = 0, false, false
	if len(r.toApply) > 0 {
		r.driver.markDirty(r)
	}
	r.flush.later = len(r.driver.flushes.written) > 0
	r.reckonMemory()
}

// flushChunk writes the next rows of the run; after the last it has the engine flush.
func (r *driven) flushChunk(rows int) error {
	done, index, err := r.writeChunk(rows)
	if err != nil || !done {
		return err
	}
	r.flush.running = false
	r.awaitDurable(index)
	return nil
}

// engineFlush is how runs of all groups become durable: one flush of the engine covers whatever was written before it. It waits for the runs that were
// under way when the first of them was written, and for the flush before it.
type engineFlush struct {
	written []writtenRun
	running bool
}

// writtenRun is a run whose rows the engine has.
type writtenRun struct {
	replica *driven
	machine Machine
	index   consensus.Index
}

// awaitDurable has a run made durable that is written.
func (r *driven) awaitDurable(index consensus.Index) {
	r.flush.syncing++
	d := r.driver
	d.flushes.written = append(d.flushes.written, writtenRun{r, r.machine, index})
}

// flushEngine makes durable what was written, the indexes included, unless it waits for more.
func (d *Driver) flushEngine() {
	if d.flushes.running || len(d.flushes.written) == 0 {
		return
	}
	for _, r := range d.maintaining {
		if r.flush.running && !r.flush.later {
			return
		}
	}
	for _, r := range d.maintaining {
		r.flush.later = false
	}
	runs := d.flushes.written
	d.flushes = engineFlush{running: true}
	d.metrics.engineFlushes.Add(1)
	d.opts.Engine.Flush(func(err error) {
		d.call(func() { d.engineFlushed(runs, err) })
	})
}

// engineFlushed tells the groups that their runs are durable.
func (d *Driver) engineFlushed(runs []writtenRun, err error) {
	if err != nil {
		d.fail(fmt.Errorf("the state engine could not flush: %w", err))
		return
	}
	d.flushes.running = false
	for _, run := range runs {
		if !run.replica.ended {
			run.replica.flushed(run.machine, run.index)
		}
	}
}

// writeChunk writes rows of the run, and with the last ones the index that will be durable.
func (r *driven) writeChunk(rows int) (done bool, index consensus.Index, err error) {
	engine := r.driver.opts.Engine
	batch := engine.NewBatch()
	defer batch.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if done, err = r.machine.FlushChunk(batch, rows); err != nil {
		return false, 0, err
	}
	if err := ofShared(engine.Apply(batch)); err != nil {
		return false, 0, err
	}
	if done {
		index = r.machine.FlushDone()
	}
	r.reckonMemory()
	return done, index, nil
}

// flushed lets the log go up to what the engine holds durably now.
func (r *driven) flushed(machine Machine, index consensus.Index) {
	if machine != r.machine || r.installing != nil {
		return // a snapshot takes its place
	}
	r.flush.syncing--
	r.flush.durable = max(r.flush.durable, index)
	r.mu.Lock()
	r.machine.MarkDurable(index)
	r.mu.Unlock()
	r.membership.Flushed(index)
	r.carryOutMembership()
	r.forgetCaughtUp()
	if err := r.compactLog(); err != nil {
		r.driver.fail(err)
		return
	}
	r.driver.needsMaintenance(r)
}

// Flush makes the whole state durable, so that a restart need not replay the log. It is part of a clean
// shutdown: call it after Close. The state of a group that cannot be written is replayed, and that of the others need not be. The error is of all that failed.
func (d *Driver) Flush() error {
	var errs []error
	for _, r := range d.order {
		if err := r.flushAll(); err != nil {
			errs = append(errs, fmt.Errorf("group %d: %w", r.group, err))
		}
	}
	return errors.Join(append(errs, await(d.opts.Engine.Flush))...)
}

// await has an engine flush, and waits for it.
func await(flush func(func(error))) error {
	done := make(chan error, 1)
	flush(func(err error) { done <- err })
	return <-done
}

// flushAll writes everything dirty to the engine. It does not make it durable.
func (r *driven) flushAll() error {
	if r.flush.running {
		// An older run: write it, then what came since.
		if err := r.writeRun(); err != nil {
			return err
		}
	}
	if r.freeze(); !r.flush.running {
		return nil // nothing was applied since the last run
	}
	return r.writeRun()
}

func (r *driven) writeRun() error {
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
