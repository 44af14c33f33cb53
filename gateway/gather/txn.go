package gather

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Txn answers a read-only transaction, at a revision. states returns those of the shards that may have keys of a span, as Range takes them: of a single key,
// that of the one shard which has it. compacted is where the store's history was compacted. What the answer takes is left in the tally.
// Other transactions are refused with kv.ErrInvalidRequest.
func Txn(states func(kv.Span) []State, ordered bool, at, compacted kv.Revision, t *kv.TxnRequest, tally *kv.Tally) (*kv.TxnResponse, error) {
	if at < compacted {
		return nil, kv.ErrCompacted
	}
	before := tally.HeldBytes()
	response, err := shard.ReadTxn(&store{states, ordered, at, compacted}, t, tally)
	if err != nil {
		tally.Rewind(before)
	}
	return response, err
}

// store is what the shards have together. It implements shard.ReadState.
type store struct {
	states        func(kv.Span) []State
	ordered       bool
	at, compacted kv.Revision
}

func (s *store) Revision() kv.Revision  { return s.at }
func (s *store) Compacted() kv.Revision { return s.compacted }

func (s *store) Get(key []byte, value bool, tally *kv.Tally) (e kv.KeyValue, live bool, err error) {
	for _, state := range s.states(kv.Span{Start: key}) {
		if e, live, err = get(state, key, s.at, value, tally); live || err != nil {
			break
		}
	}
	return e, live, err
}

func (s *store) Each(span kv.Span, tally *kv.Tally, fn func(key []byte, meta mvcc.Meta) bool) error {
	proceed := true
	for _, state := range s.states(span) {
		err := state.Scan(span, within(state, s.at), tally, func(key []byte, meta mvcc.Meta) bool {
			proceed = fn(key, meta)
			return proceed
		})
		if err != nil || !proceed {
			return err
		}
	}
	return nil
}

func (s *store) Range(q *kv.RangeRequest, tally *kv.Tally) (*kv.RangeResponse, error) {
	r, err := begin(s.states(q.Span), s.ordered, s.at, s.compacted, q)
	if err != nil {
		return nil, err
	}
	before := tally.HeldBytes()
	response, err := r.answer(tally)
	switch {
	case err != nil:
		tally.Rewind(before)
		return nil, err
	case tally.Counts():
		tally.Rewind(before + kv.MemoryBytes(response.KVs))
	}
	return response, nil
}
