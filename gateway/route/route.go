// Package route says which shard a request is for.
package route

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
)

// Router is a map of shards. Safe for concurrent use.
type Router interface {
	// Route returns the shard that has all that the request touches, or an error that says by name why there is none.
	Route(*kv.Request) (kv.ShardID, error)
}

// Spread is a Router that also knows which shards a request touches that Route refuses with kv.ErrManyShards.
type Spread interface {
	// Touched returns all shards that have anything that the request touches, ascending.
	Touched(*kv.Request) []kv.ShardID
}

// Partitioned routes by how keys are partitioned. What is not about keys is for the system shard.
type Partitioned struct{ table *partition.Table }

// By returns the router of a scheme.
func By(scheme partition.Scheme) (Partitioned, error) {
	table, err := partition.New(scheme)
	if err != nil {
		return Partitioned{}, fmt.Errorf("partition the keys: %w", err)
	}
	return Partitioned{table}, nil
}

// Route implements Router.
func (p Partitioned) Route(req *kv.Request) (kv.ShardID, error) {
	if len(p.table.Descriptors()) == 1 {
		return kv.SystemShard, nil
	}
	switch req.Kind {
	case kv.KindLeaseRelease, kv.KindLeaseKeys:
		return req.LeaseBinding.Shard, nil
	case kv.KindTxnPrepare, kv.KindTxnDecide, kv.KindTxnAccept, kv.KindTxnPromise, kv.KindTxnResolve, kv.KindTxnState:
		return req.Commit.Shard, nil
	}
	shards := p.touched(req, maxNamed)
	switch len(shards) {
	case 0:
		return kv.SystemShard, nil
	case 1:
		return shards[0], nil
	}
	return 0, fmt.Errorf("shards %s: %w", named(shards), kv.ErrManyShards)
}

// Touched implements Spread.
func (p Partitioned) Touched(req *kv.Request) []kv.ShardID {
	shards := p.touched(req, partition.MaxShards)
	slices.Sort(shards)
	return shards
}

// touched lists shards that a request touches, until there are more than so many.
func (p Partitioned) touched(req *kv.Request, enough int) (shards []kv.ShardID) {
	req.EachSpan(func(span kv.Span, _ bool) bool {
		for _, d := range p.table.Overlapping(span) {
			if !slices.Contains(shards, d.Shard) {
				shards = append(shards, d.Shard)
			}
		}
		return len(shards) <= enough
	})
	return shards
}

// maxNamed is how many shards an error names.
const maxNamed = 8

func named(shards []kv.ShardID) string {
	slices.Sort(shards)
	more := ""
	if len(shards) > maxNamed {
		shards, more = shards[:maxNamed], " and others"
	}
	return fmt.Sprint(shards) + more
}
