package paxos

import (
	"fmt"

	"github.com/quoratedb/quorate/consensus"
)

// leadership is what a leader knows. Its ballot is core.promised.
type leadership struct {
	last    consensus.Index // last slot proposed
	match   consensus.Index // all own slots up to here are durable here
	barrier consensus.Index // 0 until proposed
	// blocked is a config entry that is proposed and not yet applied: nothing may be proposed beyond it.
	blocked consensus.Index
	// changing tells that the change was begun under this ballot and touches the voters: what the present
	// ones granted does not bind the next ones, so no lease holds.
	changing    bool
	extending   *phase1           // in a new membership
	waiting     []consensus.Entry // taken in, to be proposed when nothing stands in the way
	uncommitted int               // bytes taken in and not applied
	peers       []*peer           // ascending
	beat        uint64            // heartbeats sent
	beatDue     bool
	reads       []read

	transferTo      consensus.ReplicaID
	transferElapsed int
	transferred     bool
}

// read is a barrier that waits for heartbeat `beat` to be answered by enough voters.
type read struct {
	id    consensus.ReadID
	index consensus.Index
	beat  uint64
}

func (l *leadership) peer(id consensus.ReplicaID) *peer {
	for _, p := range l.peers {
		if p.id == id {
			return p
		}
	}
	return nil
}

// becomeLeader begins to lead with what phase 1 found.
func (c *core) becomeLeader(p *phase1) {
	found := c.propositions(p)
	if c.failed() {
		return
	}
	c.campaign = nil
	c.insist = false
	c.role, c.leader = consensus.RoleLeader, c.self
	c.resetTimer()
	c.lead = &leadership{last: c.decided, match: c.decided, beatDue: true}
	c.makePeers()
	for id := range p.promises {
		if q := c.lead.peer(id); q != nil {
			q.active = true
		}
	}
	c.repropose(found)
}

// makePeers brings the list of the others in line with the membership.
func (c *core) makePeers() {
	l := c.lead
	var peers []*peer
	for _, id := range c.config().Members() {
		if id == c.self {
			continue
		}
		p := l.peer(id)
		if p == nil {
			p = &peer{id: id, next: c.decided + 1, extra: make(map[consensus.Index]bool), active: true}
		}
		p.learner = !hasVoter(c.config(), id)
		peers = append(peers, p)
	}
	l.peers = peers
}

// endLeadership fails what waits for this leader.
func (c *core) endLeadership() {
	if c.lead == nil {
		return
	}
	c.failReads()
	c.lead = nil
	c.leader = 0
}

func (c *core) failReads() {
	for _, r := range c.lead.reads {
		c.reads = append(c.reads, consensus.ReadState{ID: r.id})
	}
	c.lead.reads = nil
}

// repropose puts what was found into its slots again, under the own ballot and with its old term, no-ops into
// the holes between, and the barrier after all of it. A no-op has the term of the entry before it.
func (c *core) repropose(found []slot) {
	l := c.lead
	term := max(c.decidedTerm, consensus.BootstrapTerm)
	for _, s := range found {
		for l.last+1 < s.entry.Index {
			c.place(consensus.Entry{Term: term, Kind: consensus.EntryBarrier})
		}
		c.place(s.entry)
		term = max(term, s.entry.Term)
		if s.entry.Kind == consensus.EntryConfig {
			l.blocked = l.last
			return
		}
	}
	c.unblock()
}

// unblock proposes what had to wait.
func (c *core) unblock() {
	l := c.lead
	if l.barrier == 0 {
		c.place(consensus.Entry{Term: c.promised, Kind: consensus.EntryBarrier})
		l.barrier = l.last
	}
	for _, e := range l.waiting {
		c.place(e)
	}
	l.waiting = nil
}

// place proposes the entry in the next slot.
func (c *core) place(e consensus.Entry) {
	c.lead.last++
	e.Index = c.lead.last
	c.store(slot{entry: e, ballot: c.promised})
}

// Propose implements consensus.Core.
func (c *core) Propose(data [][]byte) error {
	if err := c.mayPropose(); err != nil {
		return err
	}
	l := c.lead
	size := 0
	entries := make([]consensus.Entry, len(data))
	for i := range data {
		if len(data[i]) == 0 {
			return fmt.Errorf("%w: proposal %d of %d is empty", ErrInvalidProposal, i+1, len(data))
		}
		entries[i] = consensus.Entry{Term: c.promised, Kind: consensus.EntryCommand, Data: data[i]}
		size += entries[i].SizeBytes()
	}
	if err := c.room(size, len(entries)); err != nil {
		return err
	}
	c.touched = true
	l.uncommitted += size
	if l.barrier == 0 || l.blocked != 0 || l.extending != nil {
		l.waiting = append(l.waiting, entries...)
		return nil
	}
	for _, e := range entries {
		c.place(e)
	}
	return nil
}

// room tells whether so much more may be taken in.
func (c *core) room(size, slots int) error {
	l := c.lead
	pending := int(max(l.last, c.decided)-c.decided) + len(l.waiting)
	if l.uncommitted > 0 && l.uncommitted+size > c.opts.MaxUncommittedBytes || pending > 0 && pending+slots > c.opts.MaxWindowSlots {
		return consensus.ErrOverloaded
	}
	return nil
}

