package membership

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
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
	// standingRemoved is that of a replica which was removed from its node, and wants nothing: only the others are to know it.
	standingRemoved standing = 4
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
	// new: at some moment both that node and this one had nothing. Whoever of the two begins first remembers the other one's disk; see isFounder.
	new bool
	// removed: that node had a replica, which was removed.
	removed bool
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
	switch {
	case o.Disk != 0:
	case g.self == 0:
		return nil, fmt.Errorf("membership: group %d began without this node, which takes part only if disks are told apart", g.id)
	default:
		return nil, nil
	}
	if state.Row != nil {
		return nil, g.openRow(state)
	}
	added := g.firstOn(o.Self) == 0
	switch alone := len(g.nodes) == 1; {
	case !state.Empty && added:
		return nil, fmt.Errorf("%w: group %d began without this node, which has taken part, and nothing says as which replica", ErrLost, g.id)
	case added: // there is a group, and nothing of it here: as if it were lost
		g.identity.standing = standingLost
	case !state.Empty && o.Lost:
		return nil, fmt.Errorf("%w: there is data in a directory that was to be empty", ErrLost)
	case !state.Empty: // it took part, so it was sure who it is
	case o.Lost && alone:
		return nil, ErrNoCopy
	case o.Lost:
		g.identity.standing = standingLost
	case alone: // there is nobody to ask
		return g.row(g.self, false), nil
	default:
		g.identity.standing = standingNew
	}
	return nil, nil
}

// openRow finds out what the row tells. A replica that was removed, and is to be here again, has lost what it was: it begins another life.
func (g *Group) openRow(state *GroupState) error {
	row, err := decodeRow(state.Row)
	if err != nil {
		return err
	}
	if own := g.site.Disk; row.site.Disk != own {
		return fmt.Errorf("%w: the state is of disk %x, and this is disk %x", ErrLost, row.site.Disk, own)
	}
	g.site, g.self, g.identity.founders = row.site, row.replica, row.founders
	switch {
	case !row.removed:
		return nil
	case !state.Empty:
		return fmt.Errorf("group %d: %w", g.id, ErrStateLeft)
	}
	g.self = g.firstOn(g.node.options.Self)
	g.site.Life++
	clear(g.identity.founders)
	g.identity.standing, g.identity.replaces = standingLost, row.replica
	return nil
}

// Held tells whether the consensus core must not do anything yet.
func (g *Group) Held() bool { return g.identity.standing != standingMember }

// Ask asks the other nodes who this is, unless that is known.
func (g *Group) Ask() { g.askAll() }

func (g *Group) askAll() {
	for _, node := range g.nodes {
		if node != g.node.options.Self && g.Held() && g.identity.saving == 0 {
			g.send(node, Message{Kind: KindQuestion, Site: g.site, Replica: g.identity.replaces})
		}
	}
}

// Receive takes a question or an answer of another node. An error says why it is refused.
func (g *Group) Receive(now time.Duration, from kv.NodeID, m *Message) error {
	switch {
	case g.node.options.Disk == 0:
		return errors.New("membership: a node asks who is who, and this one does not tell disks apart")
	case g.out(from) && m.Kind == KindQuestion:
		g.send(from, Message{Kind: KindAnswer, Site: m.Site, Out: true})
		return nil
	case !g.hasNode(from) || from == g.node.options.Self:
		return fmt.Errorf("membership: node %v asks who is who in group %d, of which it has no replica", from, g.id)
	}
	if g.identity.standing == standingRemoved {
		if m.Kind == KindAnswer && m.Site == g.site {
			g.toldRemoved(from)
		}
		return nil
	}
	if m.Out {
		g.hearOut(m)
		return nil
	}
	r := g.identity.reports[from]
	r.standing = m.Standing
	r.new = r.new || g.isFounder(m)
	r.removed = m.Standing == standingRemoved || m.Standing == standingLost && m.Site.Life > 0
	if g.Held() {
		g.identity.reports[from] = r
	}
	if m.Kind == KindQuestion {
		if m.Standing == standingNew && g.identity.standing == standingNew {
			g.identity.founders[from] = m.Site.Disk
		}
		if g.hearLoss(from, m) {
			return nil
		}
		g.answerQuestion(from, m)
	} else if m.Site == g.site {
		g.learn(m)
	}
	g.judgeFounding(now)
	return nil
}

// isFounder tells whether the sender counts as one that was new when this replica was. Who is new still does by its question, which names its disk: if it crashes
// before it has begun, it has to be told later. Who is new no more does by its word.
func (g *Group) isFounder(m *Message) bool {
	if m.Standing == standingNew {
		return m.Kind == KindQuestion
	}
	return m.New
}

