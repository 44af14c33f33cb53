package membership

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// Who a replica is. A node that finds its disk empty cannot know whether it is new or has lost what it had: it asks the
// others before its core takes part in anything. See docs/decisions/0012-lost-replicas.md.
//
//	new ──── a leader: nobody has your place; or as many nodes as a quorum are new ─────> member
//	 │                                                                                       │
//	 └── your place belongs to another disk ──> lost ── a leader gave this disk an ID ──> member
//	                                              ▲                                          │
//	        the node starts with another disk ────┴──────── your place belongs to another disk: stop

// standing is where a replica stands with that. The numbers are on the wire.
type standing uint8

const (
	standingMember standing = 1 // it knows which replica it is
	standingNew    standing = 2 // its disk is empty
	standingLost   standing = 3 // what it had is gone: it waits for an ID that was never used
)

// identity is what a replica knows about who it is.
type identity struct {
	standing standing
	// saving is the replica that this one becomes as soon as that is durable; 0: none.
	saving consensus.ReplicaID
	// replaces is the newest replica of this node that others know, and that is lost.
	replaces consensus.ReplicaID
	// reports are what the other nodes said about themselves since this replica asks.
	reports map[kv.NodeID]report
	// founders are the disks of nodes that were new while this one was. A first replica keeps them for good: those of them that crash
	// before they know that the cluster is new depend on being told so.
	founders map[kv.NodeID]uint64
	// told: when a node was last told, or asked, that one of the two has no place any more.
	told map[kv.NodeID]time.Duration
}

type report struct {
	standing standing
	// new: at some moment both that node and this one had nothing.
	new bool
}

func newIdentity() identity {
	return identity{standing: standingMember, reports: make(map[kv.NodeID]report), founders: make(map[kv.NodeID]uint64), told: make(map[kv.NodeID]time.Duration)}
}

// Save is which replica this one becomes when the row is durable.
type Save struct {
	Replica consensus.ReplicaID
	Row     []byte
}

// open finds out as much as the disk tells. row, if there is one, is to be made durable.
func (g *Group) open(state *GroupState) (row []byte, err error) {
	o := &g.node.options
	if o.Disk == 0 {
		return nil, nil
	}
	if state.Row != nil {
		return nil, g.readRow(state.Row)
	}
	switch alone := len(g.first) == 1; {
	case !state.Empty && o.Lost:
		return nil, fmt.Errorf("%w: there is data in a directory that was to be empty", ErrLost)
	case !state.Empty: // it took part, so it was sure who it is
	case o.Lost && alone:
		return nil, ErrNoCopy
	case o.Lost:
		g.identity.standing = standingLost
	case alone: // there is nobody to ask
		return g.row(g.self), nil
	default:
		g.identity.standing = standingNew
	}
	return nil, nil
}

// Held tells whether the consensus core must not do anything yet.
func (g *Group) Held() bool { return g.identity.standing != standingMember }

// Ask asks the other nodes who this is, unless that is known.
func (g *Group) Ask() { g.askAll() }

func (g *Group) askAll() {
	for _, h := range g.first {
		if h.Node != g.node.options.Self && g.Held() && g.identity.saving == 0 {
			g.send(h.Node, Message{Kind: KindQuestion, Disk: g.node.options.Disk, Replica: g.identity.replaces})
		}
	}
}

// Receive takes a question or an answer of another node. An error says why it is refused.
func (g *Group) Receive(now time.Duration, from kv.NodeID, m *Message) error {
	switch {
	case g.node.options.Disk == 0:
		return errors.New("membership: a node asks who is who, and this one does not tell disks apart")
	case g.firstOn(from) == 0 || from == g.node.options.Self:
		return fmt.Errorf("membership: node %v asks who is who in group %d, of which it has no replica", from, g.id)
	}
	r := g.identity.reports[from]
	r.standing = m.Standing
	r.new = r.new || m.New || m.Standing == standingNew
	if g.Held() {
		g.identity.reports[from] = r
	}
	if m.Kind == KindQuestion {
		if m.Standing == standingNew && g.identity.standing == standingNew {
			g.identity.founders[from] = m.Disk
		}
		if m.Standing == standingLost && !g.Held() && m.Replica != 0 && m.Replica == g.Newest(from) {
			if p, _ := g.placement(from); m.Disk == p.Disk || m.Disk == g.roster.seen[from] {
				g.ready.GaveUp = append(g.ready.GaveUp, from)
				return nil
			}
			g.replicaGone(from, m.Replica)
		}
		g.answerQuestion(from, m)
	} else if m.Disk == g.node.options.Disk {
		g.learn(m)
	}
	g.judgeFounding(now)
	return nil
}

