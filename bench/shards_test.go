package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestShardsReport: ratios are taken within rounds, and a goal is reached by the median of those.
func TestShardsReport(t *testing.T) {
	line := putLines()[0]
	measured := shardsResult{Name: line.name, Title: line.title, goals: line.goals, Variants: []shardsMeasured{
		{Name: variantOne.name, Leads: []int{0, 1, 0}, Rounds: []result{{Rate: 1000, ServerCPU: 50}, {Rate: 2000, ServerCPU: 60}, {Rate: 4000, ServerCPU: 70}}},
		{Name: variant16.name, Leads: []int{16, 0, 0}, Rounds: []result{{Rate: 900, ServerCPU: 65}, {Rate: 1800, ServerCPU: 78}, {Rate: 2000, ServerCPU: 71}}},
	}}
	idle := watchLines()[0]
	r := newReport(config{Rounds: 3, Duration: time.Second})
	r.Shards = &shardsReport{
		Lines: []shardsResult{measured, {Title: idle.title, goals: idle.goals, Variants: []shardsMeasured{
			{Name: variantOne.name, Rounds: []result{{P50: 1}}}, {Name: variant64Range.name, Rounds: []result{{P50: 2.5}}},
		}}},
		Failover: []shardsFailoverResult{{Variant: variant16Range.name, GapMillis: []float64{300, 490}}, {Variant: variant16Range.name, GapMillis: []float64{510, 300}}},
		Profiles: []shardsProfile{{Name: "puts", Top: []string{"syscall"}}},
	}
	var out bytes.Buffer
	r.printShards(&out)
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"[16 0 0] 1800 (900-2000)",
		"ops/s: 16 by hash / 1 shard 0.90 (0.50-0.90) at least 0.83 yes",
		"server us/op: 16 by hash / 1 shard 1.30 (1.01-1.30) at most 1.20 NO",
		"p50 ms: 64 by range - 1 shard 1.50 (1.50-1.50) at most 2.00 yes",
		"16 by range 510 (490-510), lost writes: 0 at most 500 NO",
		"processor time of the leader: puts syscall",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(text, "64 by hash /") {
		t.Errorf("what was not measured is compared:\n%s", out.String())
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

// TestShardsRounds: every round begins with another variant, and measures each once. What is not there is left out.
func TestShardsRounds(t *testing.T) {
	var order []string
	clusters := make(map[string]*cluster)
	l := shardsLine{measure: func(_ context.Context, c *cluster, _ config) (result, error) {
		order = append(order, c.dir)
		return result{Ops: len(order)}, nil
	}}
	for _, name := range []string{"a", "b", "c"} {
		l.variants = append(l.variants, shardsVariant{name: name})
		if name != "b" {
			clusters[name] = &cluster{dir: name}
		}
	}
	r, err := l.run(t.Context(), clusters, config{Rounds: 3})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(order); got != "[a c c a a c]" {
		t.Errorf("measured in the order %s", got)
	}
	if got := fmt.Sprint(r.rounds("a"), r.rounds("b"), r.rounds("c")); got != fmt.Sprint([]result{{Ops: 1}, {Ops: 4}, {Ops: 5}}, []result(nil), []result{{Ops: 2}, {Ops: 3}, {Ops: 6}}) {
		t.Errorf("rounds: %s", got)
	}
}

// TestShardsVariants: clusters are started with the shards that they are named for, and the spans of clients are theirs.
func TestShardsVariants(t *testing.T) {
	if got := variantOne.clusterFlags(1000); len(got) != 0 {
		t.Errorf("one shard: %q", got)
	}
	if got := strings.Join(variant16Apart.clusterFlags(1000), " "); got != "--initial-shards=16 --initial-partition=hash --leaders=spread" {
		t.Errorf("spread: %s", got)
	}
	splits, _ := strings.CutPrefix(variant64Range.clusterFlags(1000)[0], "--initial-split-keys=")
	firsts := strings.Split(splits, ",")
	if len(firsts) != 63 || !slices.IsSorted(firsts) {
		t.Errorf("64 shards: %q", firsts)
	}
	next := 0
	for i := range 64 {
		span := spanOf(i, 64, 1000)
		if span[0] != next || span[1] <= next || i > 0 && firsts[i-1] != key(next) {
			t.Errorf("shard %d has the span %v", i, span)
		}
		next = span[1]
	}
	if next != 1000 {
		t.Errorf("shards end at key %d", next)
	}
	for _, c := range []struct {
		v    shardsVariant
		led  []int
		want bool
	}{
		{variant16, []int{0, 16, 0}, true}, {variant16, []int{1, 15, 0}, false}, {variant16, []int{0, 15, 0}, false},
		{variant16Apart, []int{5, 5, 6}, true}, {variant16Apart, []int{4, 6, 6}, true}, {variant16Apart, []int{3, 7, 6}, false}, {variant16Apart, []int{5, 5, 5}, false},
		{variantOne, []int{0, 0, 1}, true},
	} {
		if c.v.settled(c.led) != c.want {
			t.Errorf("%s, members lead %v: settled %v", c.v.name, c.led, !c.want)
		}
	}
}

// TestWatchersByKey: watchers go round the spans.
func TestWatchersByKey(t *testing.T) {
	by := watchersByKey(workSpec{Watchers: 5, Watched: []keySpan{{0, 10}, {10, 20}}})
	for key, want := range map[int]int{0: 3, 9: 3, 10: 2, 19: 2, 20: 0} {
		if got := by(key); got != want {
			t.Errorf("key %d has %d watchers, not %d", key, got, want)
		}
	}
}
