package replica

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// The life of a node's replicas: they come and go while the others go on, and one fails alone.

// Replica returns the node's replica of the group; nil if it has none. One that has failed is still there.
func (s *Store) Replica(group consensus.GroupID) *Replica { return (*s.groups.Load())[group] }

// replica is Replica, without those that have failed.
func (s *Store) replica(group consensus.GroupID) (*Replica, error) {
	switch r := s.Replica(group); {
	case r == nil:
		return nil, fmt.Errorf("replica: this node has no replica of group %d", group)
	case r.ended:
		return nil, fmt.Errorf("replica: this node's replica of group %d has stopped", group)
	default:
		return r, nil
	}
}

// setReplica changes which replica the node has; nil: none.
func (s *Store) setReplica(group consensus.GroupID, r *Replica) {
	groups := maps.Clone(*s.groups.Load())
	if r == nil {
		delete(groups, group)
	} else {
		groups[group] = r
	}
	s.groups.Store(&groups)
}

// begin makes a replica part of the rounds.
func (s *Store) begin(r *Replica) {
	s.setReplica(r.group, r)
	r.begun = true
	r.reckonMemory()
	at, _ := slices.BinarySearchFunc(s.order, r.group, func(o *Replica, group consensus.GroupID) int { return cmp.Compare(o.group, group) })
	s.order = slices.Insert(slices.Clone(s.order), at, r)
	s.setTicking(r, true)
	s.markDirty(r)
	if !r.held() {
		r.takePart()
	}
}

// first are the replicas that the group began with, by node.
func (s *Store) first(group consensus.GroupID) []membership.Home {
	if first := s.opts.First[group]; first != nil {
		return first
	}
	return firstReplicas(s.opts.Nodes)
}

// Add gives the node a replica of a group, which others have as well, or begin with at the same time. first are the replicas that the group began with, this
// node's included; nil: replica i lives on the i-th of Options.Nodes. The state machine comes from Options.OpenMachine. done is called exactly once, from
// the driver's goroutine or at once, and must not block: with nil when the replica is there. It may have to find out, after that, which replica it is.
//
// A group that was removed here is refused: what the replica of this disk voted for is forgotten.
func (s *Store) Add(group consensus.GroupID, first []membership.Home, done func(error)) {
	s.ask(func() { s.add(group, first, done) }, done)
}

func (s *Store) add(group consensus.GroupID, first []membership.Home, done func(error)) {
	switch {
	case group == 0 || group > storage.MaxGroup:
		done(fmt.Errorf("replica: no group has the number %d", group))
		return
	case s.Replica(group) != nil || s.adding[group] != nil:
		done(fmt.Errorf("replica: this node has a replica of group %d already", group))
		return
	}
	if first == nil {
		first = firstReplicas(s.opts.Nodes)
	}
	s.adding[group] = done
	end := s.opts.Log.Group(group).Last()
	s.spawn(func() {
		machine, err := s.openMachine(group, end)
		s.call(func() { s.addOpened(group, first, machine, err) })
	})
}

// addOpened goes on when the state machine is there.
func (s *Store) addOpened(group consensus.GroupID, first []membership.Home, machine Machine, err error) {
	var r *Replica
	var row []byte
	if err == nil {
		r, row, err = s.newReplica(group, first, machine)
	}
	switch {
	case err != nil:
		s.addEnded(group, nil, err)
	case row == nil:
		s.addEnded(group, r, nil)
	default:
		err = r.writeIdentity(row, func(flush func(func(error))) error {
			flush(func(err error) { s.call(func() { s.addEnded(group, r, err) }) })
			return nil
		})
		if err != nil {
			s.addEnded(group, r, err)
		}
	}
}

func (s *Store) addEnded(group consensus.GroupID, r *Replica, err error) {
	done, waiting := s.adding[group]
	if !waiting {
		return // the node has failed
	}
	delete(s.adding, group)
	if err != nil {
		if r != nil {
			r.membership.Close()
		}
		done(fmt.Errorf("replica: group %d: %w", group, err))
		return
	}
	s.begin(r)
	r.carryOutMembership()
	done(nil)
}

// removal is a replica that is being removed.
type removal struct {
	replica *Replica
	done    func(error)
}

// Remove ends the node's replica of a group, as if its process were killed, and forgets its log. Whoever has a vote, and is removed, is missing. What waits for
// the replica is refused with kv.ErrStopped. done is called exactly once, from the driver's goroutine or at once, and must not block: with nil when nothing
// uses the state any more, and the log is durably gone. The caller may delete the rows of the state then. The row that says which replica this was stays, so that the
// same disk is never taken for it again.
func (s *Store) Remove(group consensus.GroupID, done func(error)) {
	s.ask(func() { s.remove(group, done) }, done)
}