// answerQuestion says who has the place of the node that asks. That nobody has it, only a leader can say for
// sure, and only if it is confirmed as one after the question came.
func (g *Group) answerQuestion(from kv.NodeID, m *Message) {
	q := Question{from, m.Disk}
	answer := g.answer(q)
	if m.Standing == standingLost && g.repair.leading && answer.Bound != m.Disk && m.Replica == answer.Replica && !g.node.livesOnKnownDisk(from, answer.Bound) {
		g.repair.claims[from] = claim{disk: m.Disk, replaces: m.Replica}
		g.wantRepair()
	}
	if answer.Bound != 0 || !g.repair.leading {
		g.send(from, answer)
		return
	}
	g.ready.Confirm = append(g.ready.Confirm, q)
}

// answer is what is known here about the place of a node.
func (g *Group) answer(q Question) Message {
	answer := Message{Kind: KindAnswer, Disk: q.Disk, Replica: g.firstOn(q.From), Bound: g.roster.seen[q.From]}
	answer.New = g.identity.standing == standingNew || g.identity.founders[q.From] == q.Disk
	if p, ok := g.placement(q.From); ok {
		answer.Replica, answer.Bound = p.Replica, p.Disk
	}
	return answer
}

// mayTell tells whether a node has not just been told the same, and notes that it is.
func (g *Group) mayTell(now time.Duration, node kv.NodeID) bool {
	if last, told := g.identity.told[node]; told && now-last < g.node.options.HeartbeatInterval {
		return false
	}
	g.identity.told[node] = now
	return true
}

// learn draws the conclusion from an answer.
func (g *Group) learn(m *Message) {
	own := g.node.options.Disk
	g.identity.replaces = max(g.identity.replaces, m.Replica)
	switch taken := m.Bound != 0 && m.Bound != own && m.Replica >= g.self; {
	case g.identity.saving != 0:
	case g.identity.standing == standingMember:
		if taken {
			g.fail(g.replacedBy(m.Replica))
		}
	case m.Bound == own:
		g.save(m.Replica)
	case g.identity.standing == standingNew && taken:
		g.identity.standing = standingLost
		g.ready.Lost = true
		g.judgeStanding()
		g.askAll()
	case g.identity.standing == standingNew && m.Bound == 0 && m.Confirmed:
		g.save(g.self)
	}
}

// judgeFounding decides what needs no leader: that the group is new, or that nothing is left of it.
func (g *Group) judgeFounding(now time.Duration) {
	if !g.Held() || g.identity.saving != 0 {
		return
	}
	fresh, members, lost := 0, 0, 0
	for _, r := range g.identity.reports {
		if r.new {
			fresh++
		}
		switch r.standing {
		case standingMember:
			members++
		case standingLost:
			lost++
		}
	}
	n := g.node
	all := len(g.identity.reports) == len(g.first)-1
	isNew := g.identity.standing == standingNew
	switch {
	case all && members == 0 && (lost > 0 || !isNew):
		g.askAll() // the last words: the others may not have heard yet that this one has nothing
		g.fail(fmt.Errorf("group %d: %w: restore the cluster from a backup", g.id, ErrNoCopy))
	case isNew && lost == 0 && fresh+1 >= g.founders && (all || now-n.began >= n.options.foundingPatience()):
		// Whoever has lost something shows that there was a cluster.
		n.witnesses.founded(func(node kv.NodeID) bool { _, ok := g.identity.reports[node]; return ok })
		g.save(g.self)
	}
}

// save makes durable which replica this is. Until then it stays held.
func (g *Group) save(id consensus.ReplicaID) {
	g.identity.saving = id
	g.ready.Save = &Save{Replica: id, Row: g.row(id)}
}

// Saved tells that the row of Ready.Save is durable: this is that replica, and takes part.
func (g *Group) Saved() {
	g.self = g.identity.saving
	g.identity.standing, g.identity.saving = standingMember, 0
	g.ready.Joined = true
	g.judgeStanding()
}
