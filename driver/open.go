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
func (d *Driver) openReplica(group consensus.GroupID) (*driven, error) {
	machine, err := d.openMachine(group, d.opts.Log.Group(group).Last())
	if err != nil {
		return nil, err
	}
	r, row, err := d.newReplica(group, d.first(group), machine, d.opts.Log.Sync)
	if err == nil && row != nil {
		if err = d.writeIdentity(group, row, await); err != nil {
			r.membership.Close()
		}
	}
	return r, err
}

// opening is what a disk has of a group when the replica there is opened.
type opening struct {
	group     consensus.GroupID
	log       storage.GroupLog
	all       storage.Log // of which log is a part
	unordered bool        // Options.OutOfOrderLog
	// applied and term are those of the state.
	applied consensus.Index
	term    consensus.Term
	sync    func() error // is called if the log was written
}

// newReplica makes a replica from what is durable. row, if there is one, is to be made durable before it becomes part of the rounds. sync is called if the
// log was written.
func (d *Driver) newReplica(group consensus.GroupID, first []membership.Home, machine Machine, sync func() error) (r *driven, row []byte, err error) {
	r = &driven{driver: d, Replica: Replica{front: &d.front, group: group, machine: machine}, log: d.opts.Log.Group(group)}
	r.Replica.driven = r
	r.shipments = newShipments()
	of := opening{group: group, log: r.log, all: d.opts.Log, unordered: d.opts.OutOfOrderLog, applied: machine.AppliedIndex(), term: machine.AppliedTerm(), sync: sync}
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
		err = of.forgetLog()
	}
	if err == nil {
		err = of.checkContinuity(found != nil && !removed)
	}
	if err != nil {
		return nil, nil, err
	}
	if row, err = r.openMembership(first, found, of.empty()); err != nil {
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
	r.applied.Store(uint64(machine.AppliedIndex()))
	r.leader.Store(&knownLeader{})
	r.carryOutMembership()
	return r, row, nil
}

// nobody is what a core is called that has nothing to say yet: the node has no replica of the group, and waits for one.
const nobody consensus.ReplicaID = shard.MaxReplicaID

// openCore makes the core from what is durable.
func (r *driven) openCore() (err error) {
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

// forgetLog drops what is left of the log of a replica that was removed: the node stopped before it was over.
func (o *opening) forgetLog() error {
	if !slices.Contains(o.all.Groups(), o.group) {
		return nil
	}
	if err := o.all.Drop(o.group); err != nil {
		return ofShared(err)
	}
	return ofShared(o.sync())
}

// checkContinuity makes sure that the log goes on where the state ends. A state that the log does not know is
// legal: a snapshot was installed and the node crashed before the log was reset. Then the log is reset now.
// known: this disk has a replica that has taken part.
func (o *opening) checkContinuity(known bool) error {
	applied, term := o.applied, o.term
	if err := o.refuseForgottenLog(known); err != nil {
		return err
	}
	if applied+1 < o.log.First() {
		return fmt.Errorf("%w: the state ends at entry %d but the log starts at %d; the node's data is incomplete: remove its data directory and let it join anew",
			storage.ErrCorrupt, applied, o.log.First())
	}
	if applied == 0 && o.log.HardState() == (consensus.HardState{}) {
		return o.beginLog()
	}
	if applied <= o.log.Last() {
		if o.unordered {
			return nil // to reset the log would take back what was accepted above the snapshot
		}
		found, err := o.log.Term(applied)
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
	hard := o.log.HardState()
	hard.Commit = applied
	if hard.Term < term {
		hard.Term, hard.Vote = term, 0
	}
	reset := storage.GroupAppend{Group: o.group, HardState: &hard, Reset: &storage.LogPosition{Index: applied, Term: term}}
	if err := o.all.Write([]storage.GroupAppend{reset}, nil); err != nil {
		return ofShared(err)
	}
	return ofShared(o.sync())
}

// empty tells whether the replica has never taken part in anything.
func (o *opening) empty() bool {
	hard := o.log.HardState()
	return hard.Vote == 0 && hard.Term <= consensus.BootstrapTerm && o.log.Last() <= consensus.BootstrapIndex && o.applied <= consensus.BootstrapIndex
}

// beginLog has the log know of a group that begins with nothing here, as checkContinuity does where it begins with something; see refuseForgottenLog.
func (o *opening) beginLog() error {
	begun := storage.GroupAppend{Group: o.group, HardState: &consensus.HardState{Term: consensus.BootstrapTerm}}
	if err := o.all.Write([]storage.GroupAppend{begun}, nil); err != nil {
		return ofShared(err)
	}
	return ofShared(o.sync())
}

// refuseForgottenLog looks for a log that never heard of the group although the state is older than that: the first thing
// that a replica makes durable is where its log begins (checkContinuity), so what it voted for and acknowledged is gone.
func (o *opening) refuseForgottenLog(known bool) error {
	if o.log.HardState() != (consensus.HardState{}) || !known && o.applied <= consensus.BootstrapIndex {
		return nil
	}
	return fmt.Errorf("%w: the log holds nothing of group %d, which has taken part before: what this node voted for and acknowledged is lost; "+
		"put the log back if it was moved, otherwise see \"A node that lost its data\" in docs/operations.md", storage.ErrCorrupt, o.group)
}
