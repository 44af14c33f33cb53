package shard

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
	"github.com/quoratedb/quorate/shard/lock"
)

// aboutTransactions tells whether the requests of a kind are about transactions over several shards.
func aboutTransactions(kind kv.Kind) bool {
	return kind >= kv.KindTxnPrepare && kind <= kv.KindTxnState
}

// evaluateCommit is Evaluate of what is about transactions over several shards.
func (m *Machine) evaluateCommit(r *kv.Request) Outcome {
	l := m.lead
	if err := m.mayTakePart(r); err != nil {
		return Outcome{Err: err}
	}
	ops := l.overlay.ops.end()
	l.nextSub = 0
	l.tally = kv.NewTally(r.Memory)
	answer, err := m.commitAnswer(r)
	if err != nil {
		l.tally.Release()
	}
	l.tally = kv.Tally{}
	if errors.Is(err, errLong) {
		return m.besideShare(r)
	}
	if err != nil {
		return m.commitFailed(r, err)
	}
	outcome := Outcome{Response: &kv.Response{Kind: r.Kind, Commit: answer}, Effects: l.overlay.ops.end() > ops}
	if l.issued() < l.revision {
		l.told(outcome.Response)
	}
	if !answer.Busy && answer.Met == nil { // those may be said at once: they promise nothing, and the coordinator looks at compares once more
		outcome.WaitFor = l.waitFor()
	}
	return outcome
}

// commitFailed is the outcome of a request that changes nothing. A prepare that will not come again does not wait any more.
func (m *Machine) commitFailed(r *kv.Request, err error) Outcome {
	if errors.Is(err, errLatched) {
		outcome := Outcome{Blocked: true}
		if w := m.lead.contention.patient[r.Commit.ID]; w != nil {
			outcome.Place = w.Place
		}
		return outcome
	}
	outcome := m.failed(err)
	if outcome.Err != nil || outcome.Awaits != 0 { // the latter may be answered without being evaluated again
		m.Withdraw(r)
	}
	if outcome.Err != nil {
		outcome.WaitFor = m.lead.waitFor()
	}
	return outcome
}

// mayTakePart refuses what is not for this shard, whoever sent it.
func (m *Machine) mayTakePart(r *kv.Request) error {
	if err := validateCommit(r); err != nil {
		return err
	}
	if !m.options.Sequenced || r.Commit.Shard != m.options.Shard {
		return fmt.Errorf("a request about a transaction over several shards is for shard %d, and has come to shard %d: %w",
			r.Commit.Shard, m.options.Shard, kv.ErrInvalidRequest)
	}
	return nil
}

func (m *Machine) commitAnswer(r *kv.Request) (*kv.CommitResponse, error) {
	switch r.Kind {
	case kv.KindTxnPrepare:
		return m.prepareRequest(r)
	case kv.KindTxnDecide:
		return m.decideRequest(r.Commit)
	case kv.KindTxnResolve:
		return m.resolveRequest(r.Commit)
	case kv.KindTxnState:
		return m.stateRequest(r.Commit)
	case kv.KindTxnPromise:
		return m.promiseRequest(r.Commit)
	case kv.KindTxnAccept:
		return m.acceptRequest(r.Commit)
	}
	return nil, fmt.Errorf("unknown kind of request %d: %w", r.Kind, kv.ErrInvalidRequest)
}

// prepareRequest has a share prepared: evaluated on top of all that is in flight (rule 30), and its locks and effects logged (rule 20). One that comes again is
// evaluated again, for its answer: its locks see to it that this is the same.
func (m *Machine) prepareRequest(r *kv.Request) (*kv.CommitResponse, error) {
	c, l := r.Commit, m.lead
	known := m.recordEvaluated(c.ID)
	switch answer, err := m.notToPrepare(c, known); {
	case err != nil:
		return nil, err
	case answer != nil:
		l.contention.leavePatient(c.ID)
		return answer, nil
	}
	if c.Share.Release != nil {
		return m.prepareRelease(c, known)
	}
	accesses := shareAccesses(c.Share)
	if known == nil {
		if met := m.doomed(c, accesses); met != nil {
			return &kv.CommitResponse{Met: met}, nil
		}
		busy, err := m.contend(c, accesses)
		if err != nil || busy {
			return &kv.CommitResponse{Busy: true}, err
		}
		if err := m.mayPrepare(c.Share); err != nil {
			return nil, err
		}
	}
	l.tally.Bound(kv.Looks{Limit: m.options.RoundLooks, Refused: errLong})
	done, err := l.share(c.Share, m.options.MaxShareBytes)
	if err != nil {
		return nil, err
	}
	m.longestLooks = max(m.longestLooks, l.tally.Looked())
	return m.prepared(c, known, accesses, &done)
}