func (s *Store) remove(group consensus.GroupID, done func(error)) {
	r := s.Replica(group)
	if r == nil {
		done(fmt.Errorf("replica: this node has no replica of group %d", group))
		return
	}
	if !r.ended {
		r.end(kv.ErrStopped, "removed")
	}
	r.membership.Close()
	s.setReplica(group, nil)
	s.removals = append(s.removals, &removal{replica: r, done: done})
	s.goOnRemoving()
}

// goOnRemoving drops the logs of those replicas that nothing is at work for any more.
func (s *Store) goOnRemoving() {
	removals := s.removals
	s.removals = nil
	for i, m := range removals {
		if m.replica.jobs > 0 {
			s.removals = append(s.removals, m)
			continue
		}
		if err := s.opts.Log.Drop(m.replica.group); err != nil {
			s.removals = append(s.removals, removals[i:]...)
			s.fail(err)
			return
		}
		s.unsynced = append(s.unsynced, pendingAck{needSync: true, dropped: m})
	}
	s.sync()
}

// abandonLives answers those who wait for a replica to come or go.
func (s *Store) abandonLives(err error) {
	for _, group := range slices.Sorted(maps.Keys(s.adding)) {
		s.adding[group](err)
	}
	clear(s.adding)
	removals := s.removals
	s.removals = nil
	for _, acks := range [][]pendingAck{s.unsynced, s.syncing} {
		for i := range acks {
			if m := acks[i].dropped; m != nil {
				removals = append(removals, m)
				acks[i].dropped = nil
			}
		}
	}
	for _, m := range removals {
		m.done(err)
	}
}

var errGroupFailed = errors.New("replica: the replica stopped")

// engineError is an error of the state engine, which all groups share.
type engineError struct{ error }

func (e engineError) Unwrap() error { return e.error }

// ofEngine marks an error of the state engine, if it is one.
func ofEngine(err error) error {
	if err == nil {
		return nil
	}
	return engineError{err}
}

// ofNode tells whether an error that was met in one group is about what all have in common: the disk, and what it holds.
func ofNode(err error) bool {
	var engine engineError
	for _, of := range []error{ErrLost, ErrNoCopy, storage.ErrCorrupt, storage.ErrUnusable, storage.ErrClosed} {
		if errors.Is(err, of) {
			return true
		}
	}
	return errors.As(err, &engine)
}

// fail ends this replica for good, and the whole node if the error is about more than this.
func (r *Replica) fail(err error) {
	s := r.store
	if ofNode(err) {
		s.fail(err)
		return
	}
	if r.ended || s.Err() != nil {
		return
	}
	err = fmt.Errorf("%w: %w", errGroupFailed, err)
	r.end(kv.ErrUnhealthy, "failed: "+err.Error())
	r.membership.GiveUp(s.clock())
	r.carryOutMembership()
	s.metrics.groupsFailed.Add(1)
	if s.opts.Listener.GroupFailed != nil {
		s.opts.Listener.GroupFailed(r.group, err)
	}
}

// end takes the replica out of the rounds, and refuses what waits for it. Its lists let it go when they are walked next.
func (r *Replica) end(refusal error, standing string) {
	s := r.store
	r.ended = true
	r.serving.Store(false)
	r.lease.Store(nil)
	r.leader.Store(&knownLeader{})
	r.publishStanding(&membership.Standing{Text: standing, Outsider: true})
	r.ticking = false
	s.order = slices.DeleteFunc(slices.Clone(s.order), func(o *Replica) bool { return o == r })
	r.failAll(refusal)
	r.discardStaged()
	s.memory, r.memory = s.memory.Minus(r.memory), mvcc.Memory{}
}

// spawn runs work beside the rounds, and what follows from it in one, even if the replica has ended by then.
func (r *Replica) spawn(work, then func()) {
	r.jobs++
	r.store.spawn(func() {
		work()
		r.store.call(func() {
			r.jobs--
			then()
			if r.ended {
				r.store.goOnRemoving()
			}
		})
	})
}

// call has something done in a round, unless the replica has ended by then.
func (r *Replica) call(do func()) {
	r.store.call(func() {
		if !r.ended {
			do()
		}
	})
}

// ask is call for somebody who waits: exactly one of do and refused is called.
func (r *Replica) ask(do func(), refused func(error)) {
	r.store.ask(func() {
		if r.ended {
			refused(kv.ErrUnhealthy)
			return
		}
		do()
	}, refused)
}
