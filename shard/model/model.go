// Package model is etcd as a sequential program: every request takes effect at once, every version of every
// key is kept in one list, nothing is clever. It is what the store is compared with: by the tests of
// package shard, by the simulator, and by checkers of recorded histories.
//
// The meaning is that of etcd 3.7.3 (server/etcdserver/txn, apply, lease), read from its source and compared
// with it. Where Quorate differs on purpose, the model follows Quorate, and says so.
package model

import (
	"fmt"
	"slices"
	"sort"

	"github.com/quoratedb/quorate/kv"
)

// Version is one row of the history.
type Version struct {
	Key, Value []byte
	Rev        kv.Revision
	Sub        int
	Create     kv.Revision
	Number     int64 // 0: a tombstone
	Lease      kv.LeaseID
}

func (v *Version) keyValue() kv.KeyValue {
	return kv.KeyValue{Key: v.Key, Value: v.Value, CreateRevision: v.Create, ModRevision: v.Rev, Version: v.Number, Lease: v.Lease}
}

// Lease is a lease. Expiry is not decided here: whoever drives the model applies a revoke.
type Lease struct {
	ID         kv.LeaseID
	TTLSeconds int64
}

// Store is the state. The zero value is not usable; see New.
type Store struct {
	MinLeaseTTLSeconds int64
	// ChooseLeaseID names a lease that is granted without an ID.
	ChooseLeaseID func() kv.LeaseID
	// AnyLease: a put may name a lease that does not exist. Whoever drives the model judges that.
	AnyLease bool

	index     *index    // of history; nil: to be made
	history   []Version // by revision and sub-number
	revision  kv.Revision
	compacted kv.Revision
	leases    map[kv.LeaseID]Lease
	alarms    map[kv.Alarm]bool
	nodes     map[kv.NodeID]kv.NodeRecord
}

// New returns an empty store, at revision 1.
func New() *Store {
	return &Store{
		MinLeaseTTLSeconds: 1,
		ChooseLeaseID:      func() kv.LeaseID { panic("model: a lease without an ID needs ChooseLeaseID") },
		revision:           1,
		leases:             map[kv.LeaseID]Lease{},
		alarms:             map[kv.Alarm]bool{},
		nodes:              map[kv.NodeID]kv.NodeRecord{},
	}
}

// Advance leaves revisions out up to one that is not below the current: others of several shards have them.
func (s *Store) Advance(to kv.Revision) { s.revision = max(s.revision, to) }

// CompactTo is a compaction that took effect in another of several shards. It may go less far than that of the store.
func (s *Store) CompactTo(at kv.Revision) { s.compacted = max(s.compacted, at) }

// Revision is the current revision.
func (s *Store) Revision() kv.Revision { return s.revision }

// Compacted is the compacted revision; 0 if there was no compaction.
func (s *Store) Compacted() kv.Revision { return s.compacted }

