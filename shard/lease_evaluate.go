package shard

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
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

func (m *Machine) leaseExists(id kv.LeaseID) bool {
	_, exists := m.leaseEvaluated(id)
	return exists
}

// leaderSince is the lease clock when this leadership began. A replica that does not lead takes itself for a leader from now on.
func (m *Machine) leaderSince() int64 {
	if m.lead != nil {
		return m.lead.clockBase
	}
	return m.applied.LeaseClock
}

// expired tells whether a lease has run out and nothing in flight renews or revokes it.
func (m *Machine) expired(l *lease) bool {
	if p, pending := m.lead.overlay.leases[l.id]; pending {
		return p.ended
	}
	return l.end(m.lead.clockBase) <= m.lead.clock()
}

// leaseIDsEvaluated lists the leases of the overlaid state by the time that is left. What is in flight counts from now.
func (m *Machine) leaseIDsEvaluated() ([]kv.LeaseID, error) {
	pending := m.lead.overlay.leases
	if err := payForLeaseIDs(m.leases.size()+len(pending), &m.lead.tally); err != nil {
		return nil, err
	}
	ends := slices.DeleteFunc(m.leases.ends(m.lead.clockBase), func(e leaseEnd) bool { _, changed := pending[e.id]; return changed })
	for id, p := range pending { // sorted below
		if p.exists {
			ends = append(ends, leaseEnd{id, deadlineAfter(m.lead.clock(), p.secondsLeft())})
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

// revokeRequest revokes a lease, if it does not have too many keys: then it ends for all, loses some keys, and there is no answer yet.
func (m *Machine) revokeRequest(r *kv.LeaseRevokeRequest) (*kv.Response, error) {
	if _, exists := m.leaseEvaluated(r.ID); !exists {
		return nil, kv.ErrLeaseNotFound
	}
	if bound, ending := m.boundEvaluated(r.ID); len(bound) > 0 {
		if !ending {
			if err := m.end(r.ID); err != nil {
				return nil, err
			}
		}
		return nil, m.lead.await(r.ID, !ending)
	}
	more, err := m.deleteAttached(r.ID)
	if err != nil {
		return nil, err
	}
	if more {
		m.endForAll(r.ID)
		return nil, nil
	}
	m.lead.overlay.addOp(op{kind: opRevoke, lease: r.ID})
	return &kv.Response{Kind: kv.KindLeaseRevoke}, nil
}

// secondsLeft counts from now, since nobody knows yet what the lease clock of the entry will be.
func (p pendingLease) secondsLeft() int64 {
	if p.ended {
		return 0
	}
	return p.ttl
}

// Renew answers a keep-alive that needs nothing of the log: the deadline that is replicated lies far enough off, so that every
// later leader keeps what is promised here. It is right if nobody else led at the moment of the call, which the caller finds out
// afterwards. No: Evaluate knows. Exclusive.
func (m *Machine) Renew(r *kv.LeaseKeepAliveRequest, at time.Duration) (*kv.Response, bool) {
	if m.lead == nil {
		return nil, false
	}
	m.lead.advance(at, m.options.MaxClockStep)
	l, now := m.leases.byID[r.ID], m.lead.clock()
	if _, pending := m.lead.overlay.leases[r.ID]; pending || l == nil || l.ending || l.end(m.lead.clockBase) <= now || !l.covers(now) {
		return nil, false
	}
	l.promise(now)
	return keepAliveAnswer(r.ID, l.ttl, m.applied.Revision), true
}

// keepAliveAnswer makes an answer in one allocation.
func keepAliveAnswer(id kv.LeaseID, ttl int64, revision kv.Revision) *kv.Response {
	answer := &struct {
		response kv.Response
		body     kv.LeaseKeepAliveResponse
	}{body: kv.LeaseKeepAliveResponse{ID: id, TTLSeconds: ttl}}
	answer.response = kv.Response{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &answer.body, Revision: revision}
	return &answer.response
}

// keepAliveRequest renews a lease in the log, for longer than it promises, so that Renew can answer the next ones. For one that has
// expired it does what expiry was about to do, so that the answer "no such lease" is true when it is given; etcd waits for the revocation too. One
// with very many keys loses some of them, and there is no answer yet. Behind a fence, where nothing is revoked, it lives on.
func (m *Machine) keepAliveRequest(r *kv.LeaseKeepAliveRequest) (*kv.Response, error) {
	ttl, exists := m.leaseEvaluated(r.ID)
	if !exists {
		return keepAliveAnswer(r.ID, 0, m.lead.revision), nil
	}
	l, revision := m.leases.byID[r.ID], m.lead.revision
	bound, ending := m.boundEvaluated(r.ID)
	if ending {
		return nil, m.lead.await(r.ID, false)
	}
	if l != nil && m.expired(l) {
		if m.alarmed(kv.AlarmCorrupt) {
			return nil, kv.ErrCorrupt
		}
		if m.alarmed(kv.AlarmFence) {
			return m.extend(r.ID, ttl), nil
		}
		if len(bound) > 0 {
			if err := m.end(r.ID); err != nil {
				return nil, err
			}
			return nil, m.lead.await(r.ID, false)
		}
		if _, more, err := m.revokeExpired(l); more || err != nil {
			return nil, err
		}
		return keepAliveAnswer(r.ID, 0, revision), nil
	}
	return m.extend(r.ID, ttl), nil
}

func (m *Machine) extend(id kv.LeaseID, ttl int64) *kv.Response {
	m.lead.overlay.addOp(op{kind: opExtend, lease: id, ttl: ttl, millis: ttl*1000 + aheadMillis(ttl)})
	return keepAliveAnswer(id, ttl, m.lead.revision)
}

// timeToLiveEvaluated answers from the overlaid state. What is in flight counts from now.
func (m *Machine) timeToLiveEvaluated(r *kv.LeaseTimeToLiveRequest) (*kv.Response, error) {
	body := &kv.LeaseTimeToLiveResponse{ID: r.ID, TTLSeconds: -1}
	if ttl, exists := m.leaseEvaluated(r.ID); exists {
		body.GrantedTTLSeconds = ttl
		if p, pending := m.lead.overlay.leases[r.ID]; pending {
			body.TTLSeconds = p.secondsLeft()
		} else {
			body.TTLSeconds = m.leases.byID[r.ID].remainingSeconds(m.lead.clockBase, m.lead.clock())
		}
		if r.Keys {
			var err error
			if body.Keys, err = m.attachedEvaluated(r.ID, "", 0); err != nil {
				return nil, err
			}
		}
	}
	return &kv.Response{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: body}, nil
}

// attachedEvaluated lists the keys of a lease in the overlaid state, in order: all (limit 0), or at least so many if there are so many. No applied one up
// to behind is the lease's in the overlaid state.
func (m *Machine) attachedEvaluated(id kv.LeaseID, behind string, limit int) ([][]byte, error) {
	if m.lead.bulkInFlight() {
		return nil, errLatched // its effects are not among those that are in flight
	}
	if m.lead.contention.attached[id] > 0 {
		return nil, errLatched // it may have more keys than are known
	}
	tally, touched := &m.lead.tally, m.lead.overlay.byLease[id]
	if limit > 0 {
		limit += len(touched) // these may be detached by now
	}
	keys, err := m.attached(id, behind, limit, tally)
	if err != nil {
		return nil, err
	}
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

// errLatched refuses what has to wait for a request that is decided beside the rounds, or for a transaction over several shards.
var errLatched = errors.New("a key is latched, or locked")

// deleteAttached deletes keys of a lease at the revision under evaluation, at least one, and up to MaxKeysPerExpiry of them and MaxExpiryBytes of
// effects. It tells whether there are more.
func (m *Machine) deleteAttached(id kv.LeaseID) (more bool, err error) {
	keys, err := m.attachedEvaluated(id, m.lead.detached[id], m.options.MaxKeysPerExpiry+1)
	if err != nil {
		return false, err
	}
	deleted, err := m.deleteIfAttached(id, keys[:min(len(keys), m.options.MaxKeysPerExpiry)])
	if err != nil {
		return false, err
	}
	if deleted == len(keys) {
		delete(m.lead.detached, id)
		return false, nil
	}
	m.lead.detached[id] = string(keys[deleted-1])
	return true, nil
}

// deleteIfAttached deletes the first of these keys, at least one, and up to MaxExpiryBytes of effects, and returns how many.
func (m *Machine) deleteIfAttached(id kv.LeaseID, keys [][]byte) (deleted int, err error) {
	size := 0
	for i, key := range keys {
		if size += len(key) + effectOverheadBytes; i > 0 && size > m.options.MaxExpiryBytes {
			return i, nil
		}
		if m.lead.latches.Conflicts(latch.Access{Span: kv.Span{Start: key}, Writes: true}) || m.lead.contention.locked(key) {
			return 0, errLatched
		}
		meta, found, err := m.lead.newest(key)
		if err != nil {
			return 0, err
		}
		if found && !meta.Deleted() && meta.Lease == id {
			if err := m.lead.remove(key, meta); err != nil {
				return 0, err
			}
		}
	}
	return len(keys), nil
}

// expire revokes leases that have run out, each at a revision of its own.
func (m *Machine) expire() error {
	if m.alarmed(kv.AlarmCorrupt) || m.alarmed(kv.AlarmFence) { // nothing is deleted then, as in etcd
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
		if end := l.end(m.lead.clockBase); end > now {
			m.leases.postpone(l, end)
			continue
		}
		if l.ending && m.leaseExists(l.id) {
			m.release(l)
			continue
		}
		if !m.expired(l) {
			m.leases.postpone(l, now+expiryRetryMillis)
			continue
		}
		if bound, ending := m.boundEvaluated(l.id); len(bound) > 0 {
			if m.leases.postpone(l, now+expiryRetryMillis); ending {
				continue
			}
			if err := m.end(l.id); errors.Is(err, errLatched) {
				m.leases.postpone(l, now+1)
				continue
			} else if err != nil {
				return err
			}
			m.metrics.ExpiredLeases++
			revoked++
			continue
		}
		deleted, _, err := m.revokeExpired(l)
		if errors.Is(err, errLatched) {
			m.leases.postpone(l, now+1)
			continue
		}
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
// MaxKeysPerExpiry or MaxExpiryBytes of them and lives on until the next tick: there are more.
func (m *Machine) revokeExpired(l *lease) (deleted int, more bool, err error) {
	before := m.lead.overlay.changes.end()
	more, err = m.deleteAttached(l.id)
	if err != nil {
		m.lead.overlay.rollback(before)
		m.lead.nextSub = 0
		return 0, false, err
	}
	deleted = int(m.lead.overlay.changes.end() - before)
	if more {
		m.endForAll(l.id)
		m.leases.postpone(l, m.lead.clock()+1)
		return deleted, true, nil
	}
	m.leases.postpone(l, m.lead.clock()+expiryRetryMillis)
	m.lead.overlay.addOp(op{kind: opRevoke, lease: l.id})
	m.metrics.ExpiredLeases++
	return deleted, false, nil
}

// endForAll has all replicas know that a lease has ended whose keys are being deleted: another leader goes by the deadline, and must not
// go on with a part of the keys.
func (m *Machine) endForAll(id kv.LeaseID) {
	ttl, _ := m.leaseEvaluated(id)
	p, pending := m.lead.overlay.leases[id]
	l := m.leases.byID[id]
	if pending && !p.ended || !pending && l.deadline > m.lead.clock() {
		m.lead.overlay.addOp(op{kind: opExtend, lease: id, ttl: ttl})
	}
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
