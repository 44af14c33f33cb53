package driver

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// The driver's part in who is who: it tells the cores of package membership what happens, and does what they decide.

var (
	// ErrLost: what this node stored of a shard is lost, or another disk has taken its place. The node must not
	// go on with it; it may come back with empty disks and a new Options.Disk.
	ErrLost = membership.ErrLost
	// ErrNoCopy: this node has lost its data, and nobody has any.
	ErrNoCopy = membership.ErrNoCopy
)

// Position is the number of the last write that a node's log knows of. For the simulator.
func Position(log storage.Log) uint64 {
	record, _ := log.NodeRecord() // who cannot read it has no use for the number
	return record.Position
}

// Witnessed is how far this node has seen the other's disk, and will remember after a crash. For the simulator, between rounds.
func (d *Driver) Witnessed(node kv.NodeID, disk uint64) (position uint64) {
	return d.node.Witnessed(node, disk)
}

// Unwitnessed returns the nodes that would have to be heard to confirm that this node's disk is as it was; none if that is confirmed, or
// the node has only just started. Safe for concurrent use.
func (d *Driver) Unwitnessed() []kv.NodeID {
	if p := d.unwitnessed.Load(); p != nil {
		return *p
	}
	return nil
}

// openNode makes durable that a process begins.
func (d *Driver) openNode() error {
	record, err := d.opts.Log.NodeRecord()
	if err != nil {
		return fmt.Errorf("read how far the disks of the nodes were: %w", err)
	}
	if d.node, err = membership.NewNode(d.opened, membershipOptions(&d.opts), d.live, record); err != nil {
		return err
	}
	begin := d.node.Begin()
	if begin == nil {
		return nil
	}
	if err := d.opts.Log.Write(nil, begin); err != nil {
		return err
	}
	return d.opts.Log.Sync()
}

// openMembership finds out as much as the disk tells about which replica this is. row, if there is one, is to be made durable first of all.
func (r *driven) openMembership(first []membership.Home, found []byte, empty bool) (row []byte, err error) {
	d := r.driver
	state := membership.GroupState{Group: r.group, First: first, Founders: d.opts.Founders, Row: found, Empty: empty, Known: d.opts.Nodes,
		Config: r.machine.Config(), Table: r.machine.Placements(), Roster: r.machine.Roster()}
	if len(first) != len(d.opts.Nodes) {
		state.Founders = len(first)/2 + 1
	}
	if r.membership, row, err = d.node.OpenGroup(state); err == nil {
		r.membership.Follow(d.list)
	}
	return row, err
}

// readIdentity returns the row that says which replica is, or was, on this disk; nil if there is none.
func (d *Driver) readIdentity(group consensus.GroupID) ([]byte, error) {
	row, found, err := d.opts.Engine.Get(keys.Identity(uint64(group)), nil)
	if err != nil {
		return nil, fmt.Errorf("read which replica this is: %w", err)
	}
	if !found {
		return nil, nil
	}
	return slices.Concat([]byte{}, row), nil
}

// firstReplicas are those that a group begins with: one on each node.
func firstReplicas(nodes []kv.NodeID) (first []membership.Home) {
	for i, node := range nodes {
		first = append(first, membership.Home{Node: node, Replica: consensus.ReplicaID(i + 1)})
	}
	return first
}

// held tells whether the core must not do anything yet.
func (r *driven) held() bool { return r.membership.Held() }

// carryOutNode does what the core of this node has decided. It follows each call of it that may decide something.
func (d *Driver) carryOutNode() {
	if !d.node.HasReady() {
		return
	}
	ready := d.node.Ready()
	for _, m := range ready.Marks {
		if !d.opts.Transport.Append(m.To, ChannelMarks, func(b []byte) []byte { return membership.AppendMarks(b, m.Marks) }) {
			d.metrics.framesDropped.Add(1) // what matters comes again
		}
	}
	for _, refusal := range ready.Refused {
		d.refused(0, refusal.From, refusal.Err)
	}
	if ready.Unwitnessed != nil {
		d.unwitnessed.Store(ready.Unwitnessed)
		if d.opts.Listener.Unwitnessed != nil {
			d.opts.Listener.Unwitnessed(*ready.Unwitnessed)
		}
	}
	if ready.Failed != nil {
		d.fail(ready.Failed)
	}
}

