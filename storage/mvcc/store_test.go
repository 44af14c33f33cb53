package mvcc

import (
	"math/rand/v2"
	"testing"
)

// TestStoreAgainstModel lets random worlds run against the naive model.
func TestStoreAgainstModel(t *testing.T) {
	total := map[string]int{}
	for seed := range uint64(200) {
		w := newWorld(t, newMemoryEngine(), randomInput(seed, 2000))
		w.run()
		for name, n := range w.counts {
			total[name] += n
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("steps: %v", total)
	for _, name := range []string{"apply of a bulk", "applied early", "copy from before the compaction", "copy in the middle of a compaction"} {
		if total[name] == 0 {
			t.Errorf("never: %s", name)
		}
	}
}

func randomInput(seed uint64, size int) []byte {
	random := rand.New(rand.NewPCG(seed, 7))
	input := make([]byte, size/8+random.IntN(size))
	for i := range input {
		input[i] = byte(random.Uint32())
	}
	return input
}

// FuzzStore does the same with inputs that the fuzzer makes up.
func FuzzStore(f *testing.F) {
	for _, size := range []int{10, 100, 1000} {
		f.Add(randomInput(uint64(size), size))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 4096 {
			return
		}
		newWorld(t, newMemoryEngine(), input).run()
	})
}
