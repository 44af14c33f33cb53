package storagetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/storage"
)

// EngineModel is the stupid twin of an engine.
type EngineModel map[string]string

// RandomKey is one of few keys, so that they collide.
func RandomKey(random *rand.Rand) []byte { return fmt.Appendf(nil, "k%02d", random.IntN(60)) }

// RandomChange puts one change into the batch and the model.
func RandomChange(random *rand.Rand, b storage.Batch, m EngineModel) {
	key := RandomKey(random)
	switch n := random.IntN(10); {
	case n < 7:
		value := make([]byte, random.IntN(300))
		for i := range value {
			value[i] = byte(random.IntN(4))
		}
		b.Set(key, value)
		m[string(key)] = string(value)
	case n < 9:
		b.Delete(key)
		delete(m, string(key))
	default:
		upper := RandomKey(random)
		b.DeleteRange(key, upper)
		m.deleteRange(key, upper)
	}
}

func (m EngineModel) deleteRange(lower, upper []byte) {
	for k := range m {
		if k >= string(lower) && k < string(upper) {
			delete(m, k)
		}
	}
}

// keys returns the keys within the bounds; nil is unbounded.
func (m EngineModel) keys(lower, upper []byte) []string {
	keys := slices.Sorted(maps.Keys(m))
	return slices.DeleteFunc(keys, func(k string) bool {
		return lower != nil && k < string(lower) || upper != nil && k >= string(upper)
	})
}

// CheckReader compares everything that the reader shows with the model.
func CheckReader(t *testing.T, r storage.Reader, m EngineModel) {
	t.Helper()
	if err := DiffReader(r, m); err != nil {
		t.Fatal(err)
	}
}

// DiffReader returns the first difference.
func DiffReader(r storage.Reader, m EngineModel) error {
	it := r.NewIterator(nil, nil)
	defer it.Close()
	keys := m.keys(nil, nil)
	i := 0
	for ok := it.First(); ok; ok = it.Next() {
		if i >= len(keys) || string(it.Key()) != keys[i] || string(it.Value()) != m[keys[i]] {
			return fmt.Errorf("item %d is %q, the model has %d keys: %q", i, it.Key(), len(keys), keys)
		}
		i++
	}
	if err := it.Error(); err != nil {
		return err
	}
	if i != len(keys) {
		return fmt.Errorf("there are %d items, the model has %d", i, len(keys))
	}
	return nil
}

func checkGet(t *testing.T, r storage.Reader, m EngineModel, key []byte) {
	t.Helper()
	value, found, err := r.Get(key, []byte("before"))
	must(t, err)
	want, exists := m[string(key)]
	if found != exists || string(value) != "before"+want {
		t.Fatalf("Get(%q) = %q, %v; want %q, %v", key, value, found, "before"+want, exists)
	}
}

// walk makes random moves on an iterator and on a list.
func walk(t *testing.T, random *rand.Rand, r storage.Reader, m EngineModel, lower, upper []byte) {
	t.Helper()
	it := r.NewIterator(lower, upper)
	defer func() { must(t, it.Close()) }()
	keys, at := m.keys(lower, upper), -1
	for range 30 {
		var moved bool
		var move string
		key := RandomKey(random)
		switch random.IntN(6) {
		case 0:
			move, moved, at = "First", it.First(), 0
		case 1:
			move, moved, at = "Last", it.Last(), len(keys)-1
		case 2:
			move, moved = fmt.Sprintf("SeekGE(%s)", key), it.SeekGE(key)
			at, _ = slices.BinarySearch(keys, string(key))
		case 3:
			move, moved = fmt.Sprintf("SeekLT(%s)", key), it.SeekLT(key)
			at, _ = slices.BinarySearch(keys, string(key))
			at--
		case 4:
			move, moved = "Next", it.Next()
			if at >= 0 {
				at++
			}
		default:
			move, moved = "Prev", it.Prev()
			if at >= 0 {
				at--
			}
		}
		if at >= len(keys) {
			at = -1
		}
		if moved != (at >= 0) || it.Valid() != moved {
			t.Fatalf("%s in [%s, %s) returned %v, valid %v; want %v", move, lower, upper, moved, it.Valid(), at >= 0)
		}
		if moved && (string(it.Key()) != keys[at] || string(it.Value()) != m[keys[at]]) {
			t.Fatalf("%s in [%s, %s) arrived at %q; want %q", move, lower, upper, it.Key(), keys[at])
		}
		must(t, it.Error())
	}
}
