package shard

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// The system shard's side of leases whose keys are elsewhere.

// boundEvaluated tells which shard is registered with a lease in the overlaid state, 0 if none is, and whether the lease is ending.
func (m *Machine) boundEvaluated(id kv.LeaseID) (to kv.ShardID, ending bool) {
	p, pending := m.lead.overlay.leases[id]
	if l := m.leases.byID[id]; l != nil && !(pending && m.lead.overlay.grants(p)) {
		to, ending = l.shard, l.ending
	}
	if pending {
		to, ending = max(to, p.shard), ending || p.ending
	}
	return to, ending
}

// grants tells whether the lease is granted by an op in flight.
func (o *overlay) grants(p pendingLease) bool { return p.granted > o.ops.start }

// ofShards refuses keys of a second shard.
func ofShards(id kv.LeaseID, has, wanted kv.ShardID) error {
	return fmt.Errorf("lease %x has keys in shard %d, and can have none in shard %d: %w", int64(id), has, wanted, kv.ErrLeaseShards)
}

// mayAttach tells why a key cannot have the lease, in the overlaid state; nil if it can.
func (m *Machine) mayAttach(id kv.LeaseID) error {
	if m.remote() {
		if m.noteEvaluated(id) == 0 {
			return m.lead.await(id, false)
		}
		return nil
	}
	if !m.leaseExists(id) {
		return kv.ErrLeaseNotFound
	}
	if !m.options.Sequenced {
		return nil
	}
	if bound, _ := m.boundEvaluated(id); bound != 0 {
		return ofShards(id, bound, m.options.Shard)
	}
	return nil
}

// attachRequest registers a shard with a lease, before the shard has the first of its keys (rule 36). The answer is the incarnation of the lease.
func (m *Machine) attachRequest(b *kv.LeaseBinding) (*kv.Response, error) {
	ttl, exists := m.leaseEvaluated(b.Lease)
	p, pending := m.lead.overlay.leases[b.Lease]
	if !exists || pending && m.lead.overlay.grants(p) { // nobody was told of a grant that is in flight
		return nil, kv.ErrLeaseNotFound
	}
	bound, ending := m.boundEvaluated(b.Lease)
	switch {
	case ending:
		return nil, m.lead.await(b.Lease, false)
	case bound == 0:
		here, err := m.attachedEvaluated(b.Lease, "", 1)
		if err != nil {
			return nil, err
		}
		if len(here) > 0 {
			return nil, ofShards(b.Lease, m.options.Shard, b.Shard)
		}
		m.lead.overlay.addOp(op{kind: opRegister, lease: b.Lease, ttl: ttl, shard: b.Shard})
	case bound != b.Shard:
		return nil, ofShards(b.Lease, bound, b.Shard)
	}
	binding := kv.LeaseBinding{Lease: b.Lease, Incarnation: m.leases.byID[b.Lease].incarnation, Shard: b.Shard}
	return &kv.Response{Kind: kv.KindLeaseAttach, LeaseTimeToLive: &kv.LeaseTimeToLiveResponse{ID: b.Lease, Binding: &binding}}, nil
}

// end logs that a lease ends whose keys are in another shard. Whoever asks about it from now on waits until they are deleted (rules 37, 38).
func (m *Machine) end(id kv.LeaseID) {
	ttl, _ := m.leaseEvaluated(id)
	m.lead.overlay.addOp(op{kind: opEnd, lease: id, ttl: ttl})
}

// applyEnd is the end of a lease in the log. Its leader, and every later one, asks for the end of its keys.
func (m *Machine) applyEnd(id kv.LeaseID) {
	l := m.leases.byID[id]
	if l == nil {
		return
	}
	l.ending = true
	l.deadline = min(l.deadline, m.applied.LeaseClock)
	l.promised = min(l.promised, l.deadline)
	m.leases.dirty[id] = struct{}{}
	m.leases.postpone(l, l.promised)
	if m.lead != nil {
		m.release(l)
	}
}

// release asks for the end of the keys of a lease that is ending, as committed, and looks at it again later: sooner if too much is asked.
func (m *Machine) release(l *lease) {
	if m.lead.asking.ofShard[l.shard] >= maxReleases {
		m.leases.postpone(l, m.lead.clock()+expiryRetryMillis/10)
		return
	}
	m.ask(kv.KindLeaseRelease, kv.LeaseBinding{Lease: l.id, Incarnation: l.incarnation, Shard: l.shard})
	m.leases.postpone(l, m.lead.clock()+expiryRetryMillis)
}

// whereabouts answers a question about a lease in a store of several shards. Its keys are asked for elsewhere.
func (m *Machine) whereabouts(r *kv.LeaseTimeToLiveRequest) (*kv.Response, error) {
	if _, ending := m.boundEvaluated(r.ID); ending && m.leaseExists(r.ID) {
		return nil, m.lead.await(r.ID, false)
	}
	answer, err := m.timeToLiveEvaluated(&kv.LeaseTimeToLiveRequest{ID: r.ID})
	if err != nil || answer.LeaseTimeToLive.TTLSeconds < 0 {
		return answer, err
	}
	p, pending := m.lead.overlay.leases[r.ID]
	if l := m.leases.byID[r.ID]; l != nil && !(pending && m.lead.overlay.grants(p)) {
		bound, _ := m.boundEvaluated(r.ID)
		if bound == 0 {
			bound = m.options.Shard
		}
		answer.LeaseTimeToLive.Binding = &kv.LeaseBinding{Lease: r.ID, Incarnation: l.incarnation, Shard: bound}
	}
	return answer, nil
}

// appendBinding writes what the row of a lease has with several shards: incarnation, shard, and 1 if it is ending.
func (l *lease) appendBinding(buf []byte) []byte {
	buf = binary.AppendUvarint(binary.AppendUvarint(buf, l.incarnation), uint64(l.shard))
	if l.ending {
		return append(buf, 1)
	}
	return append(buf, 0)
}

func (d *decoder) binding(l *lease) {
	l.incarnation, l.shard, l.ending = d.uvarint(), kv.ShardID(d.uvarint()), d.byte() == 1
}
