package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
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

var (
	// ErrLost: what this node stored of a shard is lost, or another disk has taken its place. The node must not
	// go on with it; it may come back with empty disks and a new Options.Disk.
	ErrLost = errors.New("replica: what this node stored is lost, or has been replaced")
	// ErrNoCopy: this node has lost its data, and nobody has any.
	ErrNoCopy = errors.New("replica: no other replica has a good copy")
)

// identity is what a replica knows about who it is.
type identity struct {
	standing standing
	saving   bool
	// replaces is the newest replica of this node that others know, and that is lost.
	replaces consensus.ReplicaID
	// heard is what the other nodes said about themselves since this replica asks.
	heard map[kv.NodeID]heard
	// founders are the disks of nodes that were new while this one was. A first replica keeps them for good: those of them that crash
	// before they know that the cluster is new depend on being told so.
	founders map[kv.NodeID]uint64
	// answered: when a replica without a place was last told so, by node.
	answered map[kv.NodeID]time.Duration
}

type heard struct {
	standing standing
	// new: at some moment both that node and this one had nothing.
	new bool
}

// openIdentity finds out as much as the disk tells.
func (r *Replica) openIdentity() error {
	s := r.store
	r.self = s.first(s.opts.Self)
	r.identity = identity{standing: standingMember, heard: map[kv.NodeID]heard{}, founders: map[kv.NodeID]uint64{}, answered: map[kv.NodeID]time.Duration{}}
	if s.opts.Disk == 0 {
		return nil
	}
	row, found, err := s.opts.Engine.Get(keys.Identity(uint64(r.group)), nil)
	if err != nil {
		return fmt.Errorf("read which replica this is: %w", err)
	}
	if found {
		return r.readIdentity(row)
	}
	switch empty := r.empty(); {
	case !empty && s.opts.Lost:
		return fmt.Errorf("%w: there is data in a directory that was to be empty", ErrLost)
	case !empty:
		return nil // it took part, so it was sure who it is
	case s.opts.Lost && len(s.opts.Nodes) == 1:
		return ErrNoCopy
	case s.opts.Lost:
		r.identity.standing = standingLost
	case len(s.opts.Nodes) == 1: // there is nobody to ask
		return r.writeIdentity(r.self, await)
	default:
		r.identity.standing = standingNew
	}
	s.joining = append(s.joining, r)
	return nil
}

func (r *Replica) readIdentity(row []byte) error {
	id, n := binary.Uvarint(row)
	if n <= 0 || id == 0 || id > shard.MaxReplicaID {
		return fmt.Errorf("%w: the row that says which replica this is cannot be read", storage.ErrCorrupt)
	}
	disk, m := binary.Uvarint(row[n:])
	if m <= 0 || !r.readFounders(row[n+m:]) {
		return fmt.Errorf("%w: the row that says which replica this is cannot be read", storage.ErrCorrupt)
	}
	if disk != r.store.opts.Disk {
		return fmt.Errorf("%w: the state is of disk %x, and this is disk %x", ErrLost, disk, r.store.opts.Disk)
	}
	r.self = consensus.ReplicaID(id)
	return nil
}

func (r *Replica) readFounders(row []byte) bool {
	for len(row) > 0 {
		node, n := binary.Uvarint(row)
		if n <= 0 {
			return false
		}
		disk, m := binary.Uvarint(row[n:])
		if m <= 0 {
			return false
		}
		r.identity.founders[kv.NodeID(node)] = disk
		row = row[n+m:]
	}
	return true
}

// empty tells whether this replica has never taken part in anything.
func (r *Replica) empty() bool {
	hard := r.log.HardState()
	return hard.Vote == 0 && hard.Term <= consensus.BootstrapTerm && r.log.Last() <= consensus.BootstrapIndex &&
		r.machine.AppliedIndex() <= consensus.BootstrapIndex
}

// held tells whether the core must not do anything yet.
func (r *Replica) held() bool {
	return r.identity.standing == standingNew || r.identity.standing == standingLost
}

// askAll asks the other nodes who this is.
func (r *Replica) askAll() {
	for _, node := range r.store.opts.Nodes {
		if node != r.store.opts.Self && r.held() && !r.identity.saving {
			r.store.sendIdentity(node, identityMessage{kind: identityQuestion, group: r.group, standing: r.identity.standing, disk: r.store.opts.Disk, replica: r.identity.replaces})
		}
	}
}

// receiveIdentity takes a question or an answer of another node.
func (s *Store) receiveIdentity(from kv.NodeID, m *identityMessage) {
	r := s.groups[m.group]
	if r == nil || s.opts.Disk == 0 || s.first(from) == 0 || from == s.opts.Self {
		return
	}
	h := r.identity.heard[from]
	h.standing = m.standing
	h.new = h.new || m.new || m.standing == standingNew
	if r.held() {
		r.identity.heard[from] = h
	}
	if m.kind == identityQuestion {
		if m.standing == standingNew && r.identity.standing == standingNew {
			r.identity.founders[from] = m.disk
		}
		if m.standing == standingLost && !r.held() && m.replica != 0 && m.replica == r.newest(from) {
			r.replicaGone(from, m.replica)
		}
		r.answerIdentity(from, m)
	} else if m.disk == s.opts.Disk {
		r.learnIdentity(m)
	}
	r.considerIdentity(s.clock())
}

