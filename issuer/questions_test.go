package issuer

import (
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// TestCostOfQuestions: a question is a frame in each direction, which names the shards that are asked about, and no others. Those who ask while one is on its
// way share the next.
func TestCostOfQuestions(t *testing.T) {
	const readers = 256
	few, many := 0, 0
	for _, shards := range []int{2, 16, 64} {
		leader, other, all := cleanPair(t, shards)
		answered := 0
		got := func(_ kv.Present, err error) {
			if err != nil {
				t.Error(err)
			}
			answered++
		}
		other.Learn(all[:1], got)
		question := other.sent[0]
		if few == 0 {
			few = len(question.payload)
		}
		if len(question.payload) != few {
			t.Errorf("%d shards: a question about one of them has %d bytes, with 2 shards %d", shards, len(question.payload), few)
		}
		for i := range readers {
			other.Learn(all[i%shards:i%shards+1], got)
		}
		if frames := talk(leader, other); frames != 4 || answered != readers+1 {
			t.Errorf("%d shards: %d frames for %d questions, of which %d are answered", shards, frames, readers+1, answered)
		}
		allocations := int(testing.AllocsPerRun(20, func() {
			other.Learn(all[:1], got)
			talk(leader, other)
		}))
		if many == 0 {
			many = allocations
		}
		if allocations > many {
			t.Errorf("%d shards: %d allocations for a question about one of them, with 2 shards %d", shards, allocations, many)
		}
	}
}

// TestAnswersInAnyOrder: whoever asks gets what is said of each of its shards, in its own order.
func TestAnswersInAnyOrder(t *testing.T) {
	leader, other, all := cleanPair(t, 16)
	for n := range 10 { // shard s has 1 + the sum of what was taken before
		leader.Hold()
		leader.Take(consensus.GroupID(1+(n*7)%16), 1)
	}
	lasts := map[kv.ShardID]kv.Revision{}
	for n := range 10 {
		lasts[kv.ShardID(1+(n*7)%16)] = kv.Revision(2 + n)
	}
	for _, asked := range [][]kv.ShardID{{9, 3, 16, 1}, all[4:9], {2}} {
		other.Learn(asked, func(present kv.Present, err error) {
			for i, shard := range asked {
				want := kv.ShardProgress{Last: max(1, lasts[shard]), Clean: true}
				if err != nil || present.Shards[i] != want {
					t.Errorf("of shards %v, shard %d: %+v, want %+v; %v", asked, shard, present.Shards[i], want, err)
				}
			}
		})
	}
	talk(leader, other)
}

// BenchmarkLearn: a node asks another one for the present, with what reads of so many shards need: two frames with their codec, and both ends.
func BenchmarkLearn(b *testing.B) {
	for _, shards := range []int{1, 16} {
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) {
			leader, other, asked := cleanPair(b, shards)
			b.ReportAllocs()
			for b.Loop() {
				other.Learn(asked, func(kv.Present, error) {})
				talk(leader, other)
			}
		})
	}
}

// cleanPair is the leader of so many clean shards, which issues revisions, and a node that has a session with it.
func cleanPair(t testing.TB, shards int) (leader, other *fakeNode, all []kv.ShardID) {
	for shard := range shards {
		all = append(all, kv.ShardID(shard+1))
	}
	leader, other = fakeOf(t, 1, all), fakeOf(t, 2, all)
	leader.leadSystem(t, 5, 1)
	other.Target(1, 5)
	for _, shard := range all[1:] {
		leader.Lead(consensus.GroupID(shard), 5, 1, 0)
	}
	other.Learn(nil, func(kv.Present, error) {})
	talk(leader, other)
	for _, shard := range all {
		if leader.BeginClean(consensus.GroupID(shard)) {
			leader.EndClean(consensus.GroupID(shard), 1)
		}
	}
	other.Learn(all, func(present kv.Present, err error) {
		for i, told := range present.Shards {
			if err != nil || !told.Clean {
				t.Fatalf("shard %d is not clean, %v", all[i], err)
			}
		}
	})
	talk(leader, other)
	return leader, other, all
}