// Leases lists the leases, by ID.
func (s *Store) Leases() []Lease {
	list := make([]Lease, 0, len(s.leases))
	for _, l := range s.leases {
		list = append(list, l)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list
}

// Clone returns an independent copy.
func (s *Store) Clone() *Store {
	c := *s
	c.history, c.index = slices.Clone(s.history), nil
	c.leases, c.alarms, c.nodes = map[kv.LeaseID]Lease{}, map[kv.Alarm]bool{}, map[kv.NodeID]kv.NodeRecord{}
	for id, l := range s.leases {
		c.leases[id] = l
	}
	for a := range s.alarms {
		c.alarms[a] = true
	}
	for id, n := range s.nodes {
		c.nodes[id] = n
	}
	return &c
}

// Apply lets a valid request take effect and answers it. A request that fails changes nothing.
func (s *Store) Apply(r *kv.Request) (*kv.Response, error) {
	if err := s.refusedByAlarm(r); err != nil {
		return nil, err
	}
	t := &transaction{store: s, from: len(s.history)}
	response, err := t.apply(r)
	if err != nil {
		s.truncate(t.from)
		return nil, err
	}
	if t.wrote() {
		s.revision++
	}
	response.Kind = r.Kind
	if response.Revision == 0 {
		response.Revision = s.revision
	}
	return response, nil
}

// Try answers a range, put, deletion or transaction as Apply would, with the versions that it would write, and
// changes nothing.
func (s *Store) Try(r *kv.Request) (*kv.Response, []Version, error) {
	from, revision := len(s.history), s.revision
	response, err := s.Apply(r)
	if err != nil {
		return nil, nil, err
	}
	var written []Version
	if len(s.history) > from {
		written = slices.Clone(s.history[from:])
		s.truncate(from)
		s.revision = revision
	}
	return response, written, nil
}

// At returns the live version of a key at a revision.
func (s *Store) At(key []byte, at kv.Revision) (kv.KeyValue, bool) {
	if v := s.find(key, at); v != nil {
		return v.keyValue(), true
	}
	return kv.KeyValue{}, false
}

// Events lists what happened in a span in the revisions from..to, both included, with the version before each
// change. A checker compares a watch with it.
func (s *Store) Events(span kv.Span, from, to kv.Revision) []kv.Event {
	var events []kv.Event
	for i := range s.history {
		v := &s.history[i]
		if v.Rev < from || v.Rev > to || !span.Contains(v.Key) {
			continue
		}
		e := v.Event()
		places := s.indexed().places[string(v.Key)]
		if at, _ := slices.BinarySearch(places, i); at > 0 {
			if previous := &s.history[places[at-1]]; previous.Number > 0 {
				before := previous.keyValue()
				e.Prev = &before
			}
		}
		events = append(events, e)
	}
	return events
}

// Event is the change that made the version, without what was before.
func (v *Version) Event() kv.Event {
	if v.Number == 0 {
		return kv.Event{Type: kv.EventDelete, KV: kv.KeyValue{Key: v.Key, ModRevision: v.Rev}}
	}
	return kv.Event{Type: kv.EventPut, KV: v.keyValue()}
}

// History returns every version, whether compacted or not.
func (s *Store) History() []Version { return s.history }

// find returns the live version of a key at a revision, or nil.
func (s *Store) find(key []byte, at kv.Revision) *Version {
	return s.newest(s.indexed().places[string(key)], at)
}

// live lists the live versions in a span at a revision, by key.
func (s *Store) live(span kv.Span, at kv.Revision) []kv.KeyValue {
	var list []kv.KeyValue
	s.indexed().each(span, func(places []int) {
		if v := s.newest(places, at); v != nil {
			list = append(list, v.keyValue())
		}
	})
	return list
}

// attached lists the keys of a lease, in order.
func (s *Store) attached(id kv.LeaseID) [][]byte {
	var keys [][]byte
	for _, e := range s.live(kv.Everything(), s.revision) {
		if e.Lease == id {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

func (s *Store) activeAlarms(t kv.AlarmType) []kv.Alarm {
	list := []kv.Alarm{}
	for a := range s.alarms {
		if t == kv.AlarmNone && a.Type != kv.AlarmFence || a.Type == t {
			list = append(list, a)
		}
	}
	sort.Slice(list, func(i, j int) bool {
		return fmt.Sprint(list[i].Type, list[i].Node) < fmt.Sprint(list[j].Type, list[j].Node)
	})
	return list
}

// refusedByAlarm is what etcd refuses under an alarm. etcd overlooks puts in nested transactions under
// NOSPACE; Quorate does not.
func (s *Store) refusedByAlarm(r *kv.Request) error {
	if len(s.alarms) == 0 {
		return nil
	}
	corrupt, noSpace := len(s.activeAlarms(kv.AlarmCorrupt)) > 0, len(s.activeAlarms(kv.AlarmNoSpace)) > 0
	fenced := len(s.activeAlarms(kv.AlarmFence)) > 0 && r.Kind != kv.KindCompact
	write, grows := false, false
	switch r.Kind {
	case kv.KindPut, kv.KindLeaseGrant:
		write, grows = true, true
	case kv.KindTxn:
		write, grows = !readOnly(r.Txn), hasPut(r.Txn)
	case kv.KindDeleteRange, kv.KindCompact, kv.KindLeaseRevoke:
		write = true
	}
	switch {
	case corrupt && write:
		return kv.ErrCorrupt
	case fenced && write:
		return kv.ErrFenced
	case noSpace && grows:
		return kv.ErrNoSpace
	}
	return nil
}

func readOnly(t *kv.TxnRequest) bool {
	for _, o := range append(slices.Clone(t.Success), t.Failure...) {
		if o.Range == nil && (o.Txn == nil || !readOnly(o.Txn)) {
			return false
		}
	}
	return true
}

func hasPut(t *kv.TxnRequest) bool {
	for _, o := range append(slices.Clone(t.Success), t.Failure...) {
		if o.Put != nil || o.Txn != nil && hasPut(o.Txn) {
			return true
		}
	}
	return false
}