// hearLoss draws the conclusion when a node says that its newest replica is lost, or was removed. True: there is nothing to answer.
func (g *Group) hearLoss(from kv.NodeID, m *Message) bool {
	if m.Standing != standingLost && m.Standing != standingRemoved || g.Held() || m.Replica == 0 {
		return false
	}
	known := g.siteOn(from)
	if m.Site.Follows(known) && !g.roster.later[from].Follows(m.Site) {
		g.roster.later[from] = m.Site
	}
	switch {
	case m.Replica != g.Newest(from):
	case m.Site == known:
		g.ready.GaveUp = append(g.ready.GaveUp, from)
		return true
	case m.Site.Follows(known):
		g.replicaGone(from, m.Replica)
		g.ready.GaveUp = append(g.ready.GaveUp, from)
	case m.Standing == standingLost:
		g.replicaGone(from, m.Replica)
	}
	return false
}

// answerQuestion says who has the place of the node that asks. That nobody has it, only a leader can say for
// sure, and only if it is confirmed as one after the question came.
func (g *Group) answerQuestion(from kv.NodeID, m *Message) {
	q := Question{from, m.Site}
	answer := g.answer(q)
	if m.Standing == standingLost && g.repair.leading && answer.Bound != m.Site && m.Replica == answer.Replica && g.mayClaim(from, m.Site, answer.Bound) {
		g.repair.claims[from] = claim{site: m.Site, replaces: m.Replica}
		g.wantRepair()
	}
	if answer.Bound != (shard.Site{}) || !g.repair.leading || m.Standing == standingRemoved {
		g.send(from, answer)
		return
	}
	g.ready.Confirm = append(g.ready.Confirm, q)
}

// mayClaim tells whether a node may say that it has lost the replica at the known site: not if that lives, unless it is the node itself, on that disk,
// which says so.
func (g *Group) mayClaim(node kv.NodeID, site, known shard.Site) bool {
	return site.Follows(known) || !g.node.livesOnKnownDisk(node, known.Disk)
}

// answer is what is known here about the place of a node.
func (g *Group) answer(q Question) Message {
	answer := Message{Kind: KindAnswer, Site: q.Site, Replica: g.firstOn(q.From), Bound: g.roster.seen[q.From]}
	answer.New = g.identity.standing == standingNew || g.identity.founders[q.From] == q.Site.Disk && q.Site.Life == 0
	if p, ok := g.placement(q.From); ok {
		answer.Replica, answer.Bound = p.Replica, p.Site
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
	own, nowhere := g.site, shard.Site{}
	g.identity.replaces = max(g.identity.replaces, m.Replica)
	switch taken := m.Bound != nowhere && m.Bound != own && m.Replica >= g.self; {
	case g.identity.saving != 0:
	case g.identity.standing == standingMember:
		if taken {
			g.fail(g.replacedBy(m.Replica))
		}
	case m.Bound == own && m.Replica != 0:
		g.save(m.Replica)
	case g.identity.standing == standingNew && taken:
		g.identity.standing = standingLost
		g.ready.Lost = true
		g.judgeStanding()
		g.askAll()
	case g.identity.standing == standingNew && m.Bound == nowhere && m.Confirmed:
		g.save(g.self)
	}
}

// judgeFounding decides what needs no leader: that the group is new, or that nothing is left of it.
func (g *Group) judgeFounding(now time.Duration) {
	if !g.Held() || g.identity.saving != 0 {
		return
	}
	fresh, members, lost, removed := 0, 0, 0, g.site.Life > 0
	for _, r := range g.identity.reports {
		if r.new {
			fresh++
		}
		removed = removed || r.removed
		switch r.standing {
		case standingMember:
			members++
		case standingLost, standingRemoved:
			lost++
		}
	}
	n := g.node
	all := len(g.identity.reports) == len(g.nodes)-1
	isNew := g.identity.standing == standingNew
	switch {
	case all && members == 0 && (lost > 0 || !isNew):
		g.askAll() // the last words: the others may not have heard yet that this one has nothing
		if removed {
			g.fail(fmt.Errorf("group %d: %w", g.id, ErrNoReplica))
			return
		}
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
	g.ready.Save = &Save{Replica: id, Row: g.row(id, false)}
}

// Saved tells that the row of Ready.Save is durable: this is that replica, and takes part.
func (g *Group) Saved() {
	g.self = g.identity.saving
	g.identity.standing, g.identity.saving = standingMember, 0
	g.ready.Joined = true
	g.judgeStanding()
}
