package driver

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// maxBeside is how many requests are decided beside the rounds of a node at one time. More would not end earlier: they need processors.
const maxBeside = 2

// beside are the requests of a replica that take longer than a round may; see shard.Beside.
type beside struct {
	jobs    []*besideJob // that are not decided
	running int          // of them
	decided []*besideJob // to be finished in the next round
	blocked []request    // they wait for one of those above to end
	// parked wait for locks, by their places in the queue of the machine (shard.Outcome.Place).
	parked map[uint64][]request
	partly []partlyDone
	staged []*besideJob // decided, and being put into the log bit by bit
	taking int          // of those, how many take effect with a proposal that is not applied
	// released: one of them has ended, or a transaction over several shards that others wait for. heard is what the machine counted of the latter.
	released bool
	heard    uint64
}

// partlyDone is a request whose next part is evaluated when the one before is applied: others have their turn in between.
type partlyDone struct {
	request request
	seq     uint64
	bulk    bool // the part takes effect as a bulk: others wait for its latches
}

// besideJob is a request that is decided by a goroutine.
type besideJob struct {
	replica *Replica
	of      *shard.Beside
	request request
	// ended: nobody waits for the answer any more, it has been given.
	ended atomic.Bool
}

// unfinished tells whether a round has something to do for them.
func (b *beside) unfinished() bool {
	return b.waiting() > 0 || len(b.decided) > 0 || len(b.partly) > 0 || len(b.staged) > 0 || b.released
}

// underWay tells whether there is anything that others may wait for.
func (b *beside) underWay() bool {
	return len(b.jobs)+len(b.decided)+len(b.staged)+b.taking > 0 || b.released || slices.ContainsFunc(b.partly, func(p partlyDone) bool { return p.bulk })
}

// waiting is how many are not under way yet.
func (b *beside) waiting() int { return len(b.jobs) - b.running }

// block keeps a request until it can be evaluated again.
func (b *beside) block(q request, out shard.Outcome) {
	switch {
	case out.Begun:
		b.partly = append(b.partly, partlyDone{q, out.WaitFor, out.Effects})
	case out.Place != 0:
		if b.parked == nil {
			b.parked = make(map[uint64][]request)
		}
		b.parked[out.Place] = append(b.parked[out.Place], q)
	default:
		b.blocked = append(b.blocked, q)
	}
}

// waits tells whether requests wait for others to end that may take long.
func (b *beside) waits() bool { return len(b.blocked) > 0 || len(b.parked) > 0 }

// inOrder are the parked requests in the order of their arrival.
func (b *beside) inOrder() (list []request) {
	for _, place := range slices.Sorted(maps.Keys(b.parked)) {
		list = append(list, b.parked[place]...)
	}
	return list
}

// startBeside has requests decided that have their latches, and for which everything that was in flight is applied.
func (r *Replica) startBeside() {
	for r.beside.waiting() > 0 && r.driver.besides < maxBeside {
		r.mu.Lock()
		next := r.machine.NextBeside()
		r.mu.Unlock()
		if next == nil {
			return
		}
		job := r.beside.jobs[slices.IndexFunc(r.beside.jobs, func(j *besideJob) bool { return j.of == next })]
		r.beside.running++
		r.driver.besides++
		r.driver.metrics.requestsBeside.Add(1)
		r.spawn(func() { job.of.Run(job.stop) }, func() { r.besideDecided(job) })
	}
}

// stop tells whether nobody waits for the answer. It is asked often, and lets others have the processor.
func (j *besideJob) stop() bool {
	runtime.Gosched()
	return j.unwanted()
}

func (j *besideJob) unwanted() bool {
	return j.ended.Load() || j.replica.driver.context.Err() != nil || !j.request.wanted()
}

