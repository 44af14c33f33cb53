package consensustest

import (
	"fmt"
	"testing"

	"github.com/quoratedb/quorate/consensus"
)

// Cost is what the entries of one round cost the cores of three replicas.
type Cost struct {
	LeaderMallocs, Mallocs float64
}

// costRounds is over how many rounds a cost is averaged: what grows and is reused counts little then.
const costRounds = 500

// CheckCost fails when the entries of a round cost more allocations than the ceilings, which are by the number of entries.
func CheckCost(t *testing.T, factory Factory, ceilings map[int]Cost) {
	for proposals, ceiling := range ceilings {
		t.Run(fmt.Sprint("proposals=", proposals), func(t *testing.T) {
			commit, trio := committer(t, factory, proposals)
			got := Cost{Mallocs: testing.AllocsPerRun(costRounds, commit), LeaderMallocs: leaderMallocs(trio, commit)}
			t.Logf("%+v", got)
			if got.Mallocs > ceiling.Mallocs || got.LeaderMallocs > ceiling.LeaderMallocs {
				t.Errorf("a round of %d entries of 256 bytes takes %+v, the ceiling is %+v", proposals, got, ceiling)
			}
			if err := trio.Settle(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// BenchmarkCommit measures rounds of entries through three cores: the whole as ns/op and allocs/op, the leader alone beside it.
func BenchmarkCommit(b *testing.B, factory Factory) {
	for _, proposals := range []int{1, 8} {
		b.Run(fmt.Sprint("proposals=", proposals), func(b *testing.B) {
			commit, trio := committer(b, factory, proposals)
			trio.Measure(MeasureTime)
			b.ReportAllocs()
			for b.Loop() {
				commit()
			}
			b.StopTimer()
			b.ReportMetric(float64(trio.LeaderTime.Nanoseconds())/float64(b.N), "leader-ns/op")
			b.ReportMetric(leaderMallocs(trio, commit), "leader-allocs/op")
			if err := trio.Settle(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// committer returns a function that commits a round of entries, in a group whose buffers have grown.
func committer(tb testing.TB, factory Factory, proposals int) (commit func(), t *Trio) {
	data := make([][]byte, proposals)
	for i := range data {
		data[i] = fmt.Appendf(nil, "%0256d", i)
	}
	t, err := NewTrio(factory)
	if err != nil {
		tb.Fatal(err)
	}
	commit = func() {
		if err := t.Commit(data); err != nil {
			tb.Fatal(err)
		}
	}
	for t.leader.applied < consensus.BootstrapIndex+4*trioLogEntries {
		commit()
	}
	return commit, t
}

func leaderMallocs(t *Trio, commit func()) float64 {
	t.Measure(MeasureMallocs)
	for range costRounds {
		commit()
	}
	mallocs := float64(t.LeaderMallocs) / costRounds
	t.Measure(MeasureNothing)
	return mallocs
}
