package gateway

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// bounded is a replica with another state than its own: something may yet come below its newest revision.
type bounded struct {
	Shard
	engine *storage.Memory
	store  *mvcc.Store
}

func (b bounded) Revision() kv.Revision { return b.store.Closed() }
func (b bounded) View() *mvcc.View      { return b.store.View() }

// newBounded has a state with a key put at each of the revisions, which is closed at one.
func newBounded(t *testing.T, shard Shard, key string, closed kv.Revision, revisions ...kv.Revision) bounded {
	t.Helper()
	b := bounded{Shard: shard, engine: storage.NewMemory(storage.MemoryOptions{})}
	store, err := mvcc.Open(b.engine, mvcc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.store = store
	e := mvcc.Effect{Key: []byte(key), Create: revisions[0]}
	batch := b.engine.NewBatch()
	defer batch.Close()
	for _, rev := range revisions {
		e.Prev, e.PrevLive = e.At, e.Version > 0
		e.At, e.Version, e.Value = mvcc.Locator{Rev: rev}, e.Version+1, []byte{byte('0' + rev)}
		store.Apply(batch, []mvcc.Effect{e}, rev)
	}
	if err := b.engine.Apply(batch); err != nil {
		t.Fatal(err)
	}
	store.SetClosed(closed)
	return b
}

func TestReachOfClosed(t *testing.T) {
	view := newBounded(t, nil, "k", 3, 2, 5).View()
	defer view.Close()
	for _, c := range []struct {
		known reach
		want  kv.Revision
	}{{reach{}, 3}, {reach{3, 9}, 9}, {reach{2, 9}, 9}, {reach{4, 9}, 3}, {reach{1, 2}, 3}} {
		if got := c.known.of(view); got != c.want {
			t.Errorf("with %+v known, a state that is closed at 3 is complete up to %d, want %d", c.known, got, c.want)
		}
	}
}

// TestStaleReadsStopAtClosed: what is answered from the state as it is here is as of the revision up to which it is complete, and says so, whatever was
// applied above: read at that revision later, it is the same.
func TestStaleReadsStopAtClosed(t *testing.T) {
	first, second, _ := newStore(t, Options{})
	first.elect(1)
	second.elect(1)
	exchangeBoth(first, second)
	n := first.nodes[2]
	for id, key := range map[kv.ShardID]string{1: "1k", 2: "2k"} {
		l := n.gateway.links.byShard[id]
		l.local = newBounded(t, l.local, key, 2+kv.Revision(id), 2, 3, 4, 6)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		from, to string
		at       kv.Revision
		values   string
	}{{"1", "2", 3, "3"}, {"2", "3", 4, "4"}, {"1", "3", 3, "33"}} {
		req := getRange(c.from, c.to)
		req.Range.Serializable = true
		check := func(how string, at kv.Revision, kvs []kv.KeyValue) {
			t.Helper()
			values := ""
			for _, kv := range kvs {
				values += string(kv.Value)
			}
			if at != c.at || values != c.values {
				t.Errorf("%s from %s to %s: %s as of %d, want %s as of %d", how, c.from, c.to, values, at, c.values, c.at)
			}
		}
		if c.from == "1" && c.to == "3" { // the gatherer of these tests makes no lists
			r := submit(n.gateway, req)
			exchangeBoth(first, second)
			if r.answers != 1 || r.err != nil {
				t.Fatalf("%d answers, %v", r.answers, r.err)
			}
			check("range", r.resp.Revision, r.resp.Range.KVs)
			continue
		}
		l, err := n.gateway.OpenRange(context.Background(), req)
		if err != nil {
			t.Fatal(err)
		}
		check("list", l.Revision(), whole(t, random, l).KVs)
		l.Close()
		var kvs []kv.KeyValue
		var at kv.Revision
		err = n.gateway.RangeStream(context.Background(), req, func(r *kv.Response, _ bool) error {
			kvs, at = append(kvs, r.Range.KVs...), r.Revision
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		check("stream", at, kvs)
	}
}

// TestHashWaitsForClosed: a hash at a revision is read at once if all shards here are closed there. Otherwise it is asked what is missing.
func TestHashWaitsForClosed(t *testing.T) {
	for _, closed := range []kv.Revision{2, 3} {
		first, second, c := storeWith(t, Options{}, 1, 2, 1) // shard 2 has come to 4
		g := first.nodes[2].gateway
		l := g.links.byShard[1]
		l.local = newBounded(t, l.local, "1a", closed, 2, 3)
		if _, err := hashNow(first, second, g, 3); err != nil {
			t.Error(err)
		}
		if waited := c.asked > 0; waited != (closed < 3) {
			t.Errorf("closed at %d a hash at 3 asks: %v", closed, waited)
		}
	}
}