// carryOutMembership does what the membership cores of this replica and of its node have decided. It follows each call of the former.
func (r *driven) carryOutMembership() {
	d := r.driver
	d.carryOutNode()
	if r.membership.WantsTicks() && !r.in.attended {
		r.in.attended = true
		d.attended = append(d.attended, r)
	}
	if !r.membership.HasReady() {
		return
	}
	ready := r.membership.Ready()
	r.publishStanding(ready.Standing)
	for i := range ready.Messages {
		d.sendIdentity(&ready.Messages[i])
	}
	for _, node := range ready.Gone {
		r.leadership.NodeLost(d.clock(), node, false)
		r.carryOut()
	}
	for _, node := range ready.GaveUp {
		r.leadership.ReplicaEnded(d.clock(), node)
		r.carryOut()
	}
	if ready.Save != nil {
		r.saveIdentity(ready.Save)
	}
	for _, q := range ready.Confirm {
		r.confirmLeadership(q)
	}
	if ready.Assign != nil {
		r.Propose(&kv.Request{Kind: kv.KindAssignReplica, AssignReplica: ready.Assign}, nil, func(*kv.Response, uint64, error) { r.membership.Assigned() })
	}
	if ready.Nodes {
		d.reckonNodes()
	}
	if ready.Seat != nil {
		r.Propose(&kv.Request{Kind: kv.KindSetRoster, SetRoster: ready.Seat}, nil, func(*kv.Response, uint64, error) { r.membership.Assigned() })
	}
	if ready.HandOver != 0 && !r.leadership.Transferring() {
		r.transfer(ready.HandOver, func(error) {}) // it is tried again while it does not work
	}
	if ready.Change != nil && r.core.ProposeConfig(*ready.Change) == nil {
		r.reckonLease() // a core may not allow leases during a change
		d.markDirty(r)
		d.setTicking(r, true)
	}
	if ready.Lost && d.opts.Listener.Lost != nil {
		d.opts.Listener.Lost(r.group, r.membership.Self())
	}
	if ready.Joined {
		r.joined()
	}
	if ready.Failed != nil {
		d.opts.Transport.Flush()
		r.fail(ready.Failed)
	}
}

// standing is how a replica takes part in its group, for readers.
type standing struct {
	outsider atomic.Bool // not a member of the group as of its own state, which says nothing then
	learner  atomic.Bool // a member without a vote
	text     atomic.Pointer[string]
}

func (s *standing) set(now *membership.Standing) {
	s.outsider.Store(now.Outsider)
	s.learner.Store(now.Learner)
	s.text.Store(&now.Text)
}

// publishStanding tells readers whether this replica is one of the group, as far as it knows. nil: as before.
func (r *driven) publishStanding(standing *membership.Standing) {
	if standing != nil {
		r.standing.set(standing)
		if listener := r.driver.opts.Listener.Removed; standing.Removed && listener != nil {
			listener(r.group)
		}
	}
}

// Standing says how this replica takes part in the group: "member" when everything is as it should be, otherwise what is being
// waited for. Safe for concurrent use.
func (r *Replica) Standing() string { return *r.standing.text.Load() }

func (d *Driver) sendIdentity(m *membership.MessageTo) {
	if !d.opts.Transport.Append(m.To, ChannelIdentity, func(b []byte) []byte { return membership.AppendMessage(b, &m.Message) }) {
		d.metrics.framesDropped.Add(1) // it is asked again
	}
}

// receiveIdentity takes a question or an answer of another node. An error tells why it is refused.
func (d *Driver) receiveIdentity(from kv.NodeID, m *membership.Message) error {
	r, err := d.replica(m.Group)
	departed := d.departed[m.Group]
	switch {
	case departed != nil:
		r = departed
	case err != nil:
		return err
	}
	err = r.membership.Receive(d.clock(), from, m)
	r.carryOutMembership()
	if departed != nil {
		d.tellDeparture(r)
	}
	return err
}

// receiveMarks takes what another node knows of disks.
func (d *Driver) receiveMarks(from kv.NodeID, all []membership.NodeMark) {
	d.node.Receive(d.clock(), from, all)
	d.carryOutNode()
}

