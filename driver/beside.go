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

// besideRounds is what the goroutines of a node are at.
type besideRounds struct {
	besides  int // requests that they decide
	shipping int // snapshots on their way to other nodes
}

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
	replica *driven
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
func (r *driven) startBeside() {
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
func (r *driven) besideDecided(job *besideJob) {
	r.driver.besides-- // in this round those of others have their turn
	if job.ended.Load() {
		job.of.Drop()
		return
	}
	r.beside.ended(job)
	r.driver.markWorking(r)
}

// ended notes that a request is decided.
func (b *beside) ended(job *besideJob) {
	b.jobs = slices.DeleteFunc(b.jobs, func(j *besideJob) bool { return j == job })
	b.running--
	b.decided = append(b.decided, job)
}

// again queues those that may be evaluated again: their first part is applied, or what they waited for is released.
func (b *beside) again(appliedSeq uint64, queue *requestQueue) {
	b.partly = slices.DeleteFunc(b.partly, func(p partlyDone) bool {
		applied := p.seq <= appliedSeq
		if applied {
			queue.push(p.request)
			b.released = b.released || p.bulk
		}
		return applied
	})
	if b.released {
		b.released = false
		for i := range b.blocked {
			queue.push(b.blocked[i])
		}
		b.blocked = nil
	}
}

// takeStaged returns one of which all is put into the log.
func (b *beside) takeStaged(of *shard.Beside) request {
	i := slices.IndexFunc(b.staged, func(j *besideJob) bool { return j.of == of })
	q := b.staged[i].request
	b.staged = slices.Delete(b.staged, i, i+1)
	return q
}

// giveUp ends all of it. It returns the requests whose evaluation has begun, those that only wait, and those that are partly done.
func (b *beside) giveUp() (begun, waiting, partly []request) {
	for _, job := range b.jobs {
		job.ended.Store(true)
		begun = append(begun, job.request)
	}
	for _, job := range slices.Concat(b.decided, b.staged) {
		job.of.Drop()
		begun = append(begun, job.request)
	}
	for i := range b.partly {
		partly = append(partly, b.partly[i].request)
	}
	waiting = slices.Concat(b.blocked, b.inOrder())
	*b = beside{heard: b.heard}
	return begun, waiting, partly
}

// unpark queues the parked requests of these places, and tells whether there are any.
func (b *beside) unpark(places []uint64, queue *requestQueue) (any bool) {
	for _, place := range places {
		for _, q := range b.parked[place] {
			queue.push(q)
			any = true
		}
		delete(b.parked, place)
	}
	return any
}

// drop forgets those requests that wait for others, and end.
func (b *beside) drop(ends func(request) bool) {
	b.blocked = slices.DeleteFunc(b.blocked, ends)
	for _, place := range slices.Sorted(maps.Keys(b.parked)) {
		if b.parked[place] = slices.DeleteFunc(b.parked[place], ends); len(b.parked[place]) == 0 {
			delete(b.parked, place)
		}
	}
}

// finishBeside lets what was decided take effect, and those who waited for it have another try.
func (r *driven) finishBeside() error {
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
	b.again(r.appliedSeq, &r.queue)
	return nil
}

// stepBulk goes on with effects that are put into the log bit by bit. The latches of the request are given back when they are in force.
func (r *driven) stepBulk() error {
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
	q := b.takeStaged(of)
	if q.bulk = out.Effects && !out.Begun; q.bulk {
		b.taking++
	} else if !out.Begun {
		b.released = true
	}
	return r.decide(q, out)
}

// beginBesideAnew has all of them evaluated again, when a leadership begins anew and nothing is in flight.
func (r *driven) beginBesideAnew() {
	begun, waiting, partly := r.beside.giveUp()
	for _, q := range slices.Concat(begun, waiting, partly) {
		r.evaluateAgain(q)
	}
}

// refuseBeside fails all of them: with another error those whose evaluation has begun, so that no other leader begins with them, too. Those that
// are partly done may have an effect.
func (r *driven) refuseBeside(err, evaluated error) {
	r.refuseAsking(err)
	begun, waiting, partly := r.beside.giveUp()
	r.refuse(begun, evaluated)
	r.refuse(waiting, err)
	r.refuse(partly, evaluated)
}
