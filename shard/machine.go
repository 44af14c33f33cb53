package shard

import (
	"fmt"
	"time"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/shard/latch"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/timeline"
)

// Machine is the state machine of one shard on one replica: the applied state and, on a
// leader, the effects in flight on top of it.
type Machine struct {
	options Options
	rows    keys.Rows
	store   *mvcc.Store
	reader  storage.Reader

	// The applied state, besides the keys. Invariant: a function of the log up to applied.Index.
	applied State
	leases  leaseTable
	alarms  alarmTable
	members *members.List   // of the system shard; the others have none
	auth    *auth.State     // of the system shard; the others have that of a new cluster
	times   timeline.Series // of the system shard; the others have none

	transactions transactions

	// Leader side; nil lead means that this replica evaluates nothing.
	lead *leadership

	asked uint64 // counts what was asked of other shards

	freed uint64 // see Released

	stagedPuts [][]byte // keys that the staged bulk puts with a lease

	flush   *flush // the flush under way, from Freeze to FlushDone
	changed bool   // something was applied since the last Freeze
	durable State  // what the engine is known to keep through a crash
	flushed State  // what the last finished flush wrote
	metrics Metrics
	// longestLooks is how much a request looked at that was evaluated in a round.
	longestLooks int64
	scratch      []byte
	broken       error // the assertion that failed; every later Apply returns it
}

// leadership is what a leader adds to the applied state.
type leadership struct {
	term consensus.Term
	seq  uint64 // of the last proposal taken
	evaluation
	// Requests that are decided beside the rounds have latches until they take effect. besides are those that are not under way yet.
	latches latch.Table
	besides []*Beside
	bulks   []*bulkOnTheWay
	// unstaged is the last proposal that ended a bulk.
	unstaged uint64
	// detached is, of a lease that ends in parts, the last key that was deleted: none before it is the lease's, but for those that changes in flight
	// attach. Without it each part would look at what all those before it have left in the engine.
	detached map[kv.LeaseID]string
	// The lease clock: clockBase at the moment startedAt, both from the call of Lead.
	clockBase int64
	startedAt time.Duration
	now       time.Duration // the latest moment the caller told
	proposed  int64         // lease clock of the last proposal
	// toldAlarms are those of the system shard, bit n for type n, if this is another one.
	toldAlarms uint64
	// auth is the state of users and roles with what is in flight; nil: nothing is.
	auth *auth.State
	// list is the list of members with what is in flight; nil: nothing is.
	list       *members.List
	asking     asking
	contention contention
}

// Outcome is what an evaluation decided.
type Outcome struct {
	Response *kv.Response
	Err      error // the answer, when it is an error of package kv
	// Effects: the request changes something. The answer may be given once proposal WaitFor, which
	// the next TakeProposal returns, is applied.
	Effects bool
	// Beside: the request is to be decided beside the rounds. Nothing has happened yet.
	Beside *Beside
	// Blocked: the request waits for one that is decided beside the rounds, or for a transaction over several shards. It is to be evaluated again when one of
	// the former has ended, or Released says so; one that never is has to be withdrawn (Withdraw). Nothing has happened yet, but for Begun. If it has a Place,
	// it stands in a queue for locks, and is to be evaluated again only when Woken tells of that place. Two requests of one transaction have the same.
	Blocked bool
	Place   uint64
	// Staged: the effects are put into the log bit by bit; see Machine.StepBulk.
	Staged bool
	// Begun: a part of what the request wants is done. It is to be evaluated again when proposal WaitFor is applied.
	Begun bool
	// Awaits: the request depends on what another shard says about this lease (Machine.Asks, Machine.Answered). Nothing has happened yet, unless
	// it ends the lease: then that is in flight.
	Awaits kv.LeaseID
	Ends   bool
	// Unnumbered: the request depends on a revision that the batch does not have yet. It is to be evaluated again in the next one. Nothing has happened.
	Unnumbered bool
	// WaitFor is the sequence number of the last proposal that the evaluation looked at: the answer
	// may be given once it is applied. 0: at once.
	WaitFor uint64
	// Fatal: reading the state failed. The replica must stop.
	Fatal error
}