// mayPropose tells why a proposal cannot be taken now.
func (c *core) mayPropose() error {
	switch {
	case c.failed():
		return c.failure
	case c.lead == nil:
		return consensus.ErrNotLeader
	case c.lead.transferTo != 0:
		return consensus.ErrTransferring
	}
	return nil
}

// ReadBarrier implements consensus.Core.
func (c *core) ReadBarrier(id consensus.ReadID) error {
	switch {
	case c.failed():
		return c.failure
	case c.lead == nil:
		return consensus.ErrNotLeader
	case c.lead.barrier == 0 || c.decided < c.lead.barrier:
		return consensus.ErrNotReady
	}
	c.touched = true
	c.lead.reads = append(c.lead.reads, read{id: id, index: c.decided, beat: c.lead.beat + 1})
	c.lead.beatDue = true
	return nil
}

// TransferLeader implements consensus.Core. The successor need not have caught up: it learns in phase 1.
func (c *core) TransferLeader(to consensus.ReplicaID) error {
	if c.failed() {
		return c.failure
	}
	if c.lead == nil {
		return consensus.ErrNotLeader
	}
	if to == c.self || !hasVoter(c.config(), to) {
		return fmt.Errorf("%w: leadership cannot go to replica %d: it is not another voter of %s", ErrInvalidProposal, to, c.config())
	}
	c.touched = true
	c.lead.transferTo, c.lead.transferElapsed, c.lead.transferred = to, 0, true
	c.send(consensus.Message{To: to, Kind: KindTakeOver, Term: c.promised})
	return nil
}

// onTakeOver campaigns at once on behalf of the leader.
func (c *core) onTakeOver(m *consensus.Message) {
	c.succeed(m, ballotOf(roundOf(c.highestSeen)+1, c.self))
}

// succeed campaigns at once, under the ballot, if the sender leads.
func (c *core) succeed(m *consensus.Message, ballot consensus.Term) {
	if m.Term != c.promised || c.leader != m.From || !c.voter() {
		return
	}
	c.becomeFollower(0)
	c.role = consensus.RoleCandidate
	c.campaign = &campaign{granted: make(map[consensus.ReplicaID]bool), behind: make(map[consensus.ReplicaID]bool)}
	c.startPhase1(prepareTransfer, ballot)
}

func (c *core) tickLeader(beat bool) {
	l := c.lead
	if beat {
		l.beatDue = true
		if l.extending != nil {
			c.prepare(l.extending)
			c.asked.repeatable = true
			c.tryFinish()
		}
	}
	if l.transferTo != 0 {
		if l.transferElapsed++; l.transferElapsed >= c.opts.ElectionTicks {
			l.transferTo = 0
		} else if beat {
			c.send(consensus.Message{To: l.transferTo, Kind: KindTakeOver, Term: c.promised})
		}
	}
	if c.electionElapsed < c.opts.ElectionTicks {
		return
	}
	c.electionElapsed = 0
	heard := func(id consensus.ReplicaID) bool { p := l.peer(id); return id == c.self || p != nil && p.active }
	if voters := c.config().Voters; count(voters, heard) < c.quorums.phase2(len(voters)) {
		c.becomeFollower(0)
		return
	}
	for _, p := range l.peers {
		p.active = false
	}
}

// decide moves the decided mark over every slot that a phase-2 quorum has accepted.
func (c *core) decide() {
	l := c.lead
	if l == nil {
		return
	}
	for l.match < l.last && c.ownDurable(l.match+1) {
		l.match++
	}
	voters := c.config().Voters
	need := c.quorums.phase2(len(voters))
	for c.decided < l.last {
		next := c.decided + 1
		has := func(id consensus.ReplicaID) bool {
			if id == c.self {
				return l.match >= next
			}
			p := l.peer(id)
			return p != nil && (p.match >= next || p.extra[next])
		}
		if count(voters, has) < need {
			break
		}
		c.decideNext()
	}
	c.extendReceived()
}

func (c *core) ownDurable(i consensus.Index) bool {
	if i <= c.window.base {
		return true
	}
	s := c.window.at(i)
	return s != nil && s.ballot == c.promised && s.write <= c.acked
}

// confirmReads answers the barriers whose heartbeat was answered by a voter of every phase-1 quorum. While a change of
// membership is under way nothing is confirmed: a leader could have been elected in the new one.
func (c *core) confirmReads() {
	l := c.lead
	if l.blocked != 0 {
		return
	}
	voters := c.config().Voters
	need := c.quorums.confirm(len(voters))
	for len(l.reads) > 0 {
		r := l.reads[0]
		answered := func(id consensus.ReplicaID) bool {
			p := l.peer(id)
			return id == c.self || p != nil && p.beat >= r.beat
		}
		if count(voters, answered) < need {
			return
		}
		c.reads = append(c.reads, consensus.ReadState{ID: r.id, Index: r.index})
		l.reads = l.reads[1:]
	}
}
