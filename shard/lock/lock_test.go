package lock

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
)

func access(writes bool, start, end string) latch.Access {
	a := latch.Access{Span: kv.Span{Start: []byte(start)}, Writes: writes}
	if end != "" {
		a.Span.End = []byte(end)
	}
	return a
}

func reads(start, end string) latch.Access  { return access(false, start, end) }
func writes(start, end string) latch.Access { return access(true, start, end) }

func id(n uint64) kv.TransactionID { return kv.TransactionID{Anchor: 1, Term: 2, Number: n} }

// Readers share, a writer does not; the end of a span is not in it; locks go with their holder.
func TestLocks(t *testing.T) {
	var table Table
	if table.Conflicts(writes("", "\x00")) || table.Len() != 0 {
		t.Error("somebody holds a lock in an empty table")
	}
	table.Release(id(1))
	table.Acquire(id(1), []latch.Access{writes("b", ""), reads("m", "p")})
	table.Acquire(id(2), []latch.Access{reads("m", "\x00")})
	table.Acquire(id(3), nil)
	for _, c := range []struct {
		latch.Access
		conflicts bool
	}{
		{reads("a", ""), false}, {writes("a", ""), false}, {writes("a", "b"), false}, {reads("b", ""), true}, {reads("a", "c"), true}, {writes("b\x00", "m"), false},
		{reads("m", ""), false}, {writes("m", ""), true}, {writes("z", ""), true}, {reads("", "\x00"), true}, {writes("x", "c"), false},
	} {
		if got := table.Conflicts(c.Access); got != c.conflicts {
			t.Errorf("%q to %q, writes %v: conflicts %v", c.Span.Start, c.Span.End, c.Writes, got)
		}
	}
	if holder, any := table.Holder(writes("z", "")); !any || holder != id(2) {
		t.Errorf("z is held by %v", holder)
	}
	table.Acquire(id(1), []latch.Access{writes("a", "")})
	if holder, any := table.Holder(reads("a", "")); !any || holder != id(1) || table.Len() != 3 {
		t.Errorf("a is held by %v, of %d holders", holder, table.Len())
	}
	table.Release(id(1))
	if table.Conflicts(reads("", "\x00")) || !table.Conflicts(writes("n", "")) {
		t.Error("the wrong locks are gone")
	}
	table.Release(id(2))
	table.Release(id(3))
	if table.Len() != 0 || table.Conflicts(writes("", "\x00")) {
		t.Error("locks are left over")
	}
}

// twin says the same by looking at all locks.
type twin struct {
	holders  []kv.TransactionID
	accesses []latch.Access
}

func (w *twin) acquire(holder kv.TransactionID, accesses []latch.Access) {
	for _, a := range accesses {
		w.holders, w.accesses = append(w.holders, holder), append(w.accesses, a)
	}
}

func (w *twin) release(holder kv.TransactionID) {
	for i := len(w.holders) - 1; i >= 0; i-- {
		if w.holders[i] == holder {
			w.holders, w.accesses = slices.Delete(w.holders, i, i+1), slices.Delete(w.accesses, i, i+1)
		}
	}
}

// conflicts are the holders that an access has to wait for, by looking at each key that it may be about.
func (w *twin) conflicts(a latch.Access) (holders []kv.TransactionID) {
	for i, b := range w.accesses {
		common := slices.ContainsFunc(world, func(key string) bool { return a.Span.Contains([]byte(key)) && b.Span.Contains([]byte(key)) })
		if common && (a.Writes || b.Writes) {
			holders = append(holders, w.holders[i])
		}
	}
	return holders
}

// world has all keys that tell the spans apart, which begin and end at some of them.
var world = func() (keys []string) {
	keys = []string{"", "\x00", "\xff"}
	for _, c := range "abcdefgh" {
		keys = append(keys, string(c), string(c)+"\x00", string(c)+"a", string(c)+"b")
	}
	return keys
}()

func randomAccess(random *rand.Rand) latch.Access {
	a := access(random.IntN(2) == 0, world[random.IntN(len(world))], "")
	if random.IntN(2) == 0 {
		a.Span.End = []byte(world[random.IntN(len(world))])
	}
	return a
}

