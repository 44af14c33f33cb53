package paxos

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// core implements consensus.Core.
type core struct {
	opts    Options
	quorums quorums
	self    consensus.ReplicaID
	log     consensus.LogReader

	// The acceptor. Invariants: promised never falls, and is not below the ballot under which any slot known
	// here to be decided was decided; handed <= decided; window.base == handed.
	promised    consensus.Term
	window      window
	unsure      consensus.Index // up to here, records in the log may be of values that were never decided
	decided     consensus.Index // every slot up to here is decided, and this replica has its value
	decidedTerm consensus.Term  // of the entry there; terms never fall from slot to slot
	received    consensus.Index // every slot up to here is decided or accepted under promised
	// Under commitBallot, its leader has declared every slot up to commitMark decided.
	commitBallot consensus.Term
	commitMark   consensus.Index

	// The state machine.
	handed        consensus.Index // last entry handed out in Ready.Committed
	applied       position
	applying      []applying // handed out and not acknowledged, oldest first
	applyingRoom  []applying // the whole array of applying, empty
	applyingBytes int
	installing    int // snapshots handed out in Ready.Append and not durable

	// Who leads.
	role             consensus.Role
	leader           consensus.ReplicaID
	electionElapsed  int
	electionTimeout  int
	heartbeatElapsed int
	highestSeen      consensus.Term // ballot of anybody
	insist           bool           // the last campaign failed only because others had accepted more
	attempt          uint64         // of campaigns
	campaign         *campaign      // not nil exactly for candidates
	lead             *leadership    // not nil exactly for leaders
	former           *handedOver    // the leadership that was handed over
	heardBeat        uint64         // latest heartbeat of the leader
	asked            question       // for decided values
	shipping         map[consensus.ReplicaID]bool

	// The way out.
	messages  []consensus.Message
	after     []consensus.Message // wait for everything that is written by now
	toWrite   []consensus.Index   // slots of the window
	sending   []consensus.Index   // see sendNew
	cutFrom   consensus.Index     // if not 0, the log is to be cut from here, and all slots of the window to be written again
	install   *consensus.SnapshotMeta
	ackDue    bool // what was accepted from the leader is to be acknowledged
	hard      consensus.HardState
	marked    consensus.Mark // the last mark given out
	acked     uint64         // sequence of the last durable write
	ackedTerm consensus.Term // the durable promise
	writes    []write
	reads     []consensus.ReadState
	reported  consensus.RoleChange
	touched   bool // false: certainly nothing new since HasReady last looked

	failure      error
	misuse       error // the first mistake of the driver or broken invariant, for Check
	seenPromised consensus.Term
	seenDecided  consensus.Index
}

// position is a point in the log with the membership in force after it.
type position struct {
	index  consensus.Index
	term   consensus.Term
	config consensus.Config
}

// applying is an entry that was handed out to be applied.
type applying struct {
	position
	size int
}

// write is a durable write in flight and what waits for it.
type write struct {
	mark     consensus.Mark
	messages []consensus.Message
	snapshot *consensus.SnapshotMeta
}

// New makes the member of a group that the options describe, on what the log holds. An applied index
// beyond the end of the log is an error: a crash came between installing a snapshot and
// resetting the log, and the driver must reset it first.
func New(opts Options, log consensus.LogReader) (consensus.Core, error) {
	opts = opts.WithDefaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	first, last := log.First(), log.Last()
	if opts.Applied+1 < first || opts.Applied > last {
		return nil, fmt.Errorf("%w: entry %d is applied but the log goes from %d to %d", ErrInvalidOptions, opts.Applied, first, last)
	}
	c := &core{
		opts: opts, quorums: opts.quorums(), self: opts.Replica, log: log, touched: true,
		promised: opts.HardState.Term, hard: opts.HardState, highestSeen: opts.HardState.Term, ackedTerm: opts.HardState.Term,
		window: window{base: opts.Applied}, handed: opts.Applied, decided: opts.Applied, received: opts.Applied,
		applied:  position{index: opts.Applied, config: opts.Config},
		shipping: make(map[consensus.ReplicaID]bool),
	}
	if err := c.restore(); err != nil {
		return nil, err
	}
	c.becomeFollower(0)
	c.reported = c.roleChange()
	c.reported.Role = math.MaxUint8 // what a core starts as is news
	return c, nil
}

