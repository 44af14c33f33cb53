package storagetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/storage"
)

// engineCrash: what is found after a crash is the content after some batch, and not before the last flush.
func engineCrash(t *testing.T, open func(t *testing.T) EngineWorld) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			world := open(t)
			history := NewEngineHistory(random)
			for range 3 { // crashes
				for range random.IntN(40) {
					history.Step(t, world.Engine)
				}
				durable, applied := history.Durable, history.Applied()
				world = world.Crash(t, random)
				history.Recover(t, world.Engine, durable, applied)
			}
			closeEngine(t, world.Engine)
		})
	}
}

// EngineHistory applies numbered batches and remembers the content after each.
type EngineHistory struct {
	random  *rand.Rand
	states  []EngineModel // states[n] is the content after n batches
	Durable int           // batches that a completed flush covers
}

// counterKey holds the number of the last batch.
const counterKey = "counter"

// NewEngineHistory returns the history of an empty engine.
func NewEngineHistory(random *rand.Rand) *EngineHistory {
	return &EngineHistory{random: random, states: []EngineModel{{}}}
}

// Applied is the number of batches applied, or about to be.
func (h *EngineHistory) Applied() int { return len(h.states) - 1 }

// State is the content after n batches.
func (h *EngineHistory) State(n int) EngineModel { return h.states[n] }

// Prepare makes the next batch.
func (h *EngineHistory) Prepare(e storage.Engine) storage.Batch {
	next := maps.Clone(h.states[len(h.states)-1])
	b := e.NewBatch()
	for range 1 + h.random.IntN(8) {
		RandomChange(h.random, b, next)
	}
	next[counterKey] = fmt.Sprint(len(h.states))
	b.Set([]byte(counterKey), []byte(next[counterKey]))
	h.states = append(h.states, next)
	return b
}

// Step applies a batch or flushes.
func (h *EngineHistory) Step(t *testing.T, e storage.Engine) {
	t.Helper()
	if h.random.IntN(6) == 0 {
		must(t, Flush(e))
		h.Durable = h.Applied()
		return
	}
	b := h.Prepare(e)
	defer b.Close()
	must(t, e.Apply(b))
}

// Recover checks what was found after a crash, and goes on from there.
func (h *EngineHistory) Recover(t *testing.T, r storage.Reader, durable, applied int) {
	t.Helper()
	n := CheckRecovered(t, h, r, durable, applied)
	h.states = h.states[:n+1]
	h.Durable = min(h.Durable, n)
}

// CheckRecovered checks that the content is that after one of the batches, and returns which.
func CheckRecovered(t *testing.T, h *EngineHistory, r storage.Reader, durable, applied int) int {
	t.Helper()
	value, _, err := r.Get([]byte(counterKey), nil)
	must(t, err)
	n := 0
	if len(value) > 0 {
		if _, err := fmt.Sscan(string(value), &n); err != nil {
			t.Fatalf("the counter holds %q", value)
		}
	}
	if n < durable || n > applied {
		t.Fatalf("after the crash there are %d batches; %d were durable and %d applied", n, durable, applied)
	}
	if err := DiffReader(r, h.states[n]); err != nil {
		t.Fatalf("after the crash the engine claims to hold %d batches, but: %v", n, err)
	}
	return n
}
