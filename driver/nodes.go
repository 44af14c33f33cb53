package driver

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// Which nodes this one has to do with: all that are in the list of members, and those that a group here still needs. See docs/protocols/members.md.

// neighbours are the nodes that this one has to do with.
type neighbours struct {
	list   kv.Roster   // the newest list of members that was told
	nodes  []kv.NodeID // that this one has to do with; never changed in place
	places []kv.NodeID // all that it ever had to do with: positions in support, which never change
	// lingering are those that this one has nothing more to do with, and until when it listens to them; see linger.
	lingering map[kv.NodeID]time.Duration
	// beginningMarks: this node is not alone any more, and its log is being told.
	beginningMarks bool
}

// Follow tells of a list of members, as a roster; what it says of first replicas does not matter. Groups that are led here follow it, one step at a time, if it
// is newer than the one that they follow. Safe for concurrent use.
func (d *Driver) Follow(list kv.Roster) {
	d.call(func() {
		if list.Version <= d.list.Version {
			return
		}
		d.list = list
		for _, r := range d.order {
			r.membership.Follow(list)
			r.carryOutMembership()
		}
		d.reckonNodes()
	})
}

// Following is the version of the list of members that the group follows, as far as this replica has applied, and whether everybody is what that says. Between
// rounds.
func (r *Replica) Following() (version uint64, settled bool) { return r.driven.membership.Following() }

// Unsettled tells which of the groups do not follow the list of members of that version, or a later one, yet, as far as the replicas here have applied: not
// everybody is what it says. A group that does without this node follows. done is called once, from the driver's goroutine or, when the driver has ended,
// not at all; it must be quick.
func (d *Driver) Unsettled(version uint64, groups []consensus.GroupID, done func(left []consensus.GroupID)) {
	d.call(func() {
		var left []consensus.GroupID
		for _, group := range groups {
			if r, err := d.replica(group); err != nil || !r.follows(version) {
				left = append(left, group)
			}
		}
		done(left)
	})
}

func (r *driven) follows(version uint64) bool {
	following, settled := r.Following()
	return r.membership.Left() || following >= version && settled
}

// wantedNodes are the nodes that this one should have to do with, ascending.
func (d *Driver) wantedNodes() (nodes []kv.NodeID) {
	nodes = append(nodes, d.opts.Self)
	for _, seat := range d.list.Seats {
		nodes = append(nodes, seat.Node)
	}
	if d.list.Version == 0 {
		nodes = append(nodes, d.opts.Nodes...)
	}
	for _, r := range d.order {
		nodes = append(nodes, r.membership.Nodes()...)
	}
	for _, r := range d.departed {
		nodes = append(nodes, r.membership.Nodes()...)
	}
	for node := range d.lingering {
		nodes = append(nodes, node)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// linger is how long this node still listens to one that it has nothing more to do with: it asks whether that is so, and is told.
func (d *Driver) linger() time.Duration { return 3 * d.opts.ElectionTimeout }

// reckonNodes follows each change of what wantedNodes goes by.
func (d *Driver) reckonNodes() {
	wanted := d.wantedNodes()
	for _, node := range d.nodes {
		if _, lingers := d.lingering[node]; !lingers && !slices.Contains(wanted, node) {
			d.lingering[node] = d.clock() + d.linger()
		}
	}
	d.followNodes()
}

// tickNodes ends what lingers.
func (d *Driver) tickNodes(now time.Duration) {
	if len(d.lingering) == 0 {
		return
	}
	maps.DeleteFunc(d.lingering, func(_ kv.NodeID, until time.Duration) bool { return now >= until })
	d.followNodes()
}

func (d *Driver) followNodes() {
	nodes := d.wantedNodes()
	if slices.Equal(nodes, d.nodes) || d.beginningMarks {
		return
	}
	if len(d.nodes) > 1 {
		d.setNodes(nodes)
		return
	}
	record, err := d.opts.Log.NodeRecord()
	if err != nil {
		d.fail(fmt.Errorf("read how far the disk of this node was: %w", err))
		return
	}
	begin, err := d.node.BeginMarks(record)
	switch {
	case err != nil:
		d.fail(err)
	case begin == nil:
		d.setNodes(nodes)
	default:
		if err := d.opts.Log.Write(nil, begin); err != nil {
			d.fail(ofShared(err))
			return
		}
		d.beginningMarks = true
		d.unsynced = append(d.unsynced, pendingAck{needSync: true, then: func() {
			d.beginningMarks = false
			d.setNodes(d.wantedNodes())
		}})
		d.sync()
	}
}

func (d *Driver) setNodes(nodes []kv.NodeID) {
	d.nodes = nodes
	peers := slices.DeleteFunc(slices.Clone(nodes), func(node kv.NodeID) bool { return node == d.opts.Self })
	for _, node := range nodes {
		if !slices.Contains(d.places, node) {
			d.places = append(slices.Clip(d.places), node) // leases that readers look at name positions
		}
	}
	d.support.grow(d.places)
	d.live.SetPeers(d.clock(), peers)
	d.out = slices.DeleteFunc(d.out, func(p peerOut) bool { return !slices.Contains(peers, p.node) })
	for _, node := range peers {
		if !slices.ContainsFunc(d.out, func(p peerOut) bool { return p.node == node }) {
			d.out = append(d.out, peerOut{node: node})
		}
	}
	d.node.SetNodes(nodes)
	for _, r := range d.order {
		r.setNodes()
		r.reckonLease()
	}
	d.carryOutNode()
	if d.opts.Listener.NodesChanged != nil {
		d.opts.Listener.NodesChanged(nodes)
	}
}

// joinNodes follows when a replica has come or gone while the node runs.
func (r *driven) joinNodes() {
	if r.machine.Roster().Version != 0 {
		r.driver.reckonNodes()
	}
}

// setNodes tells the core of leadership which nodes there are.
func (r *driven) setNodes() {
	r.leadership.SetNodes(r.driver.nodes, r.driver.places)
}
