package driver

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

// replicas are those of the node, and those that come and go.
type replicas struct {
	order    []*driven // by group ID; never changed in place
	adding   map[consensus.GroupID]*addition
	removing map[consensus.GroupID]*removal
	departed map[consensus.GroupID]*driven // were removed, and not all other nodes know
}

// life is where a replica stands between its beginning and its end.
type life struct {
	begun  bool // it is part of the rounds, or was
	ended  bool // it has failed, or was removed
	jobs   int  // goroutines that are at work for it
	saving bool // the row that says which replica this is is on its way to the disk
}

// counts tells whether the node counts what it has: a replica that is not part of the rounds does not count.
func (l *life) counts() bool { return l.begun && !l.ended }

// Replica returns the node's replica of the group; nil if it has none. One that has failed is still there.
func (d *Driver) Replica(group consensus.GroupID) *Replica {
	if r := d.driven(group); r != nil {
		return &r.Replica
	}
	return nil
}

// driven is Replica for the driver's goroutine.
func (d *Driver) driven(group consensus.GroupID) *driven { return (*d.groups.Load())[group] }

// replica is driven, without those that have failed.
func (d *Driver) replica(group consensus.GroupID) (*driven, error) {
	switch r := d.driven(group); {
	case r == nil:
		return nil, fmt.Errorf("driver: this node has no replica of group %d", group)
	case r.ended:
		return nil, fmt.Errorf("driver: this node's replica of group %d has stopped", group)
	default:
		return r, nil
	}
}

// setReplica changes which replica the node has; nil: none.
func (d *Driver) setReplica(group consensus.GroupID, r *driven) {
	groups := maps.Clone(*d.groups.Load())
	if r == nil {
		delete(groups, group)
	} else {
		groups[group] = r
	}
	d.groups.Store(&groups)
}

// begin makes a replica part of the rounds.
func (d *Driver) begin(r *driven) {
	d.setReplica(r.group, r)
	d.opts.Log.SetAside(r.group, false)
	r.begun = true
	d.opts.Sequencing.Applied(r.group, r.machine.Closed())
	r.reckonMemory()
	r.reckonFigures()
	at, _ := slices.BinarySearchFunc(d.order, r.group, func(o *driven, group consensus.GroupID) int { return cmp.Compare(o.group, group) })
	d.order = slices.Insert(slices.Clone(d.order), at, r)
	d.setTicking(r, true)
	d.markDirty(r)
	if !r.held() {
		r.takePart()
	}
}

// first are the replicas that the group began with, by node.
func (d *Driver) first(group consensus.GroupID) []membership.Home {
	if first := d.opts.First[group]; first != nil || d.opts.Added {
		return first
	}
	return firstReplicas(d.opts.Nodes)
}

// Add gives the node a replica of a group, which others have as well, or begin with at the same time. first are the replicas that the group began with, this
// node's included; nil: replica i lives on the i-th of Options.Nodes. The state machine comes from Options.OpenMachine. done is called exactly once, from
// the driver's goroutine or at once, and must not block: with nil when the replica is there. It may have to find out, after that, which replica it is.
//
// What the replica of a group that was removed here voted for is forgotten: it comes back as one that has lost what it had, and gets the data and another ID
// from a leader. The rows of its state must be gone by then, and the removal be over.
func (d *Driver) Add(group consensus.GroupID, first []membership.Home, done func(error)) {
	d.ask(func() { d.add(group, first, done) }, done)
}

// addition is a replica that is being added.
type addition struct {
	done    func(error)
	replica *driven // as soon as its state machine is open
}

// close forgets the replica: it does not begin after all.
func (a *addition) close() {
	if a.replica != nil {
		a.replica.membership.Close()
	}
}

func (d *Driver) add(group consensus.GroupID, first []membership.Home, done func(error)) {
	switch {
	case group == 0 || group > storage.MaxGroup:
		done(fmt.Errorf("driver: no group has the number %d", group))
		return
	case d.driven(group) != nil || d.adding[group] != nil:
		done(fmt.Errorf("driver: this node has a replica of group %d already", group))
		return
	case d.removing[group] != nil:
		done(fmt.Errorf("driver: the replica of group %d is still being removed", group))
		return
	}
	if first == nil && !d.opts.Added {
		first = firstReplicas(d.opts.Nodes)
	}
	d.adding[group] = &addition{done: done}
	end := d.opts.Log.Group(group).Last()
	d.spawn(func() {
		machine, err := d.openMachine(group, end)
		d.call(func() { d.addOpened(group, first, machine, err) })
	})
}

// addOpened goes on when the state machine is there.
func (d *Driver) addOpened(group consensus.GroupID, first []membership.Home, machine Machine, err error) {
	adding := d.adding[group]
	if adding == nil {
		return // the node has failed
	}
	var r *driven
	var row []byte
	written := false
	if err == nil {
		r, row, err = d.newReplica(group, first, machine, func() error { written = true; return nil })
	}
	adding.replica = r
	if err != nil || !written {
		d.addBegun(group, r, row, err)
		return
	}
	d.unsynced = append(d.unsynced, pendingAck{needSync: true, then: func() { d.addBegun(group, r, row, nil) }})
	d.sync()
}

