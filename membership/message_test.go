package membership

import (
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/shard"
)

func TestMessages(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	life := func() uint64 { return random.Uint64N(2) * random.Uint64() >> 16 }
	for range 300 {
		want := Message{Kind: KindQuestion + Kind(random.IntN(2)), Standing: standingMember + standing(random.IntN(4)), New: random.IntN(2) == 0,
			Confirmed: random.IntN(2) == 0, Group: consensus.GroupID(random.Uint64()), Site: shard.Site{Disk: 1 + random.Uint64()>>1, Life: life()},
			Replica: consensus.ReplicaID(1 + random.IntN(1<<16-1)), Bound: shard.Site{Disk: 1 + random.Uint64()>>1, Life: life()}}
		frame := AppendMessage(nil, &want)
		got, err := DecodeMessage(frame)
		if err != nil || *got != want {
			t.Fatalf("%+v became %+v: %v", want, got, err)
		}
		for cut := range frame {
			if _, err := DecodeMessage(frame[:cut]); err == nil {
				t.Fatalf("a frame cut at %d of %d was taken", cut, len(frame))
			}
		}
		if _, err := DecodeMessage(append(frame, 0)); err == nil {
			t.Fatal("a frame that is too long was taken")
		}
	}
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add(AppendMessage(nil, &Message{Kind: KindAnswer, Standing: standingLost, Group: 1, Site: shard.Site{Disk: 2, Life: 5}, Replica: 3, Bound: shard.Site{Disk: 4}}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := DecodeMessage(frame)
		if err != nil {
			return
		}
		again, err := DecodeMessage(AppendMessage(nil, m))
		if err != nil || *again != *m {
			t.Fatalf("%+v became %+v: %v", m, again, err)
		}
	})
}
