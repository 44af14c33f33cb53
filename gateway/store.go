package gateway

import (
	"fmt"

	"github.com/quoratedb/quorate/gateway/gather"
	"github.com/quoratedb/quorate/gateway/route"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// OfStore returns the options of a node that holds all shards of a store with several: Options.Shards, whose keys the scheme tells apart. It says who
// finds the shards of a request, who makes one answer of what they have, and what watches over several of them get.
func (o Options) OfStore(scheme partition.Scheme, revisions Revisions) (Options, error) {
	router, err := route.By(scheme)
	if err != nil {
		return o, err
	}
	table, err := partition.New(scheme)
	if err != nil {
		return o, fmt.Errorf("gateway: partition the keys: %w", err)
	}
	o.Router, o.Revisions = router, revisions
	o.Gather = together{table: table, ordered: scheme.Kind == partition.Range}
	o.Watch.Shards = watchedShards(table)
	o.Watch.Sources = make(map[kv.ShardID]watch.Source, len(o.Shards))
	for id, s := range o.Shards {
		o.Watch.Sources[id] = source{s}
	}
	o.Watch.Known, o.Watch.Learn = revisions.Known, revisions.Learn
	return o, nil
}

// watchedShards says which shards a watch hangs on.
func watchedShards(table *partition.Table) func(kv.Span) []kv.ShardID {
	return func(span kv.Span) []kv.ShardID {
		overlapping := table.Overlapping(span)
		ids := make([]kv.ShardID, len(overlapping))
		for i := range overlapping {
			ids[i] = overlapping[i].Shard
		}
		return ids
	}
}

// together is the Gatherer of the shards of a scheme.
type together struct {
	table   *partition.Table
	ordered bool
}

func (t together) Gather(req *kv.Request, shards []kv.ShardID, states []*mvcc.View, at kv.Present) (*kv.Response, error) {
	tally := kv.NewTally(req.Memory)
	answer := &kv.Response{Kind: req.Kind, Revision: at.Revision}
	var err error
	if req.Kind == kv.KindRange {
		if err = compactedAt(req.Range, at); err == nil {
			answer.Range, err = gather.Range(states, t.ordered, at.Revision, req.Range, &tally)
		}
	} else {
		byShard := make(map[kv.ShardID]*mvcc.View, len(shards))
		compacted := at.Compacted
		for i, id := range shards {
			byShard[id], compacted = states[i], max(compacted, states[i].Compacted())
		}
		of := func(span kv.Span) (some []gather.State) {
			for _, d := range t.table.Overlapping(span) {
				some = append(some, byShard[d.Shard])
			}
			return some
		}
		answer.Txn, err = gather.Txn(of, t.ordered, at.Revision, compacted, req.Txn, &tally)
	}
	if err != nil {
		tally.Release()
		return nil, err
	}
	return answer, nil
}

func (t together) List(r *kv.RangeRequest, states []*mvcc.View, at kv.Present) (*gather.List, error) {
	if err := compactedAt(r, at); err != nil {
		return nil, err
	}
	return gather.NewList(states, t.ordered, at.Revision, r)
}

func (t together) Stream(r *kv.RangeRequest, states []*mvcc.View, at kv.Present, chunkBytes int64, tally *kv.Tally,
	fn func([]kv.KeyValue) error) (*kv.RangeResponse, error) {
	if err := compactedAt(r, at); err != nil {
		return nil, err
	}
	return gather.Stream(states, t.ordered, at.Revision, r, chunkBytes, tally, fn)
}

// compactedAt tells whether a range is about what was compacted by the present, whether its shards have heard of that or not.
func compactedAt(r *kv.RangeRequest, at kv.Present) error {
	if r.Revision > 0 && r.Revision < at.Compacted {
		return kv.ErrCompacted
	}
	return nil
}