// addBegun goes on when the log is durable.
func (d *Driver) addBegun(group consensus.GroupID, r *driven, row []byte, err error) {
	switch {
	case err != nil:
		d.addEnded(group, r, err)
	case row == nil:
		d.addEnded(group, r, nil)
	default:
		err = d.writeIdentity(group, row, func(flush func(func(error))) error {
			flush(func(err error) { d.call(func() { d.addEnded(group, r, err) }) })
			return nil
		})
		if err != nil {
			d.addEnded(group, r, err)
		}
	}
}

func (d *Driver) addEnded(group consensus.GroupID, r *driven, err error) {
	adding := d.adding[group]
	if adding == nil {
		return // the node has failed
	}
	delete(d.adding, group)
	if err != nil {
		adding.close()
		adding.done(fmt.Errorf("driver: group %d: %w", group, err))
		return
	}
	delete(d.departed, group) // the new one tells the others
	d.begin(r)
	r.carryOutMembership()
	r.joinNodes()
	adding.done(nil)
}

// abandonLives answers those who wait for a replica to come or go.
func (d *Driver) abandonLives(err error) {
	for _, group := range slices.Sorted(maps.Keys(d.adding)) {
		d.adding[group].close()
		d.adding[group].done(err)
	}
	clear(d.adding)
	for _, group := range slices.Sorted(maps.Keys(d.removing)) {
		d.removing[group].done(err)
	}
	clear(d.removing)
}

var errGroupFailed = errors.New("driver: the replica stopped")

// sharedError is an error of the state engine or of the log, which all groups share: it could not write.
type sharedError struct{ error }

func (e sharedError) Unwrap() error { return e.error }

// ofShared marks an error of what all groups share, if it is one.
func ofShared(err error) error {
	if err == nil {
		return nil
	}
	return sharedError{err}
}

// ofNode tells whether an error that was met in one group is about what all have in common: the disk, and what it holds.
func ofNode(err error) bool {
	var shared sharedError
	for _, of := range []error{ErrLost, ErrNoCopy, storage.ErrCorrupt, storage.ErrUnusable, storage.ErrClosed} {
		if errors.Is(err, of) {
			return true
		}
	}
	return errors.As(err, &shared)
}

// fail ends this replica for good, and the whole node if the error is about more than this.
func (r *driven) fail(err error) {
	d := r.driver
	if ofNode(err) {
		d.fail(err)
		return
	}
	if r.ended || d.Err() != nil {
		return
	}
	err = groupError(err)
	r.end(kv.ErrUnhealthy, "failed: "+err.Error())
	if err := r.leaveLog(); err != nil {
		d.fail(err)
		return
	}
	r.membership.GiveUp(d.clock())
	r.carryOutMembership()
	d.groupFailed(r.group, err)
}

func groupError(err error) error { return fmt.Errorf("%w: %w", errGroupFailed, err) }

// groupFailed tells that the node goes on without one of its groups.
func (d *Driver) groupFailed(group consensus.GroupID, err error) {
	d.metrics.groupsFailed.Add(1)
	if d.opts.Listener.GroupFailed != nil {
		d.opts.Listener.GroupFailed(group, err)
	}
}

// end takes the replica out of the rounds, and refuses what waits for it. Its lists let it go when they are walked next.
func (r *driven) end(refusal error, standing string) {
	d := r.driver
	r.setInflight(0)
	r.ended = true
	r.serving.Store(false)
	r.lease.Store(nil)
	r.leader.Store(&knownLeader{})
	r.expected.Store(false)
	if r.leading {
		r.tellStepDown()
	}
	r.publishStanding(&membership.Standing{Text: standing, Outsider: true})
	r.ticking = false
	d.order = slices.DeleteFunc(slices.Clone(d.order), func(o *driven) bool { return o == r })
	r.failAll(refusal)
	r.staged.discard()
	d.memory, r.memory = d.memory.Minus(r.memory), mvcc.Memory{}
	d.metrics.reckonReplaced(&r.figures)
}

// spawn runs work beside the rounds, and what follows from it in one, even if the replica has ended by then.
func (r *driven) spawn(work, then func()) {
	r.jobs++
	r.driver.spawn(func() {
		work()
		r.driver.call(func() {
			r.jobs--
			then()
			if r.ended {
				r.driver.goOnRemoving()
			}
		})
	})
}

// call has something done in a round, unless the replica has ended by then.
func (r *Replica) call(do func(*driven)) {
	of := r.driven
	r.front.call(func() {
		if !of.ended {
			do(of)
		}
	})
}

// ask is call for somebody who waits: exactly one of do and refused is called.
func (r *Replica) ask(do func(*driven), refused func(error)) {
	of := r.driven
	r.front.ask(func() {
		if of.ended {
			refused(kv.ErrUnhealthy)
			return
		}
		do(of)
	}, refused)
}