// replicaGone notes that a node has lost its newest replica: nothing that it said is to be acted upon any more, late
// messages included. A promise to it is kept: the claim may be that of a second process under the node's name; see admit.
func (r *Replica) replicaGone(node kv.NodeID, id consensus.ReplicaID) {
	if r.gone[node] == id {
		return
	}
	r.gone[node] = id
	r.leadership.NodeLost(r.store.clock(), node, false)
	r.carryOut()
}

// answerIdentity says who has the place of the node that asks. That nobody has it, only a leader can say for
// sure, and only if it is confirmed as one after the question came.
func (r *Replica) answerIdentity(to kv.NodeID, q *identityMessage) {
	s := r.store
	answer := r.placementAnswer(to, q.disk)
	if q.standing == standingLost && r.leading && answer.bound != q.disk && q.replica == answer.replica && !s.livesOnKnownDisk(to, answer.bound) {
		r.claims[to] = claim{disk: q.disk, replaces: q.replica}
		r.unsettle()
	}
	if answer.bound != 0 || !r.leading {
		s.sendIdentity(to, answer)
		return
	}
	r.ReadIndex(func(index uint64, err error) {
		if err != nil {
			return // it asks again
		}
		r.WaitApplied(index, func(err error) {
			if err == nil {
				answer := r.placementAnswer(to, q.disk)
				answer.confirmed = r.leading
				s.sendIdentity(to, answer)
			}
		})
	})
}

// placementAnswer is what is known here about the place of a node.
func (r *Replica) placementAnswer(node kv.NodeID, disk uint64) identityMessage {
	answer := identityMessage{kind: identityAnswer, group: r.group, standing: r.identity.standing, disk: disk,
		replica: r.store.first(node), bound: r.seen[node]}
	answer.new = r.identity.standing == standingNew || r.identity.founders[node] == disk
	if p, ok := r.placement(node); ok {
		answer.replica, answer.bound = p.Replica, p.Disk
	}
	return answer
}

// tellPlacement lets a node know, now and then, that it has no place here any more.
func (r *Replica) tellPlacement(node kv.NodeID, disk uint64) {
	now := r.store.clock()
	if last, told := r.identity.answered[node]; told && now-last < r.store.opts.HeartbeatInterval {
		return
	}
	r.identity.answered[node] = now
	r.store.sendIdentity(node, r.placementAnswer(node, disk))
}

// askPlacement finds out, now and then, whether this replica has been replaced: somebody has a message for a newer one of this
// node. A learner sends nothing that would make the others tell it.
func (r *Replica) askPlacement(node kv.NodeID) {
	now := r.store.clock()
	if last, asked := r.identity.answered[node]; r.store.opts.Disk == 0 || asked && now-last < r.store.opts.HeartbeatInterval {
		return
	}
	r.identity.answered[node] = now
	r.store.sendIdentity(node, identityMessage{kind: identityQuestion, group: r.group, standing: r.identity.standing, disk: r.store.opts.Disk})
}

// learnIdentity draws the conclusion from an answer.
func (r *Replica) learnIdentity(m *identityMessage) {
	own := r.store.opts.Disk
	r.identity.replaces = max(r.identity.replaces, m.replica)
	switch taken := m.bound != 0 && m.bound != own && m.replica >= r.self; {
	case r.identity.saving:
	case r.identity.standing == standingMember:
		if taken {
			r.store.fail(fmt.Errorf("%w: group %d: replica %d of this node is on another disk", ErrLost, r.group, m.replica))
		}
	case m.bound == own:
		r.saveIdentity(m.replica)
	case r.identity.standing == standingNew && taken:
		r.identity.standing = standingLost
		r.noteStanding()
		if r.store.opts.Listener.Lost != nil {
			r.store.opts.Listener.Lost(r.group, r.self)
		}
		r.askAll()
	case r.identity.standing == standingNew && m.bound == 0 && m.confirmed:
		r.saveIdentity(r.self)
	}
}

// considerIdentity decides what needs no leader: that the cluster is new, or that nothing is left of it.
func (r *Replica) considerIdentity(now time.Duration) {
	if !r.held() || r.identity.saving {
		return
	}
	fresh, members, lost := 0, 0, 0
	for _, h := range r.identity.heard {
		if h.new {
			fresh++
		}
		switch h.standing {
		case standingMember:
			members++
		case standingLost:
			lost++
		}
	}
	nodes := len(r.store.opts.Nodes)
	all := len(r.identity.heard) == nodes-1
	isNew := r.identity.standing == standingNew
	switch {
	case all && members == 0 && (lost > 0 || !isNew):
		r.askAll() // the last words: the others may not have heard yet that this one has nothing
		r.store.opts.Transport.Flush()
		r.store.fail(fmt.Errorf("group %d: %w: restore the cluster from a backup", r.group, ErrNoCopy))
	case isNew && lost == 0 && fresh+1 >= r.store.opts.Founders && (all || now-r.store.opened >= foundingPatience(r.store.opts)):
		// Whoever has lost something shows that there was a cluster.
		r.store.witnesses.founded(func(node kv.NodeID) bool { _, ok := r.identity.heard[node]; return ok })
		r.saveIdentity(r.self)
	}
}

