package replica

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

// Round does everything that can be done now, and tells whether there is more to do at once.
func (s *Store) Round() (again bool) {
	if s.Err() != nil {
		return false
	}
	s.inRound.Store(true)
	began := s.clock()
	in := s.inbox.take()
	s.round(&in)
	s.inRound.Store(false)
	ended := s.clock()
	s.beat.Store(int64(ended))
	if took := int64(ended - began); took > s.metrics.longestRound.Load() {
		s.metrics.longestRound.Store(took) // rounds are the only writer
	}
	if s.Err() != nil {
		s.abandon(kv.ErrUnhealthy) // what was queued after the failure
		return false
	}
	s.inbox.release(in)
	s.metrics.rounds.Add(1)
	return len(s.dirty) > 0 || s.inbox.urgent() || s.holding.Load() && s.hurry.Load()
}

func (s *Store) round(in *contents) {
	now := s.clock() // after the messages were taken: package liveness relies on it
	s.runCalls(in.calls)
	s.queueRequests(in.requests)
	s.stepHeartbeats(now, in.heartbeats)
	s.stepMessages(now, in.messages)
	if s.Err() != nil {
		return
	}
	s.tick(now)
	s.beginEvaluating(now)
	s.evaluate(now)

	// An acknowledged write may commit entries, and an applied one may make room for the next
	// proposal; each of these is the next pass of the same round. The bound only keeps a round short.
	for pass := 0; pass < 4 && len(s.dirty) > 0 && s.Err() == nil; pass++ {
		s.pump(now)
		s.evaluate(now)
	}
	if s.Err() != nil {
		return
	}
	s.answer()
	s.sendFrames()
	s.opts.Transport.Flush()
	s.maintain()
}

// runCalls does what others asked for. Once the driver has failed it refuses the rest.
func (s *Store) runCalls(calls []call) {
	for i := range calls {
		switch c := &calls[i]; {
		case s.Err() == nil:
			c.do()
		case c.refused != nil:
			c.refused(kv.ErrUnhealthy)
		}
	}
}

// pump moves the work of all dirty groups: messages leave, one write, one sync, committed entries
// are applied.
func (s *Store) pump(now time.Duration) {
	dirty := s.dirty
	s.dirty, s.spareDirty = s.spareDirty[:0], nil
	s.appends = s.appends[:0]
	for _, r := range dirty {
		r.dirty = false
		if !r.ended && s.Err() == nil {
			s.judge(r, r.takeReady())
		}
	}
	for _, r := range dirty {
		if !r.ended && s.Err() == nil {
			s.judge(r, r.apply(now))
		}
	}
	if s.Err() != nil {
		return
	}
	if s.needsSync() {
		// Followers write while this node does; answers leave now, not after the sync.
		s.sendFrames()
		s.opts.Transport.Flush()
	}
	if len(s.finished) > 0 {
		s.answer()
		s.opts.Transport.Flush()
	}
	if !s.write(now) {
		return
	}
	s.sync()
	if s.Err() != nil {
		return
	}
	for _, r := range dirty {
		if !r.ended {
			r.rest(now)
		}
	}
	clear(dirty)
	s.spareDirty = dirty[:0]
}

// write puts what all groups have to append into the log, as one unit.
func (s *Store) write(now time.Duration) bool {
	if len(s.appends) == 0 {
		return true
	}
	if err := s.opts.Log.Write(s.appends, s.node.Write(now)); err != nil {
		s.fail(err)
		return false
	}
	for i := range s.appends {
		if r, err := s.replica(s.appends[i].Group); err == nil {
			s.judge(r, r.logReachesState())
		}
	}
	clear(s.appends)
	return s.Err() == nil
}

// judge ends the replica if there is an error, or the node.
func (s *Store) judge(r *Replica, err error) {
	if err != nil {
		r.fail(err)
	}
}

// logReachesState finds out when the log ends before what is applied, as it does if a snapshot was installed and the log not reset: the core
// would refuse whatever the leader sends, which would send it again at once, 256 messages at a time. Logs with holes may be cut lower.
func (r *Replica) logReachesState() error {
	if last, applied := r.log.Last(), r.machine.AppliedIndex(); last < applied && !r.store.opts.OutOfOrderLog {
		return fmt.Errorf("group %d: the log ends at entry %d, but the state at entry %d", r.group, last, applied)
	}
	return nil
}

// needsSync tells whether somebody waits for a write to be durable.
func (s *Store) needsSync() bool {
	for i := range s.unsynced {
		if s.unsynced[i].needSync {
			return true
		}
	}
	return false
}

// sync makes what was written durable if somebody waits for it: inline while the disk is quick and nothing else
// waits, otherwise beside the rounds, one at a time, while they go on. Acknowledgements that
// nobody waits for ride on the next sync.
func (s *Store) sync() {
	if len(s.syncing) > 0 || !s.needsSync() {
		return
	}
	s.syncing, s.unsynced = s.unsynced, s.syncing[:0]
	s.node.Syncing()
	s.metrics.syncs.Add(1)
	if s.clock() >= s.slowUntil && !s.inbox.waiting() {
		took, err := s.syncLog()
		s.syncDone(err, took)
		return
	}
	s.spawn(func() {
		took, err := s.syncLog()
		s.call(func() { s.syncDone(err, took) })
	})
}

