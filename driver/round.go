package driver

import (
	"fmt"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/liveness"
	"github.com/quoratedb/quorate/storage"
)

// slowSync is the duration from which on a sync is handed to a goroutine, so that heartbeats do
// not wait for the disk. A fast sync is cheaper inline than two switches of goroutines.
const slowSync = 5 * time.Millisecond

// slowFor is how long after a slow sync all syncs go to the goroutine: a disk that stalled once does it again.
const slowFor = time.Second

// writing is what goes into the log, and who hears that it is durable.
type writing struct {
	appends   []storage.GroupAppend
	unsynced  []pendingAck  // written, and waiting for the next sync
	syncing   []pendingAck  // waiting for the sync in flight
	slowUntil time.Duration // a sync was slow: use the goroutine until then
}

// answering is who is to be told what.
type answering struct {
	finished []finished // to be answered at the end of the round
	answered []func()   // to be called after that
	granted  []func()   // to be told that prepares have their locks
}

// Round does everything that can be done now, and tells whether there is more to do at once.
func (d *Driver) Round() (again bool) {
	if d.Err() != nil {
		return false
	}
	d.inRound.Store(true)
	began := d.clock()
	in := d.inbox.take()
	d.round(&in)
	d.inRound.Store(false)
	ended := d.clock()
	d.beat.Store(int64(ended))
	if took := int64(ended - began); took > d.metrics.longestRound.Load() {
		d.metrics.longestRound.Store(took) // rounds are the only writer
	}
	d.metrics.liveness.set(d.live.Metrics())
	if d.Err() != nil {
		d.abandon(kv.ErrUnhealthy) // what was queued after the failure
		return false
	}
	d.inbox.release(in)
	d.metrics.rounds.Add(1)
	return len(d.dirty) > 0 || len(d.granted) > 0 || d.putOff() || d.inbox.urgent() || d.holding.Load() && d.hurry.Load()
}

func (d *Driver) round(in *contents) {
	now := d.clock() // after the messages were taken: package liveness relies on it
	d.runCalls(in.calls)
	d.queueRequests(in.requests)
	d.stepHeartbeats(now, in.heartbeats)
	d.stepMessages(now, in.messages)
	if d.Err() != nil {
		return
	}
	d.tick(now)
	d.beginEvaluating(now)
	d.evaluate(now)

	// An acknowledged write may commit entries, and an applied one may make room for the next
	// proposal; each of these is the next pass of the same round. The bound only keeps a round short.
	crowded := d.crowded()
	for pass := 0; pass < 4 && len(d.dirty) > 0 && d.Err() == nil; pass++ {
		d.pump(now)
		if !crowded {
			d.evaluate(now)
		}
	}
	if d.Err() != nil {
		return
	}
	d.backlog.endRound()
	d.callClean()
	d.answer()
	d.sendFrames()
	d.opts.Transport.Flush()
	d.maintain()
}

// runCalls does what others asked for. Once the driver has failed it refuses the rest.
func (d *Driver) runCalls(calls []call) {
	for i := range calls {
		switch c := &calls[i]; {
		case d.Err() == nil:
			c.do()
		case c.refused != nil:
			c.refused(kv.ErrUnhealthy)
		}
	}
}

// pump moves the work of all dirty groups: messages leave, one write, one sync, committed entries
// are applied.
func (d *Driver) pump(now time.Duration) {
	dirty := d.dirty
	d.dirty, d.spareDirty = d.spareDirty[:0], nil
	d.appends = d.appends[:0]
	for _, r := range dirty {
		r.in.dirty = false
		if !r.ended && d.Err() == nil {
			d.judge(r, r.takeReady())
		}
	}
	for _, r := range dirty {
		if !r.ended && d.Err() == nil {
			d.judge(r, r.apply(now))
		}
	}
	if d.Err() != nil {
		return
	}
	if d.needsSync() {
		// Followers write while this node does; answers leave now, not after the sync.
		d.sendFrames()
		d.opts.Transport.Flush()
	}
	if len(d.finished) > 0 {
		d.answer()
		d.opts.Transport.Flush()
	}
	if !d.write(now) {
		return
	}
	d.sync()
	if d.Err() != nil {
		return
	}
	for _, r := range dirty {
		if !r.ended {
			r.rest(now)
		}
	}
	clear(dirty)
	d.spareDirty = dirty[:0]
}

