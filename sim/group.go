package sim

import (
	"fmt"
	"iter"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/sim/history"
)

// group is one shard of the cluster: what happened in it, what its clients saw, and who led. Groups know nothing of each other, and each is checked
// alone.
type group struct {
	w       *world
	id      kv.ShardID
	index   int // in world.groups and node.parts
	truth   *truth
	history *history.History // of its clients; that of the store, if it is a shard of one
	leaders map[consensus.Term]string
	homes   []int // the nodes that it began on; nil: all
	brittle bool  // somewhere rows could not be read for a while
	silent  int   // faults in force that lose what its replicas send each other

	// transactions is, by entry, a sum of what replicas have of transactions over several shards after it.
	transactions map[consensus.Index]uint64

	changedAt   uint64 // the entry of the last change of a membership that was well, or one before it
	changedTerm consensus.Term
}

func newGroup(w *world, index int) *group {
	g := &group{w: w, id: kv.ShardID(index + 1), index: index, leaders: map[consensus.Term]string{}, history: new(history.History)}
	if w.shared() && index > 0 {
		g.history = w.groups[0].history
	}
	if w.plan.Homes != nil {
		g.homes = w.plan.Homes[index]
	}
	g.truth = newTruth(g)
	return g
}

// group returns the shard of that number; 0 means the first.
func (w *world) group(number int) *group { return w.groups[max(number-1, 0)%len(w.groups)] }

// parts are what the cluster's nodes have of the group.
func (g *group) parts() iter.Seq[*part] { return g.partsOf(g.w.nodes) }

// processes are parts and, if there is one, that of a second process.
func (g *group) processes() iter.Seq[*part] { return g.partsOf(g.w.processes()) }

func (g *group) partsOf(nodes []*node) iter.Seq[*part] {
	return func(yield func(*part) bool) {
		for _, n := range nodes {
			if p := n.parts[g.index]; p != nil && !yield(p) {
				return
			}
		}
	}
}

// leader returns who serves, the newest if an older one does not know yet; nil: nobody does.
func (g *group) leader() (newest *part) {
	var highest uint64
	for p := range g.parts() {
		if !p.runs() || !p.replica.IsLeader() {
			continue
		}
		if _, term := p.replica.Leader(); newest == nil || term > highest {
			newest, highest = p, term
		}
	}
	return newest
}

// leads tells whether the node is the one that serves.
func (g *group) leads(n *node) bool {
	leader := g.leader()
	return leader != nil && leader.node == n
}

// nodes are those that have a part of the group.
func (g *group) nodes() (nodes []*node) {
	for p := range g.parts() {
		nodes = append(nodes, p.node)
	}
	return nodes
}

// others are those beside one.
func (g *group) others(than *node) (others []*node) {
	for p := range g.parts() {
		if p.node != than {
			others = append(others, p.node)
		}
	}
	return others
}

// founders are the replicas that the group begins with.
func (g *group) founders() (c consensus.Config) {
	for p := range g.parts() {
		c.Voters = append(c.Voters, consensus.ReplicaID(p.node.number()))
	}
	return c
}

// first are the replicas that the group began with, for the driver; nil: one on every node.
func (g *group) first() (first []membership.Home) {
	for _, number := range g.homes {
		first = append(first, membership.Home{Node: nodeID(number), Replica: consensus.ReplicaID(number)})
	}
	return first
}

// firstOf is what the driver is told of them. Where the list of members has changed, they may be on other nodes than there are now; and a replica that has nothing
// must not take those it knows for all that there are.
func (n *node) firstOf(p *part, log *simLog) []membership.Home {
	if !n.joined() || n.added || log.Group(p.groupID()).HardState() == (consensus.HardState{}) {
		return p.group.first()
	}
	var first []membership.Home
	for i := range n.w.nodes {
		first = append(first, membership.Home{Node: nodeID(i + 1), Replica: consensus.ReplicaID(i + 1)})
	}
	return first
}

// founding is what an empty state of the part begins with.
func (p *part) founding() (f driver.Founding) {
	if p.node.joined() {
		return f
	}
	f.Members = p.group.founders()
	if p.node.w.plan.Members && p.group.id == kv.SystemShard {
		f.Nodes = p.node.w.founders()
	}
	return f
}

// lastFounder is the highest ID of a replica that the group began with; those of rebuilt replicas are higher.
func (g *group) lastFounder() consensus.ReplicaID {
	if g.homes == nil {
		return consensus.ReplicaID(len(g.w.nodes))
	}
	return consensus.ReplicaID(g.homes[len(g.homes)-1])
}

// of is what the node has of the group; nil: nothing.
func (g *group) of(n *node) *part { return n.parts[g.index] }

// elected notes who leads. There is one leader in a term, and a node that was leader before its restart is not the same one.
func (g *group) elected(p *part, term consensus.Term) {
	p.elections++
	name := fmt.Sprintf("node %d, process %d,", p.node.id, p.node.life)
	if other, found := g.leaders[term]; found && other != name {
		g.fail(Correctness, "%s leads in term %d, in which %s has led:%s", name, term, other, g.w.describe())
	}
	g.leaders[term] = name
}

// fail ends the run for something that is wrong in this group.
func (g *group) fail(v Verdict, format string, args ...any) {
	g.w.fail(v, "%s%s", g.prefix(), fmt.Sprintf(format, args...))
}

// prefix names the group in what people read, if there is more than one.
func (g *group) prefix() string {
	if len(g.w.groups) == 1 {
		return ""
	}
	return fmt.Sprintf("shard %d: ", g.id)
}

// lastApplied is the last entry that any node has applied.
func (g *group) lastApplied() consensus.Index {
	return consensus.Index(len(g.truth.log)) + consensus.BootstrapIndex
}

// observeLeases: at most one node may read without asking anybody, and nothing of a later term than its own is committed.
func (g *group) observeLeases() {
	var holder *part
	for p := range g.processes() {
		if !p.up() || !p.replica.LeaseValid() {
			continue
		}
		_, term := p.replica.Leader()
		if holder != nil {
			g.fail(Correctness, "nodes %d and %d hold leases for reads at the same time:%s", holder.node.id, p.node.id, g.w.describe())
		}
		holder = p
		log := g.truth.log
		if last := len(log) - 1; last >= 0 && uint64(log[last].term) > term {
			g.fail(Correctness, "node %d holds a lease for reads in term %d, an entry of term %d is committed", p.node.id, term, log[last].term)
		}
	}
}