func (s *Store) syncLog() (took time.Duration, err error) {
	began := s.clock()
	err = s.opts.Log.Sync()
	return s.clock() - began, err
}

// syncDone acknowledges everything that the sync covered.
func (s *Store) syncDone(err error, took time.Duration) {
	if err != nil {
		s.fail(err)
		return
	}
	s.node.Synced()
	if took > slowSync {
		s.slowUntil = s.clock() + slowFor
	}
	if took > 20*slowSync && s.opts.Listener.SlowSync != nil {
		s.opts.Listener.SlowSync(took)
	}
	for i := range s.syncing {
		ack := &s.syncing[i]
		switch {
		case ack.dropped != nil:
			ack.dropped.done(nil)
		case ack.replica != nil && !ack.replica.ended:
			ack.replica.core.AckAppend(ack.mark)
			ack.replica.send(ack.afterSync)
			s.markDirty(ack.replica)
		}
		*ack = pendingAck{}
	}
	s.syncing = s.syncing[:0]
	s.sync()
}

// answer gives the finished requests their answers.
func (s *Store) answer() {
	// An answer may lead to further ones, when its receiver asks again and is refused at once.
	for i := 0; i < len(s.finished); i++ {
		f := s.finished[i]
		s.finished[i] = finished{}
		s.letOut(int64(f.request.sizeBytes))
		f.request.finish(f.applied)
	}
	s.finished = s.finished[:0]
}

// queueRequests hands new requests to their groups.
func (s *Store) queueRequests(requests []request) {
	for i := range requests {
		r := requests[i].replica
		if r.ended {
			requests[i].err = kv.ErrNotLeader
			s.finished = append(s.finished, finished{request: requests[i]})
			continue
		}
		r.queue.push(requests[i])
		s.markWorking(r)
	}
}

// evaluate lets every leader with room in flight evaluate what is queued, and proposes the effects of
// each group as one entry.
func (s *Store) evaluate(now time.Duration) {
	if s.Err() != nil {
		return
	}
	kept := s.working[:0]
	for _, r := range s.working {
		if !r.ended && s.Err() == nil {
			s.judge(r, r.evaluate(now))
		}
		r.working = !r.ended && (r.queue.len() > 0 || r.beside.unfinished() || r.leaseWork || r.refused.seq != 0)
		if r.working {
			kept = append(kept, r)
		}
	}
	clear(s.working[len(kept):])
	s.working = kept
}

// tick advances the groups that need it by one tick.
func (s *Store) tick(now time.Duration) {
	if now < s.nextTick {
		return
	}
	// Ticks that were missed while the process did not run are not made up for: their time is
	// not evidence that somebody else was silent.
	s.nextTick = now + s.opts.HeartbeatInterval
	s.tickMembership(now)
	s.scrub(now)
	kept := s.ticking[:0]
	for _, r := range s.ticking {
		if !r.ticking {
			r.listed = false
			continue
		}
		kept = append(kept, r)
		if r.mayTick(now) {
			r.core.Tick()
			s.markDirty(r)
		}
	}
	clear(s.ticking[len(kept):])
	s.ticking = kept
	for _, r := range s.working {
		if r.ended || !r.leading || !r.leaseWork {
			continue
		}
		r.mu.Lock()
		err := r.machine.Tick(now)
		r.leaseWork = r.machine.WantsTicks()
		r.mu.Unlock()
		if err != nil {
			r.fail(fmt.Errorf("group %d: expire leases: %w", r.group, err))
		}
	}
}

// stepHeartbeats deals with heartbeats, with promises that ended, and sends what is due.
func (s *Store) stepHeartbeats(now time.Duration, frames []nodeFrame) {
	for _, f := range frames {
		m, err := liveness.DecodeMessage(f.payload)
		if err == nil {
			err = s.live.Receive(now, f.from, m)
		}
		if err != nil {
			s.refused(0, f.from, err)
		}
	}
	s.live.Advance(now)
	if s.live.HasReady() {
		ready := s.live.Ready()
		for _, m := range ready.Messages {
			s.opts.Transport.Append(m.To, ChannelLiveness, func(b []byte) []byte { return liveness.AppendMessage(b, m.Message) })
		}
		for _, node := range ready.Lapsed {
			s.nodeLost(now, node, false)
		}
		for _, node := range ready.Restarted {
			s.nodeLost(now, node, true)
		}
	}
	if len(frames) > 0 {
		s.takePromises()
	}
	s.advanceLeadership(now)
}

// takePromises publishes what the other nodes promised. A promise of a new epoch has not been
// acknowledged by any group yet: those led here must hear from their followers.
func (s *Store) takePromises() {
	changed := false
	for i := range s.out {
		node := s.out[i].node
		epoch, until := s.live.Support(node)
		changed = s.support.set(node, epoch, until) || changed
	}
	if !changed {
		return
	}
	for _, r := range s.order {
		if r.role.Role == consensus.RoleLeader {
			s.setTicking(r, true)
		}
	}
}

// appended queues a write for this round's log unit.
func (s *Store) appended(a storage.GroupAppend) { s.appends = append(s.appends, a) }
