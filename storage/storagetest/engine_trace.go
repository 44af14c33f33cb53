package storagetest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/storage"
)

func engineRandomTrace(t *testing.T, open func(t *testing.T) EngineWorld) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			world := open(t)
			defer closeEngine(t, world.Engine)
			trace := engineTrace{t: t, random: rand.New(rand.NewPCG(seed, 1)), engine: world.Engine, model: EngineModel{}}
			for range 400 {
				trace.step()
			}
			trace.closeSnapshots()
		})
	}
}

type engineTrace struct {
	t         *testing.T
	random    *rand.Rand
	engine    storage.Engine
	model     EngineModel
	snapshots []frozen
}

type frozen struct {
	snapshot storage.Snapshot
	model    EngineModel
}

func (e *engineTrace) step() {
	switch n := e.random.IntN(20); {
	case n < 9:
		e.apply()
	case n < 10:
		e.load()
	case n < 13:
		checkGet(e.t, e.engine, e.model, RandomKey(e.random))
	case n < 16:
		lower, upper := e.bounds()
		walk(e.t, e.random, e.engine, e.model, lower, upper)
	case n < 17:
		e.snapshots = append(e.snapshots, frozen{e.engine.NewSnapshot(), maps.Clone(e.model)})
	case n < 18 && len(e.snapshots) > 0:
		i := e.random.IntN(len(e.snapshots))
		CheckReader(e.t, e.snapshots[i].snapshot, e.snapshots[i].model)
		checkGet(e.t, e.snapshots[i].snapshot, e.snapshots[i].model, RandomKey(e.random))
		must(e.t, e.snapshots[i].snapshot.Close())
		e.snapshots = slices.Delete(e.snapshots, i, i+1)
	case n < 19:
		must(e.t, Flush(e.engine))
	default:
		e.engine.Reclaim(func(error) {})
	}
}

func (e *engineTrace) apply() {
	b := e.engine.NewBatch()
	defer b.Close()
	for range e.random.IntN(12) {
		RandomChange(e.random, b, e.model)
	}
	must(e.t, e.engine.Apply(b))
}

// load loads what a batch would do, as up to three tables.
func (e *engineTrace) load() {
	changes := map[string]storage.Row{}
	for range e.random.IntN(12) {
		key := string(RandomKey(e.random))
		row := storage.Row{Key: []byte(key), Value: fmt.Append(nil, e.random.IntN(1000)), Deleted: e.random.IntN(4) == 0}
		changes[key] = row
		if delete(e.model, key); !row.Deleted {
			e.model[key] = string(row.Value)
		}
	}
	order := slices.Sorted(maps.Keys(changes))
	var tables []storage.Rows
	for len(order) > 0 {
		n := len(order)
		if len(tables) < 2 {
			n = 1 + e.random.IntN(n)
		}
		table := order[:n]
		order = order[n:]
		tables = append(tables, func(yield func(storage.Row) bool) {
			for _, key := range table {
				if !yield(changes[key]) {
					return
				}
			}
		})
	}
	must(e.t, Load(e.engine, tables...))
}

func (e *engineTrace) bounds() (lower, upper []byte) {
	if e.random.IntN(2) == 0 {
		lower = RandomKey(e.random)
	}
	if e.random.IntN(2) == 0 {
		upper = RandomKey(e.random)
	}
	if lower != nil && upper != nil && bytes.Compare(lower, upper) > 0 {
		lower, upper = upper, lower
	}
	return lower, upper
}

func (e *engineTrace) closeSnapshots() {
	for _, s := range e.snapshots {
		CheckReader(e.t, s.snapshot, s.model)
		must(e.t, s.snapshot.Close())
	}
}
