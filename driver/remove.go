package driver

import (
	"fmt"
	"maps"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// removal is a replica that is being removed.
type removal struct {
	replica *driven
	done    func(error)
	noted   bool // it is durable that this replica was removed
	dropped bool // its log is, and will be durably with the next sync
}

// Remove ends the node's replica of a group, and forgets its log. If it leads it hands over first, as Transfer does and for no longer than that takes; otherwise
// it ends as if its process were killed. Whoever has a vote, and is removed, is missing. What waits for the replica is refused with kv.ErrStopped. done
// is called exactly once, from the driver's goroutine or at once, and must not block: with nil when nothing uses the state any more, and the log is
// durably gone. The caller may delete the rows of the state then. The row that says which replica this was stays, and says that it was removed: the same
// disk is never taken for it again.
func (d *Driver) Remove(group consensus.GroupID, done func(error)) {
	d.ask(func() { d.remove(group, done) }, done)
}

func (d *Driver) remove(group consensus.GroupID, done func(error)) {
	r := d.driven(group)
	switch {
	case r == nil:
		done(fmt.Errorf("driver: this node has no replica of group %d", group))
		return
	case d.removing[group] != nil:
		done(fmt.Errorf("driver: the replica of group %d is being removed already", group))
		return
	}
	d.removing[group] = &removal{replica: r, done: done}
	if to, ok := r.successor(); ok {
		r.transfer(to, func(error) { d.call(func() { d.endRemoved(r) }) }) // nothing is done about an error: it goes
		return
	}
	d.endRemoved(r)
}

// endRemoved ends a replica that is being removed, and makes durable that it was.
func (d *Driver) endRemoved(r *driven) {
	group := r.group
	if !r.ended {
		r.end(kv.ErrStopped, "removed")
	}
	d.setReplica(group, nil)
	d.opts.Log.SetAside(group, true)
	row := r.membership.RemovedRow()
	r.membership.Remove(d.clock())
	d.departed[group] = r
	r.carryOutMembership()
	d.tellDeparture(r)
	r.joinNodes()
	if row == nil {
		d.removalNoted(group)
		return
	}
	err := d.writeIdentity(group, row, func(flush func(func(error))) error {
		flush(func(err error) {
			d.call(func() {
				if err != nil {
					d.fail(fmt.Errorf("group %d: note that its replica was removed: %w", group, err))
					return
				}
				d.removalNoted(group)
			})
		})
		return nil
	})
	if err != nil {
		d.fail(fmt.Errorf("group %d: %w", group, err))
	}
}

// removalNoted goes on when the row is durable: an empty log is not taken for that replica's then.
func (d *Driver) removalNoted(group consensus.GroupID) {
	d.removing[group].noted = true
	d.goOnRemoving()
}

// goOnRemoving drops the logs of those replicas that nothing is at work for any more.
func (d *Driver) goOnRemoving() {
	for _, group := range slices.Sorted(maps.Keys(d.removing)) {
		m := d.removing[group]
		if m.replica.jobs > 0 || !m.noted || m.dropped {
			continue
		}
		if err := d.opts.Log.Drop(group); err != nil {
			d.fail(err)
			return
		}
		m.dropped = true
		d.unsynced = append(d.unsynced, pendingAck{needSync: true, dropped: m})
	}
	d.sync()
}

// removed ends a removal whose log is durably gone.
func (d *Driver) removed(m *removal) {
	delete(d.removing, m.replica.group)
	m.replica.leaveReplaced()
	m.done(nil)
}

// tellDeparture forgets a replica that was removed when all other nodes know.
func (d *Driver) tellDeparture(r *driven) {
	if !r.membership.WantsTicks() {
		delete(d.departed, r.group)
	}
}
