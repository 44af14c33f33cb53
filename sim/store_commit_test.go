package sim

import (
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/history"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// TestCheckWhole: a transaction that took effect in a part of its shards is found, and a revision of two shards that is of none.
func TestCheckWhole(t *testing.T) {
	for name, c := range map[string]struct {
		writers, took []kv.ShardID
		wrong         bool
	}{
		"all":                 {[]kv.ShardID{1, 3}, []kv.ShardID{1, 3}, false},
		"all, in any order":   {[]kv.ShardID{3, 1}, []kv.ShardID{1, 3}, false},
		"none":                {[]kv.ShardID{1, 3}, nil, false},
		"a part":              {[]kv.ShardID{1, 3}, []kv.ShardID{3}, true},
		"another one":         {[]kv.ShardID{1, 3}, []kv.ShardID{1, 2, 3}, true},
		"no transaction":      {nil, []kv.ShardID{2}, false},
		"two shards, of none": {nil, []kv.ShardID{1, 2}, true},
	} {
		p := NewPlan(1, PlanOptions{Nodes: 1, Partition: ByHash, Shards: 3, Faults: []FaultKind{}})
		w := newWorld(p, RunOptions{})
		if c.writers != nil {
			w.ledger.multis[2] = numbered{writers: c.writers}
		}
		for _, id := range c.took {
			w.group(int(id)).truth.record(&mvcc.Effect{Key: []byte{byte(id)}, At: mvcc.Locator{Rev: 2}, Version: 1})
		}
		w.groups[0].history.Issued = []history.Issue{{Revision: 2}}
		w.groups[0].history.Final = 2
		if w.checkWhole(); (w.verdict != "") != c.wrong {
			t.Errorf("%s: wrong %v, found %q", name, c.wrong, w.problem)
		}
		w.finish()
	}
}

// TestStoreEvents: the events of a revision come as the operations of the request do, then by key, wherever they are; those of one shard in its order.
func TestStoreEvents(t *testing.T) {
	p := NewPlan(1, PlanOptions{Nodes: 1, Partition: ByHash, Shards: 2, Faults: []FaultKind{}})
	w := newWorld(p, RunOptions{})
	defer w.finish()
	effect := func(shard int, key string, rev kv.Revision, place, i uint32) {
		e := mvcc.Effect{Key: []byte(key), At: mvcc.Locator{Rev: rev, Sub: place<<placeBits | i}, Version: 1}
		w.group(shard).truth.record(&e)
	}
	effect(1, "z", 9, 0, 0)
	effect(2, "y", 5, 1, 0)
	effect(1, "b", 5, 2, 0)
	effect(1, "d", 5, 2, 1)
	effect(2, "c", 5, 2, 0)
	effect(2, "t", 4, 0, 0)
	effect(2, "s", 4, 0, 1)
	var keys []string
	for _, e := range w.storeEvents() {
		keys = append(keys, string(e.KV.Key))
	}
	if got := strings.Join(keys, ""); got != "tsybcdz" {
		t.Errorf("the events come as %s", got)
	}
}
