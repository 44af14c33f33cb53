package raft

import (
	"encoding/binary"
	"errors"
	"fmt"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/quoratedb/quorate/consensus"
)

// maxNumber bounds the terms and indexes that Step takes, so that no sum of two overflows. At a
// thousand elections or a million entries per second it is reached after more than 100,000 years.
const maxNumber = 1 << 62

// core implements consensus.Core on the library's RawNode with asynchronous storage writes.
type core struct {
	self    consensus.ReplicaID
	node    *etcdraft.RawNode
	storage logStorage
	// active is the membership the library works with. It differs from storage.applied.config only
	// while a received snapshot is being installed.
	active consensus.Config

	// hard and last are what Ready has handed out so far: the hard state and the end of the log.
	hard consensus.HardState
	last consensus.Index
	// lastTerm is the term of the entry there.
	lastTerm consensus.Term
	// floor is a lower bound of where the library's log ends, which Step may have moved since.
	// Invariant: right after collect it equals last.
	floor consensus.Index

	// appends are the writes with content that are handed out and not acknowledged, oldest first.
	// Invariant: marks ascend strictly, and all lie above acked.
	appends     []pendingAppend
	marked      consensus.Mark // the last mark given out
	acked       consensus.Mark
	installing  bool            // a snapshot is among appends
	committed   consensus.Index // the last entry handed out in Ready.Committed
	applying    []*raftpb.Entry // handed out in Ready.Committed, not acknowledged
	changes     []change        // the config entries among them
	lead        leadership      // zero unless leader
	led         consensus.Term  // the last own leadership that is over
	handed      handedOver      // the one that was handed over
	reported    consensus.RoleChange
	failedReads []consensus.ReadState
	outbox      []consensus.Message // responses whose condition has come true, and tellResigned
	queue       []consensus.Ready   // collected ahead of the driver's asking
	view        view
	recent      recent
	given       messageBox      // what the library is given and keeps nothing of
	proposed    []*raftpb.Entry // see proposals
	senders     []*uint64       // see sender
	misuse      error           // the first mistake of the driver, for Check
	seenTerm    consensus.Term  // by Check
	seenCommit  consensus.Index
}

// pendingAppend is one write in flight and what waits for it.
type pendingAppend struct {
	mark     consensus.Mark
	toSelf   []*raftpb.Message   // the library's own acknowledgements
	others   []consensus.Message // responses that came later but depend on this write
	snapshot *consensus.SnapshotMeta
}

// leadership is what the core knows beyond the library while it leads.
type leadership struct {
	term    consensus.Term
	barrier consensus.Index // 0 until handed out
	// confIndex is the last entry that may be a config entry; no other change before it is applied.
	confIndex   consensus.Index
	transferred bool
	reads       []consensus.ReadID // waiting, in the order of asking
	readsIssued uint64             // positions given out to heartbeats: what a response may at most confirm
	// commits is what each replica is known to know of the commit index.
	commits map[consensus.ReplicaID]consensus.Index
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
	appliedTerm, err := log.Term(opts.Applied)
	if err != nil {
		return nil, fmt.Errorf("raft: reading the term of the applied entry %d: %w", opts.Applied, err)
	}
	lastTerm, err := log.Term(last)
	if err != nil {
		return nil, fmt.Errorf("raft: reading the term of the last entry %d: %w", last, err)
	}
	hard := opts.HardState
	if hard.Commit > last {
		return nil, fmt.Errorf("%w: %w: entry %d was committed here but the log ends at %d; see \"A node that lost its data\" in docs/operations.md",
			ErrInvalidOptions, consensus.ErrLostEntries, hard.Commit, last)
	}
	hard.Commit = max(hard.Commit, opts.Applied)
	if hard.Term < lastTerm { // an entry of a term shows that the term was seen
		hard.Term, hard.Vote = lastTerm, 0
	}
	c := &core{
		self: opts.Replica, active: opts.Config, hard: hard, last: last, lastTerm: lastTerm, floor: last, committed: opts.Applied,
		storage: logStorage{log: log, hardState: hard, applied: position{index: opts.Applied, term: appliedTerm, config: opts.Config}},
	}
	c.storage.recent = &c.recent
	c.given.point()
	c.node, err = etcdraft.NewRawNode(&etcdraft.Config{
		ID:                        uint64(opts.Replica),
		ElectionTick:              opts.ElectionTicks,
		HeartbeatTick:             opts.HeartbeatTicks,
		Storage:                   &c.storage,
		Applied:                   uint64(opts.Applied),
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             uint64(opts.MaxMessageBytes),
		MaxCommittedSizePerReady:  uint64(opts.MaxApplyBytes),
		MaxUncommittedEntriesSize: uint64(opts.MaxUncommittedBytes),
		MaxInflightMsgs:           opts.MaxInflightMessages,
		MaxInflightBytes:          uint64(opts.MaxInflightBytes),
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            etcdraft.ReadOnlySafe,
		Logger:                    silentLogger{},
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
	})
	if err != nil {
		return nil, fmt.Errorf("raft: %w", err)
	}
	return c, c.storage.failed
}

func (c *core) failed() bool       { return c.storage.failed != nil }
func (c *core) applied() *position { return &c.storage.applied }

