package shard

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Restoration fills a machine that was just bootstrapped with what a backup has. It writes as the application of entries does, and nobody else uses the machine
// meanwhile. The caller applies the batches, in order, before it flushes (Freeze, FlushChunk, FlushDone), which it does now and then, and at the end.
type Restoration struct {
	machine *Machine
	held    map[kv.LeaseID]int64 // how many keys each lease has
}

// BeginRestoration begins with an empty store, right after Bootstrap.
func (m *Machine) BeginRestoration() (*Restoration, error) {
	if m.applied.Index == 0 || m.applied.Revision != 1 || m.lead != nil || m.changed {
		return nil, fmt.Errorf("restore shard %d: it is not as it was founded: %w", m.options.Shard, ErrInconsistent)
	}
	return &Restoration{machine: m, held: make(map[kv.LeaseID]int64)}, nil
}

// Apply adds a version, a deletion if version is 0. Versions come in the order of their locators. What was before the oldest version of a key is forgotten. fresh:
// it is that one.
func (r *Restoration) Apply(row *kv.KeyValue, at mvcc.Locator, fresh bool, b storage.Batch) (err error) {
	m := r.machine
	var before mvcc.Meta
	if !fresh {
		if before, _, err = m.store.Meta(row.Key); err != nil {
			return fmt.Errorf("restore key %q: %w", row.Key, err)
		}
	}
	e := mvcc.Effect{Key: row.Key, Value: row.Value, At: at, Create: row.CreateRevision, Version: row.Version, Lease: row.Lease,
		Prev: before.At, PrevLive: before.Version != 0, PrevLease: before.Lease}
	if at.Rev < m.applied.Revision || !before.At.Less(at) || at.Rev > maxRevision {
		return fmt.Errorf("restore key %q: its version at revision %d comes after revision %d: %w", row.Key, at.Rev, m.applied.Revision, ErrMalformed)
	}
	m.store.Apply(b, []mvcc.Effect{e}, at.Rev)
	m.applied.Revision = at.Rev
	m.attach(&e, b)
	m.changed = true
	r.count(e.PrevLease, -1)
	r.count(e.Lease, 1)
	return nil
}

func (r *Restoration) count(id kv.LeaseID, keys int64) {
	if id == 0 {
		return
	}
	if r.held[id] += keys; r.held[id] == 0 {
		delete(r.held, id)
	}
}

// Held are the leases that keys have, and how many each.
func (r *Restoration) Held() map[kv.LeaseID]int64 { return r.held }

// Grant adds a lease with its whole TTL, to the system shard. keysIn are the shards that have keys of it, which are registered with it; each of the others
// notes it (Note).
func (r *Restoration) Grant(id kv.LeaseID, ttlSeconds int64, keysIn []kv.ShardID) {
	m := r.machine
	m.changed = true
	m.leases.grant(id, ttlSeconds, deadlineAfter(m.applied.LeaseClock, ttlSeconds), r.incarnation())
	for _, in := range keysIn {
		if in != m.options.Shard {
			m.leases.register(id, in)
		}
	}
}

// Note says in a shard beside the system shard that keys of a lease are here.
func (r *Restoration) Note(id kv.LeaseID) {
	r.machine.changed = true
	r.machine.leases.note(id, r.incarnation())
}

// incarnation is that of all restored leases: the entry that the state is as of, which is the same one in all shards. A lease that is granted later has a
// later one.
func (r *Restoration) incarnation() uint64 { return uint64(r.machine.applied.Index) }

// Finish brings the shard to the revision of the store, and compacts its history (0: it is whole).
func (r *Restoration) Finish(revision, compacted kv.Revision, b storage.Batch) error {
	m := r.machine
	if revision < m.applied.Revision || compacted > revision || revision > maxRevision {
		return fmt.Errorf("restore shard %d: revision %d, compacted at %d, with versions up to %d: %w",
			m.options.Shard, revision, compacted, m.applied.Revision, ErrMalformed)
	}
	m.store.Advance(revision)
	m.applied.Revision = revision
	if compacted > 0 {
		m.store.SetCompacted(b, compacted)
		m.applied.Compacted = compacted
	}
	if m.applied.Limit != 0 {
		m.applied.Limit = revision
	}
	m.changed = true
	return nil
}
