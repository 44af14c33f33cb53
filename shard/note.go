package shard

import (
	"errors"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
	"github.com/quoratedb/quorate/storage/keys"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// The keys' side of leases whose records are in the system shard. A note in the log says which incarnation of a lease is registered. Invariant: a key has a
// lease only if there is a note of it, and then it is the lease of that incarnation.

// pendingNote is what the ops in flight make of a note.
type pendingNote struct {
	last        int64  // position of the last op about it
	incarnation uint64 // 0: dropped
}

// noteEvaluated returns the incarnation of a lease that is registered in the overlaid state; 0: none is.
func (m *Machine) noteEvaluated(id kv.LeaseID) uint64 {
	if p, pending := m.lead.overlay.notes[id]; pending {
		return p.incarnation
	}
	return m.leases.notes[id]
}

// releaseRequest deletes all keys of a lease that ends, at one revision, and drops the note (rule 37). A registration under way becomes void. A lease with many
// keys takes long: then it is latched.
func (m *Machine) releaseRequest(b *kv.LeaseBinding) (*kv.Response, error) {
	done := &kv.Response{Kind: kv.KindLeaseRelease}
	if !m.toRelease(b) {
		return done, nil
	}
	list, err := m.attachedEvaluated(b.Lease, "", m.options.MaxKeysPerExpiry+1)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, key := range list {
		size += len(key) + effectOverheadBytes
	}
	if len(list) > m.options.MaxKeysPerExpiry || size > m.options.MaxExpiryBytes {
		return nil, errLong
	}
	if m.lead.latches.Len() > 0 && m.lead.latches.Conflicts(latch.Access{Span: kv.Everything(), Writes: true}) {
		for _, key := range list {
			if m.lead.latches.Conflicts(latch.Access{Span: kv.Span{Start: key}, Writes: true}) {
				return nil, errLatched
			}
		}
	}
	if _, err := m.deleteIfAttached(b.Lease, list); err != nil {
		return nil, err
	}
	if m.remote() {
		m.lead.overlay.addOp(op{kind: opDrop, lease: b.Lease})
	}
	return done, nil
}

// toRelease tells whether there is anything to be done for the end of an incarnation of a lease. What was asked about it before is void.
func (m *Machine) toRelease(b *kv.LeaseBinding) bool {
	if m.remote() {
		m.lead.asking.end(b.Lease)
		noted := m.noteEvaluated(b.Lease)
		return noted != 0 && noted <= b.Incarnation
	}
	l := m.leases.byID[b.Lease]
	return l != nil && l.incarnation == b.Incarnation && l.ending
}

// stillKnown tells whether the lease of a request for its keys is that one still, or for the request for its end whether there is anything to be ended.
func (m *Machine) stillKnown(b *Beside) bool {
	known, wanted := m.incarnationEvaluated(b.request.LeaseBinding.Lease), b.request.LeaseBinding.Incarnation
	return known == wanted || b.releases() && known != 0 && known < wanted
}

// ofLease tells whether the request is about the keys of a lease, whichever they are.
func ofLease(r *kv.Request) bool {
	return r.Kind == kv.KindLeaseRelease || r.Kind == kv.KindLeaseKeys
}

// lease returns whose keys a request is about, whichever they are; nil: it names its keys.
func (b *Beside) lease() *kv.LeaseBinding {
	switch r := b.request; {
	case ofLease(r):
		return r.LeaseBinding
	case r.Kind == kv.KindTxnPrepare:
		return r.Commit.Share.Release
	}
	return nil
}

// releases tells whether the request ends the keys of a lease.
func (b *Beside) releases() bool { return b.request.Kind == kv.KindLeaseRelease }

// latchLease begins a request for all keys of a lease, whichever they are. Until unlatch nobody changes one of them, or attaches another. Who reads them need
// not wait, and who changes other keys: a latch on all keys of the shard holds back only what is decided beside the rounds, too.
func (l *leadership) latchLease(b *kv.LeaseBinding, writes bool) latch.ID {
	if l.latched == nil {
		l.latched = make(map[kv.LeaseID]int)
	}
	l.latched[b.Lease]++
	return l.latches.AddOpen([]latch.Access{{Span: kv.Everything(), Writes: writes}})
}

// unlatch gives back the latches of a request.
func (l *leadership) unlatch(b *Beside) error {
	if of := b.lease(); of != nil {
		id := of.Lease
		if l.latched[id]--; l.latched[id] == 0 {
			delete(l.latched, id)
		}
	}
	l.contention.all = true
	return l.latches.Remove(b.latches)
}

// errFull ends the look at the keys of a lease.
var errFull = errors.New("no more fit into one revision")

// release encodes the end of all keys of a lease as it finds them, or of the first ones if there is no room for all. Nobody changes one of them meanwhile.
func (b *Beside) release(id kv.LeaseID) (*kv.Response, error) {
	w, ev := bulkWriter{maxBytes: b.partBytes}, &b.state
	size := 0
	err := b.eachAttached(id, func(key []byte, meta mvcc.Meta) error {
		if size += len(key) + effectOverheadBytes; size > ev.maxEffectBytes && w.effects > 0 {
			return errFull
		}
		if err := ev.tally.Add(int64(len(key) + effectOverheadBytes)); errors.Is(err, kv.ErrTooManyRequests) && w.effects > 0 {
			return errFull
		} else if err != nil {
			return err
		}
		w.add(&mvcc.Effect{Key: key, At: ev.nextLocator(), Prev: meta.At, PrevLive: true, PrevLease: id})
		return nil
	})
	if b.more = errors.Is(err, errFull); err != nil && !b.more {
		return nil, err
	}
	b.parts, b.effects = w.parts, w.effects > 0
	return &kv.Response{Kind: kv.KindLeaseRelease}, nil
}

// dropNote comes with the effects of a request that ends the last keys of a lease.
func (m *Machine) dropNote(b *Beside) {
	if b.releases() && !b.more && m.remote() {
		m.lead.overlay.addOp(op{kind: opDrop, lease: b.request.LeaseBinding.Lease})
	}
}

// keysRequest lists the keys of a lease in the shard that has them, as of the revision of the answer. Without a binding in the answer the lease is not known
// here, and has no keys here, or its keys are being deleted. Many keys are listed beside the rounds.
func (m *Machine) keysRequest(b *kv.LeaseBinding) (*kv.Response, error) {
	answer := &kv.LeaseTimeToLiveResponse{ID: b.Lease}
	response := &kv.Response{Kind: kv.KindLeaseKeys, LeaseTimeToLive: answer}
	if m.incarnationEvaluated(b.Lease) != b.Incarnation {
		return response, nil
	}
	if _, ending := m.boundEvaluated(b.Lease); ending && !m.remote() { // they may be gone here, and others told elsewhere
		return response, nil
	}
	list, err := m.attachedEvaluated(b.Lease, "", m.options.MaxKeysPerExpiry+1)
	if err != nil {
		return nil, err
	}
	if len(list) > m.options.MaxKeysPerExpiry {
		return nil, errLong
	}
	for _, key := range list { // one may be about to go
		if m.lead.contention.locks.Conflicts(latch.Access{Span: kv.Span{Start: key}}) {
			return nil, errLatched
		}
	}
	answer.Binding, answer.Keys = b, list
	return response, nil
}

// incarnationEvaluated returns which incarnation of a lease the shard knows in the overlaid state; 0: none.
func (m *Machine) incarnationEvaluated(id kv.LeaseID) uint64 {
	if m.remote() {
		return m.noteEvaluated(id)
	}
	if l := m.leases.byID[id]; l != nil && m.leaseExists(id) {
		return l.incarnation
	}
	return 0
}

// list lists the keys of a lease. Nobody changes one of them meanwhile.
func (b *Beside) list(binding *kv.LeaseBinding) (*kv.Response, error) {
	answer := &kv.LeaseTimeToLiveResponse{ID: binding.Lease, Binding: binding}
	err := b.eachAttached(binding.Lease, func(key []byte, _ mvcc.Meta) error {
		answer.Keys = append(answer.Keys, slices.Clone(key))
		return b.state.tally.Add(attachedBytes + int64(len(key)))
	})
	return &kv.Response{Kind: kv.KindLeaseKeys, LeaseTimeToLive: answer}, err
}

// eachAttached calls fn with the keys of a lease in the view, in order. The key is valid only during the call.
func (b *Beside) eachAttached(id kv.LeaseID, fn func(key []byte, meta mvcc.Meta) error) error {
	lower, upper := keys.Attachments(b.rows.Home, id)
	return eachRow(b.engine, lower, upper, func(row, _ []byte) error {
		key := keys.AttachedKey(row)
		if !b.rows.Has(key) {
			return nil
		}
		if err := b.state.tally.Look(1); err != nil {
			return err
		}
		meta, found, err := b.state.base.Meta(key)
		if err != nil || !found || meta.Deleted() || meta.Lease != id {
			return err // the row is one that a bulk has still to take away
		}
		return fn(key, meta)
	})
}
