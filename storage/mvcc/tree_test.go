package mvcc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTreeAgainstMap compares a tree and clones of it with maps.
func TestTreeAgainstMap(t *testing.T) {
	type pair struct {
		tree tree[int]
		twin map[string][2]int // value, weight
	}
	random := rand.New(rand.NewPCG(4, 4))
	for _, keys := range []int{3, 40, 3000} {
		now := pair{twin: map[string][2]int{}}
		var clones []pair
		for i := range 6000 {
			key := fmt.Sprint(random.IntN(keys))
			delta := random.IntN(5) - 2
			old := now.twin[key]
			now.twin[key] = [2]int{i, old[1] + delta}
			now.tree.set([]byte(key), int64(delta), func(before int, exists bool) int {
				if exists && before != old[0] {
					t.Fatalf("value of %q was %d, want %d", key, before, old[0])
				}
				return i
			})
			if i%1000 == 0 {
				twin := map[string][2]int{}
				for k, v := range now.twin {
					twin[k] = v
				}
				clones = append(clones, pair{now.tree.clone(), twin})
			}
		}
		for _, p := range append(clones, now) {
			checkTree(t, &p.tree, p.twin, random)
		}
	}
}

func checkTree(t *testing.T, tr *tree[int], twin map[string][2]int, random *rand.Rand) {
	t.Helper()
	var keys []string
	for k := range twin {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if tr.count != len(keys) || tr.root.weigh() != tr.sum {
		t.Fatalf("count %d, want %d; sum %d, nodes weigh %d", tr.count, len(keys), tr.sum, tr.root.weigh())
	}
	for range 50 {
		key := fmt.Sprint(random.IntN(4000))
		i, found := slices.BinarySearch(keys, key)
		sum := 0
		for _, k := range keys[:i] {
			sum += twin[k][1]
		}
		if got := tr.rank(key); got != int64(sum) {
			t.Fatalf("rank of %q is %d, want %d", key, got, sum)
		}
		if e, ok := tr.get(key); ok != found || found && (e.value != twin[key][0] || e.weight != int64(twin[key][1])) {
			t.Fatalf("get %q: %+v %v, want %v", key, e, ok, twin[key])
		}
		floor := i - 1
		if found {
			floor = i
		}
		if e, ok := tr.floor(key); ok != (floor >= 0) || ok && e.key != keys[floor] {
			t.Fatalf("floor of %q is %q", key, e.key)
		}
		c := tr.seek(key)
		for _, k := range keys[i:] {
			if !c.valid() || c.entry().key != k || c.entry().value != twin[k][0] {
				t.Fatalf("walk from %q does not give %q", key, k)
			}
			c.next()
		}
		if c.valid() {
			t.Fatalf("walk from %q does not end", key)
		}
	}
}
