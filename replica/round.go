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

// Round does everything that can be done now, and tells whether there is more to do at once.
func (s *Store) Round() (again bool) {
	if s.Err() != nil {
		return false
	}
	in := s.inbox.take()
	now := s.clock() // after the messages were taken: package liveness relies on it
	for _, call := range in.calls {
		call()
	}
	s.stepHeartbeats(now, in.heartbeats)
	s.stepMessages(now, in.messages)
	s.queueRequests(in.requests)
	s.inbox.release(in)
	s.tick(now)
	s.evaluate(now)

	// An acknowledged write may commit entries, and an applied one may make room for the next
	// proposal; each of these is the next pass of the same round. The bound only keeps a round short.
	for pass := 0; pass < 4 && len(s.dirty) > 0; pass++ {
		s.pump(now)
		if s.Err() != nil {
			return false
		}
		s.evaluate(now)
	}
	s.answer()
	s.sendFrames()
	s.opts.Transport.Flush()
	s.maintain()
	s.metrics.rounds.Add(1)
	return len(s.dirty) > 0 || s.inbox.waiting()
}

// pump moves the work of all dirty groups: messages leave, one write, one sync, committed entries
// are applied.
func (s *Store) pump(now time.Duration) {
	dirty := s.dirty
	s.dirty, s.spareDirty = s.spareDirty[:0], nil
	s.appends = s.appends[:0]
	for _, r := range dirty {
		r.dirty = false
		if err := r.takeReady(); err != nil {
			s.fail(err)
			return
		}
	}
	needSync := s.needsSync()
	if needSync {
		// Followers write while this node does.
		s.sendFrames()
		s.opts.Transport.Flush()
	}
	if !s.write() {
		return
	}
	for _, r := range dirty {
		if err := r.apply(now); err != nil {
			s.fail(err)
			return
		}
	}
	if needSync {
		// Answers to other nodes' requests leave now, not after the sync.
		s.answer()
		s.opts.Transport.Flush()
	}
	s.sync()
	for _, r := range dirty {
		r.settle(now)
	}
	clear(dirty)
	s.spareDirty = dirty[:0]
}