// besideDecided is called when a goroutine is through with a request.
func (r *Replica) besideDecided(job *besideJob) {
	r.driver.besides-- // in this round those of others have their turn
	if job.ended.Load() {
		job.of.Drop()
		return
	}
	b := &r.beside
	b.jobs = slices.DeleteFunc(b.jobs, func(j *besideJob) bool { return j == job })
	b.running--
	b.decided = append(b.decided, job)
	r.driver.markWorking(r)
}

// finishBeside lets what was decided take effect, and those who waited for it have another try.
func (r *Replica) finishBeside() error {
	b := &r.beside
	decided := b.decided
	b.decided = nil
	for _, job := range decided {
		out := r.machine.FinishBeside(job.of)
		if out.Staged {
			b.staged = append(b.staged, job)
			continue
		}
		b.released = true
		if err := r.decide(job.request, out); err != nil {
			return fmt.Errorf("finish a request that took long: %w", err)
		}
	}
	if err := r.stepBulk(); err != nil {
		return fmt.Errorf("stage the effects of a request: %w", err)
	}
	b.partly = slices.DeleteFunc(b.partly, func(p partlyDone) bool {
		applied := p.seq <= r.appliedSeq
		if applied {
			r.queue.push(p.request)
			b.released = b.released || p.bulk
		}
		return applied
	})
	if b.released {
		b.released = false
		for i := range b.blocked {
			r.queue.push(b.blocked[i])
		}
		b.blocked = nil
	}
	return nil
}

// stepBulk goes on with effects that are put into the log bit by bit. The latches of the request are given back when they are in force.
func (r *Replica) stepBulk() error {
	b := &r.beside
	for i := 0; i < len(b.staged); {
		job := b.staged[i]
		if !job.unwanted() {
			i++
			continue
		}
		b.staged, b.released = slices.Delete(b.staged, i, i+1), true
		if err := r.machine.AbandonBulk(job.of); err != nil {
			return err
		}
		job.of.Drop()
		q := job.request
		q.err = kv.ErrTimeout
		r.finish(q, 0)
	}
	if len(b.staged) == 0 {
		return nil
	}
	of, out := r.machine.StepBulk()
	if of == nil {
		return nil
	}
	i := slices.IndexFunc(b.staged, func(j *besideJob) bool { return j.of == of })
	q := b.staged[i].request
	b.staged = slices.Delete(b.staged, i, i+1)
	if q.bulk = out.Effects && !out.Begun; q.bulk {
		b.taking++
	} else if !out.Begun {
		b.released = true
	}
	return r.decide(q, out)
}

// beginBesideAnew has all of them evaluated again, when a leadership begins anew and nothing is in flight.
func (r *Replica) beginBesideAnew() {
	b := r.beside
	r.beside = beside{heard: b.heard}
	for _, job := range b.jobs {
		job.ended.Store(true)
		r.evaluateAgain(job.request)
	}
	for _, job := range slices.Concat(b.decided, b.staged) {
		job.of.Drop()
		r.evaluateAgain(job.request)
	}
	for _, q := range slices.Concat(b.blocked, b.inOrder()) {
		r.evaluateAgain(q)
	}
	for i := range b.partly {
		r.evaluateAgain(b.partly[i].request)
	}
}

// refuseBeside fails all of them: with another error those whose evaluation has begun, so that no other leader begins with them, too. Those that
// are partly done may have an effect.
func (r *Replica) refuseBeside(err, evaluated error) {
	r.refuseAsking(err)
	b := r.beside
	r.beside = beside{heard: b.heard}
	refuse := func(q request, err error) {
		q.resp, q.err = nil, err
		r.finish(q, 0)
	}
	for _, job := range b.jobs {
		job.ended.Store(true)
		refuse(job.request, evaluated)
	}
	for _, job := range b.decided {
		job.of.Drop()
		refuse(job.request, evaluated)
	}
	for _, job := range b.staged {
		job.of.Drop()
		refuse(job.request, evaluated)
	}
	for _, q := range slices.Concat(b.blocked, b.inOrder()) {
		refuse(q, err)
	}
	for i := range b.partly {
		refuse(b.partly[i].request, evaluated)
	}
}
