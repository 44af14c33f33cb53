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
	older bool // there are others, but for those that are open
	// open are those that a participant has not heard the end of, and does not answer.
	open []kv.TransactionID
	told []kv.ShardID // of which OlderFinished has not said so
	// round is the highest of a ballot taken or heard of. A ballot is never taken twice.
	round uint64
	asks  []Ask
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
	r.older, r.open = false, nil
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
	case earlier && r.hangs(r.job(u.ID)) && len(r.open) < kv.MaxOpen:
		r.open = append(r.open, u.ID)
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

// send asks those participants that the step is about, and that have not answered.
func (r *Recovery) send(j *job) {
	for i := range j.participants {
		r.ask(j, i)
	}
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

// OlderFinished tells whether all transactions of earlier leaderships, of which this shard is the anchor, are finished, as of the last Tick, but for those
// that are open, since a participant does not answer. Then it returns those, and the participants that were told of an end since it last did so: they may have
// records. What the anchor's log has never seen is not among them; its records go when the participant next hears of what is finished.
func (r *Recovery) OlderFinished() (told []kv.ShardID, open []kv.TransactionID, ok bool) {
	if r.older {
		return nil, nil, false
	}
	told, r.told = r.told, nil
	slices.SortFunc(r.open, kv.TransactionID.Compare)
	return told, r.open, true
}

// Ready moves the pending questions out. Some are for the shard itself.
func (r *Recovery) Ready() []Ask {
	asks := r.asks
	r.asks = nil
	return asks
}
