package shard

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// The system shard's side of leases whose keys are elsewhere.

// boundEvaluated returns the shards that are registered with a lease in the overlaid state, and tells whether the lease is ending.
func (m *Machine) boundEvaluated(id kv.LeaseID) (shards []kv.ShardID, ending bool) {
	p, pending := m.lead.overlay.leases[id]
	if l := m.leases.byID[id]; l != nil && !(pending && m.lead.overlay.grants(p)) {
		shards, ending = l.shards, l.ending
	}
	if pending {
		for _, shard := range p.shards {
			shards = withShard(shards, shard)
		}
		ending = ending || p.ending
	}
	return shards, ending
}

// grants tells whether the lease is granted by an op in flight.
func (o *overlay) grants(p pendingLease) bool { return p.granted > o.ops.start }

// mayAttach tells why a key cannot have the lease, in the overlaid state; nil if it can.
func (m *Machine) mayAttach(id kv.LeaseID) error {
	if m.remote() {
		if m.lead.contention.releasing[id] > 0 { // the note may be about to go
			return errLatched
		}
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
	if _, ending := m.boundEvaluated(id); ending {
		return m.lead.await(id, false)
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
	if ending {
		return nil, m.lead.await(b.Lease, false)
	}
	if !slices.Contains(bound, b.Shard) {
		if len(bound) >= maxParticipants-1 {
			return nil, fmt.Errorf("lease %x has keys in %d shards: %w", int64(b.Lease), len(bound), kv.ErrTooManyRequests)
		}
		m.lead.overlay.addOp(op{kind: opRegister, lease: b.Lease, ttl: ttl, shard: b.Shard})
	}
	binding := kv.LeaseBinding{Lease: b.Lease, Incarnation: m.leases.byID[b.Lease].incarnation, Shard: b.Shard}
	return &kv.Response{Kind: kv.KindLeaseAttach, LeaseTimeToLive: &kv.LeaseTimeToLiveResponse{ID: b.Lease, Binding: &binding}}, nil
}

// end logs that a lease ends of which other shards may have keys, and whether this one has. Whoever asks about it from now on waits until they are deleted (rules
// 37, 38). errLatched: a transaction over several shards that is not decided attaches a key here.
func (m *Machine) end(id kv.LeaseID) error {
	here, err := m.attachedEvaluated(id, "", 1)
	if err != nil {
		return err
	}
	ttl, _ := m.leaseEvaluated(id)
	if len(here) > 0 {
		m.lead.overlay.addOp(op{kind: opRegister, lease: id, ttl: ttl, shard: m.options.Shard})
	}
	m.lead.overlay.addOp(op{kind: opEnd, lease: id, ttl: ttl})
	return nil
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

// release asks for the end of the keys of a lease that is ending, as committed, and looks at it again later: sooner if too much is asked. The keys of one shard
// are that shard's business; those of several go in a transaction over all of them, unless they are too many for one.
func (m *Machine) release(l *lease) {
	kind, binding := kv.KindLeaseRelease, kv.LeaseBinding{Lease: l.id, Incarnation: l.incarnation}
	at, pieces := m.lead.asking.pieces[l.id]
	switch {
	case pieces:
		binding.Shard = l.shards[at]
	case len(l.shards) > 1:
		kind, binding.Shards = kv.KindLeaseEnd, l.shards
	default:
		binding.Shard = l.shards[0]
	}
	if m.lead.asking.ofShard[binding.Shard] >= mostAsked(kind) {
		m.leases.postpone(l, m.lead.clock()+expiryRetryMillis/10)
		return
	}
	m.ask(kind, binding)
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
		binding := &kv.LeaseBinding{Lease: r.ID, Incarnation: l.incarnation, Shard: m.options.Shard}
		if bound, _ := m.boundEvaluated(r.ID); len(bound) > 0 { // this one may have keys, too
			binding.Shard, binding.Shards = 0, withShard(bound, m.options.Shard)
		}
		answer.LeaseTimeToLive.Binding = binding
	}
	return answer, nil
}

// appendBinding writes what the row of a lease has with several shards:
//
//	uvarint incarnation
//	uvarint the first of the shards that are registered; 0: there is none
//	byte    bindingEnding, bindingMore: there are more shards, or 0
//	        if there are more: uvarint how many, and each of them, ascending
//
// So a lease of one shard has the row that it had when there were no others.
func (l *lease) appendBinding(buf []byte) []byte {
	buf = binary.AppendUvarint(buf, l.incarnation)
	first, more := kv.ShardID(0), []kv.ShardID(nil)
	if len(l.shards) > 0 {
		first, more = l.shards[0], l.shards[1:]
	}
	flags := byte(0)
	if l.ending {
		flags |= bindingEnding
	}
	if len(more) > 0 {
		flags |= bindingMore
	}
	buf = append(binary.AppendUvarint(buf, uint64(first)), flags)
	if len(more) > 0 {
		buf = appendParticipants(buf, more)
	}
	return buf
}

const (
	bindingEnding = 1 << iota
	bindingMore
)

func (d *decoder) binding(l *lease) {
	l.incarnation = d.uvarint()
	first := kv.ShardID(d.uvarint())
	flags := d.byte()
	l.ending = flags&bindingEnding != 0
	if first != 0 {
		l.shards = []kv.ShardID{first}
	}
	if flags&bindingMore != 0 {
		more := d.participants()
		if len(more) == 0 || first == 0 || more[0] <= first {
			d.fail("shards of a lease that are not in order")
		}
		l.shards = append(l.shards, more...)
	}
	if flags&^(bindingEnding|bindingMore) != 0 || l.ending && first == 0 {
		d.fail("a lease row that makes no sense")
	}
}
