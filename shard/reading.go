package shard

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// reading is a state that compares and ranges are evaluated on. What it returns is in its tally.
type reading interface {
	// now is the revision of the state, compactedAt the lowest one that can be read.
	now() kv.Revision
	compactedAt() kv.Revision
	// get returns the newest version; its value may be missing unless asked for.
	get(key []byte, value bool) (kv.KeyValue, bool, error)
	// each gives the live keys of a span to fn, in order, until it returns false. The key is valid only during the call.
	each(span kv.Span, fn func(key []byte, meta mvcc.Meta) bool) error
	// scan answers a range with all its options.
	scan(r *kv.RangeRequest) (*kv.RangeResponse, error)
	counted() *kv.Tally
	// compares and reaches are asked before revisions are compared with one, or a state as of one is read: it may not be known yet what the answer is.
	compares(kv.Revision) error
	reaches(kv.Revision) error
}

// appliedReading reads the applied state, or a view of it.
type appliedReading struct {
	*mvcc.Reader
	tally *kv.Tally
	// at, if it is not 0, is the revision as of which the state is read. It may be above that of the state, which is complete up to it then. Reads below
	// floor are refused, even if the state has not heard of the compaction.
	at, floor kv.Revision
}

func (a appliedReading) now() kv.Revision {
	if a.at != 0 {
		return a.at
	}
	return a.Revision()
}

func (a appliedReading) compactedAt() kv.Revision { return max(a.Compacted(), a.floor) }

// past tells whether the state is read as of an earlier revision than its own.
func (a appliedReading) past() bool { return a.at != 0 && a.at < a.Revision() }

func (a appliedReading) counted() *kv.Tally { return a.tally }

func (a appliedReading) compares(kv.Revision) error { return nil }
func (a appliedReading) reaches(kv.Revision) error  { return nil }

func (a appliedReading) get(key []byte, value bool) (kv.KeyValue, bool, error) {
	if !a.past() {
		return stored(a.Reader, key, value, a.tally)
	}
	meta, found, err := a.Meta(key)
	if err != nil || !found {
		return kv.KeyValue{}, false, err
	}
	if meta.At.Rev <= a.at { // as of most keys
		return storedAs(a.Reader, key, meta, value, a.tally)
	}
	older, err := a.Range(&kv.RangeRequest{Span: kv.Span{Start: key}, Revision: a.at, KeysOnly: !value}, a.tally)
	if err != nil || len(older.KVs) == 0 {
		return kv.KeyValue{}, false, err
	}
	return older.KVs[0], true, nil
}

func (a appliedReading) each(span kv.Span, fn func(key []byte, meta mvcc.Meta) bool) error {
	at := kv.Revision(0)
	if a.past() {
		at = a.at
	}
	return a.Scan(span, at, a.tally, fn)
}

func (a appliedReading) scan(r *kv.RangeRequest) (*kv.RangeResponse, error) {
	if a.at == 0 {
		return a.Range(r, a.tally)
	}
	request, err := RangeAsOf(r, a.at, a.Revision(), a.compactedAt())
	if err != nil {
		return nil, err
	}
	return a.Range(request, a.tally)
}

// RangeAsOf returns the request by which a state at a revision answers a range as of another one, up to which it is complete: r itself, if it asks for the
// same. Revisions above that are in the future, those below compacted are compacted.
func RangeAsOf(r *kv.RangeRequest, at, state, compacted kv.Revision) (*kv.RangeRequest, error) {
	switch asked := r.Revision; {
	case asked > at:
		return nil, kv.ErrFutureRevision
	case asked > 0 && asked < compacted:
		return nil, kv.ErrCompacted
	case asked > 0:
		at = asked
	}
	if at >= state {
		at = 0 // the newest
	}
	if at == max(r.Revision, 0) {
		return r, nil
	}
	request := *r
	request.Revision = at
	return &request, nil
}

// stored returns the newest version of a key in the applied state.
func stored(r *mvcc.Reader, key []byte, value bool, tally *kv.Tally) (kv.KeyValue, bool, error) {
	meta, found, err := r.Meta(key)
	if err != nil || !found {
		return kv.KeyValue{}, false, err
	}
	return storedAs(r, key, meta, value, tally)
}

// storedAs returns the version of a key that is the newest, as Meta says.
func storedAs(r *mvcc.Reader, key []byte, meta mvcc.Meta, value bool, tally *kv.Tally) (kv.KeyValue, bool, error) {
	if meta.Deleted() {
		return kv.KeyValue{}, false, nil
	}
	if !value {
		return keyValueOfMeta(key, meta), true, nil
	}
	if err := tally.Add(rowBytes(key, meta)); err != nil {
		return kv.KeyValue{}, false, err
	}
	if err := tally.LookAt(int(meta.ValueLen)); err != nil {
		return kv.KeyValue{}, false, err
	}
	row, err := r.Newest(key, meta)
	return row, err == nil, err
}

func keyValueOfMeta(key []byte, meta mvcc.Meta) kv.KeyValue {
	return kv.KeyValue{Key: key, CreateRevision: meta.Create, ModRevision: meta.At.Rev, Version: meta.Version, Lease: meta.Lease}
}
