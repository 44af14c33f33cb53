package oracle

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/sim/history"
)

// TestPerfectStorePasses: the oracle has nothing to say about a store that does everything right.
func TestPerfectStorePasses(t *testing.T) {
	marks, operations := map[string]int{}, 0
	for seed := range uint64(150) {
		f, problems := fakeRun(seed, nil, 10, lies{})
		if f.failed != "" {
			t.Fatalf("seed %d: %s", seed, f.failed)
		}
		if len(problems) > 0 {
			var dump bytes.Buffer
			history.Dump(&dump, &f.history)
			t.Fatalf("seed %d: %s", seed, strings.Join(problems, "\n"))
		}
		for name, n := range f.marks {
			marks[name] += n
		}
		operations += len(f.history.Operations)
	}
	for _, name := range []string{
		"set read", "bank read", "bank transfer", "counted", "lock held", "lock lost", "proclaimed", "lease renewed", "compacted", "listed", "listing compacted",
		"watch events", "watch progress", "watch compacted", "watch broken", "watch of the future", "watched everything",
	} {
		if marks[name] == 0 {
			t.Errorf("no run came to %q", name)
		}
	}
	t.Logf("%d operations, %v", operations, marks)
}

func BenchmarkCheck(b *testing.B) {
	f, _ := fakeRun(1, nil, 10, lies{})
	began := time.Now()
	for b.Loop() {
		Check(&f.history)
	}
	b.ReportMetric(float64(time.Since(began).Microseconds())/float64(b.N)/float64(len(f.history.Operations)), "us/operation")
	b.Log(fmt.Sprint(len(f.history.Operations), " operations"))
}
