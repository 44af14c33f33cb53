package driver

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/leadership"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// Replica is this node's copy of one shard, for whoever uses it. The exported methods are safe for concurrent use, but for those that say otherwise.
type Replica struct {
	front *front
	group consensus.GroupID

	// mu guards what readers see of the machine. The driver is the only writer: it takes
	// the exclusive lock to apply, and needs none to read.
	mu      sync.RWMutex
	machine Machine
	// replaced is what is read while a snapshot is installed; nil: the machine's state.
	replaced *sharedView

	lease     atomic.Pointer[leadership.Lease] // nil: never valid
	applied   atomic.Uint64
	committed atomic.Uint64
	// full: as many rounds are in flight as may be, so that a new request can only wait for one of them
	// to be applied, and need not wake the driver.
	full       atomic.Bool
	compacting atomic.Bool // rows made superfluous by compactions are still to be deleted
	leader     atomic.Pointer[knownLeader]
	serving    atomic.Bool // leads, and has applied its barrier
	expected   atomic.Bool // was elected, and will serve when its barrier is applied: requests may wait for that
	published  published
	reads      atomic.Uint64
	standing   standing
	hashes     hashes // of the states that were compacted

	subscribers []func(*shard.Applied) // guarded by mu; never changed in place

	// driven is handed to what call, ask and enqueue have done in the driver's goroutine. Nothing else here looks at it.
	driven *driven
}

// driven is a replica as the driver's goroutine has it, which alone touches what is not in Replica. What belongs together is a part of its own: its fields are
// named as if they were here, and its methods know only the part.
type driven struct {
	Replica
	driver *Driver

	membership *membership.Group
	leadership *leadership.Core
	core       consensus.Core
	log        storage.GroupLog
	role       consensus.RoleChange
	leading    bool // as serving
	life
	handOvers
	evaluation
	proposals
	sequenced sequenced
	barriers  barriers
	waits     waits
	arriving
	shipments shipments
	upkeep
	listed
}

// listed is where a replica stands with the lists of its driver.
type listed struct {
	in      lists
	ticking bool // it is to stay among those that get ticks
}

// arriving is what is to become the state.
type arriving struct {
	toApply    []consensus.Entry // committed
	staged     staging
	installing *installation // nil: no snapshot takes the place of the state
}

// lists tells in which of its driver's a replica is.
type lists struct{ attended, dirty, working, ticking, maintaining bool }

// knownLeader is who leads as far as this node knows.
type knownLeader struct {
	node kv.NodeID
	term consensus.Term
}

// proposedRound are the requests whose effects are in the entry (term, seq).
type proposedRound struct {
	term     consensus.Term
	seq      uint64
	requests []request
}

// dependent is a request without effects whose answer holds only if (term, seq) is applied.
type dependent struct {
	term    consensus.Term
	seq     uint64
	request request
}

// stepMessages hands the messages of peers to their cores.
func (d *Driver) stepMessages(now time.Duration, messages []groupMessage) {
	d.node.BeginRound()
	for i := range messages {
		m := &messages[i]
		d.backlog.step(m)
		r, err := d.replica(m.group)
		if err != nil {
			m.staged.discard()
			d.refused(m.group, m.from, err)
			continue
		}
		if r.held() {
			m.staged.discard() // it is for the replica that was here before, if it was
			continue
		}
		if err := r.admit(now, m); err != nil {
			m.staged.discard()
			d.refused(m.group, m.from, err)
			continue
		}
		r.step(now, m.from, m)
	}
}

// admit tells why a message may not reach the core; nil if it may.
func (r *driven) admit(now time.Duration, m *groupMessage) error {
	err := r.membership.Admit(now, membership.Arrival{Node: m.from, From: m.message.From, To: m.message.To, Life: m.life, Sender: m.sender, Snapshot: m.staged != nil})
	r.carryOutMembership()
	return err
}