// write puts what all groups have to append into the log, as one unit.
func (s *Store) write() bool {
	if len(s.appends) == 0 {
		return true
	}
	if err := s.opts.Log.Write(s.appends); err != nil {
		s.fail(err)
		return false
	}
	clear(s.appends)
	return true
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
// waits, otherwise in a goroutine, one at a time, while rounds go on. Acknowledgements that
// nobody waits for ride on the next sync.
func (s *Store) sync() {
	if len(s.syncing) > 0 || !s.needsSync() {
		return
	}
	s.syncing, s.unsynced = s.unsynced, s.syncing[:0]
	s.metrics.syncs.Add(1)
	if !s.slowDisk && !s.inbox.waiting() {
		began := s.clock()
		err := s.opts.Log.Sync()
		s.syncDone(err, s.clock()-began)
		return
	}
	s.workers.Add(1)
	go func() {
		defer s.workers.Done()
		began := s.clock()
		err := s.opts.Log.Sync()
		took := s.clock() - began
		s.call(func() { s.syncDone(err, took) })
	}()
}

// syncDone acknowledges everything that the sync covered.
func (s *Store) syncDone(err error, took time.Duration) {
	if err != nil {
		s.fail(err)
		return
	}
	s.slowDisk = took > slowSync
	if took > 20*slowSync && s.opts.Listener.SlowSync != nil {
		s.opts.Listener.SlowSync(took)
	}
	for i := range s.syncing {
		ack := &s.syncing[i]
		ack.replica.core.AckAppend(ack.mark)
		ack.replica.send(ack.afterSync)
		s.markDirty(ack.replica)
		*ack = pendingAck{}
	}
	s.syncing = s.syncing[:0]
	if s.needsSync() {
		s.sync()
	}
}

// answer gives the finished requests their answers.
func (s *Store) answer() {
	for i := range s.finished {
		s.finished[i].request.finish(s.finished[i].applied)
		s.finished[i] = finished{}
	}
	s.finished = s.finished[:0]
}

// sendFrames puts the messages of the round into one frame a peer.
func (s *Store) sendFrames() {
	for i := range s.out {
		p := &s.out[i]
		if len(p.messages) == 0 {
			continue
		}
		epoch, _ := s.live.PromiseEpoch(s.clock(), p.node)
		sent := s.opts.Transport.Append(p.node, ChannelConsensus, func(b []byte) []byte {
			b = appendFrameHeader(b, epoch)
			for j := range p.messages {
				b = appendGroupMessage(b, &p.messages[j])
			}
			return b
		})
		if !sent {
			s.metrics.framesDropped.Add(1)
		}
		clear(p.messages)
		p.messages = p.messages[:0]
	}
}

// queueRequests hands new requests to their groups.
func (s *Store) queueRequests(requests []request) {
	for i := range requests {
		r := requests[i].replica
		r.queue.push(requests[i])
		s.markWorking(r)
	}
}

// evaluate lets every leader with room in flight evaluate what is queued, and proposes the effects of
// each group as one entry.
func (s *Store) evaluate(now time.Duration) {
	kept := s.working[:0]
	for _, r := range s.working {
		if err := r.evaluate(now); err != nil {
			s.fail(err)
			return
		}
		r.working = r.queue.len() > 0 || r.leaseWork
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
	kept := s.ticking[:0]
	for _, r := range s.ticking {
		if !r.ticking {
			r.listed = false
			continue
		}
		r.core.Tick()
		s.markDirty(r)
		kept = append(kept, r)
	}
	clear(s.ticking[len(kept):])
	s.ticking = kept
	for _, r := range s.working {
		if !r.leading || !r.leaseWork {
			continue
		}
		r.mu.Lock()
		err := r.machine.Tick(now)
		r.leaseWork = r.machine.WantsTicks()
		r.mu.Unlock()
		if err != nil {
			s.fail(fmt.Errorf("group %d: expire leases: %w", r.group, err))
			return
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
			s.nodeLost(now, node)
		}
		for _, node := range ready.Restarted {
			s.nodeLost(now, node)
		}
	}
	if len(frames) > 0 {
		s.takePromises()
	}
	s.campaign(now)
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

// nodeLost tells every group that followed a leader on the node that it is gone. One of
// the followers campaigns at once, the others a little later, so that votes are not split.
func (s *Store) nodeLost(now time.Duration, node kv.NodeID) {
	if s.opts.Listener.NodeLost != nil {
		s.opts.Listener.NodeLost(node)
	}
	for _, r := range s.order {
		if r.followed != node {
			continue
		}
		r.followed = 0
		if r.role.Role == consensus.RoleLeader {
			continue
		}
		r.core.LeaderLost()
		r.campaignAt = now + s.campaignDelay()
		s.setTicking(r, true)
		s.markDirty(r)
	}
}

// campaignDelay staggers the campaigns of the nodes that are alive, with some jitter.
func (s *Store) campaignDelay() time.Duration {
	step := s.opts.HeartbeatInterval / 2
	rank := 0
	for _, node := range s.opts.Nodes {
		if node == s.opts.Self {
			break
		}
		if s.live.Alive(node) {
			rank++
		}
	}
	return time.Duration(rank)*step + time.Duration(s.opts.Rand.Int64N(int64(step)/4+1))
}

// campaign starts the elections that are due, and tries again while nobody leads.
func (s *Store) campaign(now time.Duration) {
	if !s.live.MayVote(now) {
		return
	}
	for _, r := range s.ticking {
		if r.campaignAt == 0 || now < r.campaignAt {
			continue
		}
		if r.role.Leader != 0 || r.role.Role == consensus.RoleLeader || r.supporting(now) {
			r.campaignAt = 0
			continue
		}
		r.core.Campaign()
		r.campaignAt = now + 2*s.opts.HeartbeatInterval + s.campaignDelay()
		s.markDirty(r)
	}
}

// appended queues a write for this round's log unit.
func (s *Store) appended(a storage.GroupAppend) { s.appends = append(s.appends, a) }