func TestAgainstTwin(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 7))
		var table Table
		var list twin
		var holders []kv.TransactionID
		for step := range 600 {
			if most := 1 + int(seed)%40; random.IntN(2) == 0 && len(holders) < most || len(holders) == 0 {
				holder := id(uint64(step))
				if len(holders) > 0 && random.IntN(6) == 0 {
					holder = holders[random.IntN(len(holders))]
				}
				accesses := make([]latch.Access, random.IntN(4))
				for i := range accesses {
					accesses[i] = randomAccess(random)
				}
				table.Acquire(holder, accesses)
				list.acquire(holder, accesses)
				if !slices.Contains(holders, holder) {
					holders = append(holders, holder)
				}
			} else {
				at := random.IntN(len(holders))
				table.Release(holders[at])
				list.release(holders[at])
				holders = slices.Delete(holders, at, at+1)
			}
			a := randomAccess(random)
			want := list.conflicts(a)
			holder, any := table.Holder(a)
			if any != (len(want) > 0) || any && !slices.Contains(want, holder) || any != table.Conflicts(a) {
				t.Fatalf("seed %d, step %d: %q to %q, writes %v, waits for %v %v; want one of %v", seed, step, a.Span.Start, a.Span.End, a.Writes, holder, any, want)
			}
			if table.Len() != len(holders) {
				t.Fatalf("seed %d, step %d: %d holders, want %d", seed, step, table.Len(), len(holders))
			}
			for _, tree := range []*tree[kv.TransactionID]{&table.exclusive, &table.shared} {
				if err := tree.root.check(nil, nil); err != nil {
					t.Fatalf("seed %d, step %d: %v", seed, step, err)
				}
			}
		}
	}
}

// check holds the invariants of the tree below a node, which lies between two others.
func (n *node[H]) check(after, before *node[H]) error {
	if n == nil {
		return nil
	}
	if after != nil && !after.before(n) || before != nil && !n.before(before) {
		return fmt.Errorf("the lock at %q is out of order", n.span.Start)
	}
	for _, below := range []*node[H]{n.left, n.right} {
		if below != nil && (below.ticket > n.ticket || endsBefore(n.reach, below.reach)) {
			return fmt.Errorf("below the lock at %q is one with a higher ticket, or that reaches farther", n.span.Start)
		}
	}
	if endsBefore(n.reach, &n.span) {
		return fmt.Errorf("the lock at %q ends after the end of all", n.span.Start)
	}
	if err := n.left.check(after, n); err != nil {
		return err
	}
	return n.right.check(n, before)
}

func (n *node[H]) depth() int {
	if n == nil {
		return 0
	}
	return 1 + max(n.left.depth(), n.right.depth())
}

// many has so many holders with three keys and a span each, in an order.
func many(holders int, place func(int) int) *Table {
	var table Table
	for i := range holders {
		key := fmt.Sprintf("%08d", place(i))
		table.Acquire(id(uint64(i)), []latch.Access{writes(key, ""), writes(key+"b", ""), reads(key+"c", ""), reads(key+"d", key+"e")})
	}
	return &table
}

// TestDepth: a question is one path down, and paths are short, in whichever order keys come.
func TestDepth(t *testing.T) {
	const holders = 1 << 14
	random := rand.New(rand.NewPCG(1, 1)).Perm(holders)
	for order, place := range map[string]func(int) int{
		"ascending": func(i int) int { return i }, "descending": func(i int) int { return holders - i }, "random": func(i int) int { return random[i] },
		"all the same": func(int) int { return 0 },
	} {
		table := many(holders, place)
		for i := range holders / 2 {
			table.Release(id(uint64(2 * i)))
		}
		if depth := max(table.exclusive.root.depth(), table.shared.root.depth()); depth > 3*14 {
			t.Errorf("%s: the depth is %d, of %d locks in a tree", order, depth, holders)
		}
	}
}

// TestAskAllocates: asking allocates nothing.
func TestAskAllocates(t *testing.T) {
	table, key, all := many(1000, func(i int) int { return i }), writes("00000500", ""), reads("", "\x00")
	if n := testing.AllocsPerRun(100, func() { table.Conflicts(key); table.Conflicts(all) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkTable shows what one more transaction costs beside so many that are prepared: a question for each of its four accesses, its locks, and their end.
func BenchmarkTable(b *testing.B) {
	for _, holders := range []int{0, 10, 1000, 100_000} {
		b.Run(fmt.Sprint(holders), func(b *testing.B) {
			table := many(holders, func(i int) int { return i })
			accesses := []latch.Access{writes("00000500f", ""), writes("00000800f", ""), reads("00000900f", ""), reads("00000900g", "00000900h")}
			for i := range b.N {
				for _, a := range accesses {
					if table.Conflicts(a) {
						b.Fatal("it conflicts")
					}
				}
				holder := id(uint64(1_000_000 + i))
				table.Acquire(holder, accesses)
				table.Release(holder)
			}
		})
	}
}
