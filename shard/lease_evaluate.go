package shard

import (
	"bytes"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// expiryRetryMillis is how long after a revocation was proposed it is looked at again, in case the
// proposal was lost.
const expiryRetryMillis = 3000

// leaseEvaluated looks a lease up in the overlaid state.
func (m *Machine) leaseEvaluated(id kv.LeaseID) (ttl int64, exists bool) {
	if len(m.lead.overlay.leases) > 0 {
		if p, pending := m.lead.overlay.leases[id]; pending {
			return p.ttl, p.exists
		}
	}
	if l := m.leases.byID[id]; l != nil {
		return l.ttl, true
	}
	return 0, false
}

// expired tells whether a lease has run out and nothing in flight renews or revokes it.
func (m *Machine) expired(l *lease) bool {
	_, pending := m.lead.overlay.leases[l.id]
	return !pending && l.deadline <= m.lead.clock()
}

// leaseIDsEvaluated lists the leases of the overlaid state by the time that is left. What is in flight counts from now.
func (m *Machine) leaseIDsEvaluated() ([]kv.LeaseID, error) {
	pending := m.lead.overlay.leases
	if err := payForLeaseIDs(m.leases.size()+len(pending), &m.lead.tally); err != nil {
		return nil, err
	}
	ends := slices.DeleteFunc(m.leases.ends(), func(e leaseEnd) bool { _, changed := pending[e.id]; return changed })
	for id, p := range pending { // sorted below
		if p.exists {
			ends = append(ends, leaseEnd{id, deadlineAfter(m.lead.clock(), p.ttl)})
		}
	}
	return byTimeLeft(ends), nil
}

func (m *Machine) grantRequest(r *kv.LeaseGrantRequest) (*kv.Response, error) {
	id, ttl := r.ID, r.TTLSeconds
	if ttl > MaxLeaseTTLSeconds {
		return nil, kv.ErrLeaseTTLTooLarge
	}
	if id == 0 {
		id = m.chooseLeaseID()
	} else if _, exists := m.leaseEvaluated(id); exists {
		return nil, kv.ErrLeaseExists
	}
	ttl = max(ttl, m.options.MinLeaseTTLSeconds)
	m.lead.overlay.addOp(op{kind: opGrant, lease: id, ttl: ttl})
	return &kv.Response{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantResponse{ID: id, TTLSeconds: ttl}}, nil
}

func (m *Machine) chooseLeaseID() kv.LeaseID {
	for {
		id := kv.LeaseID(m.options.Rand.Int64())
		if _, exists := m.leaseEvaluated(id); id != 0 && !exists {
			return id
		}
	}
}

func (m *Machine) revokeRequest(r *kv.LeaseRevokeRequest) (*kv.Response, error) {
	if _, exists := m.leaseEvaluated(r.ID); !exists {
		return nil, kv.ErrLeaseNotFound
	}
	before := m.lead.overlay.changes.end()
	if _, err := m.deleteAttached(r.ID, 0, 0); err != nil {
		return nil, err
	}
	if m.lead.overlay.bytesSince(before) > m.options.MaxRequestEffectBytes {
		return nil, kv.ErrRequestTooLarge
	}
	m.lead.overlay.addOp(op{kind: opRevoke, lease: r.ID})
	return &kv.Response{Kind: kv.KindLeaseRevoke}, nil
}

// keepAliveRequest renews a lease. For one that has expired it does what expiry was about to do, so that the
// answer "no such lease" is true when it is given; etcd waits for the revocation too.
func (m *Machine) keepAliveRequest(r *kv.LeaseKeepAliveRequest) (*kv.Response, error) {
	body := &kv.LeaseKeepAliveResponse{ID: r.ID}
	answer := &kv.Response{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: body, Revision: m.lead.revision}
	ttl, exists := m.leaseEvaluated(r.ID)
	if !exists {
		return answer, nil
	}
	if l := m.leases.byID[r.ID]; l != nil && m.expired(l) {
		if m.alarmed(kv.AlarmCorrupt) {
			return nil, kv.ErrCorrupt
		}
		_, err := m.revokeExpired(l)
		return answer, err
	}
	m.lead.overlay.addOp(op{kind: opRenew, lease: r.ID, ttl: ttl})
	body.TTLSeconds = ttl
	return answer, nil
}

// timeToLiveEvaluated answers from the overlaid state. What is in flight counts from now.
func (m *Machine) timeToLiveEvaluated(r *kv.LeaseTimeToLiveRequest) (*kv.Response, error) {
	body := &kv.LeaseTimeToLiveResponse{ID: r.ID, TTLSeconds: -1}
	if ttl, exists := m.leaseEvaluated(r.ID); exists {
		body.TTLSeconds, body.GrantedTTLSeconds = ttl, ttl
		if _, pending := m.lead.overlay.leases[r.ID]; !pending {
			body.TTLSeconds = m.leases.byID[r.ID].remainingSeconds(m.lead.clock())
		}
		if r.Keys {
			var err error
			if body.Keys, err = m.attachedEvaluated(r.ID); err != nil {
				return nil, err
			}
		}
	}
	return &kv.Response{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: body}, nil
}

// attachedEvaluated lists the keys of a lease in the overlaid state, in order.
func (m *Machine) attachedEvaluated(id kv.LeaseID) ([][]byte, error) {
	tally := &m.lead.tally
	keys, err := m.attached(id, tally)
	if err != nil {
		return nil, err
	}
	touched := m.lead.overlay.byLease[id]
	if len(touched) == 0 {
		return keys, nil
	}
	if err := tally.Add(int64(len(keys)+len(touched)) * attachedBytes); err != nil {
		return nil, err
	}
	for _, at := range touched {
		keys = append(keys, m.lead.overlay.changes.at(at).Key)
	}
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	return slices.DeleteFunc(keys, func(key []byte) bool {
		c := m.lead.overlay.find(key)
		return c != nil && c.Lease != id
	}), nil
}

// deleteAttached deletes keys of a lease in key order at the revision under evaluation, up to so many and so many bytes
// of effects (0: all), but at least one, and tells how many are left.
func (m *Machine) deleteAttached(id kv.LeaseID, limit, limitBytes int) (left int, err error) {
	keys, err := m.attachedEvaluated(id)
	if err != nil {
		return 0, err
	}
	if limit > 0 && len(keys) > limit {
		keys, left = keys[:limit], len(keys)-limit
	}
	size := 0
	for i, key := range keys {
		if size += len(key) + effectOverheadBytes; limitBytes > 0 && i > 0 && size > limitBytes {
			return left + len(keys) - i, nil
		}
		meta, found, err := m.newest(key)
		if err != nil {
			return 0, err
		}
		if found && !meta.Deleted() && meta.Lease == id {
			if err := m.remove(key, meta); err != nil {
				return 0, err
			}
		}
	}
	return left, nil
}

// expire revokes leases that have run out, each at a revision of its own.
func (m *Machine) expire() error {
	if m.alarmed(kv.AlarmCorrupt) { // nothing is deleted then, as in etcd
		return nil
	}
	now := m.lead.clock()
	revoked, keys := 0, 0
	// Renewed leases that come to the top are put back; that is bounded too.
	for looked := 0; looked < 8*m.options.MaxRevokesPerTick; looked++ {
		// Looked at anew each time: what earlier ticks left may still wait for room in flight.
		if m.lead.overlay.untakenBytes >= m.options.MaxExpiryBytes {
			return nil
		}
		l := m.leases.next()
		if l == nil || l.key > now || revoked == m.options.MaxRevokesPerTick || keys >= m.options.MaxRevokeKeysPerTick {
			return nil
		}
		if l.deadline > now {
			m.leases.postpone(l, l.deadline)
			continue
		}
		if !m.expired(l) {
			m.leases.postpone(l, now+expiryRetryMillis)
			continue
		}
		deleted, err := m.revokeExpired(l)
		if err != nil {
			return err
		}
		m.endRevision()
		revoked++
		keys += deleted
	}
	return nil
}

// revokeExpired deletes the keys of a lease and the lease itself. A lease with very many keys, or very long ones, loses
// MaxKeysPerExpiry or MaxExpiryBytes of them and lives on until the next tick.
func (m *Machine) revokeExpired(l *lease) (deleted int, err error) {
	before := m.lead.overlay.changes.end()
	left, err := m.deleteAttached(l.id, m.options.MaxKeysPerExpiry, m.options.MaxExpiryBytes)
	if err != nil {
		m.lead.overlay.rollback(before)
		m.lead.nextSub = 0
		return 0, err
	}
	deleted = int(m.lead.overlay.changes.end() - before)
	if left > 0 {
		m.leases.postpone(l, m.lead.clock()+1)
		return deleted, nil
	}
	m.leases.postpone(l, m.lead.clock()+expiryRetryMillis)
	m.lead.overlay.addOp(op{kind: opRevoke, lease: l.id})
	m.metrics.ExpiredLeases++
	return deleted, nil
}

// checkpointClock logs the lease clock when leases exist and no entry has carried it for a while.
func (m *Machine) checkpointClock() {
	l := m.lead
	if m.leases.size() == 0 || l.overlay.untaken() {
		return
	}
	if l.clock()-l.proposed >= m.options.LeaseCheckpointInterval.Milliseconds() {
		l.overlay.addOp(op{kind: opClock})
	}
}