func (c *core) ownStep(m *raftpb.Message) {
	// Errors say only that the sender, this replica, is no longer a member.
	_ = c.node.Step(m)
	switch m.GetType() {
	case raftpb.MsgAppResp, raftpb.MsgStorageAppendResp, raftpb.MsgStorageApplyResp:
		c.moved()
	default: // its own votes, above all
		c.touched()
	}
}

// leading returns what is known of the own leadership, or nil when this replica does not lead.
func (c *core) leading() *leadership {
	if c.failed() || !c.isLeader() {
		return nil
	}
	if c.lead.term != c.term() || c.lead.barrier == 0 {
		c.collectAhead()
	}
	if !c.isLeader() {
		return nil
	}
	return &c.lead
}

// Tick implements consensus.Core.
func (c *core) Tick() {
	if c.failed() {
		return
	}
	c.node.Tick()
	c.touched()
	c.leaveJoint()
}

// Propose implements consensus.Core. An empty proposal is refused: it would look like a barrier.
func (c *core) Propose(data [][]byte) error {
	if err := c.mayPropose(); err != nil {
		return err
	}
	for i := range data {
		if len(data[i]) == 0 {
			return fmt.Errorf("%w: proposal %d of %d is empty", ErrInvalidProposal, i+1, len(data))
		}
	}
	if len(data) == 0 {
		return nil
	}
	entries := c.proposals(data)
	defer clearData(entries)
	return c.stepProposal(entries)
}

// mayPropose tells why a proposal cannot be taken now.
func (c *core) mayPropose() error {
	switch {
	case c.failed():
		return c.storage.failed
	case !c.isLeader():
		return consensus.ErrNotLeader
	case c.transferring():
		return consensus.ErrTransferring
	}
	return nil
}

func (c *core) stepProposal(entries []*raftpb.Entry) error {
	err := c.node.Step(c.library(raftpb.MsgProp, c.self, entries))
	c.spoil()
	c.moved()
	switch {
	case errors.Is(err, etcdraft.ErrProposalDropped):
		return consensus.ErrOverloaded // every other reason was excluded before
	case err == nil:
		c.view.work = workWaits // the entries
	}
	return err
}

// ReadBarrier implements consensus.Core.
func (c *core) ReadBarrier(id consensus.ReadID) error {
	if c.failed() {
		return c.storage.failed
	}
	l := c.leading()
	if l == nil {
		return consensus.ErrNotLeader
	}
	if l.barrier == 0 || c.commit() < l.barrier {
		return consensus.ErrNotReady
	}
	l.reads = append(l.reads, id)
	if !c.singleton() {
		l.readsIssued++
	}
	c.node.ReadIndex(binary.LittleEndian.AppendUint64(nil, uint64(id)))
	c.touched()
	return nil
}

// singleton tells whether this replica alone decides.
func (c *core) singleton() bool { return len(c.active.Voters) == 1 && !c.active.Joint() }

// TransferLeader implements consensus.Core.
func (c *core) TransferLeader(to consensus.ReplicaID) error {
	if c.failed() {
		return c.storage.failed
	}
	l := c.leading()
	if l == nil {
		return consensus.ErrNotLeader
	}
	if to == c.self || !c.active.Votes(to) {
		return fmt.Errorf("%w: leadership cannot go to replica %d: it is not another voter of %s", ErrInvalidProposal, to, c.active)
	}
	l.transferred = true
	c.node.TransferLeader(uint64(to))
	c.touched()
	return nil
}

// Campaign implements consensus.Core.
func (c *core) Campaign() {
	if c.failed() {
		return
	}
	if !c.active.Votes(c.self) {
		c.tellResigned()
		return
	}
	_ = c.node.Campaign() // it never fails; a replica that must not campaign does nothing
	c.touched()
}

// restartMarker is the context of a heartbeat that LeaderLost makes up; it has a length no other context has.
var restartMarker = []byte{1}

// LeaderLost implements consensus.Core. The election timer starts afresh: the only way to make the
// library do that without a change of term is a word from the leader, so one is made up, empty,
// and the answer to it is dropped.
func (c *core) LeaderLost() {
	if c.failed() || c.state().state != etcdraft.StateFollower || c.state().lead == 0 {
		return
	}
	c.ownStep(&raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(c.state().lead), To: new(uint64(c.self)),
		Term: new(c.state().term), Context: restartMarker,
	})
	_ = c.node.ForgetLeader() // it never fails
	c.touched()
}

// Unreachable implements consensus.Core.
func (c *core) Unreachable(id consensus.ReplicaID) {
	if c.failed() || id == c.self {
		return
	}
	c.node.ReportUnreachable(uint64(id))
	c.touched()
}

// SnapshotDone implements consensus.Core.
func (c *core) SnapshotDone(to consensus.ReplicaID, ok bool) {
	if c.failed() || to == c.self {
		return
	}
	status := etcdraft.SnapshotFinish
	if !ok {
		status = etcdraft.SnapshotFailure
	}
	c.node.ReportSnapshot(uint64(to), status)
	c.touched()
}

// Compact implements consensus.Core. The library looks into the log itself; there is nothing to do but
// to notice a log that was cut too far.
func (c *core) Compact(index consensus.Index) {
	if index > c.applied().index {
		c.misused("compacted up to %d although only %d is applied", index, c.applied().index)
	}
}

func (c *core) misused(format string, args ...any) {
	if c.misuse == nil {
		c.misuse = fmt.Errorf("raft: replica %d: the driver "+format, append([]any{c.self}, args...)...)
	}
}
