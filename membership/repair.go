package membership

import (
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// What a leader does so that every node has a replica: it notes which disk each first replica is on, gives a node that
// lost its replica a new one, and changes the membership accordingly. Everything it goes by is in the log or comes
// again by itself, so that the next leader goes on.

// repair is what a replica knows of that.
type repair struct {
	leading bool // and has applied the barrier of its term
	wanted  bool // there may be something to do
	// assigning: a placement is proposed, and its fate not known.
	assigning bool
	claims    map[kv.NodeID]claim // of nodes that have lost their replica
	// catchUpTo: everything that a replica which is not wanted may have acknowledged lies at or below this index. It is that of the last change of membership,
	// or where this replica began to lead.
	catchUpTo consensus.Index
}

// claim is the request of a node that lost its replica.
type claim struct {
	site     shard.Site
	replaces consensus.ReplicaID
}

// Progress is what the consensus core of a leader says of its group.
type Progress struct {
	// Config is the newest membership, applied or not.
	Config   consensus.Config
	Replicas []consensus.Replication
}

// Lead tells that this replica begins to serve as the leader, having applied everything up to the index.
func (g *Group) Lead(applied consensus.Index) {
	g.repair.leading, g.repair.catchUpTo = true, applied
	clear(g.repair.claims)
	g.wantRepair()
}

// StepDown tells that it does so no more.
func (g *Group) StepDown() { g.repair.leading = false }

// Leading tells whether it does.
func (g *Group) Leading() bool { return g.repair.leading }

// wantRepair has the leader look, at the next tick, whether something is to be done.
func (g *Group) wantRepair() { g.repair.wanted = g.node.options.Disk != 0 }

// WantsRepair tells whether something may be to be done: by Repair, if this replica leads.
func (g *Group) WantsRepair() bool { return g.repair.wanted }

// Repair does one step of a leader; Ready has it.
func (g *Group) Repair(p Progress) { g.repair.wanted = g.repairStep(p) }

// repairStep tells whether there may be more.
func (g *Group) repairStep(progress Progress) (more bool) {
	if g.repair.assigning {
		return true
	}
	if seats := g.nextSeats(progress.Config); seats != nil {
		g.repair.assigning = true
		g.ready.Seat = seats
		return true
	}
	unknown := false
	for _, node := range g.nodes {
		if g.leaves(node) {
			continue
		}
		if request := g.assignable(node); request.Disk != 0 {
			g.repair.assigning = true
			g.ready.Assign = &request
			return true
		}
		if _, placed := g.placement(node); !placed && g.firstOn(node) != 0 {
			unknown = true
		}
	}
	p := g.plan(progress.Config)
	p.replicas, p.catchUpTo = progress.Replicas, g.repair.catchUpTo
	if p.complete() {
		return unknown
	}
	// If the core does not propose it, it is tried again: another change is not finished, or the core knows better.
	if target, change := p.next(); change {
		g.ready.Change = &target
	} else if heir := p.heir(); heir != 0 {
		g.ready.HandOver, _ = g.NodeOf(heir)
	}
	return true
}

// Assigned tells that the fate of what was to be assigned, or of a roster, is known. Whatever it is, the table shows it.
func (g *Group) Assigned() { g.repair.assigning = false }

// assignable returns what the table should say about the node and does not; Disk is 0 if there is nothing.
func (g *Group) assignable(node kv.NodeID) kv.AssignReplicaRequest {
	request := kv.AssignReplicaRequest{Node: node, First: uint64(g.firstOn(node))}
	p, placed := g.placement(node)
	if claim, ok := g.repair.claims[node]; ok {
		if claim.replaces == g.placed(node) && p.Site != claim.site {
			request.Disk, request.Life, request.Replaces = claim.site.Disk, claim.site.Life, uint64(claim.replaces)
			return request
		}
		delete(g.repair.claims, node)
	}
	switch {
	case placed, request.First == 0: // a node that was added later says itself on which disk it is, with a claim
	case node == g.node.options.Self:
		request.Disk, request.Life = g.site.Disk, g.site.Life
	default:
		request.Disk, request.Life = g.roster.seen[node].Disk, g.roster.seen[node].Life
	}
	return request
}

// replicaGone notes that a node has lost its newest replica: nothing that it said is to be acted upon any more, late
// messages included. A promise to it is kept: the claim may be that of a second process under the node's name; see Admit.
func (g *Group) replicaGone(node kv.NodeID, id consensus.ReplicaID) {
	if g.roster.gone[node] == id {
		return
	}
	g.roster.gone[node] = id
	g.ready.Gone = append(g.ready.Gone, node)
}

// Question is one of another node that only a leader can answer for sure.
type Question struct {
	From kv.NodeID
	Site shard.Site
}

// Confirmed tells that this replica led, and had applied what was committed, after the question came.
func (g *Group) Confirmed(q Question) {
	answer := g.answer(q)
	answer.Confirmed = g.repair.leading
	g.send(q.From, answer)
}

func (g *Group) send(to kv.NodeID, m Message) {
	m.Group = g.id
	if m.Standing == 0 {
		m.Standing = g.identity.standing
	}
	g.ready.Messages = append(g.ready.Messages, MessageTo{To: to, Message: m})
}

// tellPlacement lets a node know, now and then, that it has no place here any more.
func (g *Group) tellPlacement(now time.Duration, node kv.NodeID, site shard.Site) {
	if g.mayTell(now, node) {
		g.send(node, g.answer(Question{node, site}))
	}
}

// askPlacement finds out, now and then, whether this replica has been replaced: somebody has a message for a newer one of this
// node. A learner sends nothing that would make the others tell it.
func (g *Group) askPlacement(now time.Duration, node kv.NodeID) {
	if g.site.Disk != 0 && g.mayTell(now, node) {
		g.send(node, Message{Kind: KindQuestion, Site: g.site})
	}
}
