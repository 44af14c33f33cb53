package txn

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// RecoveryOptions are those of a Recovery.
type RecoveryOptions struct {
	Protocol Protocol
	// Shard is led here, and Term the term of the leadership.
	Shard kv.ShardID
	Term  uint64
	// Patience is after how long a transaction is taken for abandoned, and, with three-phase commit, a silent anchor for lost. Default 1 s.
	Patience time.Duration
	// RetryAfter is as Options.RetryAfter.
	RetryAfter time.Duration
	// MaxQuestions is how many questions to one shard are open at once. So a shard that does not answer holds up nothing that can end without it. Default 64.
	MaxQuestions int
}

// WithDefaults returns a copy with defaults.
func (o RecoveryOptions) WithDefaults() RecoveryOptions {
	if o.Patience == 0 {
		o.Patience = time.Second
	}
	if o.RetryAfter == 0 {
		o.RetryAfter = 100 * time.Millisecond
	}
	if o.MaxQuestions == 0 {
		o.MaxQuestions = 64
	}
	return o
}

// Validate tells what is missing.
func (o RecoveryOptions) Validate() error {
	switch {
	case o.Protocol != TwoPhase && o.Protocol != ThreePhase:
		return fmt.Errorf("txn: there is no protocol %d: give two-phase or three-phase commit", o.Protocol)
	case o.Shard == 0 || o.Term == 0:
		return errors.New("txn: recovery needs its shard, and the term in which it is led here")
	case o.Patience < 0 || o.RetryAfter < 0 || o.MaxQuestions < 1:
		return errors.New("txn: recovery needs room for one question, and times that are not negative")
	}
	return nil
}

// Recovery ends transactions whose coordinator is gone or silent, for one leadership of one participant. There must never be two for the same shard and
// term: their ballots would be the same. It is not safe for concurrent use.
//
// With two-phase commit the anchor's leader decides to abort what an earlier leadership has left undecided; others ask it. With three-phase commit others
// ask the anchor first, too, and when it does not answer, or is the one who wants to know, the participants are asked by ballots. Several may do so for
// the same transaction at once: the register has them come to the same end.
type Recovery struct {
	options RecoveryOptions
	now     time.Duration
	jobs    []*job // in the order of their beginning; those that have ended go with the next Tick
	byID    map[kv.TransactionID]*job
	shards  map[kv.ShardID]*respondent
	// done are transactions of earlier leaderships of this anchor that are finished, as long as the machine still has them.
	done  map[kv.TransactionID]struct{}
	older bool         // there are others
	told  []kv.ShardID // of which OlderFinished has not said so
	// round is the highest of a ballot taken or heard of. A ballot is never taken twice.
	round uint64
	asks  []Ask
}

// job is a transaction that is looked after.
type job struct {
	id           kv.TransactionID
	participants []kv.ShardID
	own          bool
	ended        bool
	step         recoveryStep
	queued       []bool // participants with a place in the line of their respondent
	// alone: the others are told by somebody else, or ask by themselves.
	alone bool
	// ballot is the one that is tried, found the highest under which a decision was accepted, as far as promises told.
	ballot, found kv.Ballot
	// decision is the one found, or to be accepted, or told.
	decision kv.Decision
	outbid   bool // somebody has a higher ballot
	again    time.Duration
	tries    uint8
	parts    []recoveryPart
}

type recoveryStep uint8

const (
	asking       recoveryStep = iota // the anchor, what became of it
	promising                        // a ballot to the participants
	accepting                        // of a decision under it
	telling                          // what was decided
	decidingHere                     // two-phase commit, at the anchor: to abort
)

// respondent is a shard that is asked.
type respondent struct {
	open int // questions that are not answered
	// line is who waits for room to ask: the place of the shard among the job's participants.
	line []placeInLine
	// silent: it has not answered the last question; since then it has answered none, and the last one failed at a time.
	silent        bool
	since, failed time.Duration
}

type placeInLine struct {
	job *job
	i   int
}

// recoveryPart is what a job knows of a participant.
type recoveryPart struct {
	waiting bool // for an answer
	done    bool // with the step
	again   time.Duration
	tries   uint8
}

// NewRecovery returns the recovery of a leadership.
func NewRecovery(options RecoveryOptions) (*Recovery, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	return &Recovery{options: options, older: true, byID: make(map[kv.TransactionID]*job), shards: make(map[kv.ShardID]*respondent),
		done: make(map[kv.TransactionID]struct{})}, nil
}

