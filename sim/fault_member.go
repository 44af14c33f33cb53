package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
)

// Faults that change who is a member, or who leads.
const (
	// FaultChurn takes replicas that are well out of the membership, or their votes: one, or, if so many can be missing and Amount is above 0.7,
	// two at a time; below 0.5 they stay as learners. The driver takes them in again. They are never the leader, nor become it meanwhile:
	// drivers plan no changes that take out who leads.
	FaultChurn FaultKind = "churn"
	// FaultMember removes Node from the list of members, by the path of the API, and adds another one in its place, with empty disks and another ID, as a learner or
	// not. Duration is what lies between the steps, at most.
	FaultMember FaultKind = "member"
	// FaultTransfer has the leader hand over to another voter: its driver, or only its core, which the driver then does not know.
	FaultTransfer FaultKind = "transfer"
)

func (w *world) injectMember(f *Fault, n *node, random *rand.Rand) bool {
	switch f.Kind {
	case FaultMember:
		w.replaceMember(f, n, random)
	case FaultChurn:
		w.atLeader(w.group(f.Shard), 20, func(leader *part) bool { return leader.churn(f.Amount, random) })
	case FaultTransfer:
		w.transfer(w.group(f.Shard), random)
	default:
		return false
	}
	return true
}

// transfer has the leader of a group hand over to another voter.
func (w *world) transfer(g *group, random *rand.Rand) {
	w.atLeader(g, 20, func(leader *part) bool {
		others := g.others(leader.node)
		to := g.of(others[random.IntN(len(others))])
		if to.leaving || !to.up() || !leader.core.Status().Config.Votes(to.core.Status().Replica) {
			return true
		}
		if random.IntN(2) == 0 { // as an operator asks for it
			leader.node.enter(func() {
				leader.replica.Transfer(to.node.id, func(err error) {
					if err == nil {
						w.mark("leadership handed over by the driver")
					}
				})
			})
			return true
		}
		done := leader.core.TransferLeader(to.core.Status().Replica) == nil
		if done {
			w.mark("leadership handed over")
		}
		return done
	})
}

// atLeader lets the core of the group's leader be asked for something, between two rounds, until it does it or the attempts are used up.
func (w *world) atLeader(g *group, attempts int, ask func(leader *part) bool) {
	if w.ended || attempts == 0 {
		return
	}
	leader := g.leader()
	if leader == nil || leader.node.driving || !ask(leader) {
		w.after(10*time.Millisecond, func() { w.atLeader(g, attempts-1, ask) })
		return
	}
	// The driver looks at a core when there was something for it: a connection broke, for example.
	leader.node.enter(func() { leader.node.store.PeerDown(g.others(leader.node)[0].id, false) })
}

// followed tells whether somebody takes the node for the leader. Who loses its vote cannot ask for votes to tell that it leads no more, and who follows it
// waits as long as its process lives. In production whoever loses its vote has lost its process.
func (p *part) followed() bool {
	for other := range p.group.parts() {
		if other == p || !other.up() {
			continue
		}
		if leader, _ := other.replica.Leader(); leader == p.node.id {
			return true
		}
	}
	return false
}

// churn changes the membership. Who is out of it counts as lost until the cluster is whole again: what may be lost beside it is as much as if its
// data were gone.
func (p *part) churn(amount float64, random *rand.Rand) bool {
	w, g := p.node.w, p.group
	out := slices.Collect(g.parts())
	count := 1
	if amount > 0.7 && len(out) >= 5 {
		count = 2
	}
	random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	own := slices.Index(out, p)
	out = slices.Delete(out, own, own+1)[:count]
	w.lookWhole()
	if slices.ContainsFunc(w.nodes, func(n *node) bool { return n.hurt }) || !w.whole() || slices.ContainsFunc(out, (*part).followed) {
		return true // not now
	}
	target := p.core.Status().Config.Clone()
	for _, other := range out {
		id := other.core.Status().Replica
		target.Voters = slices.DeleteFunc(target.Voters, func(other consensus.ReplicaID) bool { return other == id })
		if amount < 0.5 {
			target.Learners = append(target.Learners, id)
		}
	}
	slices.Sort(target.Learners)
	at := uint64(p.core.Status().Last) + 1
	if p.core.ProposeConfig(target) != nil {
		return false
	}
	status := p.core.Status()
	g.changedAt, g.changedTerm = max(at, uint64(status.Last)), status.Term
	for _, other := range out {
		other.node.hurt, other.leaving = true, true
	}
	w.mark("membership changed while all was well")
	if w.reading() {
		w.line("%s | changes the membership to %s", p.name(), target)
	}
	return true
}
