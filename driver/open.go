package driver

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/leadership"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// openGroups opens what the node has of its groups when it starts. One that cannot be opened leaves the others running: whatever is wrong with it, it is neither the
// log nor the engine. A node to which no group is left does not start.
func (d *Driver) openGroups() error {
	failed := make(map[consensus.GroupID]error)
	var all []error
	for _, group := range d.opts.Groups {
		r, err := d.openReplica(group)
		if err == nil {
			d.begin(r)
			continue
		}
		err = fmt.Errorf("driver: group %d: %w", group, err)
		if ofNode(err) || errors.Is(err, errOtherShard) {
			return err
		}
		failed[group], all = groupError(err), append(all, err)
	}
	if len(all) > 0 && len(d.order) == 0 {
		return errors.Join(all...)
	}
	for _, group := range slices.Sorted(maps.Keys(failed)) {
		d.groupFailed(group, failed[group])
	}
	return nil
}

// openReplica opens what the node has of a group when it starts.
func (d *Driver) openReplica(group consensus.GroupID) (*Replica, error) {
	machine, err := d.openMachine(group, d.opts.Log.Group(group).Last())
	if err != nil {
		return nil, err
	}
	r, row, err := d.newReplica(group, d.first(group), machine, d.opts.Log.Sync)
	if err == nil && row != nil {
		if err = r.writeIdentity(row, await); err != nil {
			r.membership.Close()
		}
	}
	return r, err
}

// newReplica makes a replica from what is durable. row, if there is one, is to be made durable before it becomes part of the rounds. sync is called if the
// log was written.
func (d *Driver) newReplica(group consensus.GroupID, first []membership.Home, machine Machine, sync func() error) (r *Replica, row []byte, err error) {
	r = &Replica{driver: d, group: group, machine: machine, log: d.opts.Log.Group(group)}
	r.shipments = newShipments()
	found, err := d.readIdentity(group)
	if err != nil {
		return nil, nil, err
	}
	removed, err := membership.Removed(found)
	switch {
	case err != nil:
	case removed && machine.AppliedIndex() > consensus.BootstrapIndex:
		err = membership.ErrStateLeft
	case removed:
		err = r.forgetLog(sync)
	}
	if err == nil {
		err = r.checkContinuity(found != nil && !removed, sync)
	}
	if err != nil {
		return nil, nil, err
	}
	if row, err = r.openMembership(first, found); err != nil {
		return nil, nil, err
	}
	if err = r.openCore(); err == nil {
		if r.leadership, err = leadership.New(leadershipOptions(group, &d.opts), d.live); err == nil {
			r.setNodes()
		}
	}
	if err != nil {
		r.membership.Close()
		return nil, nil, err
	}
	r.membershipApplied()
	r.opened()
	r.publishApplied()
	r.leader.Store(&knownLeader{})
	r.carryOutMembership()
	return r, row, nil
}

// nobody is what a core is called that has nothing to say yet: the node has no replica of the group, and waits for one.
const nobody consensus.ReplicaID = shard.MaxReplicaID

// openCore makes the core from what is durable.
func (r *Replica) openCore() (err error) {
	d := r.driver
	r.core, err = d.opts.NewCore(CoreOptions{
		Group: r.group, Replica: cmp.Or(r.membership.Self(), nobody), Log: r.log, HardState: r.log.HardState(),
		Applied: r.machine.AppliedIndex(), Config: r.machine.Config(),
		ElectionTicks: int(d.opts.ElectionTimeout / d.opts.HeartbeatInterval),
	})
	return lostEntries(err)
}

// lostEntries marks what a core says when its log lacks what it acknowledged.
func lostEntries(err error) error {
	if errors.Is(err, consensus.ErrLostEntries) {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return err
}

// forgetLog drops what is left of the log of a replica that was removed: the node stopped before it was over. sync is called if the log was written.
func (r *Replica) forgetLog(sync func() error) error {
	log := r.driver.opts.Log
	if !slices.Contains(log.Groups(), r.group) {
		return nil
	}
	if err := log.Drop(r.group); err != nil {
		return ofShared(err)
	}
	return ofShared(sync())
}

// checkContinuity makes sure that the log goes on where the state ends. A state that the log does not know is
// legal: a snapshot was installed and the node crashed before the log was reset. Then the log is reset now.
// known: this disk has a replica that has taken part. sync is called if the log was written.
func (r *Replica) checkContinuity(known bool, sync func() error) error {
	applied, term := r.machine.AppliedIndex(), r.machine.AppliedTerm()
	if err := r.refuseForgottenLog(applied, known); err != nil {
		return err
	}
	if applied+1 < r.log.First() {
		return fmt.Errorf("%w: the state ends at entry %d but the log starts at %d; the node's data is incomplete: remove its data directory and let it join anew",
			storage.ErrCorrupt, applied, r.log.First())
	}
	if applied == 0 && r.log.HardState() == (consensus.HardState{}) {
		return r.beginLog(sync)
	}
	if applied <= r.log.Last() {
		if r.driver.opts.OutOfOrderLog {
			return nil // to reset the log would take back what was accepted above the snapshot
		}
		found, err := r.log.Term(applied)
		if errors.Is(err, consensus.ErrUnavailable) {
			return nil // a hole, with entries above it that must not be forgotten: only in sparse logs, whose core knows what to do
		}
		if err != nil {
			return fmt.Errorf("read the term of entry %d, the last one applied: %w", applied, err)
		}
		if found == term {
			return nil
		}
	}
	hard := r.log.HardState()
	hard.Commit = applied
	if hard.Term < term {
		hard.Term, hard.Vote = term, 0
	}
	reset := storage.GroupAppend{Group: r.group, HardState: &hard, Reset: &storage.LogPosition{Index: applied, Term: term}}
	if err := r.driver.opts.Log.Write([]storage.GroupAppend{reset}, nil); err != nil {
		return ofShared(err)
	}
	return ofShared(sync())
}

// beginLog has the log know of a group that begins with nothing here, as checkContinuity does where it begins with something; see refuseForgottenLog.
func (r *Replica) beginLog(sync func() error) error {
	begun := storage.GroupAppend{Group: r.group, HardState: &consensus.HardState{Term: consensus.BootstrapTerm}}
	if err := r.driver.opts.Log.Write([]storage.GroupAppend{begun}, nil); err != nil {
		return ofShared(err)
	}
	return ofShared(sync())
}

// refuseForgottenLog looks for a log that never heard of the group although the state is older than that: the first thing
// that a replica makes durable is where its log begins (checkContinuity), so what it voted for and acknowledged is gone.
func (r *Replica) refuseForgottenLog(applied consensus.Index, known bool) error {
	if r.log.HardState() != (consensus.HardState{}) || !known && applied <= consensus.BootstrapIndex {
		return nil
	}
	return fmt.Errorf("%w: the log holds nothing of group %d, which has taken part before: what this node voted for and acknowledged is lost; "+
		"put the log back if it was moved, otherwise see \"A node that lost its data\" in docs/operations.md", storage.ErrCorrupt, r.group)
}