// Metrics are figures about a machine.
type Metrics struct {
	InFlightEffects int
	Leases          int
	AppliedEffects  uint64
	VoidEntries     uint64
	ExpiredLeases   uint64 // whose revocation this replica proposed
	// Transactions over several shards: those that are not decided, as far as the log says, what the prepared ones of them take, and how many records
	// there are all in all.
	UndecidedTransactions int
	PreparedBytes         int
	TransactionRecords    int
}

// Open reads the shard from the engine, as it was after the last flush that ended: the entries of the log from AppliedIndex on are to
// be applied again. It reads every latest row, for counts, and every lease. After a snapshot was ingested, open again.
func Open(engine storage.Engine, options Options) (*Machine, error) {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	m, err := open(engine, options)
	if err != nil {
		return nil, fmt.Errorf("open shard %d: %w", options.Shard, err)
	}
	return m, nil
}

func open(engine storage.Engine, options Options) (*Machine, error) {
	state, err := LoadState(engine, options.Shard)
	if err != nil {
		return nil, err
	}
	extent, err := loadExtent(engine, options.Shard)
	if err != nil {
		return nil, err
	}
	options.LogEnd = max(options.LogEnd, extent)
	m := &Machine{options: options, rows: keys.RowsOf(options.Shard), reader: engine}
	versions := options.Versions
	versions.Rows, versions.Revision, versions.Compacted, versions.Flush = m.rows, state.Revision, state.Compacted, state.Flush
	versions.Replaying = state.Index < options.LogEnd
	if m.store, err = mvcc.Open(engine, versions); err != nil {
		return nil, err
	}
	return m, m.loadState(state)
}

// Lead starts leadership of the term. The term's barrier must be the last thing applied. now is the
// caller's monotonic clock, whose zero does not matter. Exclusive.
func (m *Machine) Lead(term consensus.Term, now time.Duration) error {
	if m.applied.ChainTerm != term || m.applied.ChainSeq != 0 {
		return fmt.Errorf("lead term %d on top of entry (%d, %d); its barrier must be applied first: %w",
			term, m.applied.ChainTerm, m.applied.ChainSeq, ErrInconsistent)
	}
	m.Follow()
	m.lead = m.newLeadership(term, now)
	m.transactions.since(now)
	return nil
}

// newLeadership begins on top of the applied state.
func (m *Machine) newLeadership(term consensus.Term, now time.Duration) *leadership {
	l := &leadership{
		detached: make(map[kv.LeaseID]string),
		term:     term,
		evaluation: evaluation{
			base:      &m.store.Reader,
			overlay:   newOverlay(),
			revision:  m.applied.Revision,
			mayAttach: m.mayAttach,

			maxEffectBytes: min(m.options.RoundEffectBytes, m.options.MaxRequestEffectBytes),
			tooLarge:       errLong,
		},
		clockBase: m.applied.LeaseClock,
		startedAt: now,
		now:       now,
		proposed:  m.applied.LeaseClock,
	}
	l.contention.begin(&m.transactions)
	return l
}

// Follow ends leadership: everything in flight is forgotten. What was proposed may still be
// applied, but nobody here waits for it any more. Exclusive.
func (m *Machine) Follow() {
	if m.lead == nil {
		return
	}
	m.lead.overlay.eachOp(func(p *op) {
		// A revocation that may be lost is due again at once.
		if l := m.leases.byID[p.lease]; (p.kind == opRevoke || p.kind == opEnd) && l != nil {
			m.leases.postpone(l, l.promised)
		}
	})
	m.lead = nil
}

// PendingBytes is about how large the next proposal will be. A driver takes the proposal when it is enough. Driver.
func (m *Machine) PendingBytes() int {
	if m.lead == nil {
		return 0
	}
	return m.lead.overlay.untakenBytes
}

// HasProposal tells whether TakeProposal would return one. Driver.
func (m *Machine) HasProposal() bool {
	return m.lead != nil && m.lead.overlay.untaken() && (!m.options.Sequenced || m.lead.batch != nil && m.lead.batch.numbered)
}