// confirmLeadership has a question answered that only a leader can answer, if this replica is one. Otherwise it is asked again.
func (r *driven) confirmLeadership(q membership.Question) {
	r.ReadIndex(func(index uint64, err error) {
		if err != nil {
			return
		}
		r.WaitApplied(index, func(err error) {
			if err == nil {
				r.membership.Confirmed(q)
				r.carryOutMembership()
			}
		})
	})
}

// saveIdentity makes durable which replica this is. Until then the core does nothing.
func (r *driven) saveIdentity(save *membership.Save) {
	r.saving = true
	err := r.driver.writeIdentity(r.group, save.Row, func(flush func(func(error))) error {
		flush(func(err error) { r.call(func(r *driven) { r.identitySaved(save.Replica, err) }) })
		return nil
	})
	if err != nil {
		r.fail(fmt.Errorf("group %d: %w", r.group, err))
	}
}

// writeIdentity writes the row that says which replica this is. It gives the engine's flush to whoever wants to
// know when it is durable.
func (d *Driver) writeIdentity(group consensus.GroupID, row []byte, durable func(flush func(func(error))) error) error {
	engine := d.opts.Engine
	batch := engine.NewBatch()
	defer batch.Close()
	batch.Set(keys.Identity(uint64(group)), row)
	err := ofShared(engine.Apply(batch))
	if err == nil {
		err = ofShared(durable(engine.Flush))
	}
	if err != nil {
		return fmt.Errorf("note which replica this is: %w", err)
	}
	return nil
}

// identitySaved lets the core begin.
func (r *driven) identitySaved(id consensus.ReplicaID, err error) {
	r.saving = false
	before := r.membership.Self()
	if err == nil {
		r.membership.Saved()
		if id != before {
			err = r.openCore()
		}
	}
	if err != nil {
		r.fail(fmt.Errorf("group %d: become replica %d: %w", r.group, id, err))
		return
	}
	r.carryOutMembership()
}

// joined lets a replica take part that knows by now who it is.
func (r *driven) joined() {
	d := r.driver
	d.markDirty(r)
	r.membershipApplied()
	r.takePart()
	if d.opts.Listener.Joined != nil {
		d.opts.Listener.Joined(r.group, r.membership.Self())
	}
}

// tickMembership lets the time pass for this node, and for the replicas that do not know who they are, or whose leader has something to repair.
func (d *Driver) tickMembership(now time.Duration) {
	attended := d.attended
	d.attended = d.spareAttended[:0]
	for _, r := range attended {
		r.in.attended = false
		if d.driven(r.group) != r && d.departed[r.group] != r {
			continue // removed, and all know
		}
		r.membership.Tick(now)
		if r.membership.WantsRepair() {
			status := r.core.Status()
			r.membership.Repair(membership.Progress{Config: status.Config, Replicas: status.Replicas})
		}
		r.carryOutMembership()
	}
	clear(attended)
	d.spareAttended = attended[:0]
	d.node.Tick(now)
	d.carryOutNode()
	d.tickNodes(now)
}

// askWhoIsWho has those replicas ask that do not know who they are.
func (d *Driver) askWhoIsWho() {
	for _, r := range d.attended {
		r.membership.Ask()
		r.carryOutMembership()
	}
}

// placed tells that the entry at the index changed the table of placements, or the roster.
func (r *driven) placed(at consensus.Index) error {
	err := r.membership.Placed(at, r.machine.Placements(), r.machine.Roster())
	r.carryOutMembership()
	return err
}

// checkMembership verifies the core of membership, and that it was told what it goes by.
func (r *driven) checkMembership() error {
	m := r.membership
	config, table, roster := m.Applied()
	switch {
	case r.driver.stopped() != nil:
		return nil
	case m.Leading() != r.leading:
		return fmt.Errorf("membership was told that the replica leads: %v; it does: %v", m.Leading(), r.leading)
	case !config.Equal(r.machine.Config()) || !slices.Equal(table, r.machine.Placements()) || roster.Version != r.machine.Roster().Version:
		return fmt.Errorf("membership was told of %v at %v, and this is %v at %v", config, table, r.machine.Config(), r.machine.Placements())
	case r.saving && !r.held():
		return errors.New("the replica takes part, and the row that says which it is is still to become durable")
	case m.WantsTicks() && !r.in.attended:
		return errors.New("the membership is to be seen to, but nobody looks")
	}
	return m.Check()
}