// Tick says what time it is, and what the machine has undecided (Machine.Undecided), without what the coordinator on this node has Live. It costs as much
// as the list is long.
func (r *Recovery) Tick(now time.Duration, undecided []kv.UnfinishedTransaction) {
	r.now = max(r.now, now)
	if len(r.jobs)+len(r.done) > 0 {
		r.forget(undecided)
	}
	r.older = false
	for i := range undecided {
		r.look(&undecided[i])
	}
	for _, of := range r.shards {
		// Whoever is silent is asked again sooner than that, if anybody wants to know.
		if of.silent && of.open == 0 && r.now-of.failed > 2*backOff(r.options.RetryAfter, abortTries) {
			of.silent = false
		}
	}
	for _, j := range r.jobs {
		if !j.ended {
			r.goOn(j)
		}
	}
}

// forget drops what has come to an end without this recovery.
func (r *Recovery) forget(undecided []kv.UnfinishedTransaction) {
	listed := make(map[kv.TransactionID]struct{}, len(undecided))
	for i := range undecided {
		listed[undecided[i].ID] = struct{}{}
	}
	r.jobs = slices.DeleteFunc(r.jobs, func(j *job) bool {
		if _, found := listed[j.id]; !found && j.step != telling {
			r.end(j)
		}
		return j.ended
	})
	maps.DeleteFunc(r.done, func(id kv.TransactionID, _ struct{}) bool {
		_, found := listed[id]
		return !found
	})
}

// look begins to look after a transaction, if it is time.
func (r *Recovery) look(u *kv.UnfinishedTransaction) {
	earlier := u.Own && u.ID.Term < r.options.Term
	_, done := r.done[u.ID]
	switch {
	case u.Own && !earlier && u.Decision.Verdict != kv.Undecided:
		return // the coordinator here has told the others
	case done:
		return
	case earlier:
		r.older = true
	}
	if r.job(u.ID) != nil || !earlier && r.now-u.Since < r.options.Patience {
		return
	}
	j := &job{id: u.ID, participants: slices.Clone(u.Participants), own: u.Own, queued: make([]bool, len(u.Participants))}
	r.jobs, r.byID[u.ID] = append(r.jobs, j), j
	switch {
	case u.Own && u.Decision.Verdict != kv.Undecided: // those who were told by its leadership are not known here
		j.decision = u.Decision
		r.begin(j, telling)
	case u.Own && r.options.Protocol == TwoPhase:
		j.decision = kv.Decision{Verdict: kv.Abort}
		r.begin(j, decidingHere)
	case u.Own:
		r.bid(j)
	default:
		r.begin(j, asking)
	}
}

func (r *Recovery) job(id kv.TransactionID) *job { return r.byID[id] }

// end forgets a job.
func (r *Recovery) end(j *job) {
	j.ended = true
	delete(r.byID, j.id)
}

func (r *Recovery) respondent(id kv.ShardID) *respondent {
	of := r.shards[id]
	if of == nil {
		of = &respondent{}
		r.shards[id] = of
	}
	return of
}

// begin takes a step.
func (r *Recovery) begin(j *job, step recoveryStep) {
	j.step, j.outbid, j.parts = step, false, make([]recoveryPart, len(j.participants))
	r.send(j)
	if step == telling && len(j.participants) == 0 { // its record remembers only that a prepare must not come any more
		r.finish(j)
	}
}

// bid takes a ballot.
func (r *Recovery) bid(j *job) {
	r.round++
	j.ballot = kv.Ballot{Round: r.round, Shard: r.options.Shard, Term: r.options.Term}
	j.found, j.decision = kv.Ballot{}, kv.Decision{}
	r.begin(j, promising)
}

// send asks those participants that the step is about, and that have not answered.
func (r *Recovery) send(j *job) {
	for i := range j.participants {
		r.ask(j, i)
	}
}

