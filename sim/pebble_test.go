package sim

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestPebble runs plans on the real log and the real state engine.
func TestPebble(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() {
		seeds = 2
	}
	marks := map[string]int{}
	for seed := *firstSeed; seed < *firstSeed+seeds; seed++ {
		r := Run(NewPlan(seed, PlanOptions{Engine: Pebble}), RunOptions{})
		if r.Verdict != Passed {
			report(t, r)
		}
		add(marks, r.Marks)
	}
	t.Logf("%v", marks)
	if marks["crash"] == 0 || marks["leader elected"] == 0 {
		t.Errorf("the runs do not cover enough: %v", marks)
	}
}

// TestPebbleSameSeedSameTrace: the real engine flushes, compacts and removes files within the calls that lead to it, and crashes at single file
// operations come at the same one each time.
func TestPebbleSameSeedSameTrace(t *testing.T) {
	seeds := []uint64{78, 2, 3, 4, 5, 6}
	if testing.Short() {
		seeds = seeds[:2]
	}
	for _, seed := range seeds {
		p := NewPlan(seed, PlanOptions{Engine: Pebble})
		first, second := Run(p, RunOptions{}), Run(p, RunOptions{})
		if first.Verdict != Passed {
			report(t, first)
		}
		if first.Hash != second.Hash || first.Events != second.Events || first.Verdict != second.Verdict {
			t.Errorf("seed %d: %s after %d events, hash %x, the second time %s, %d and %x", seed,
				first.Verdict, first.Events, first.Hash, second.Verdict, second.Events, second.Hash)
		}
	}
}

// TestCutEndsWithTheFaults: a cut of the power that is planned and has not come when everything is healed does not come any more.
func TestCutEndsWithTheFaults(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		p := NewPlan(seed, PlanOptions{Engine: Pebble, Nodes: 3, Faults: []FaultKind{}})
		for node := 1; node <= 3; node++ {
			p.Faults = append(p.Faults, Fault{Kind: FaultCrashFile, At: p.Duration - 1, Node: node, Amount: float64(seed), Seed: seed})
		}
		r := Run(p, RunOptions{})
		if late := r.Marks["crash"] - r.Marks["crash while groups begin"]; r.Verdict != Passed || late > 0 {
			t.Errorf("seed %d: %s: %s; %d crashes", seed, r.Verdict, r.Problem, r.Marks["crash"])
		}
	}
}

// TestCrashClone: what was synced is there after a crash, under the name that was synced or under a later one; of the rest some is, and the same
// each time.
func TestCrashClone(t *testing.T) {
	old, block1, block2 := bytes.Repeat([]byte{1}, 100), bytes.Repeat([]byte{2}, block), bytes.Repeat([]byte{3}, block)
	write := func(fs *vfs.MemFS, name string, synced bool, data ...[]byte) {
		t.Helper()
		file, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		for _, b := range data {
			if err == nil {
				_, err = file.Write(b)
			}
			if err == nil && synced {
				err = file.Sync()
			}
		}
		if err != nil || file.Close() != nil {
			t.Fatal(name, err)
		}
	}
	build := func() *vfs.MemFS {
		fs := vfs.NewCrashableMem()
		if err := fs.MkdirAll("d", 0o755); err != nil {
			t.Fatal(err)
		}
		write(fs, "d/kept", true, old)
		write(fs, "d/replaced", true, old)
		write(fs, "d/removed", true, old)
		if err := syncDir(fs, "d"); err != nil || syncDir(fs, "") != nil {
			t.Fatal(err)
		}
		write(fs, "d/new", true, block1)
		if err := fs.Rename("d/new", "d/replaced"); err != nil || fs.Remove("d/removed") != nil {
			t.Fatal(err)
		}
		write(fs, "d/written", false, block1, block2)
		return fs
	}
	seen := map[string]int{}
	for seed := range uint64(400) {
		var images [2]string
		for i := range images {
			found := crashClone(build(), rand.New(rand.NewPCG(seed, 1)))
			read := func(name string) []byte {
				data, err := readFile(found, name)
				if err != nil {
					return nil
				}
				return data
			}
			kept, replaced, written := read("d/kept"), read("d/replaced"), read("d/written")
			if !bytes.Equal(kept, old) {
				t.Fatalf("seed %d: a synced file has %d bytes", seed, len(kept))
			}
			if !bytes.Equal(replaced, old) && !bytes.Equal(replaced, block1) {
				t.Fatalf("seed %d: a file that was replaced by a synced one has %d bytes of neither", seed, len(replaced))
			}
			for at := 0; at < len(written); at += block {
				if b := written[at : at+block]; !bytes.Equal(b, make([]byte, block)) && !bytes.Equal(b, block1) && !bytes.Equal(b, block2) {
					t.Fatalf("seed %d: a block of what was written is mixed", seed)
				}
			}
			images[i] = string(replaced) + "," + string(read("d/removed")) + "," + string(written)
		}
		if images[0] != images[1] {
			t.Fatalf("seed %d: two images of one crash differ", seed)
		}
		seen[images[0]]++
	}
	if len(seen) < 8 {
		t.Errorf("only %d different images", len(seen))
	}
}
