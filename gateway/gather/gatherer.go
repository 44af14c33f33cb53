package gather

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
)

// Gatherer answers reads over the shards of a store. Its methods are given the states of all shards that a request touches, in the order of the shards, and
// the present that they are complete up to: revisions above are in the future for a request, those below at.Compacted are compacted.
// A request that touches a shard whose state is missing is refused with kv.ErrShardNotHere.
type Gatherer struct {
	table   *partition.Table
	ordered bool
}

// By returns the gatherer of a scheme.
func By(scheme partition.Scheme) (Gatherer, error) {
	table, err := partition.New(scheme)
	if err != nil {
		return Gatherer{}, fmt.Errorf("partition the keys: %w", err)
	}
	return Gatherer{table, scheme.Kind == partition.Range}, nil
}

// Gather answers a range, or a transaction of ranges. What the answer takes is reserved from the request's Memory; nothing is if there is an error.
func (g Gatherer) Gather(req *kv.Request, shards []kv.ShardID, states []State, at kv.Present) (*kv.Response, error) {
	s, err := g.over(req, shards, states, at)
	if err != nil {
		return nil, err
	}
	tally := kv.NewTally(req.Memory)
	answer := &kv.Response{Kind: req.Kind, Revision: at.Revision}
	if req.Kind == kv.KindTxn {
		answer.Txn, err = s.txn(req.Txn, &tally)
	} else {
		answer.Range, err = s.Range(req.Range, &tally)
	}
	if err != nil {
		tally.Release()
		return nil, err
	}
	return answer, nil
}

// List begins a list. A request that is not mvcc.InKeyOrder is refused with kv.ErrInvalidRequest. The states must stay open as long as it is read.
func (g Gatherer) List(req *kv.Request, shards []kv.ShardID, states []State, at kv.Present) (*List, error) {
	s, err := g.over(req, shards, states, at)
	if err != nil {
		return nil, err
	}
	if req.Kind != kv.KindRange {
		return nil, fmt.Errorf("list a range: the request is none: %w", kv.ErrInvalidRequest)
	}
	return s.list(req.Range)
}

// Stream answers a range in chunks of about chunkBytes, as mvcc.Reader.RangeStream does. Two chunks are held, and what is read ahead: a part of a chunk,
// but at least a key and its value of each shard by hash. The request's Memory does not count: the tally does.
func (g Gatherer) Stream(req *kv.Request, shards []kv.ShardID, states []State, at kv.Present, chunkBytes int64, tally *kv.Tally,
	fn func([]kv.KeyValue) error) (*kv.RangeResponse, error) {
	s, err := g.over(req, shards, states, at)
	if err != nil {
		return nil, err
	}
	if req.Kind != kv.KindRange {
		return nil, fmt.Errorf("stream a range: the request is none: %w", kv.ErrInvalidRequest)
	}
	return s.stream(req.Range, chunkBytes, tally, fn)
}

// over returns what the states make together, if they are all that the request needs.
func (g Gatherer) over(req *kv.Request, shards []kv.ShardID, states []State, at kv.Present) (*store, error) {
	if (req.Kind != kv.KindRange || req.Range == nil) && (req.Kind != kv.KindTxn || req.Txn == nil) || len(shards) != len(states) {
		return nil, fmt.Errorf("read several shards: the request is no range and no transaction, or not every shard has a state: %w", kv.ErrInvalidRequest)
	}
	missing := kv.ShardID(0)
	req.EachSpan(func(span kv.Span, _ bool) bool {
		for _, d := range g.table.Overlapping(span) {
			if _, here := slices.BinarySearch(shards, d.Shard); !here {
				missing = d.Shard
			}
		}
		return missing == 0
	})
	if missing != 0 {
		return nil, fmt.Errorf("the request needs shard %d, and the states of shards %v are given: %w", missing, shards, kv.ErrShardNotHere)
	}
	of := func(span kv.Span) []State {
		overlapping := g.table.Overlapping(span)
		if len(overlapping) == 0 {
			return nil
		}
		first, _ := slices.BinarySearch(shards, overlapping[0].Shard) // they are in a row here as well
		return states[first : first+len(overlapping)]
	}
	return &store{of, g.ordered, at.Revision, at.Compacted}, nil
}
