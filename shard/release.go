package shard

import (
	"errors"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// The share of a transaction that ends a lease with keys in several shards (kv.Share.Release, rule 37). The keys are found when it is prepared, and locked one by
// one. Until it is decided the lease gets no other key here. If it commits, the note goes in the entry in which the keys do.

// prepareRelease has the deletion of the keys of a lease logged, as they are found now, on top of all that is in flight. Without a note, or with a later one, there is
// nothing to do; the shard takes part all the same. What was asked about the lease before is void.
func (m *Machine) prepareRelease(c *kv.CommitRequest, known *record) (*kv.CommitResponse, error) {
	if known != nil {
		return &kv.CommitResponse{Standing: kv.StandingPrepared, Writes: len(known.effects) > 0}, nil
	}
	l, b := m.lead, c.Share.Release
	if _, underWay := l.contention.beside[c.ID]; underWay {
		return nil, errLatched // the same is asked twice
	}
	if err := m.mayPrepare(c.Share); err != nil {
		return nil, err
	}
	done := shareOutcome{}
	if m.toRelease(b) {
		switch err := m.findDoomed(b.Lease, &done); {
		case errors.Is(err, errLatched) && c.Patient: // beside the rounds it stands in the queue: nobody gets a lock in front of it
			return nil, errLong
		case errors.Is(err, errLatched), errors.Is(err, errLong) && !c.Patient && (l.latches.Len() > 0 || l.contention.locks.Len() > 0):
			return &kv.CommitResponse{Busy: true}, nil
		case err != nil:
			return nil, err
		}
		done.release = &kv.LeaseBinding{Lease: b.Lease, Incarnation: b.Incarnation}
	}
	return m.prepared(c, nil, done.deletions(), &done)
}

// findDoomed finds the keys of a lease, if nobody else has a lock or a latch on one of them, or may give it another. errLong: they are too many for a round.
func (m *Machine) findDoomed(id kv.LeaseID, done *shareOutcome) error {
	l := m.lead
	if l.latched[id] > 0 || l.contention.releasing[id] > 0 {
		return errLatched
	}
	list, err := m.attachedEvaluated(id, "", m.options.MaxKeysPerExpiry+1)
	if err != nil {
		return err
	}
	size := 0
	for _, key := range list {
		if l.latches.Conflicts(latch.Access{Span: kv.Span{Start: key}, Writes: true}) || l.contention.locked(key) {
			return errLatched
		}
		size += len(key) + effectOverheadBytes
	}
	if len(list) > m.options.MaxKeysPerExpiry || size > min(m.options.MaxExpiryBytes, m.options.MaxShareBytes) {
		return errLong
	}
	for i, key := range list {
		meta, found, err := l.newest(key)
		if err != nil {
			return err
		}
		if !found || meta.Deleted() || meta.Lease != id {
			continue
		}
		at := mvcc.Locator{Rev: kv.Unnumbered, Sub: uint32(i)}
		done.effects = append(done.effects, mvcc.Effect{Key: key, At: at, Prev: meta.At, PrevLive: true, PrevLease: id})
	}
	return l.tally.Add(int64(size))
}

// deletions are the locks of a share that deletes keys.
func (o *shareOutcome) deletions() []latch.Access {
	list := make([]latch.Access, len(o.effects))
	for i := range o.effects {
		list[i] = latch.Access{Span: kv.Span{Start: o.effects[i].Key}, Writes: true}
	}
	return list
}

// releaseShare finds the keys of a lease in the view. Nobody changes one of them meanwhile.
func (b *Beside) releaseShare() error {
	ev, done, size := &b.state, &b.share, 0
	binding := b.request.Commit.Share.Release
	ev.revision, ev.nextSub = kv.Unnumbered-1, 0
	err := b.eachAttached(binding.Lease, func(key []byte, meta mvcc.Meta) error {
		if size += len(key) + effectOverheadBytes; size > b.shareBytes || ev.nextSub == 1<<mvcc.PlaceBits-1 {
			return tooLarge(b.shareBytes)
		}
		e := mvcc.Effect{Key: append([]byte(nil), key...), At: ev.nextLocator(), Prev: meta.At, PrevLive: true, PrevLease: binding.Lease}
		done.effects = append(done.effects, e)
		return ev.tally.Add(int64(len(key) + effectOverheadBytes))
	})
	done.release = &kv.LeaseBinding{Lease: binding.Lease, Incarnation: binding.Incarnation}
	return err
}

// dropReleased comes with the end of a transaction that deletes the keys of a lease here: the note goes, unless it is one of a later lease with the same ID.
func (m *Machine) dropReleased(b *kv.LeaseBinding) {
	if noted := m.noteEvaluated(b.Lease); m.remote() && noted != 0 && noted <= b.Incarnation {
		m.lead.overlay.addOp(op{kind: opDrop, lease: b.Lease})
	}
}

// attaches tells whether a share gives a key to a lease whose keys are about to go.
func (c *contention) attaches(s *kv.Share) bool {
	if len(c.releasing) == 0 {
		return false
	}
	for i := range s.Ops {
		if put := s.Ops[i].Op.Put; put != nil && c.releasing[put.Lease] > 0 {
			return true
		}
	}
	return false
}
