package gateway

import (
	"fmt"

	"github.com/quoratedb/quorate/gateway/gather"
	"github.com/quoratedb/quorate/gateway/route"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
)

// OfStore returns the options of a node that holds all shards of a store with several: Options.Shards, whose keys the scheme tells apart. It says who
// finds the shards of a request, who makes one answer of what they have, who writes in several of them, and what watches over several of them get.
func (o Options) OfStore(scheme partition.Scheme, revisions Revisions) (Options, error) {
	router, err := route.By(scheme)
	if err != nil {
		return o, err
	}
	gatherer, err := gather.By(scheme)
	if err != nil {
		return o, err
	}
	table, err := partition.New(scheme)
	if err != nil {
		return o, fmt.Errorf("gateway: partition the keys: %w", err)
	}
	o.Router, o.Gather, o.Revisions, o.Table = router, gatherer, revisions, table
	o.Watch.Shards = watchedShards(table)
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
