package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// A node that has lost its data comes back with empty disks under a new disk ID, as package server does it, and has to become a
// voter again: see docs/decisions/0012-lost-replicas.md. How much may be lost at a time is what that decision promises to
// survive, and is enforced where damage is injected:
//
//   - fewer nodes than a quorum needs are without what they had at any time;
//   - the next loss, of another node, waits until every node says that nothing is the matter, unless all who are affected
//     are together too few to matter;
//   - a disk is lost only once the table has it: before that, only the memory of running nodes knows whose it is.
//
// A plan that says LoseQuorum has none of these limits, and ends in another way; see giveUp.

// formerDisk is what a node had before it got other disks.
type formerDisk struct {
	disks disks
	id    uint64
	lost  bool // Options.Lost of a process on it
}

// newDisks gives the node empty disks with an ID that was never used.
func (n *node) newDisks() {
	n.diskCount++
	n.diskID = uint64(n.id)<<32 | n.diskCount
	n.damage = damage{}
	if n.w.plan.Engine == Pebble {
		n.disks = newPebbleDisks(n)
		return
	}
	n.disks = newMemoryDisks(n)
}

// lose has the node start on empty disks after a while. known: it knows that it has lost something; otherwise it finds nothing, as a
// node does that was never started.
func (n *node) lose(reason string, known bool, down time.Duration) {
	n.w.happened(traceFault, n.number(), n.diskCount, 2)
	n.w.mark("node lost its data")
	if n.w.reading() {
		n.w.line("node %d loses its data, and knows it: %v; %s", n.id, known, reason)
	}
	n.setAside()
	n.newDisks()
	n.knowsLoss, n.hurt = known, true
	n.w.after(max(down, time.Millisecond), n.start)
}

// setAside ends the process and takes the disks out.
func (n *node) setAside() {
	if n.up {
		n.end()
		n.disks.crash(nil)
	}
	n.crashPlan = crashPlan{}
	n.disks.close()
	for p := range n.held() {
		p.removed = false
	}
	n.former = nil
	if n.damage.why == "" || n.damage.wiped {
		n.former = &formerDisk{n.disks, n.diskID, n.knowsLoss}
	}
}

// takeFormer puts the disks back that the node had before it lost them.
func (n *node) takeFormer(down time.Duration) {
	former := n.former
	n.setAside()
	n.former = nil
	n.disks, n.diskID, n.knowsLoss = former.disks, former.id, former.lost
	n.damage = damage{why: "it was started on a disk that had been replaced", former: true}
	n.w.after(max(down, time.Millisecond), n.start)
}

// damaged tells whether the error means that the node cannot rely on its data, as server.Damaged does.
func damaged(err error) bool {
	return errors.Is(err, storage.ErrCorrupt) || errors.Is(err, driver.ErrLost)
}

// repaired does what package server does about a process that ended with the error; false if it does nothing, or nothing
// explains the error.
func (n *node) repaired(err error) bool {
	switch {
	case errors.Is(err, driver.ErrNoCopy) && n.w.plan.LoseQuorum:
		n.w.mark("no good copy")
		n.noCopy = true
		if n.w.reading() {
			n.w.line("node %d stops: %v", n.id, err)
		}
		if n.up {
			n.end()
			n.disks.crash(nil)
		}
		n.w.after(time.Second, n.start) // whoever supervises it; the others may not have heard of it yet
	case n.damage.why == "" && !n.doubled() || !damaged(err):
		return false
	case errors.Is(err, driver.ErrLost):
		if n.damage.stale {
			n.w.mark("older image noticed")
		} else {
			n.w.mark("replaced replica stopped")
		}
		n.lose(fmt.Sprintf("%s: %v", n.damage.why, err), true, n.restartLatency())
	default:
		n.w.mark("damage noticed")
		n.lose(fmt.Sprintf("%s: %v", n.damage.why, err), true, n.restartLatency())
	}
	return true
}

// restartLatency is how long it takes until a node has set its damaged data aside.
func (n *node) restartLatency() time.Duration {
	return time.Millisecond + time.Duration(n.random.Int64N(int64(50*time.Millisecond)))
}

// mayDamage tells whether the node may be damaged now, and remembers why it is.
func (w *world) mayDamage(n *node, why string) bool {
	w.lookWhole()
	others := w.hurtBeside(n)
	switch {
	case w.plan.LoseQuorum:
	case w.double != nil || slices.ContainsFunc(w.nodes, func(other *node) bool { return other != n && other.damage.stale }):
		return false // whoever remembers what that node forgot must not forget it, too
	case !w.survives(n):
		return false
	case others == 0 && !n.hurt && !w.whole():
		return false
	}
	n.damage.why, n.hurt = why, true
	w.mark("damage")
	return true
}