// foundingPatience is how long nodes that have nothing wait for the others before they take the cluster for new: those may have the data, and
// still be reading it. When all have been heard, nobody waits.
func foundingPatience(o Options) time.Duration { return max(promiseDuration(o), 3*o.ElectionTimeout) }

// saveIdentity makes durable which replica this is. Until then the core does nothing.
func (r *Replica) saveIdentity(id consensus.ReplicaID) {
	s := r.store
	r.identity.saving = true
	err := r.writeIdentity(id, func(flush func(func(error))) error {
		flush(func(err error) { s.call(func() { r.identitySaved(id, err) }) })
		return nil
	})
	if err != nil {
		s.fail(fmt.Errorf("group %d: %w", r.group, err))
	}
}

// writeIdentity writes the row that says which replica this is: its ID, the disk, and then node and disk of those that were new together with it, all
// of them varints. It gives the engine's flush to whoever wants to
// know when it is durable.
func (r *Replica) writeIdentity(id consensus.ReplicaID, durable func(flush func(func(error))) error) error {
	engine := r.store.opts.Engine
	row := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(id)), r.store.opts.Disk)
	for _, node := range r.store.opts.Nodes {
		if disk, ok := r.identity.founders[node]; ok && id == r.store.first(r.store.opts.Self) {
			row = binary.AppendUvarint(binary.AppendUvarint(row, uint64(node)), disk)
		}
	}
	batch := engine.NewBatch()
	defer batch.Close()
	batch.Set(keys.Identity(uint64(r.group)), row)
	err := engine.Apply(batch)
	if err == nil {
		err = durable(engine.Flush)
	}
	if err != nil {
		return fmt.Errorf("note which replica this is: %w", err)
	}
	return nil
}

// identitySaved lets the core begin.
func (r *Replica) identitySaved(id consensus.ReplicaID, err error) {
	s := r.store
	if err == nil && id != r.self {
		r.self = id
		err = r.openCore()
	}
	if err != nil {
		s.fail(fmt.Errorf("group %d: become replica %d: %w", r.group, id, err))
		return
	}
	r.identity.standing, r.identity.saving = standingMember, false
	for i := range s.joining {
		if s.joining[i] == r {
			s.joining = append(s.joining[:i], s.joining[i+1:]...)
			break
		}
	}
	r.noteStanding()
	s.markDirty(r)
	r.membershipApplied()
	r.takePart()
	if s.opts.Listener.Joined != nil {
		s.opts.Listener.Joined(r.group, id)
	}
}

// join goes on with the replicas that do not know who they are.
func (s *Store) join(now time.Duration) {
	for _, r := range s.joining {
		r.considerIdentity(now)
		r.askAll()
	}
}

// noteStanding tells readers whether this replica is one of the group, as far as it knows.
func (r *Replica) noteStanding() {
	config := r.machine.Config()
	r.outsider.Store(r.held() || !config.Contains(r.self))
	r.learner.Store(config.Contains(r.self) && !config.Votes(r.self))
	text := standingMemberText
	m := membership{config: config, wanted: r.wanted()}
	switch {
	case r.identity.standing == standingNew:
		text = "new: waits until the others say that it always was"
	case r.identity.standing == standingLost:
		text = "lost: waits until a leader takes this node in as a new replica"
	case !config.Contains(r.self):
		text = "joining: waits for the data"
	case !m.settled() || r.configAt > r.flush.durable:
		text = "one of a group in which another is being replaced: no other node may lose its data until that is over"
		if !config.Votes(r.self) {
			text = "joining: has no vote yet"
		}
	}
	r.standing.Store(&text)
}

// standingMemberText is what Standing says when nothing is the matter.
const standingMemberText = "member"

// Standing says how this replica takes part in the group: "member" when everything is as it should be, otherwise what is being
// waited for. Safe for concurrent use.
func (r *Replica) Standing() string { return *r.standing.Load() }

// placed takes note of a changed table: what was learned meanwhile is in it, and this node's own replica may have been
// replaced.
func (r *Replica) placed() error {
	for _, p := range r.machine.Placements() {
		if r.learned[p.Node] <= p.Replica {
			delete(r.learned, p.Node)
		}
		delete(r.seen, p.Node)
		if own := r.store.opts; p.Node == own.Self && own.Disk != 0 && p.Replica >= r.self && p.Disk != own.Disk {
			return fmt.Errorf("%w: group %d: replica %d of this node is on another disk", ErrLost, r.group, p.Replica)
		}
	}
	r.noteStanding()
	r.unsettle()
	return nil
}
