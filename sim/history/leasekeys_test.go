package history

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
)

// TestKeysOfLeaseInShards: of the keys that a lease is told to have, those of each shard must be all that it had there at one moment between the request and the
// answer, before it had ended. A lease gets a1, b1, a2, loses b1, gets b2, and ends; its keys are in two shards, by their first letters.
func TestKeysOfLeaseInShards(t *testing.T) {
	const lease = kv.LeaseID(7)
	never := [2]int{0, 7}
	for name, test := range map[string]struct {
		keys  string
		asked [2]int // before which and behind which step
		says  string
	}{
		"as of one moment":                {"a1 a2 b1", [2]int{3, 3}, ""},
		"as of the beginning":             {"a1", [2]int{1, 4}, ""},
		"each shard of another moment":    {"a1 b2", [2]int{1, 5}, ""},
		"nothing of a shard, at its time": {"a1 a2", [2]int{2, 4}, ""},
		"shorter than it was":             {"a1", [2]int{3, 5}, "of shards"},
		"a key of before":                 {"a1 a2 b1", [2]int{5, 6}, "of shards"},
		"a key of later":                  {"a1 a2 b2", [2]int{2, 3}, "of shards"},
		"two moments of a shard":          {"a1 a2 b1 b2", never, "of shards"},
		"a part of a shard":               {"a2 b1", never, "of shards"},
		"nobody's key":                    {"a1 a3", never, "of shards"},
		"half of a lease that has ended":  {"a1 a2", [2]int{5, 7}, "while the lease lived"},
		"one that ends":                   {"a1 a2 b2", [2]int{5, 7}, ""},
		"one without keys":                {"", [2]int{0, 0}, ""},
		"one that has ended, without":     {"", [2]int{6, 7}, "while the lease lived"},
	} {
		for _, located := range []bool{true, false} {
			w := &world{random: rand.New(rand.NewPCG(1, 1)), store: model.New(), now: time.Second, sparse: rand.New(rand.NewPCG(1, 2))}
			w.made.Sparse = true
			if located {
				w.made.ShardOf = func(key []byte) kv.ShardID { return kv.ShardID(key[0]) }
			}
			put := func(key string) *kv.Request {
				return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: w.value(), Lease: lease}}
			}
			var from, to time.Duration
			for i, r := range []*kv.Request{
				{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: lease, TTLSeconds: 60}},
				put("a1"), put("b1"), put("a2"),
				{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: []byte("b1")}}},
				put("b2"),
				{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}},
				{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: lease}},
			} {
				w.now += time.Second
				o := w.do(r)
				if i == test.asked[0] {
					from = o.Return + time.Millisecond
				}
				if i == test.asked[1] {
					to = o.Return + 2*time.Millisecond
				}
			}
			answer := &kv.LeaseTimeToLiveResponse{ID: lease, GrantedTTLSeconds: 60, TTLSeconds: 60}
			for _, key := range strings.Fields(test.keys) {
				answer.Keys = append(answer.Keys, []byte(key))
			}
			revision := kv.Revision(1)
			for _, one := range w.made.Commits {
				if one.At <= to {
					revision = one.Revision
				}
			}
			w.made.Operations = append(w.made.Operations, Operation{Client: 99, Process: 1, Invoke: from, Return: to,
				Request:  &kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: lease, Keys: true}},
				Response: &kv.Response{Kind: kv.KindLeaseTimeToLive, Revision: revision, LeaseTimeToLive: answer}})
			h := &w.made
			h.Full, h.Final = w.store.Events(kv.Everything(), 1, w.store.Revision()), w.store.Revision()
			problems := strings.Join(Check(h).Problems, "\n")
			if test.says == "" && problems != "" || located && !strings.Contains(problems, test.says) {
				t.Errorf("%s, located %v: want %q, found %q", name, located, test.says, problems)
			}
		}
	}
}
