package shard

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// ReadState is what a read-only transaction looks at: a state at one revision, of one shard or of several together. What its methods return is
// in the tally.
type ReadState interface {
	// Revision is that of the state, Compacted the lowest one that can be read.
	Revision() kv.Revision
	Compacted() kv.Revision
	// Get returns the live version of a key; its value may be missing unless asked for.
	Get(key []byte, value bool, tally *kv.Tally) (kv.KeyValue, bool, error)
	// Each gives the live keys of a span to fn, in any order, until it returns false. The key is valid only during the call.
	Each(span kv.Span, tally *kv.Tally, fn func(key []byte, meta mvcc.Meta) bool) error
	// Range answers a range with all its options.
	Range(r *kv.RangeRequest, tally *kv.Tally) (*kv.RangeResponse, error)
}

// ReadTxn answers a transaction of ranges, and of transactions of ranges, as Machine.Read does. Another one is refused with kv.ErrInvalidRequest.
func ReadTxn(state ReadState, t *kv.TxnRequest, tally *kv.Tally) (*kv.TxnResponse, error) {
	if t == nil || !onlyRanges(t, isRange) {
		return nil, fmt.Errorf("read: the transaction writes, or an operation of it is empty: %w", kv.ErrInvalidRequest)
	}
	return readOnlyTxn(stateReading{state, tally}, t)
}

// stateReading is a ReadState and a tally.
type stateReading struct {
	state ReadState
	tally *kv.Tally
}

func (s stateReading) now() kv.Revision         { return s.state.Revision() }
func (s stateReading) compactedAt() kv.Revision { return s.state.Compacted() }
func (s stateReading) counted() *kv.Tally       { return s.tally }

func (s stateReading) compares(kv.Revision) error { return nil }
func (s stateReading) reaches(kv.Revision) error  { return nil }

func (s stateReading) get(key []byte, value bool) (kv.KeyValue, bool, error) {
	return s.state.Get(key, value, s.tally)
}

func (s stateReading) each(span kv.Span, fn func(key []byte, meta mvcc.Meta) bool) error {
	return s.state.Each(span, s.tally, fn)
}

func (s stateReading) scan(r *kv.RangeRequest) (*kv.RangeResponse, error) {
	return s.state.Range(r, s.tally)
}