// step hands one message to the core, unless a promise forbids it.
func (r *driven) step(now time.Duration, from kv.NodeID, m *groupMessage) {
	switch class := m.message.Class; {
	case (class == consensus.ClassElection || class == consensus.ClassForced) && r.membership.LossPending(now):
		return
	case class == consensus.ClassElection && !r.hearCandidate(now, from, m.message.Term):
		return
	}
	if m.staged != nil {
		r.staged.add(m.staged)
	}
	if err := r.core.Step(m.message); err != nil {
		if m.staged != nil {
			r.driver.markDirty(r) // takeReady lets it go
		}
		if failed := r.core.Failed(); failed != nil {
			r.fail(fmt.Errorf("group %d: %w", r.group, failed))
			return
		}
		r.driver.refused(r.group, from, err)
		if errors.Is(err, consensus.ErrLostEntries) {
			r.lossClaimed(now, from, &m.message, err)
		}
		return
	}
	r.driver.markDirty(r)
	if len(r.shipments.keptFor) > 0 {
		r.driver.needsMaintenance(r) // the sender may have caught up
	}
	if r.role.Role == consensus.RoleLeader && m.message.Term == r.role.Term {
		r.acknowledged(m.message.From, r.driver.support.generation(from, m.epoch))
	}
}

// lossClaimed has it judged whether a message is right that says, as the core did, that entries are lost here.
func (r *driven) lossClaimed(now time.Duration, from kv.NodeID, m *consensus.Message, claim error) {
	believed := r.membership.LossClaimed(now, from, m.From, m.Term)
	r.carryOutMembership()
	if believed {
		r.fail(fmt.Errorf("group %d: %w", r.group, lostEntries(claim)))
	}
}

// takeReady moves the work out of the core: messages to the peers' frames, the append to this round's
// write, committed entries to the list that apply takes.
func (r *driven) takeReady() error {
	d := r.driver
	if r.installing != nil {
		if done, err := r.finishInstall(); err != nil || !done {
			return err
		}
	}
	if !r.core.HasReady() {
		r.staged.discard()
		return r.failed()
	}
	r.barriers.seal()
	rd := r.core.Ready()
	if err := r.failed(); err != nil {
		return err
	}
	if rd.Role != nil {
		r.roleChanged(*rd.Role)
	}
	if hard := rd.Append.HardState; hard != nil && uint64(hard.Commit) > r.committed.Load() {
		r.committed.Store(uint64(hard.Commit)) // before the messages leave that tell it; see LeaseValid
	}
	r.send(rd.Messages)
	if !rd.Append.Empty() {
		if err := r.takeAppend(&rd.Append); err != nil {
			return err
		}
	}
	r.toApply = append(r.toApply, rd.Committed...)
	for _, read := range rd.Reads {
		r.barrierDone(read)
	}
	if r.core.HasReady() {
		d.markDirty(r)
	} else {
		r.staged.discard() // the core had no use for it
	}
	return nil
}

// failed tells why the core can not go on, if it can not.
func (r *driven) failed() error {
	if err := r.core.Failed(); err != nil {
		return fmt.Errorf("group %d: %w", r.group, err)
	}
	return nil
}

func (r *driven) takeAppend(a *consensus.Append) error {
	d := r.driver
	if a.Snapshot != nil && r.installing == nil {
		return r.beginInstall(*a)
	}
	write := storage.GroupAppend{Group: r.group, TruncateFrom: a.TruncateFrom, Entries: a.Entries, HardState: a.HardState}
	if a.Snapshot != nil {
		write.Reset = &storage.LogPosition{Index: a.Snapshot.Index, Term: a.Snapshot.Term}
	}
	if a.Snapshot != nil || a.TruncateFrom != 0 || len(a.Entries) > 0 || a.HardState != nil {
		d.appended(write)
	}
	ack := pendingAck{replica: r, mark: a.Mark, needSync: a.Sync, afterSync: a.AfterSync}
	if !r.leading {
		ack.backlogBytes = entriesBytes(a.Entries)
		d.backlog.write(ack.backlogBytes)
	}
	d.unsynced = append(d.unsynced, ack)
	bytes := entriesBytes(a.Entries)
	r.flush.wrote(bytes, d.logLimit.written)
	d.logLimit.written += bytes
	return nil
}

func entriesBytes(entries []consensus.Entry) (n int64) {
	for i := range entries {
		n += int64(entries[i].SizeBytes())
	}
	return n
}