// ask asks a participant, if it is its turn, at once or when there is room.
func (r *Recovery) ask(j *job, i int) {
	id, p := j.participants[i], &j.parts[i]
	if p.waiting || p.done || p.again > r.now || !j.asks(id, r.options.Shard) {
		return
	}
	of := r.respondent(id)
	if of.open >= r.options.MaxQuestions {
		if !j.queued[i] {
			j.queued[i] = true
			of.line = append(of.line, placeInLine{j, i})
		}
		return
	}
	of.open++
	p.waiting = true
	body := kv.CommitRequest{ID: j.id, Shard: id, Ballot: j.ballot, Decision: j.decision}
	if j.step == promising {
		body.Participants = j.participants
	}
	r.asks = append(r.asks, Ask{Shard: id, Request: &kv.Request{Kind: kindOfStep[j.step], Commit: &body}})
}

// closed takes note of an answer, or that there is none, and lets the next ones in the line ask.
func (r *Recovery) closed(of *respondent) {
	of.open--
	for len(of.line) > 0 && of.open < r.options.MaxQuestions {
		next := of.line[0]
		of.line[0] = placeInLine{}
		of.line = of.line[1:]
		next.job.queued[next.i] = false
		if !next.job.ended {
			r.ask(next.job, next.i)
		}
	}
}

// heard takes note of whether the shard has answered.
func (of *respondent) heard(now time.Duration, answered bool) {
	if answered {
		of.silent = false
		return
	}
	if of.failed = now; !of.silent {
		of.silent, of.since = true, now
	}
}

var kindOfStep = [...]kv.Kind{
	asking: kv.KindTxnState, promising: kv.KindTxnPromise, accepting: kv.KindTxnAccept, telling: kv.KindTxnResolve, decidingHere: kv.KindTxnDecide,
}

// asks tells whether a participant is asked in the step of the job.
func (j *job) asks(id, here kv.ShardID) bool {
	switch j.step {
	case asking:
		return id == j.id.Anchor
	case decidingHere:
		return id == here
	case telling:
		return id == here || !j.alone
	}
	return true
}

// Answered takes the answer to a question of Ready, or why there is none; once for each question.
func (r *Recovery) Answered(ask Ask, answer *kv.CommitResponse, err error) {
	if err == nil && answer == nil {
		err = kv.ErrOutcomeUnknown
	}
	of := r.respondent(ask.Shard)
	of.heard(r.now, err == nil)
	r.take(ask, answer, err)
	r.closed(of)
}

func (r *Recovery) take(ask Ask, answer *kv.CommitResponse, err error) {
	body := ask.Request.Commit
	j := r.job(body.ID)
	if j == nil || ask.Request.Kind != kindOfStep[j.step] || body.Ballot != j.ballot {
		return
	}
	i, here := slices.BinarySearch(j.participants, ask.Shard)
	if !here || j.parts[i].done {
		return
	}
	j.parts[i].waiting = false
	if err != nil {
		r.unanswered(j, i)
		return
	}
	r.round = max(r.round, answer.Promised.Round)
	switch j.step {
	case asking:
		r.heard(j, i, answer)
	case promising:
		r.promised(j, i, answer)
	case accepting:
		r.accepted(j, i, answer)
	case telling, decidingHere:
		r.resolved(j, i, answer)
	}
}

// unanswered has a participant asked again later. What is told is told a few times only to those who can ask.
func (r *Recovery) unanswered(j *job, i int) {
	p := &j.parts[i]
	p.again = r.now + backOff(r.options.RetryAfter, p.tries)
	p.tries = min(p.tries+1, abortTries)
	if j.step == telling && j.participants[i] != r.options.Shard && p.tries >= abortTries && !j.own {
		p.done = true
		r.finish(j)
	}
}

// heard takes the anchor's answer.
func (r *Recovery) heard(j *job, i int, answer *kv.CommitResponse) {
	j.parts[i].tries = 0
	open := answer.Standing == kv.StandingPrepared || answer.Standing == kv.StandingPromised // what it may have accepted is not decided
	if open || answer.Decision.Verdict == kv.Undecided {                                     // somebody has it in hand
		j.parts[i].again = r.now + backOff(r.options.RetryAfter, undecidedTries)
		return
	}
	r.tellHere(j, answer.Decision)
}

// undecidedTries says how long to wait for somebody else to decide.
const undecidedTries = 2

// tellHere tells this shard what others have decided.
func (r *Recovery) tellHere(j *job, decision kv.Decision) {
	j.decision, j.alone = decision, !j.own
	r.begin(j, telling)
}