// firstRecord is where the records of the log begin that may be told to others.
func (c *core) firstRecord() consensus.Index { return max(c.log.First(), c.unsure+1) }

// restore reads what was accepted before the restart. What is applied beyond the decided mark in the log may have come with a
// snapshot, and a crash before the log was reset: then the records there are what this replica had once accepted, whether it was
// decided or not. So they are treated as trimmed, and cut out of the log by the first write: every later one says that more is decided.
func (c *core) restore() error {
	term, err := c.log.Term(c.applied.index)
	if err != nil && !errors.Is(err, consensus.ErrUnavailable) { // a hole: a snapshot was installed above it
		return fmt.Errorf("paxos: reading the term of the applied entry %d: %w", c.applied.index, err)
	}
	c.applied.term, c.decidedTerm = term, term
	last := c.log.Last()
	for from := c.applied.index + 1; from <= last; {
		entries, err := c.log.Entries(from, last+1, c.opts.MaxMessageBytes)
		if errors.Is(err, consensus.ErrUnavailable) {
			break // only holes
		}
		if err == nil && (len(entries) == 0 || entries[0].Index < from) {
			err = errors.New("the log returned other entries than asked for")
		}
		if err != nil {
			return fmt.Errorf("paxos: reading entries from %d: %w", from, err)
		}
		for _, record := range entries {
			e, ballot, err := fromRecord(record)
			if err != nil {
				return fmt.Errorf("paxos: the log holds something else than this protocol wrote: %w", err)
			}
			c.promised = max(c.promised, ballot) // an accepted entry shows that its ballot was promised
			s := slot{entry: e, ballot: ballot, size: e.SizeBytes()}
			s.entry.Data = nil
			c.window.put(s)
			from = e.Index + 1
		}
	}
	c.highestSeen = max(c.highestSeen, c.promised)
	if err := c.distrust(); err != nil {
		return err
	}
	for c.decided < c.opts.HardState.Commit {
		if c.window.at(c.decided+1) == nil {
			return fmt.Errorf("%w: %w: entry %d was decided here but is not in the log; see \"A node that lost its data\" in docs/operations.md",
				ErrInvalidOptions, consensus.ErrLostEntries, c.decided+1)
		}
		c.decideNext()
	}
	return nil
}

// distrust prepares to cut out the records that may be of values that were never decided.
func (c *core) distrust() error {
	from := max(c.opts.HardState.Commit+1, c.log.First())
	if from > c.applied.index {
		return nil
	}
	records, err := c.log.Entries(from, c.applied.index+1, 1)
	if errors.Is(err, consensus.ErrUnavailable) || err == nil && len(records) == 0 {
		return nil // only holes
	}
	if err != nil {
		return fmt.Errorf("paxos: reading entries from %d: %w", from, err)
	}
	c.unsure, c.cutFrom = c.applied.index, from
	for i := c.window.base + 1; i <= c.window.last(); i++ {
		if s := c.window.at(i); s != nil {
			if !c.load(s) {
				return c.failure
			}
			s.write = unwritten
			c.toWrite = append(c.toWrite, i)
		}
	}
	return nil
}

// decideNext moves the decided mark by one.
func (c *core) decideNext() {
	c.decided++
	c.decidedTerm = max(c.decidedTerm, c.window.at(c.decided).entry.Term)
	c.received = max(c.received, c.decided)
}

func (c *core) failed() bool { return c.failure != nil }

// Failed implements consensus.Core.
func (c *core) Failed() error { return c.failure }

func (c *core) fail(err error) {
	if c.failure == nil {
		c.failure = fmt.Errorf("%w: %w", ErrFailed, err)
	}
}

func (c *core) misused(format string, args ...any) {
	if c.misuse == nil {
		c.misuse = fmt.Errorf("paxos: replica %d: "+format, append([]any{c.self}, args...)...)
	}
}

// config is the membership this replica works with: the one at its applied entry.
func (c *core) config() *consensus.Config { return &c.applied.config }

func (c *core) voter() bool { return slices.Contains(c.config().Voters, c.self) }