// survives tells whether every group of the node's has a quorum without it and without the others that are hurt.
func (w *world) survives(n *node) bool {
	for p := range n.held() {
		members, hurt := 0, 1
		for other := range p.group.parts() {
			if members++; other != p && other.node.hurt {
				hurt++
			}
		}
		if hurt > (members-1)/2 {
			return false
		}
	}
	return true
}

// hurtBeside counts the other nodes that are without what they had.
func (w *world) hurtBeside(n *node) (count int) {
	for _, other := range w.nodes {
		if other != n && other.hurt {
			count++
		}
	}
	return count
}

// lookWhole forgets what was lost once nothing of it is missing any more.
func (w *world) lookWhole() {
	hurt := false
	for _, n := range w.nodes {
		hurt = hurt || n.hurt && n.damage.why == ""
	}
	if !hurt || !w.whole() {
		return
	}
	for _, n := range w.nodes {
		n.hurt = n.damage.why != ""
		for p := range n.held() {
			p.leaving = false
		}
	}
	w.mark("whole again")
}

// whole tells whether every node says in every group that nothing is the matter, and the tables have every disk.
func (w *world) whole() bool {
	return !slices.ContainsFunc(w.groups, func(g *group) bool { return !g.whole() })
}

func (g *group) whole() bool {
	leader := g.leader()
	if leader == nil || g.w.doubleUnderWay(leader) {
		return false
	}
	status := leader.core.Status()
	if status.Config.Joint() || len(status.Config.Learners) > 0 {
		return false // who is about to vote is none of those who keep a quorum
	}
	if status.Term > g.changedTerm {
		g.changedAt = min(g.changedAt, leader.replica.Applied()) // a change of an earlier leader is applied by now, or lost
	}
	for p := range g.parts() {
		if !p.up() || p.replica.Applied() < g.changedAt || p.replica.Standing() != "member" || !leader.places(p.node) || p.node.damage.stale {
			return false
		}
	}
	return true
}

// places tells whether the table as this node knows it has the other's disk.
func (p *part) places(other *node) bool {
	return slices.ContainsFunc(p.machine.Placements(), func(at shard.Placement) bool { return at.Node == other.id && at.Disk == other.diskID })
}

// replaceDamaged gives new disks to the nodes that are damaged and have not noticed. That a disk has been replaced, a node must notice, and
// that something on it is rotten.
func (w *world) replaceDamaged() {
	for _, n := range w.nodes {
		if w.roster.replaces(n) {
			continue // it will come back as another one
		}
		if w.mustScrub(n) {
			n.damage.lying = false
			w.mark("rot left to be found")
		} else if n.damage.why != "" && !n.damage.former {
			n.lose(n.damage.why, true, 0)
		}
	}
}

// injectLoss lets a node lose whole disks.
func (w *world) injectLoss(f *Fault, n *node) bool {
	switch f.Kind {
	case FaultWipe, FaultWipeNoticed:
		w.wipe(f, n, f.Kind == FaultWipeNoticed)
	case FaultOldDisk:
		w.oldDisk(f, n)
	default:
		return false
	}
	return true
}

func (w *world) wipe(f *Fault, n *node, known bool) {
	if w.mayDamage(n, "its disks were replaced by empty ones") {
		n.damage.wiped = true
		n.lose(n.damage.why, known, f.Duration)
		for _, other := range w.others(n, 0) {
			w.net.lagFor(n, other, driver.ChannelIdentity, milliseconds(f.Amount), f.Duration+time.Second)
		}
	}
}

// oldDisk puts back what the node had before. Until the table has the new disk, the old one may still be the right one.
func (w *world) oldDisk(f *Fault, n *node) {
	if i := slices.IndexFunc(w.nodes, func(other *node) bool { return other.former != nil }); n.former == nil && i >= 0 {
		n = w.nodes[i]
	}
	switch {
	case n.former == nil:
		w.wipe(f, n, true)
	case w.placed(n) && w.mayDamage(n, "its old disks came back"):
		w.mark("old disk came back")
		n.takeFormer(f.Duration)
	}
}

// placed tells whether the tables of all groups that it has a part in have the node's disk.
func (w *world) placed(n *node) bool {
	for p := range n.held() {
		if leader := p.group.leader(); leader == nil || !leader.places(n) {
			return false
		}
	}
	return true
}

// takesPart is told when a process knows which replica of a group it is.
func (n *node) takesPart(group consensus.GroupID, id consensus.ReplicaID) {
	if id > n.partOf(group).group.lastFounder() {
		n.w.mark("replica rebuilt")
	} else if n.hurt && !n.w.plan.LoseQuorum {
		n.w.fail(Correctness, "node %d has lost what its replica %d knew, and takes part as that replica again", n.id, id)
	}
	if n.w.reading() {
		n.w.line("%s | takes part as replica %d", n.partOf(group).name(), id)
	}
}