// promised takes the answer to a ballot.
func (r *Recovery) promised(j *job, i int, answer *kv.CommitResponse) {
	switch {
	case answer.Standing == kv.StandingResolved:
		r.tellHere(j, answer.Decision)
		return
	case answer.Standing == kv.StandingOver: // all others have forgotten it, and here it is undecided
		r.tellHere(j, kv.Decision{Verdict: kv.Abort})
		return
	case answer.Promised != j.ballot:
		r.outbid(j, i)
		return
	}
	j.parts[i].done = true
	if answer.Decision.Verdict != kv.Undecided && (j.decision.Verdict == kv.Undecided || answer.Accepted.Compare(j.found) > 0) {
		j.found, j.decision = answer.Accepted, answer.Decision
	}
	if !j.most() {
		return
	}
	if j.decision.Verdict == kv.Undecided {
		j.decision = kv.Decision{Verdict: kv.Abort}
	}
	r.begin(j, accepting)
}

// accepted takes the answer to a decision under a ballot.
func (r *Recovery) accepted(j *job, i int, answer *kv.CommitResponse) {
	switch {
	case answer.Standing == kv.StandingResolved:
		r.tellHere(j, answer.Decision)
		return
	case answer.Accepted != j.ballot || answer.Decision != j.decision:
		r.outbid(j, i)
		return
	}
	j.parts[i].done = true
	if j.most() {
		r.begin(j, telling)
	}
}

// most tells whether a majority of the participants is done with the step.
func (j *job) most() bool {
	n := 0
	for i := range j.parts {
		if j.parts[i].done {
			n++
		}
	}
	return n >= majority(len(j.parts))
}

// outbid has a higher ballot taken later: the later the higher the place of the shard among the participants, so that one of several comes through.
func (r *Recovery) outbid(j *job, i int) {
	place, _ := slices.BinarySearch(j.participants, r.options.Shard)
	j.parts[i].again = r.now + backOff(r.options.RetryAfter, j.tries)
	if !j.outbid {
		j.outbid, j.again = true, r.now+time.Duration(place+1)*backOff(r.options.RetryAfter, j.tries)
		j.tries = min(j.tries+1, abortTries)
	}
}

// resolved takes the answer of a participant that was told.
func (r *Recovery) resolved(j *job, i int, answer *kv.CommitResponse) {
	if answer.Standing == kv.StandingPrepared || answer.Standing == kv.StandingPromised {
		r.unanswered(j, i)
		return
	}
	if j.step == decidingHere {
		j.decision = kv.Decision{Verdict: kv.Abort}
		if answer.Standing == kv.StandingResolved {
			j.decision = answer.Decision
		}
		r.begin(j, telling)
		return
	}
	j.parts[i].done = true
	r.finish(j)
}

// finish ends a job if all are told.
func (r *Recovery) finish(j *job) {
	for i, id := range j.participants {
		if !j.parts[i].done && j.asks(id, r.options.Shard) {
			return
		}
	}
	r.end(j)
	if !j.own {
		return
	}
	r.done[j.id] = struct{}{}
	r.tell(r.options.Shard) // it has the record, whoever else has one
	for _, id := range j.participants {
		r.tell(id)
	}
}

// tell has a participant told that all is finished, when it is.
func (r *Recovery) tell(id kv.ShardID) {
	if !slices.Contains(r.told, id) {
		r.told = append(r.told, id)
	}
}

// goOn does what is due.
func (r *Recovery) goOn(j *job) {
	anchor := r.respondent(j.id.Anchor)
	switch {
	case j.step == asking && r.options.Protocol == ThreePhase && anchor.silent && r.now-anchor.since >= r.options.Patience:
		r.bid(j) // the anchor has no leader
	case (j.step == promising || j.step == accepting) && j.outbid:
		if j.again <= r.now {
			r.bid(j)
		}
	default:
		r.send(j)
	}
}

// OlderFinished tells whether all transactions of earlier leaderships, of which this shard is the anchor, are finished, as of the last Tick. Then it
// returns those participants that were told since it last did so: they may have records. What the anchor's log has never seen is not among them; its
// records go when the participant next hears of what is finished.
func (r *Recovery) OlderFinished() (told []kv.ShardID, ok bool) {
	if r.older {
		return nil, false
	}
	told, r.told = r.told, nil
	return told, true
}

// Ready moves the pending questions out. Some are for the shard itself.
func (r *Recovery) Ready() []Ask {
	asks := r.asks
	r.asks = nil
	return asks
}