// TakeProposal encodes everything evaluated since the last call as one log entry. The caller must
// propose it, in order, under the term given to Lead; if the log refuses it, the same bytes may be
// proposed again, and nothing else before them. seq 0: there is nothing to propose. Driver.
func (m *Machine) TakeProposal(now time.Duration) (data []byte, seq uint64) {
	if !m.HasProposal() {
		return nil, 0
	}
	l := m.lead
	l.advance(now, m.options.MaxClockStep)
	l.seq++
	l.proposed = max(l.proposed, l.clock())
	data = m.encodeProposal(l)
	l.overlay.take(l.seq, l.revision)
	return data, l.seq
}

// Tick revokes expired leases, within bounds, and makes sure that the lease clock is logged
// while leases exist. The effects wait for TakeProposal. Call it about every 100 ms. Driver.
func (m *Machine) Tick(now time.Duration) error {
	if m.lead == nil {
		return nil
	}
	m.lead.advance(now, m.options.MaxClockStep)
	if err := m.mayDecide(); err != nil {
		return err
	}
	if err := m.expire(); err != nil {
		return fmt.Errorf("expire leases: %w", err)
	}
	m.checkpointClock()
	return nil
}

// Shard is the one whose rows the machine writes. Shared.
func (m *Machine) Shard() kv.ShardID { return m.options.Shard }

// Applied state, for drivers. Shared.

// AppliedIndex is the index of the last entry applied.
func (m *Machine) AppliedIndex() consensus.Index { return m.applied.Index }

// AppliedTerm is the term of the last entry applied.
func (m *Machine) AppliedTerm() consensus.Term { return m.applied.Term }

// Closed is up to where the applied state is closed (rule 13): it has all that there will ever be at or below. What is above belongs to a state that is
// not complete while a transaction over several shards is prepared. Of a shard that is alone it is the revision of the state.
func (m *Machine) Closed() kv.Revision { return m.transactions.closed(m.applied.Revision) }

// Highest is the highest revision of the applied state, which may be above Closed.
func (m *Machine) Highest() kv.Revision { return m.applied.Revision }

// Compacted is the compacted revision of the applied state.
func (m *Machine) Compacted() kv.Revision { return m.store.Compacted() }

// Config is the membership as of the applied index; without members if the log never said.
func (m *Machine) Config() consensus.Config {
	if m.applied.Config == nil {
		return consensus.Config{}
	}
	return *m.applied.Config
}

// WantsTicks tells whether something in the state depends on time.
func (m *Machine) WantsTicks() bool { return m.leases.size() > 0 }

// View freezes the versions of the applied state. The caller closes it. Exclusive.
func (m *Machine) View() *mvcc.View { return m.store.View() }

// UnderBulk returns what Replaced needs. Shared.
func (m *Machine) UnderBulk() *mvcc.UnderBulk { return m.store.UnderBulk() }

// Replaced reads one version that is not the newest of its key; see mvcc.Store. It needs no lock.
func (m *Machine) Replaced(at mvcc.Locator, under *mvcc.UnderBulk) (kv.KeyValue, mvcc.Locator, bool, error) {
	return m.store.Replaced(at, under)
}

// Metrics returns figures. Driver.
func (m *Machine) Metrics() Metrics {
	figures := m.metrics
	figures.Leases = m.leases.size()
	figures.UndecidedTransactions, figures.PreparedBytes, figures.TransactionRecords = m.transactions.open, m.transactions.bytes, len(m.transactions.records)
	if m.lead != nil {
		figures.InFlightEffects = m.lead.overlay.changes.size()
	}
	return figures
}

// advance takes note of the time. Steps above maxStep are left out of the lease clock.
func (l *leadership) advance(now, maxStep time.Duration) {
	if skip := now - l.now - maxStep; skip > 0 {
		l.startedAt += skip
	}
	l.now = max(l.now, now)
}

// clock is the lease clock at the latest moment known, in milliseconds.
func (l *leadership) clock() int64 { return l.clockAt(l.now) }

func (l *leadership) clockAt(now time.Duration) int64 {
	return l.clockBase + max(0, (now-l.startedAt).Milliseconds())
}
