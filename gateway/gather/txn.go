package gather

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// txn answers a read-only transaction. What the answer takes is left in the tally. Other transactions are refused with kv.ErrInvalidRequest.
func (s *store) txn(t *kv.TxnRequest, tally *kv.Tally) (*kv.TxnResponse, error) {
	if s.at < s.compacted {
		return nil, kv.ErrCompacted
	}
	before := tally.HeldBytes()
	response, err := shard.ReadTxn(s, t, tally)
	if err != nil {
		tally.Rewind(before)
	}
	return response, err
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
