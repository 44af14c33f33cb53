package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// part is what a node has of one group: a replica, its state machine and core, and what the group's clients talk to.
type part struct {
	*front
	group     *group
	leaving   bool // it was taken out of the membership though it is well, and is not back
	elections int  // how often it became the leader
	firsts    int  // entries that it was the first of all to apply
	removed   bool // the replica was taken away, and the disk cannot get another

	// Of the process.
	replica  *driver.Replica
	machine  driver.Machine
	core     consensus.Core
	machines *rand.Rand      // after a snapshot there is another machine, which must not draw the same IDs of leases
	next     consensus.Index // the entry that it must apply next
	late     bool            // the process began without it, and gets it a little later
	failed   error           // why the driver goes on without it
	stranger bool            // what comes in at the moment is for a group that the node does not hold

	// compared is the machine that sameTransactions has looked at last, and comparedAt what it had applied.
	compared   driver.Machine
	comparedAt consensus.Index
}

// newParts gives the node its parts of the groups.
func (n *node) newParts() {
	var shared *front
	for _, g := range n.w.groups {
		var p *part
		if g.homes == nil || slices.Contains(g.homes, n.number()) {
			p = &part{front: &front{node: n, group: g}, group: g}
		}
		if n.w.shared() {
			if shared == nil {
				shared = p.front
			}
			p.front = shared
		}
		n.parts = append(n.parts, p)
	}
}

// held are the node's parts.
func (n *node) held() func(yield func(*part) bool) {
	return func(yield func(*part) bool) {
		for _, p := range n.parts {
			if p != nil && !yield(p) {
				return
			}
		}
	}
}

// partOf is the node's part of the group, which it has.
func (n *node) partOf(group consensus.GroupID) *part { return n.parts[group-1] }

// up tells whether the replica is there.
func (p *part) up() bool { return p.node.up && p.replica != nil }

// runs tells whether it is, and its process does not stand still.
func (p *part) runs() bool { return p.up() && p.node.w.now >= p.node.frozenUntil }

// number is what the trace's sum knows the part by.
func (p *part) number() int { return p.node.number() | p.group.index<<16 }

// name is what people know it by.
func (p *part) name() string {
	if len(p.node.w.groups) == 1 {
		return fmt.Sprintf("node %d", p.node.id)
	}
	return fmt.Sprintf("node %d, shard %d", p.node.id, p.group.id)
}

func (p *part) groupID() consensus.GroupID { return consensus.GroupID(p.group.id) }

// log is the group's log on the node's disk, as it was written.
func (p *part) log() storage.GroupLog { return p.node.log.Log.Group(p.groupID()) }

// logEnd is the last entry in it, durable or not.
func (p *part) logEnd() consensus.Index { return p.log().Last() }

// has tells whether the entry is in the log, or was.
func (p *part) has(i consensus.Index) bool {
	log := p.log()
	if i < log.First() {
		return true
	}
	if i > log.Last() {
		return false
	}
	_, err := log.Term(i)
	return err == nil
}

// unsynced tells whether the log has something that a loss of power takes away.
func (p *part) unsynced() bool {
	return slices.ContainsFunc(p.node.unsynced, func(a storage.GroupAppend) bool { return a.Group == p.groupID() })
}

// lacks tells whether the node would have to do without the entry if it lost its power now.
func (p *part) lacks(index consensus.Index) bool {
	if slices.ContainsFunc(p.node.unsynced, func(a storage.GroupAppend) bool {
		return a.Group == p.groupID() && (a.Reset != nil || a.TruncateFrom != 0 && a.TruncateFrom <= index ||
			slices.ContainsFunc(a.Entries, func(e consensus.Entry) bool { return e.Index == index }))
	}) {
		return true
	}
	log := p.log()
	if index < log.First() {
		return false
	}
	_, err := log.Term(index)
	return err != nil
}

// begin has the world look at what the replica of a new process applies.
func (p *part) begin() {
	p.next = p.machine.AppliedIndex() + 1
	n, life := p.node, p.node.life
	p.replica.Subscribe(func(a *shard.Applied) {
		if n.life == life && n.up {
			p.group.truth.applied(p, a)
		}
	})
}

// describe says where the part stands.
func (p *part) describe() string {
	if !p.up() {
		return p.name() + " is not there"
	}
	leader, term := p.replica.Leader()
	g := p.gateway.Metrics()
	return fmt.Sprintf("%s: %s; leads %v, leader %d, term %d, applied %d, committed %d, revision %d, lease %v, frozen until %v, driving %v; gateway: %d calls, %d queued, %d sent",
		p.name(), p.replica.Standing(), p.replica.IsLeader(), leader, term, p.replica.Applied(), p.replica.Committed(), p.replica.Revision(), p.replica.LeaseValid(),
		p.node.frozenUntil, p.node.driving, g.CallsInFlight, g.QueuedCalls, g.SentCalls)
}