// write puts what all groups have to append into the log, as one unit.
func (d *Driver) write(now time.Duration) bool {
	if len(d.appends) == 0 {
		return true
	}
	if err := d.opts.Log.Write(d.appends, d.node.Write(now)); err != nil {
		d.fail(err)
		return false
	}
	for i := range d.appends {
		if r, err := d.replica(d.appends[i].Group); err == nil {
			d.judge(r, r.logReachesState())
		}
	}
	clear(d.appends)
	return d.Err() == nil
}

// judge ends the replica if there is an error, or the node.
func (d *Driver) judge(r *driven, err error) {
	if err != nil {
		r.fail(err)
	}
}

// logReachesState finds out when the log ends before what is applied, as it does if a snapshot was installed and the log not reset: the core
// would refuse whatever the leader sends, which would send it again at once, 256 messages at a time. Logs with holes may be cut lower.
func (r *driven) logReachesState() error {
	if last, applied := r.log.Last(), r.machine.AppliedIndex(); last < applied && !r.driver.opts.OutOfOrderLog {
		return fmt.Errorf("group %d: the log ends at entry %d, but the state at entry %d", r.group, last, applied)
	}
	return nil
}

// needsSync tells whether somebody waits for a write to be durable.
func (w *writing) needsSync() bool {
	for i := range w.unsynced {
		if w.unsynced[i].needSync {
			return true
		}
	}
	return false
}

// sync makes what was written durable if somebody waits for it: inline while the disk is quick and nothing else
// waits, otherwise beside the rounds, one at a time, while they go on. Acknowledgements that
// nobody waits for ride on the next sync.
func (d *Driver) sync() {
	if len(d.syncing) > 0 || !d.needsSync() {
		return
	}
	d.syncing, d.unsynced = d.unsynced, d.syncing[:0]
	d.node.Syncing()
	d.metrics.syncs.Add(1)
	if d.clock() >= d.slowUntil && !d.inbox.waiting() {
		took, err := d.syncLog()
		d.syncDone(err, took)
		return
	}
	d.spawn(func() {
		took, err := d.syncLog()
		d.call(func() { d.syncDone(err, took) })
	})
}

func (d *Driver) syncLog() (took time.Duration, err error) {
	began := d.clock()
	err = d.opts.Log.Sync()
	return d.clock() - began, err
}

// syncDone acknowledges everything that the sync covered.
func (d *Driver) syncDone(err error, took time.Duration) {
	if err != nil {
		d.fail(err)
		return
	}
	d.node.Synced()
	if took > slowSync {
		d.slowUntil = d.clock() + slowFor
	}
	if took > 20*slowSync && d.opts.Listener.SlowSync != nil {
		d.opts.Listener.SlowSync(took)
	}
	for i := range d.syncing {
		ack := &d.syncing[i]
		d.backlog.durable(ack.backlogBytes)
		switch {
		case ack.dropped != nil:
			d.removed(ack.dropped)
		case ack.then != nil:
			ack.then()
		case ack.replica != nil && !ack.replica.ended:
			ack.replica.core.AckAppend(ack.mark)
			ack.replica.send(ack.afterSync)
			d.markDirty(ack.replica)
		}
		*ack = pendingAck{}
	}
	d.syncing = d.syncing[:0]
	d.sync()
}

// answer gives the finished requests their answers.
func (d *Driver) answer() {
	// An answer may lead to further ones, when its receiver asks again and is refused at once.
	for i := 0; i < len(d.finished); i++ {
		f := d.finished[i]
		d.finished[i] = finished{}
		d.letOut(int64(f.request.sizeBytes))
		f.request.finish(f.applied)
	}
	d.finished = d.finished[:0]
	answered := d.answered
	d.answered = nil
	for _, tell := range answered {
		tell()
	}
}

