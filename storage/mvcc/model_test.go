package mvcc

import (
	"bytes"
	"cmp"
	"slices"
	"sort"

	"github.com/quoratedb/quorate/kv"
)

// model is the stupid twin of a Store: every version of every key, in a list, and
// every question answered by looking at all of them. It never forgets; who asks says what
// the revision and the compacted revision are.
type model struct{ versions map[string][]logged }

// logged is an effect and which entry of the log it is in.
type logged struct {
	Effect
	entry int
}

// moment is the state a question is asked at: so many entries of the log are applied. Up to the closed revision nothing is to come.
type moment struct {
	applied                     int
	revision, compacted, closed kv.Revision
}

func (m *model) apply(effects []Effect, entry int) {
	for _, e := range effects {
		m.versions[string(e.Key)] = append(m.versions[string(e.Key)], logged{e, entry})
	}
}

// at returns the version of the key that is current at a revision, a tombstone included.
func (m *model) at(now moment, key string, at kv.Revision) (Effect, bool) {
	var found Effect
	ok := false
	for _, e := range m.versions[key] {
		if e.At.Rev <= at && e.entry < now.applied {
			found, ok = e.Effect, true
		}
	}
	return found, ok
}

func (m *model) keys() []string {
	var keys []string
	for key := range m.versions {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

func (m *model) live(now moment, span kv.Span, at kv.Revision) []kv.KeyValue {
	var kvs []kv.KeyValue
	for _, key := range m.keys() {
		if e, ok := m.at(now, key, at); ok && e.Version > 0 && span.Contains([]byte(key)) {
			kvs = append(kvs, keyValueOf(e))
		}
	}
	return kvs
}

func keyValueOf(e Effect) kv.KeyValue {
	return kv.KeyValue{Key: e.Key, Value: e.Value, CreateRevision: e.Create, ModRevision: e.At.Rev, Version: e.Version, Lease: e.Lease}
}

func (m *model) check(now moment, at kv.Revision) (kv.Revision, error) {
	if at <= 0 {
		return now.revision, nil
	}
	if at > now.revision {
		return 0, kv.ErrFutureRevision
	}
	if at < now.compacted {
		return 0, kv.ErrCompacted
	}
	return at, nil
}

// rangeOf follows etcd's code step by step: fetch by key up to the limit and one more unless all are needed,
// filter, sort, cut.
func (m *model) rangeOf(now moment, q *kv.RangeRequest) (*kv.RangeResponse, error) {
	at, err := m.check(now, q.Revision)
	if err != nil {
		return nil, err
	}
	kvs := m.live(now, q.Span, at)
	response := &kv.RangeResponse{Count: int64(len(kvs))}
	if q.CountOnly {
		return response, nil
	}
	byKeyAscending := q.SortOrder == kv.SortNone || q.SortOrder == kv.SortAscend && q.SortTarget == kv.SortByKey
	filters := q.MinMod != 0 || q.MaxMod != 0 || q.MinCreate != 0 || q.MaxCreate != 0
	if q.Limit > 0 && byKeyAscending && !filters && int64(len(kvs)) > q.Limit+1 {
		kvs = kvs[:q.Limit+1]
	}
	kvs = slices.DeleteFunc(kvs, func(k kv.KeyValue) bool {
		return q.MaxMod != 0 && k.ModRevision > q.MaxMod || q.MinMod != 0 && k.ModRevision < q.MinMod ||
			q.MaxCreate != 0 && k.CreateRevision > q.MaxCreate || q.MinCreate != 0 && k.CreateRevision < q.MinCreate
	})
	slices.SortStableFunc(kvs, func(a, b kv.KeyValue) int {
		if q.SortOrder == kv.SortDescend {
			a, b = b, a
		}
		return modelCompare(q.SortTarget, a, b)
	})
	if q.Limit > 0 && int64(len(kvs)) > q.Limit {
		kvs, response.More = kvs[:q.Limit], true
	}
	for i := range kvs {
		if q.KeysOnly {
			kvs[i].Value = nil
		}
	}
	response.KVs = kvs
	return response, nil
}

func modelCompare(target kv.SortTarget, a, b kv.KeyValue) int {
	switch target {
	case kv.SortByVersion:
		return cmp.Compare(a.Version, b.Version)
	case kv.SortByCreate:
		return cmp.Compare(a.CreateRevision, b.CreateRevision)
	case kv.SortByMod:
		return cmp.Compare(a.ModRevision, b.ModRevision)
	case kv.SortByValue:
		return bytes.Compare(a.Value, b.Value)
	}
	return bytes.Compare(a.Key, b.Key)
}

// history returns all changes of an interval of revisions, in order.
func (m *model) history(from, to kv.Revision) []Effect {
	var found []Effect
	for _, versions := range m.versions {
		for _, e := range versions {
			if e.At.Rev >= from && e.At.Rev <= to {
				found = append(found, e.Effect)
			}
		}
	}
	slices.SortFunc(found, func(a, b Effect) int {
		if a.At.Less(b.At) {
			return -1
		}
		return 1
	})
	return found
}

// hash adds up the versions after the compacted revision and those live at it.
func (m *model) hash(now moment, at kv.Revision) uint32 {
	h, sum := hasher{}, uint64(0)
	for key, versions := range m.versions {
		current, ok := m.at(now, key, now.compacted)
		for _, e := range versions {
			keep := e.At.Rev > now.compacted || ok && e.At == current.At && e.Version > 0
			if keep && e.At.Rev <= at {
				sum += h.meta(&version{at: e.At, create: e.Create, number: e.Version, lease: e.Lease, key: e.Key}) + h.value(e.At, e.Value)
			}
		}
	}
	return uint32(sum ^ sum>>32)
}
