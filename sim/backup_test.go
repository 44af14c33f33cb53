package sim

import "testing"

// TestBackups: backups of one store are made under faults and transactions over several shards, restored into other shards, and are what was there.
func TestBackups(t *testing.T) {
	seeds := 8
	if testing.Short() {
		seeds = 6
	}
	marks := map[string]int{}
	for seed := uint64(1); seeds > 0; seed++ {
		p := NewPlan(seed, PlanOptions{Partition: []string{ByHash, ByRange}[seed%2]})
		if !p.Backups {
			continue
		}
		seeds--
		r := Run(p, RunOptions{})
		if r.Verdict != Passed {
			t.Fatalf("seed %d: %s: %s", seed, r.Verdict, r.Problem)
		}
		for name, times := range r.Marks {
			marks[name] += times
		}
	}
	for _, name := range []string{"full backup", "incremental backup", "backup gone on with", "backup failed", "backup target failed", "backup restored", "transaction in several shards"} {
		if marks[name] == 0 {
			t.Errorf("never: %s", name)
		}
	}
}
