package shard

import (
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Read answers a read-only request (IsReadOnly) from the applied state. view may be nil: then the newest
// applied state is read, under the shared lock. With a view, ranges and transactions need no lock; leases,
// alarms and nodes are always the newest and need the shared lock. now is the monotonic clock given to Lead; it
// matters only for what is left of a lease, which a replica that does not lead overestimates by the
// time since the lease clock was last logged. What the answer takes is reserved from the request's Memory before it is there; nothing stays reserved
// when there is an error.
func (m *Machine) Read(view *mvcc.View, now time.Duration, r *kv.Request) (*kv.Response, error) {
	counted := &struct {
		answer kv.Response
		tally  kv.Tally
	}{tally: kv.NewTally(r.Memory)} // one allocation
	answer, tally := &counted.answer, &counted.tally
	state := appliedReading{&m.store.Reader, tally}
	if view != nil {
		state.Reader = &view.Reader
	}
	answer.Kind, answer.Revision = r.Kind, state.now()
	if !complete(r) || !IsReadOnly(r) {
		return nil, fmt.Errorf("request of kind %d is not a read: %w", r.Kind, kv.ErrInvalidRequest)
	}
	var err error
	switch r.Kind {
	case kv.KindRange:
		answer.Range, err = state.scan(r.Range)
	case kv.KindTxn:
		answer.Txn, err = readOnlyTxn(state, r.Txn)
	case kv.KindLeaseTimeToLive:
		answer.LeaseTimeToLive, err = m.timeToLive(r.LeaseTimeToLive, now, tally)
	case kv.KindLeaseLeases:
		answer.LeaseLeases, err = m.leaseIDs(tally)
	case kv.KindAlarm:
		answer.Alarm = &kv.AlarmResponse{Alarms: alarmsOfType(m.Alarms(), r.Alarm.Alarm.Type)}
	case kv.KindMemberList:
		answer.MemberList = &kv.MemberListResponse{Nodes: m.Nodes()}
	}
	if err != nil {
		tally.Release()
		return nil, err
	}
	return answer, nil
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
func (m *Machine) Nodes() []kv.NodeRecord {
	list := make([]kv.NodeRecord, 0, len(m.nodes))
	for _, n := range m.nodes { // sorted below
		list = append(list, *n)
	}
	sortNodes(list)
	return list
}
