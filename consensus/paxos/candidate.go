package paxos

import (
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// campaign is an attempt to lead: first everybody is asked whether they would follow (a probe, which
// binds nobody), then, if enough would, phase 1 runs under a new ballot.
type campaign struct {
	granted, behind map[consensus.ReplicaID]bool // answers to the probe
	phase           *phase1                      // nil while probing
}

// phase1 asks the voters of one membership for promises under a ballot.
type phase1 struct {
	ballot   consensus.Term
	context  uint64
	orderer  consensus.Term  // of a transfer: the ballot of the leader that handed over
	from     consensus.Index // it is about the slots above
	promises map[consensus.ReplicaID]*promised
	found    map[consensus.Index]slot // accepted by others: for each slot, under the highest ballot
}

// promised is what one replica has told so far.
type promised struct {
	through  consensus.Index // its answer is known up to here
	complete bool
	decided  consensus.Index
}

// startCampaign begins with a probe. A replica whose last attempt failed only because others had accepted more
// than it insists: it may be the only one that reaches a quorum (the constrained election of
// OmniPaxos, EuroSys 2023).
func (c *core) startCampaign() {
	c.becomeFollower(0)
	c.role = consensus.RoleCandidate
	c.attempt++
	c.campaign = &campaign{granted: make(map[consensus.ReplicaID]bool), behind: make(map[consensus.ReplicaID]bool)}
	probe := consensus.Message{
		Kind: KindProbe, Term: ballotOf(roundOf(c.highestSeen)+1, c.self), Commit: c.decided, Context: c.attempt,
	}
	probe.LogTerm, probe.Index = c.lastAccepted()
	if c.insist {
		probe.Hint = 1
	}
	if probe.Term >= maxNumber {
		return // the ballots are used up; another replica may still have one
	}
	c.insist = false
	for _, id := range c.config().Voters {
		if id != c.self {
			probe.To = id
			c.send(probe)
		}
	}
	c.countProbes()
}

// lastAccepted returns the highest ballot under which something was accepted, and the last slot under it.
func (c *core) lastAccepted() (ballot consensus.Term, index consensus.Index) {
	ballot, index = c.decidedTerm, c.decided
	for i := c.window.base + 1; i <= c.window.last(); i++ {
		if s := c.window.at(i); s != nil && s.ballot >= ballot {
			ballot, index = s.ballot, max(i, c.decided)
		}
	}
	return ballot, index
}

// reachable is how many voters a candidate must reach: with fewer it could be elected but decide nothing.
func (c *core) reachable() int {
	n := len(c.config().Voters)
	return max(c.quorums.phase1(n), c.quorums.phase2(n))
}

// countProbes goes on to phase 1 if enough would follow.
func (c *core) countProbes() {
	k := c.campaign
	if k == nil || k.phase != nil {
		return
	}
	granted := func(id consensus.ReplicaID) bool { return id == c.self || k.granted[id] }
	if count(c.config().Voters, granted) >= c.reachable() {
		c.startPhase1(prepareElection, ballotOf(roundOf(c.highestSeen)+1, c.self))
		return
	}
	heard := func(id consensus.ReplicaID) bool { return granted(id) || k.behind[id] }
	c.insist = count(c.config().Voters, heard) >= c.reachable()
}

// onProbe tells whether this replica would follow the sender. It binds nobody.
func (c *core) onProbe(m *consensus.Message) {
	response := consensus.Message{
		To: m.From, Kind: KindProbeResponse, Term: m.Term, Context: m.Context, LogTerm: c.promised, Commit: c.decided,
	}
	if c.lead != nil || c.supports(m.From) {
		response.Reject, response.Vote = true, c.leader
		c.send(response)
		return
	}
	ballot, index := c.lastAccepted()
	if m.Hint == 0 && (ballot > m.LogTerm || ballot == m.LogTerm && index > m.Index) {
		response.Reject, response.LogTerm = true, c.decidedBallot()
	}
	c.send(response)
}

// decidedBallot returns the ballot recorded for the last decided slot, 0 if it is not known any more.
func (c *core) decidedBallot() consensus.Term {
	if s := c.window.at(c.decided); s != nil {
		return s.ballot
	}
	if c.decided < c.firstRecord() {
		return 0
	}
	entries, err := c.log.Entries(c.decided, c.decided+1, 1)
	if err != nil || len(entries) != 1 || entries[0].Index != c.decided {
		return 0
	}
	_, ballot, err := fromRecord(entries[0])
	if err != nil {
		return 0
	}
	return ballot
}

func (c *core) onProbeResponse(m *consensus.Message) {
	k := c.campaign
	if k == nil || k.phase != nil || m.Context != c.attempt {
		return
	}
	switch {
	case !m.Reject:
		c.saw(m.LogTerm)
		k.granted[m.From] = true
		c.countProbes()
	case m.Vote != 0:
		// The sender hears a leader that this replica does not hear. What is decided can be had from it.
		c.saw(m.LogTerm)
		if c.decided < m.Commit {
			c.asked.repeatable = true
			c.ask(m.From, m.Commit)
		}
	default:
		k.behind[m.From] = true
		c.countProbes()
		if c.learnByBallot(m.Commit, m.LogTerm) {
			c.becomeFollower(0)
		}
	}
}

// learnByBallot takes what is known to be decided: the slot at commit, for which the sender has recorded
// the ballot. Where everything up to there was accepted here under that very ballot, the
// values are the decided ones: a slot keeps the record of ballot b when it is decided only if the leader of b
// declared it, and with it everything before, decided.
func (c *core) learnByBallot(commit consensus.Index, ballot consensus.Term) bool {
	if commit <= c.decided || ballot == 0 {
		return false
	}
	for i := c.decided + 1; i <= commit; i++ {
		if s := c.window.at(i); s == nil || s.ballot != ballot {
			return false
		}
	}
	for c.decided < commit {
		c.decideNext()
	}
	c.extendReceived()
	return true
}

// startPhase1 asks for promises under the ballot, which is above all that were seen.
func (c *core) startPhase1(context uint64, ballot consensus.Term) {
	if ballot >= maxNumber {
		return
	}
	orderer := c.promised
	c.promise(ballot)
	c.campaign.phase = c.newPhase1(context)
	if context == prepareTransfer {
		c.campaign.phase.orderer = orderer
	}
	c.prepare(c.campaign.phase)
}

func (c *core) newPhase1(context uint64) *phase1 {
	return &phase1{
		ballot: c.promised, context: context, from: c.decided,
		promises: make(map[consensus.ReplicaID]*promised), found: make(map[consensus.Index]slot),
	}
}

// prepare asks every voter whose promise is not complete for the rest of it.
func (c *core) prepare(p *phase1) {
	for _, id := range c.config().Voters {
		if id == c.self {
			continue
		}
		m := consensus.Message{To: id, Kind: KindPrepare, Term: p.ballot, LogTerm: p.orderer, Context: p.context, Index: p.from}
		if known := p.promises[id]; known != nil {
			if known.complete {
				continue
			}
			m.Index = known.through
		}
		c.send(m)
	}
}

func (c *core) repeatPrepare() {
	if p := c.campaign.phase; p != nil {
		c.prepare(p)
		c.asked.repeatable = true
		c.tryFinish()
	}
}

// running returns the phase 1 that this replica runs: as candidate, or as leader in a new membership.
func (c *core) running() *phase1 {
	switch {
	case c.campaign != nil:
		return c.campaign.phase
	case c.lead != nil:
		return c.lead.extending
	}
	return nil
}

func (c *core) onPromise(m *consensus.Message) {
	if m.Reject {
		c.refused(m)
		return
	}
	p := c.running()
	if p == nil || m.Term != p.ballot || !hasVoter(c.config(), m.From) {
		return
	}
	known := p.promises[m.From]
	if known == nil {
		known = &promised{through: p.from}
		p.promises[m.From] = known
	}
	known.decided = max(known.decided, m.Commit)
	if known.complete || m.Index > known.through { // what it tells of slots below is of no use, and true
		return
	}
	for _, record := range m.Entries {
		e, ballot, err := fromRecord(record)
		if err != nil || ballot > p.ballot || e.Index > c.decided+2*consensus.Index(c.opts.MaxWindowSlots) {
			continue
		}
		s := slot{entry: e, ballot: ballot, loaded: true}
		if e.Index <= m.Commit {
			c.learn(s)
		} else if p.found[e.Index].ballot < ballot {
			p.found[e.Index] = s
		}
	}
	c.advance()
	if m.Context == 0 {
		known.complete = true
	} else if next := consensus.Index(m.Context); next > known.through && next < maxNumber {
		known.through = next
		c.prepare(&phase1{ballot: p.ballot, context: p.context, orderer: p.orderer, promises: c.onlyMissing(p, m.From)})
	}
	c.tryFinish()
}

// onlyMissing makes prepare ask just this one replica, for the next part.
func (c *core) onlyMissing(p *phase1, id consensus.ReplicaID) map[consensus.ReplicaID]*promised {
	only := map[consensus.ReplicaID]*promised{id: p.promises[id]}
	for _, other := range c.config().Voters {
		if other != id {
			only[other] = &promised{complete: true}
		}
	}
	return only
}

// refused hears that somebody has promised a higher ballot: this replica does not lead under its own any more.
func (c *core) refused(m *consensus.Message) {
	if m.LogTerm <= c.promised || m.Term != c.promised {
		return
	}
	c.saw(m.LogTerm)
	if c.lead != nil && !c.known(m.From) {
		return // a replica that was removed
	}
	if c.lead != nil || c.campaign != nil && c.campaign.phase != nil {
		c.becomeFollower(0)
	}
}

// tryFinish ends phase 1 once a quorum has promised, everything that any of them knows to be decided is known here
// (a value must never be proposed for a slot that was decided and trimmed), and no change of
// membership waits to be applied.
func (c *core) tryFinish() {
	p := c.running()
	if p == nil || c.failed() || c.installing > 0 || c.install != nil {
		return
	}
	if c.ackedTerm < p.ballot {
		return // the own promise is not yet on the disk
	}
	voters := c.config().Voters
	complete := func(id consensus.ReplicaID) bool {
		return id == c.self || p.promises[id] != nil && p.promises[id].complete
	}
	if count(voters, complete) < c.quorums.phase1(len(voters)) {
		return
	}
	for _, id := range voters {
		if known := p.promises[id]; known != nil && known.complete && c.decided < known.decided {
			c.ask(id, known.decided)
			return
		}
	}
	if c.configPending() {
		return
	}
	if c.lead == nil {
		c.becomeLeader(p)
	} else {
		c.extended(p)
	}
}

// configPending tells whether a decided change of membership is not yet applied.
func (c *core) configPending() bool {
	if slices.ContainsFunc(c.applying, func(a applying) bool { return a.config.Voters != nil }) {
		return true
	}
	for i := c.handed + 1; i <= c.decided; i++ {
		if s := c.window.at(i); s != nil && s.entry.Kind == consensus.EntryConfig {
			return true
		}
	}
	return false
}

// propositions lists, in order, what phase 1 obliges this leader to propose again. A value that was
// accepted under a ballot below the term of an entry in an earlier slot cannot have been decided: the leader
// of that term would have found it and put it before its own entries. Leaving it out keeps
// values from reappearing after later ones were seen, and keeps terms ascending.
func (c *core) propositions(p *phase1) (valid []slot) {
	for i := c.window.base + 1; i <= c.window.last(); i++ {
		if s := c.window.at(i); s != nil && i > c.decided && p.found[i].ballot < s.ballot {
			if !c.load(s) {
				return nil
			}
			p.found[i] = *s
		}
	}
	indexes := make([]consensus.Index, 0, len(p.found))
	for i := range p.found {
		if i > c.decided {
			indexes = append(indexes, i)
		}
	}
	slices.Sort(indexes)
	term := c.decidedTerm
	for _, i := range indexes {
		if s := p.found[i]; s.ballot >= term {
			valid = append(valid, s)
			term = max(term, s.entry.Term)
		}
	}
	return valid
}
