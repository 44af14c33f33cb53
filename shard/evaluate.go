package shard

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// Evaluate decides a request on the applied state overlaid with everything in flight. Its
// effects are visible to later evaluations at once, and to everybody else when the proposal that
// TakeProposal makes of them is applied. The request must be valid (Validate); its bytes are
// kept and must not change. What the answer and the effects take is reserved from the request's Memory before it is there; without
// room the answer is kv.ErrTooManyRequests, nothing has happened, and nothing stays reserved. Driver.
func (m *Machine) Evaluate(r *kv.Request) Outcome {
	l := m.lead
	if l == nil {
		return Outcome{Err: kv.ErrNotLeader}
	}
	if !complete(r) {
		return Outcome{Err: fmt.Errorf("the request has no body for its kind %d: %w", r.Kind, kv.ErrInvalidRequest)}
	}
	if l.overlay.sealed {
		return Outcome{Fatal: fmt.Errorf("something is evaluated before the proposal of a bulk was taken: %w", ErrInconsistent)}
	}
	if err := m.mayDecide(); err != nil {
		return Outcome{Fatal: err}
	}
	if aboutTransactions(r.Kind) {
		return m.evaluateCommit(r)
	}
	if r.AuthVersion < m.authEvaluated() && judged(r.Kind) {
		l.contention.leave(r) // it may have waited for a lock, and others behind it
		return Outcome{Err: kv.ErrAuthOldRevision, WaitFor: l.waitFor()}
	}
	if l.latches.Len() > 0 && l.conflicts(r) {
		return Outcome{Blocked: true}
	}
	if place, waits := l.contention.waits(r); waits {
		return Outcome{Blocked: true, Place: place}
	}
	changes, ops := l.overlay.changes.end(), l.overlay.ops.end()
	l.nextSub = 0
	l.tally = kv.NewTally(r.Memory)
	if aboutKeys(r.Kind) {
		l.tally.Bound(kv.Looks{Limit: m.options.RoundLooks, Refused: errLong})
	}
	response, err := m.answer(r)
	if err == nil && aboutKeys(r.Kind) {
		m.longestLooks = max(m.longestLooks, l.tally.Looked())
	}
	outcome := Outcome{}
	if err != nil {
		l.overlay.rollback(changes)
		l.nextSub = 0
		l.tally.Release()
		l.tally = kv.Tally{}
		switch {
		case errors.Is(err, errLong):
			return m.beside(r)
		case errors.Is(err, errLatched):
			return Outcome{Blocked: true}
		}
		if outcome = m.failed(err); outcome.Err == nil { // it is not answered
			return outcome
		}
	} else if response == nil { // a part is done
		m.endRevision()
		l.tally.Release() // the answer will be about the last part
		outcome = Outcome{Blocked: true, Begun: true}
	} else {
		m.endRevision()
		if response.Revision == 0 {
			response.Revision = l.revision
		}
		outcome.Response = response
		l.told(response)
		outcome.Effects = l.overlay.changes.end() > changes || l.overlay.ops.end() > ops
	}
	l.tally = kv.Tally{}
	outcome.WaitFor = l.waitFor()
	return outcome
}

// aboutKeys tells whether package evaluation decides the requests of a kind.
func aboutKeys(kind kv.Kind) bool {
	switch kind {
	case kv.KindPut, kv.KindTxn, kv.KindDeleteRange, kv.KindRange:
		return true
	}
	return false
}

// failed is the outcome of a request that changes nothing.
func (m *Machine) failed(err error) Outcome {
	switch {
	case errors.Is(err, errOutdated):
		return Outcome{Blocked: true}
	case errors.Is(err, errAwaits):
		return m.awaits()
	case errors.Is(err, errUnnumbered):
		return Outcome{Unnumbered: true}
	}
	if kv.CodeOf(err) == 0 {
		return Outcome{Fatal: fmt.Errorf("evaluate: %w", err)}
	}
	return Outcome{Err: err}
}

// endRevision closes the revision under evaluation, if it wrote anything.
func (m *Machine) endRevision() {
	if m.lead.nextSub > 0 {
		m.lead.revision++
		m.lead.nextSub = 0
	}
}

// waitFor is the sequence number of the last proposal that has to be applied before something may be
// said about the overlaid state.
func (l *leadership) waitFor() uint64 {
	switch {
	case l.overlay.untaken():
		return l.seq + 1
	case l.overlay.proposals.size() > 0:
		return l.seq
	}
	return 0
}

func (o *overlay) bytesSince(position int64) int {
	n := 0
	for ; position < o.changes.end(); position++ {
		c := o.changes.at(position)
		n += len(c.Key) + len(c.Value) + effectOverheadBytes
	}
	return n
}