// queueRequests hands new requests to their groups.
func (d *Driver) queueRequests(requests []request) {
	for i := range requests {
		r := requests[i].replica
		if r.ended {
			requests[i].err = kv.ErrNotLeader
			d.finished = append(d.finished, finished{request: requests[i]})
			continue
		}
		r.queue.push(requests[i])
		d.markWorking(r)
	}
}

// evaluate lets every leader with room in flight evaluate what is queued, and proposes the effects of
// each group as one entry.
func (d *Driver) evaluate(now time.Duration) {
	d.evaluateWorking(now)
	d.tellGranted(now)
}

func (d *Driver) evaluateWorking(now time.Duration) {
	if d.Err() != nil {
		return
	}
	d.freed = false
	kept := d.working[:0]
	for _, r := range d.working {
		if !r.ended && d.Err() == nil {
			d.judge(r, r.evaluate(now))
		}
		r.in.working = !r.ended && (r.evaluation.due() || r.leaseWork || r.refused.seq != 0 || r.sequenced.due())
		if r.in.working {
			kept = append(kept, r)
		}
	}
	clear(d.working[len(kept):])
	d.working = kept
	if d.asked {
		d.asked = false
		d.opts.Numbers.SendAsked()
	}
}

// tick advances the groups that need it by one tick.
func (d *Driver) tick(now time.Duration) {
	if now < d.nextTick {
		return
	}
	// Ticks that were missed while the process did not run are not made up for: their time is
	// not evidence that somebody else was silent.
	d.nextTick = now + d.opts.HeartbeatInterval
	d.tickMembership(now)
	d.scrub(now)
	kept := d.ticking[:0]
	for _, r := range d.ticking {
		if !r.ticking {
			r.in.ticking = false
			continue
		}
		kept = append(kept, r)
		if r.mayTick(now) {
			r.core.Tick()
			d.markDirty(r)
		}
	}
	clear(d.ticking[len(kept):])
	d.ticking = kept
	for _, r := range d.working {
		if r.ended || !r.leading || !r.leaseWork {
			continue
		}
		r.leaseTick = true
	}
}

// stepHeartbeats deals with heartbeats, with promises that ended, and sends what is due.
func (d *Driver) stepHeartbeats(now time.Duration, frames []nodeFrame) {
	for _, f := range frames {
		m, err := liveness.DecodeMessage(f.payload)
		if err == nil {
			err = d.live.Receive(now, f.from, m)
		}
		if err != nil {
			d.refused(0, f.from, err)
		}
	}
	d.live.Advance(now)
	if d.live.HasReady() {
		ready := d.live.Ready()
		for _, m := range ready.Messages {
			d.opts.Transport.Append(m.To, ChannelLiveness, func(b []byte) []byte { return liveness.AppendMessage(b, m.Message) })
		}
		for _, node := range ready.Lapsed {
			d.nodeLost(now, node, false)
		}
		for _, node := range ready.Restarted {
			d.nodeLost(now, node, true)
		}
	}
	if len(frames) > 0 {
		d.takePromises()
	}
	d.advanceLeadership(now)
}

// takePromises publishes what the other nodes promised. A promise of a new epoch has not been
// acknowledged by any group yet: those led here must hear from their followers.
func (d *Driver) takePromises() {
	changed := false
	for i := range d.out {
		node := d.out[i].node
		epoch, until := d.live.Support(node)
		changed = d.support.set(node, epoch, until) || changed
	}
	if !changed {
		return
	}
	for _, r := range d.order {
		if r.role.Role == consensus.RoleLeader {
			d.setTicking(r, true)
		}
	}
}

// appended queues a write for this round's log unit.
func (w *writing) appended(a storage.GroupAppend) { w.appends = append(w.appends, a) }