// notToPrepare is the answer to a prepare that comes too late, or the second time after the end.
func (m *Machine) notToPrepare(c *kv.CommitRequest, known *record) (*kv.CommitResponse, error) {
	own := c.ID.Anchor == m.options.Shard
	switch {
	case known != nil && !known.holds():
		return known.answer(), nil
	case known != nil:
		return nil, nil
	case own && c.ID.Term > uint64(m.lead.term):
		return nil, kv.ErrNotLeader
	case m.over(c.ID), own && c.ID.Term < uint64(m.lead.term): // the latter: whoever asks the anchor may have heard that it never will be (see stateRequest)
		return &kv.CommitResponse{Standing: kv.StandingOver}, nil
	}
	return nil, nil
}

// doomed tells what became of the compares of a share that has to wait, if not all come out as expected by what is in force, or in flight. Nothing is gained by
// waiting then: the coordinator reads all compares, at one revision, in any case. Who waits looks once, when it comes.
func (m *Machine) doomed(c *kv.CommitRequest, accesses []latch.Access) []bool {
	l := m.lead
	_, underWay := l.contention.beside[c.ID]
	if l.contention.patient[c.ID] != nil || underWay || len(c.Share.Compares) == 0 || l.free(c.ID, accesses) {
		return nil
	}
	l.tally.Bound(kv.Looks{Limit: m.options.RoundLooks, Refused: errLong})
	met, err := l.met(c.Share.Compares)
	if err != nil {
		return nil // it has to wait to be told
	}
	return met
}

// contend tells whether somebody else has locks or latches that the prepare needs. A patient one waits for them: errLatched.
func (m *Machine) contend(c *kv.CommitRequest, accesses []latch.Access) (busy bool, err error) {
	l := m.lead
	if _, underWay := l.contention.beside[c.ID]; underWay {
		return false, errLatched // the same is asked twice
	}
	if l.free(c.ID, accesses) && !l.contention.attaches(c.Share) {
		return false, nil
	}
	if !c.Patient {
		return true, nil
	}
	if l.contention.patient[c.ID] != nil {
		return false, errLatched
	}
	if n := len(l.contention.patient); n >= m.options.MaxTransactions {
		return false, fmt.Errorf("%d transactions wait for locks: %w", n, kv.ErrTooManyRequests)
	}
	if l.contention.patient == nil {
		l.contention.patient = make(map[kv.TransactionID]*lock.Waiter)
	}
	l.contention.patient[c.ID] = l.contention.queue.Add(accesses)
	return false, errLatched
}

// mayPrepare refuses a share by alarms, and by what is prepared already.
func (m *Machine) mayPrepare(s *kv.Share) error {
	writes, puts := shareWrites(s)
	switch {
	case writes && m.alarmed(kv.AlarmCorrupt):
		return kv.ErrCorrupt
	case (writes || s.Release != nil) && m.alarmed(kv.AlarmFence):
		return kv.ErrFenced
	case puts && m.alarmed(kv.AlarmNoSpace):
		return kv.ErrNoSpace
	}
	if n := m.transactions.bytes + m.lead.overlay.commits.bytes; n >= m.options.MaxPreparedBytes {
		return fmt.Errorf("shard %d has prepared transactions of %d bytes: %w", m.options.Shard, n, kv.ErrTooManyRequests)
	}
	return m.mayKnow()
}

// mayKnow tells whether there is room for one more record.
func (m *Machine) mayKnow() error {
	if n := len(m.transactions.records) + m.lead.overlay.commits.prepares; n >= m.options.MaxTransactions {
		return fmt.Errorf("shard %d has a part in %d transactions that are not finished: %w", m.options.Shard, n, kv.ErrTooManyRequests)
	}
	return nil
}

// prepared logs a share that was decided, unless it is in the log already, and answers.
func (m *Machine) prepared(c *kv.CommitRequest, known *record, accesses []latch.Access, done *shareOutcome) (*kv.CommitResponse, error) {
	if known != nil {
		return done.answer(), nil
	}
	m.lead.contention.leavePatient(c.ID)
	if done.met != nil {
		return &kv.CommitResponse{Met: done.met}, nil
	}
	r := &record{id: c.ID, participants: c.Participants, prepared: true, accesses: accesses, effects: done.effects, release: done.release}
	m.noteFinished(c.Finished)
	m.lead.overlay.addOp(op{kind: opPrepare, record: r})
	m.lead.contention.hold(r)
	return done.answer(), nil
}