// send puts messages into the frames of their receivers. Snapshots go their own way.
func (r *driven) send(messages []consensus.Message) {
	if len(messages) == 0 {
		return
	}
	brief := r.core.Brief()
	view := leadership.View{Term: brief.Term, Leader: brief.Leader}
	if brief.LeaseForbidden {
		r.leadership.ForbidLease() // before the message that may make somebody else the leader leaves
		r.publishLease()
	}
	for i := range messages {
		m := &messages[i]
		node, ok := r.membership.NodeOf(m.To)
		switch {
		case !ok:
		case m.Class == consensus.ClassSnapshot:
			r.sendSnapshot(node, *m)
		case m.Class == consensus.ClassElection && r.leadership.Holding(r.driver.clock()):
			// The core's own election timer does not know of promises: while this node holds still for a
			// leader, nobody hears of its candidacy.
		default:
			vouched := r.leadership.Vouch(leadership.Member{Replica: m.To, Node: node}, m.Term, view)
			r.driver.put(node, outMessage{group: r.group, message: *m, vouched: vouched, life: r.membership.Life()})
		}
	}
}

// roleChanged takes note of a new role, term or leader.
func (r *driven) roleChanged(change consensus.RoleChange) {
	d := r.driver
	node, _ := r.membership.NodeOf(change.Leader)
	r.leadership.RoleChanged(d.clock(), change, leadership.Process{Node: node, Instance: d.node.HeardInstance(node)})
	r.carryOut()
	if r.role.Role == consensus.RoleLeader && (change.Role != consensus.RoleLeader || change.Term != r.role.Term) {
		r.stepDown()
	}
	r.role = change
	r.expected.Store(r.awaitsService())
	r.publishLeader(node)
	if r.system() {
		d.opts.Sequencing.Target(node, change.Term)
	}
	r.goOnHandingAllOver()
	d.setTicking(r, true)
	if d.opts.Listener.RoleChanged != nil {
		d.opts.Listener.RoleChanged(r.group, change, node)
	}
}

// publishLeader makes visible who leads. While leadership is being handed over and nobody leads, it is the one who will: requests are sent there, and may
// wait there. The term stays the one before, so that it is news when that one leads.
func (r *driven) publishLeader(node kv.NodeID) {
	known := &knownLeader{node: node, term: r.role.Term}
	if heir := r.leadership.Heir(); r.role.Leader == 0 && r.role.Role == consensus.RoleFollower && heir != 0 {
		known = &knownLeader{node: heir, term: r.leader.Load().term}
	}
	r.leader.Store(known)
}

// lead begins to serve: the barrier of this leadership is applied, so everything before it is too.
func (r *driven) lead(now time.Duration) error {
	r.mu.Lock()
	err := r.machine.Lead(r.role.Term, now)
	r.leaseWork = r.machine.WantsTicks()
	r.mu.Unlock()
	if err != nil {
		return err
	}
	r.leading = true
	r.setInflight(0)
	r.appliedSeq = 0
	r.full.Store(false)
	r.driver.markWorking(r)
	r.serving.Store(true)
	r.expected.Store(false)
	r.leadership.Lead(r.electorate())
	r.publishLease()
	r.membership.Lead(r.machine.AppliedIndex())
	r.carryOutMembership()
	r.driver.opts.Sequencing.Lead(r.group, r.role.Term, r.machine.Closed(), r.machine.Limit())
	r.followCompaction()
	r.goOnHandingAllOver()
	return nil
}

// stepDown ends serving. What is proposed may still be committed by another leader, so it waits until
// an entry shows its fate; what is not proposed certainly never was. What has no effects depends on
// this replica's being the leader, and nobody can confirm that any more.
func (r *driven) stepDown() {
	r.serving.Store(false)
	r.setInflight(0)
	r.finishPhysical()
	if r.full.Swap(false) {
		r.driver.kick()
	}
	r.lease.Store(nil)
	if r.leading {
		r.leading = false
		r.membership.StepDown()
		r.mu.Lock()
		r.machine.Follow()
		r.mu.Unlock()
		r.tellStepDown()
	}
	r.refuseQueued(kv.ErrNotLeader, kv.ErrLeaderChanged)
	r.refuseBeside(kv.ErrNotLeader, kv.ErrLeaderChanged)
	r.refuseDependents(kv.ErrLeaderChanged)
	r.barriers.fail(kv.ErrLeaderChanged)
	r.waits.proposals.reached(all, kv.ErrLeaderChanged)
}

// rest looks whether the group still needs ticks.
func (r *driven) rest(now time.Duration) {
	idle := r.leadership.Idle(now, r.driver.support)
	if r.role.Role == consensus.RoleLeader {
		// Its ticks send heartbeats and find out whether it still has a quorum. Both is superfluous while every replica has everything.
		idle = idle && r.core.Quiet()
	}
	r.driver.setTicking(r, !idle)
}
