package shard

import (
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Read answers a read-only request (IsReadOnly) from the applied state; about keys as of the revision up to which that is complete. view may be nil: then the
// newest applied state is read, under the shared lock. With a view, ranges and transactions need no lock; leases,
// alarms and nodes are always the newest and need the shared lock. now is the monotonic clock given to Lead; it
// matters only for what is left of a lease, which a replica that does not lead overestimates by the
// time since the lease clock was last logged. What the answer takes is reserved from the request's Memory before it is there; nothing stays reserved
// when there is an error.
func (m *Machine) Read(view *mvcc.View, now time.Duration, r *kv.Request) (*kv.Response, error) {
	answer, state := m.reading(view, r)
	if !complete(r) || !IsReadOnly(r) {
		return nil, fmt.Errorf("request of kind %d is not a read: %w", r.Kind, kv.ErrInvalidRequest)
	}
	if r.AuthVersion < m.auth.Version && judged(r.Kind) {
		return nil, kv.ErrAuthOldRevision
	}
	var err error
	switch r.Kind {
	case kv.KindAuth:
		answer.Auth, err = m.auth.Read(r.Auth)
	case kv.KindRange, kv.KindTxn:
		err = state.answer(r, answer)
	case kv.KindLeaseTimeToLive:
		answer.LeaseTimeToLive, err = m.timeToLive(r.LeaseTimeToLive, now, state.tally)
	case kv.KindLeaseLeases:
		answer.LeaseLeases, err = m.leaseIDs(state.tally)
	case kv.KindAlarm:
		answer.Alarm = &kv.AlarmResponse{Alarms: alarmsOfType(m.Alarms(), r.Alarm.Alarm.Type)}
	case kv.KindMemberList:
		answer.MemberList = &kv.MemberListResponse{Nodes: m.Nodes()}
	}
	if err != nil {
		state.tally.Release()
		return nil, err
	}
	return answer, nil
}

// ReadAt answers a read-only request about keys as of a revision, which is in the answer, from a state that is complete up to it: it has all that this
// shard will ever have at or below. The state may be newer, and it may be older: then there is nothing in between. Revisions above it are in the
// future for the request; those below at.Compacted are compacted, whether this shard has heard of it or not. ErrReadCompacted: the revision itself is.
// The rest is as with Read.
func (m *Machine) ReadAt(view *mvcc.View, r *kv.Request, at kv.Present) (*kv.Response, error) {
	if r.Kind != kv.KindRange && r.Kind != kv.KindTxn || !complete(r) || !IsReadOnly(r) || at.Revision <= 0 {
		return nil, fmt.Errorf("request of kind %d is not a read of keys at a revision: %w", r.Kind, kv.ErrInvalidRequest)
	}
	answer, state := m.reading(view, r)
	if at.Revision < state.Compacted() {
		return nil, ErrReadCompacted
	}
	state.at, state.floor = at.Revision, at.Compacted
	answer.Revision = at.Revision
	if err := state.answer(r, answer); err != nil {
		state.tally.Release()
		return nil, err
	}
	return answer, nil
}

// reading begins an answer from a view, or from the newest state.
func (m *Machine) reading(view *mvcc.View, r *kv.Request) (*kv.Response, appliedReading) {
	counted := &struct {
		answer kv.Response
		tally  kv.Tally
	}{tally: kv.NewTally(r.Memory)} // one allocation
	state := appliedReading{Reader: &m.store.Reader, tally: &counted.tally}
	if view != nil {
		state.Reader = &view.Reader
	}
	if closed := state.Closed(); closed < state.Revision() && (r.Kind == kv.KindRange || r.Kind == kv.KindTxn) { // more may yet come above that
		state.at = closed
	}
	counted.answer.Kind, counted.answer.Revision = r.Kind, state.now()
	return &counted.answer, state
}

// answer reads what a request about keys asks for.
func (a appliedReading) answer(r *kv.Request, answer *kv.Response) (err error) {
	if r.Kind == kv.KindRange {
		answer.Range, err = a.scan(r.Range)
	} else {
		answer.Txn, err = readOnlyTxn(a, r.Txn)
	}
	return err
}

func (m *Machine) leaseIDs(tally *kv.Tally) (*kv.LeaseLeasesResponse, error) {
	if err := payForLeaseIDs(m.leases.size(), tally); err != nil {
		return nil, err
	}
	return &kv.LeaseLeasesResponse{IDs: byTimeLeft(m.leases.ends(m.leaderSince()))}, nil
}

func (m *Machine) timeToLive(r *kv.LeaseTimeToLiveRequest, now time.Duration, tally *kv.Tally) (*kv.LeaseTimeToLiveResponse, error) {
	l := m.leases.byID[r.ID]
	if l == nil {
		return &kv.LeaseTimeToLiveResponse{ID: r.ID, TTLSeconds: -1}, nil
	}
	clock := m.applied.LeaseClock
	if m.lead != nil {
		clock = max(clock, m.lead.clockAt(now))
	}
	answer := &kv.LeaseTimeToLiveResponse{ID: r.ID, TTLSeconds: l.remainingSeconds(m.leaderSince(), clock), GrantedTTLSeconds: l.ttl}
	if r.Keys {
		var err error
		if answer.Keys, err = m.attached(r.ID, "", 0, tally); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// Alarms lists the active alarms, by type and node. Shared.
func (m *Machine) Alarms() []kv.Alarm { return m.alarms.list() }

// Nodes lists the nodes of the cluster, by ID. Shared.
func (m *Machine) Nodes() []kv.NodeRecord { return m.members.Records() }
