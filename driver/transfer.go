package driver

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/leadership"
)

// handOvers are those who wait for something about a hand-over of leadership.
type handOvers struct {
	transfers []func(error) // for its end
	fates     []func(error) // until nothing awaits its fate that was proposed here
	elected   []func(error) // to have it begin, while awaitsService
}

// Transfer hands the leadership of the group, which must be here, to the replica of another node. done is called exactly once, from the driver's goroutine
// or at once, and must not block: with nil when that replica leads; kv.ErrNotLeader, kv.ErrBadTransferee and kv.ErrTooManyRequests mean that nothing was begun;
// kv.ErrTransferTimeout that the replica did not take over. Then this one goes on, without its lease until its next term, or somebody else leads.
func (r *Replica) Transfer(to kv.NodeID, done func(error)) {
	r.ask(func(r *driven) { r.transfer(to, done) }, done)
}

// TransferUnlessBehind is Transfer to a replica that can lead at once: it answers, no snapshot is on its way to it, and it lacks no more than so many entries.
// kv.ErrBadTransferee means that it cannot.
func (r *Replica) TransferUnlessBehind(to kv.NodeID, maxEntries uint64, done func(error)) {
	r.ask(func(r *driven) {
		if err := r.behind(to, maxEntries); err != nil {
			done(err)
			return
		}
		r.transfer(to, done)
	}, done)
}

// behind tells what keeps the replica of a node from leading at once, as far as this leader knows; nil if nothing does.
func (r *driven) behind(to kv.NodeID, maxEntries uint64) error {
	if !r.leading {
		return kv.ErrNotLeader
	}
	status, wanted := r.core.Status(), r.membership.Newest(to)
	for _, of := range status.Replicas {
		switch {
		case of.Replica != wanted:
		case of.Snapshotting || !of.Active:
			return fmt.Errorf("%w: the replica of node %v does not follow", kv.ErrBadTransferee, to)
		case uint64(of.Match)+maxEntries < uint64(status.Last):
			return fmt.Errorf("%w: the replica of node %v lacks %d entries", kv.ErrBadTransferee, to, status.Last-of.Match)
		default:
			return nil
		}
	}
	return fmt.Errorf("%w: node %v has no replica of the group", kv.ErrBadTransferee, to)
}

// transfer is Transfer in the driver's goroutine.
func (r *driven) transfer(to kv.NodeID, done func(error)) {
	if err := r.leadership.Transfer(r.driver.clock(), leadership.Member{Replica: r.membership.Newest(to), Node: to}, r.core.Status().Config); err != nil {
		done(err)
		return
	}
	r.transfers = append(r.transfers, done)
	r.carryOut()
}

// beginTransfer has the consensus core hand over.
func (r *driven) beginTransfer(to consensus.ReplicaID) {
	if r.prepareHandOver(to) {
		return
	}
	r.haveTransferred(to)
}

func (r *driven) haveTransferred(to consensus.ReplicaID) {
	handOver := r.core.TransferLeader
	if node, ok := r.membership.NodeOf(to); ok && r.driver.node.Format(node) >= FormatHandOver {
		handOver = r.core.HandOver
	}
	if err := handOver(to); err != nil {
		r.leadership.TransferRefused(err)
		r.carryOut()
		return
	}
	r.driver.setTicking(r, true)
	r.driver.markDirty(r)
}

// transferEnded tells those who asked for a hand-over how it ended.
func (r *driven) transferEnded(err error) {
	r.handedOver(err)
	if err != nil && !r.ended && r.role.Leader == 0 {
		r.publishLeader(0) // it was said who would lead
	}
	transfers := r.transfers
	r.transfers = nil
	for _, done := range transfers {
		done(err)
	}
}

// HandOver moves the leadership of all groups that are led here to other nodes, because this one is about to stop. done is called exactly once, from the
// driver's goroutine or at once, and must not block: with nil if nothing is led here any more, or nobody else could lead, and it is known what became of
// everything that was proposed here; otherwise with what Transfer says. A hand-over fails after an election timeout and two heartbeat intervals at the latest.
// A replica that was elected a moment ago hands over when it serves. What becomes of proposals may stay unknown for longer, where no quorum of their group
// answers or the disk stands still: who cannot wait for that need not.
func (d *Driver) HandOver(done func(error)) {
	d.ask(func() { d.handOver(done) }, done)
}

func (d *Driver) handOver(done func(error)) {
	var errs []error
	left := 1
	one := func(err error) {
		errs = append(errs, err)
		if left--; left == 0 {
			done(errors.Join(errs...))
		}
	}
	for _, r := range d.order {
		left++
		r.handOver(one)
	}
	one(nil)
}

// handOver is HandOver of one group. A replica that was elected and does not serve yet has nothing to hand over with: it waits for that.
func (r *driven) handOver(done func(error)) {
	if r.awaitsService() {
		r.elected = append(r.elected, done)
		return
	}
	if to, ok := r.successor(); ok {
		r.transfer(to, func(err error) { r.whenFatesKnown(err, done) })
		return
	}
	r.whenFatesKnown(nil, done)
}

// awaitsService tells whether this replica was elected, and its first entry is not applied yet.
func (r *driven) awaitsService() bool {
	return r.role.Role == consensus.RoleLeader && !r.leading && !r.ended
}

// goOnHandingAllOver: the replica serves now, or never will in the term that it was elected in.
func (r *driven) goOnHandingAllOver() {
	if len(r.elected) == 0 || r.awaitsService() {
		return
	}
	waiting := r.elected
	r.elected = nil
	for _, done := range waiting {
		r.driver.ask(func() { r.handOver(done) }, done)
	}
}

// whenFatesKnown calls done when nothing that was proposed here awaits its fate, or nothing will be known of that. It does so at once with an error, and while
// this replica leads: then there is always something.
func (r *driven) whenFatesKnown(err error, done func(error)) {
	if err != nil || r.leading || r.rounds.len() == 0 {
		done(err)
		return
	}
	r.fates = append(r.fates, done)
}

// fatesKnown tells those who wait for it that nothing awaits its fate: behind the answers that say so.
func (r *driven) fatesKnown(err error) {
	for _, done := range r.fates {
		r.driver.answered = append(r.driver.answered, func() { done(err) })
	}
	r.fates = nil
}

// successor is the node that should lead the group instead of this one; false if this one does not, or there is nobody.
func (r *driven) successor() (kv.NodeID, bool) {
	if !r.leading || r.ended {
		return 0, false
	}
	var prospects []leadership.Prospect
	status := r.core.Status()
	for _, replication := range status.Replicas {
		if node, ok := r.membership.NodeOf(replication.Replica); ok {
			prospects = append(prospects, leadership.Prospect{Node: node, Replication: replication})
		}
	}
	to, ok := r.leadership.Successor(status.Config, prospects)
	return to.Node, ok
}