// load makes sure that the data of the slot is in memory.
func (c *core) load(s *slot) bool {
	if s.loaded {
		return true
	}
	i := s.entry.Index
	entries, err := c.log.Entries(i, i+1, 1)
	if err == nil && (len(entries) != 1 || entries[0].Index != i) {
		err = errors.New("the log returned another entry")
	}
	if err == nil {
		var e consensus.Entry
		if e, _, err = fromRecord(entries[0]); err == nil {
			s.entry, s.loaded = e, true
			return true
		}
	}
	c.fail(fmt.Errorf("reading entry %d: %w", i, err))
	return false
}

// Tick implements consensus.Core.
func (c *core) Tick() {
	if c.failed() {
		return
	}
	c.touched = true
	c.electionElapsed++
	c.heartbeatElapsed++
	beat := c.heartbeatElapsed >= c.opts.HeartbeatTicks
	if beat {
		c.heartbeatElapsed = 0
	}
	switch {
	case c.lead != nil:
		c.tickLeader(beat)
	case c.voter() && c.electionElapsed >= c.electionTimeout:
		c.startCampaign()
	case !c.voter() && c.electionElapsed >= c.electionTimeout:
		c.tellVoters()
	case c.campaign != nil && beat:
		c.repeatPrepare()
	}
}

// Campaign implements consensus.Core.
func (c *core) Campaign() {
	if c.failed() || c.lead != nil {
		return
	}
	c.touched = true
	if !c.voter() {
		c.tellVoters()
		return
	}
	if c.campaign != nil && c.campaign.phase != nil {
		c.repeatPrepare() // it may be catching up; the election timeout bounds it
		return
	}
	c.startCampaign()
}

// LeaderLost implements consensus.Core.
func (c *core) LeaderLost() {
	if c.failed() || c.leader == 0 || c.lead != nil || c.campaign != nil {
		return
	}
	c.touched = true
	c.becomeFollower(0)
}

// becomeFollower follows the leader, or waits for one to appear if it is 0.
func (c *core) becomeFollower(leader consensus.ReplicaID) {
	c.endLeadership()
	c.campaign = nil
	c.leader = leader
	c.role = c.passiveRole()
	if leader != 0 {
		c.insist = false
	}
	c.resetTimer()
}

// passiveRole is what a replica is that neither leads nor wants to.
func (c *core) passiveRole() consensus.Role {
	if slices.Contains(c.config().Learners, c.self) {
		return consensus.RoleLearner
	}
	return consensus.RoleFollower
}

func (c *core) resetTimer() {
	c.electionElapsed, c.heartbeatElapsed = 0, 0
	c.electionTimeout = c.opts.ElectionTicks + c.opts.Rand.IntN(c.opts.ElectionTicks)
}

// saw takes note of a ballot, so that an own one will be higher.
func (c *core) saw(ballot consensus.Term) { c.highestSeen = max(c.highestSeen, ballot) }

// promise binds this replica to accept nothing below the ballot any more.
func (c *core) promise(ballot consensus.Term) {
	if ballot <= c.promised {
		return
	}
	c.flushAck()
	c.promised = ballot
	c.heardBeat = 0
	c.saw(ballot)
	c.received = c.decided
	c.extendReceived()
}

func (c *core) send(m consensus.Message) {
	m.From = c.self
	m.Class = classOf(&m)
	c.messages = append(c.messages, m)
}

// sendAfterSync sends the message when everything accepted and promised so far is durable.
func (c *core) sendAfterSync(m consensus.Message) {
	m.From = c.self
	m.Class = classOf(&m)
	c.after = append(c.after, m)
}

// Compact implements consensus.Core. The core looks into the log itself; there is nothing to do but
// to notice a log that was cut too far.
func (c *core) Compact(index consensus.Index) {
	if index > c.applied.index {
		c.misused("the driver compacted up to %d although only %d is applied", index, c.applied.index)
	}
}

// SnapshotDone implements consensus.Core.
func (c *core) SnapshotDone(to consensus.ReplicaID, ok bool) {
	if c.failed() {
		return
	}
	c.touched = true
	delete(c.shipping, to)
}

// Unreachable implements consensus.Core.
func (c *core) Unreachable(id consensus.ReplicaID) {
	if c.failed() || c.lead == nil {
		return
	}
	if p := c.lead.peer(id); p != nil {
		c.touched = true
		p.unsure = true
		for i := range p.inflight {
			p.inflight[i].beat = 0 // sent before the next heartbeat, for sure
		}
	}
}