// answer is without a response when only a part of the request is done.
func (m *Machine) answer(r *kv.Request) (*kv.Response, error) {
	if err := m.checkAlarms(r); err != nil {
		return nil, err
	}
	if aboutKeys(r.Kind) {
		return m.lead.answer(r)
	}
	switch r.Kind {
	case kv.KindCompact:
		return m.compactRequest(r.Compact)
	case kv.KindLeaseGrant:
		return m.grantRequest(r.LeaseGrant)
	case kv.KindLeaseRevoke:
		return m.revokeRequest(r.LeaseRevoke)
	case kv.KindLeaseKeepAlive:
		return m.keepAliveRequest(r.LeaseKeepAlive)
	case kv.KindLeaseTimeToLive:
		if m.options.Sequenced {
			return m.whereabouts(r.LeaseTimeToLive)
		}
		return m.timeToLiveEvaluated(r.LeaseTimeToLive)
	case kv.KindLeaseAttach:
		return m.attachRequest(r.LeaseBinding)
	case kv.KindLeaseRelease:
		return m.releaseRequest(r.LeaseBinding)
	case kv.KindLeaseKeys:
		return m.keysRequest(r.LeaseBinding)
	case kv.KindLeaseLeases:
		ids, err := m.leaseIDsEvaluated()
		return &kv.Response{Kind: kv.KindLeaseLeases, LeaseLeases: &kv.LeaseLeasesResponse{IDs: ids}}, err
	case kv.KindAlarm:
		return m.alarmRequest(r.Alarm)
	case kv.KindMemberList:
		return &kv.Response{Kind: kv.KindMemberList, MemberList: &kv.MemberListResponse{Nodes: m.membersEvaluated().Records()}}, nil
	case kv.KindPublishNode:
		return m.publishRequest(r.PublishNode)
	case kv.KindAssignReplica:
		return m.assignRequest(r.AssignReplica)
	case kv.KindSetRoster:
		return m.rosterRequest(r.SetRoster)
	case kv.KindAuth:
		return m.authRequest(r.Auth)
	case kv.KindMember:
		return m.memberRequest(r.Member)
	case kv.KindRecordTime:
		return m.timeRequest(r.RecordTime)
	}
	return nil, fmt.Errorf("unknown kind of request %d: %w", r.Kind, kv.ErrInvalidRequest)
}

// checkAlarms refuses what etcd's appliers refuse under an alarm, and what a fence keeps out.
func (m *Machine) checkAlarms(r *kv.Request) error {
	corrupt, noSpace, fenced := m.alarmed(kv.AlarmCorrupt), m.alarmed(kv.AlarmNoSpace), m.alarmed(kv.AlarmFence)
	if !corrupt && !noSpace && !fenced {
		return nil
	}
	if fenced && !corrupt && fencedOut(r) {
		return kv.ErrFenced
	}
	switch r.Kind {
	case kv.KindPut, kv.KindLeaseGrant:
		if corrupt {
			return kv.ErrCorrupt
		}
		if noSpace {
			return kv.ErrNoSpace
		}
	case kv.KindTxn:
		if IsReadOnly(r) {
			return nil
		}
		if corrupt {
			return kv.ErrCorrupt
		}
		if noSpace && containsPut(r.Txn) {
			return kv.ErrNoSpace
		}
	case kv.KindDeleteRange, kv.KindCompact, kv.KindLeaseRevoke:
		if corrupt {
			return kv.ErrCorrupt
		}
	}
	return nil
}

// fencedOut tells whether a request changes what a backup has: keys, leases, users or roles. Whoever keeps a lease alive, or sees to the members or to what is
// wrong, goes on; so does compaction, which changes nothing that is newest. The share of a transaction is judged by mayPrepare.
func fencedOut(r *kv.Request) bool {
	switch r.Kind {
	case kv.KindPut, kv.KindDeleteRange, kv.KindLeaseGrant, kv.KindLeaseRevoke, kv.KindLeaseRelease:
		return true
	case kv.KindTxn, kv.KindAuth:
		return !IsReadOnly(r)
	}
	return false
}

func (m *Machine) compactRequest(r *kv.CompactRequest) (*kv.Response, error) {
	state := &m.lead.evaluation
	if r.Revision <= state.compactedAt() {
		return nil, kv.ErrCompacted
	}
	if err := state.reaches(r.Revision); err != nil {
		return nil, err
	}
	if r.Revision > state.now() {
		return nil, kv.ErrFutureRevision
	}
	if !m.mayCompact(r.Revision) {
		return nil, errLatched
	}
	m.lead.overlay.addOp(op{kind: opCompact, revision: r.Revision})
	return &kv.Response{Kind: kv.KindCompact}, nil
}

func (o *overlay) eachOp(fn func(*op)) {
	for at := o.ops.start; at < o.ops.end(); at++ {
		fn(o.ops.at(at))
	}
}
