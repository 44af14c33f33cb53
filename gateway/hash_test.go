package gateway

import (
	"context"
	"errors"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// hashNow asks for a hash while what is on its way arrives.
func hashNow(first, second *cluster, g *Gateway, revision kv.Revision) (HashResult, error) {
	type answer struct {
		result HashResult
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		result, err := g.HashKV(context.Background(), "", revision)
		answered <- answer{result, err}
	}()
	for {
		select {
		case a := <-answered:
			return a.result, a.err
		default:
			exchangeBoth(first, second)
		}
	}
}

// TestHashOfShards: the hash at a revision is that of one shard with the same history, on every node. A revision that all replicas here have come to costs
// no question; otherwise one is asked, and the replicas are waited for.
func TestHashOfShards(t *testing.T) {
	first, second, c := storeWith(t, Options{}, 1, 2, 1)
	same := newReplicas(t)
	same.open(func(kv.NodeID) Options { return Options{} }, nil)
	same.elect(1)
	same.exchange()
	for i, key := range []string{"1a", "2a", "2b"} {
		r := submit(same.nodes[1].gateway, putValue(key, "old"))
		same.exchange()
		if r.err != nil || r.resp.Revision != kv.Revision(2+i) {
			t.Fatalf("%+v, %v", r.resp, r.err)
		}
	}
	want := func(at kv.Revision) uint32 {
		t.Helper()
		hash, err := same.nodes[1].gateway.HashKV(context.Background(), "", at)
		if err != nil {
			t.Fatal(err)
		}
		return hash.Hash
	}
	for id, n := range first.nodes {
		for at, questions := range map[kv.Revision]int{0: 1, 2: 0, 3: 1, 4: 1} { // shard 1 has come to 2
			c.asked = 0
			got, err := hashNow(first, second, n.gateway, at)
			state, hashed := kv.Revision(4), at
			if at == 0 {
				hashed = 4
			}
			if err != nil || got != (HashResult{Hash: want(at), HashRevision: hashed, Revision: state}) || c.asked != questions {
				t.Errorf("node %d at %d: %+v, %v, %d questions; want %x", id, at, got, err, c.asked, want(at))
			}
		}
		if got, err := hashNow(first, second, n.gateway, -3); err != nil || got != (HashResult{Hash: want(0), HashRevision: -3, Revision: 4}) {
			t.Errorf("node %d at -3: %+v, %v", id, got, err)
		}
		if _, err := hashNow(first, second, n.gateway, 5); !errors.Is(err, kv.ErrFutureRevision) {
			t.Errorf("the future: %v", err)
		}
	}

	// Compacted at 3 in one shard, and in the other one later.
	before := want(3)
	writeKey(t, first, second, "1b", "new")
	g := first.nodes[1].gateway
	compactAt(t, first, second, second.nodes[2], 3)
	if got, err := hashNow(first, second, g, 2); !errors.Is(err, kv.ErrCompacted) {
		t.Errorf("below a compaction: %+v, %v", got, err)
	}
	second.keptHashes = map[kv.Revision]uint32{}
	if got, err := hashNow(first, second, g, 3); err != nil || got.Compacted != 3 {
		t.Errorf("at a compaction that nothing was kept of: %+v, %v", got, err)
	}
	// 2a at 3 was written after 2, where history was compacted before, as far as the replica says; 1a at 2 lived there.
	sum := before - uint32(shardHash(t, first, 2, 3))
	second.keptHashes[3] = sum
	if got, err := hashNow(first, second, g, 3); err != nil || got.Compacted != 2 || got.HashRevision != 3 {
		t.Errorf("at a compaction: %+v, %v", got, err)
	}
	first.keptHashes = map[kv.Revision]uint32{3: 7}
	compactAt(t, first, second, first.nodes[1], 3)
	second.keptHashes[3] = 4
	if got, err := hashNow(first, second, g, 3); err != nil || got.Hash != 7+4 || got.Compacted != 2 {
		t.Errorf("at a compaction of both: %+v, %v", got, err)
	}
	delete(first.keptHashes, 3)
	if got, err := hashNow(first, second, g, 3); !errors.Is(err, kv.ErrCompacted) {
		t.Errorf("at a compaction that one has forgotten: %+v, %v", got, err)
	}
}

func shardHash(t *testing.T, c *cluster, compacted, at kv.Revision) mvcc.HashSum {
	t.Helper()
	view := c.nodes[1].View()
	defer view.Close()
	sum, err := view.HashSum(compacted, min(at, view.Revision()))
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// compactAt has history compacted in the shard of a leader.
func compactAt(t *testing.T, first, second *cluster, leader *node, at kv.Revision) {
	t.Helper()
	leader.Propose(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: at}}, anyone{}, func(_ *kv.Response, _ uint64, err error) {
		if err != nil {
			t.Error(err)
		}
	})
	exchangeBoth(first, second)
}
