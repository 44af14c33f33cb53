package mvcc

import (
	"math/rand/v2"
	"testing"
)

// TestStoreAgainstModel lets random worlds run against the naive model.
func TestStoreAgainstModel(t *testing.T) {
	total := map[string]int{}
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 7))
		input := make([]byte, 200+random.IntN(2000))
		for i := range input {
			input[i] = byte(random.Uint32())
		}
		w := newWorld(t, newMemoryEngine(), input)
		w.run()
		for name, n := range w.counts {
			total[name] += n
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("steps: %v", total)
}

// FuzzStore does the same with inputs that the fuzzer makes up.
func FuzzStore(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{10, 100, 1000} {
		input := make([]byte, size)
		for i := range input {
			input[i] = byte(random.Uint32())
		}
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 4096 {
			return
		}
		newWorld(t, newMemoryEngine(), input).run()
	})
}
