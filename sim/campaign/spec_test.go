package campaign

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/sim"
)

func TestCommandOfSpec(t *testing.T) {
	for want, spec := range map[string]Spec{
		"quorate sim --seed 5": {Seed: 5},
		"quorate sim --seed 5 --consensus paxos --engine pebble --clients 1,3 --faults none --duration 1.5s": {
			Seed: 5, Protocol: sim.Paxos, Engine: sim.Pebble, Clients: []int{1, 3}, Faults: []int{}, Duration: 1500 * time.Millisecond},
	} {
		if got := spec.Command(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestParseNumbers(t *testing.T) {
	for text, want := range map[string][]int{"": nil, "all": nil, "none": {}, "7": {7}, "9,2, 5": {2, 5, 9}, "0": {0}} {
		got, err := ParseNumbers(text)
		if err != nil || !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"a", "1,,2", "-1", "1.5", "1,1", "none,1", ",", "1..3", "99999999999", strings.Repeat("1,", maxNumbers+1)} {
		if got, err := ParseNumbers(text); err == nil {
			t.Errorf("%.20q: got %v", text, got)
		}
	}
}

func TestParseSeeds(t *testing.T) {
	for text, want := range map[string]Seeds{
		"7": {7, 7}, "1..100": {1, 100}, "42+10": {42, 51}, "5..5": {5, 5}, "5+1": {5, 5}, "0..0": {0, 0},
		"18446744073709551615": {math.MaxUint64, math.MaxUint64}, "18446744073709551614+2": {math.MaxUint64 - 1, math.MaxUint64},
		"1..18446744073709551615": {1, math.MaxUint64},
	} {
		if got, err := ParseSeeds(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for text, reason := range map[string]string{
		"": "write 1..100", "x": "write 1..100", "1-5": "write 1..100", "1..": "write 1..100", "..5": "write 1..100", "1...5": "write 1..100",
		"-1..5": "write 1..100", "1..5..7": "write 1..100", "1+": "write 1..100", "+5": "write 1..100", "1,2": "write 1..100", "0x10": "write 1..100", "1e3": "write 1..100",
		"9..3": "write 3..9", "5+0": "has no seeds", "18446744073709551615+2": "beyond the last seed", "18446744073709551616": "write 1..100",
		"0..18446744073709551615": "all seeds there are",
	} {
		if got, err := ParseSeeds(text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: got %v, %v, want %q", text, got, err, reason)
		}
	}
}

func TestParseSeed(t *testing.T) {
	if seed, err := ParseSeed("42"); err != nil || seed != 42 {
		t.Errorf("got %d, %v", seed, err)
	}
	for text, reason := range map[string]string{"1..5": "--seeds", "1+5": "--seeds", "abc": "not a seed", "": "not a seed", "-1": "not a seed", "1.5": "not a seed"} {
		if _, err := ParseSeed(text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCheckAgainstPlan(t *testing.T) {
	plan := fakePlan(Spec{Seed: 1})
	for reason, spec := range map[string]Spec{
		"no client 4; its clients are 1,2,3": {Seed: 1, Clients: []int{1, 4}},
		"no fault 10; its faults are 0 to 9": {Seed: 1, Faults: []int{10}},
		"can only be made shorter":           {Seed: 1, Duration: time.Minute},
	} {
		if err := spec.CheckAgainst(plan); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v", reason, err)
		}
	}
	fine := Spec{Seed: 1, Clients: []int{3}, Faults: []int{0, 9}, Duration: 4 * time.Second}
	if err := fine.CheckAgainst(plan); err != nil {
		t.Error(err)
	}
	plan.Faults = nil
	if err := (Spec{Faults: []int{0}}).CheckAgainst(plan); err == nil || !strings.Contains(err.Error(), "has no faults") {
		t.Error(err)
	}
}

func TestWorst(t *testing.T) {
	for _, verdicts := range [][]sim.Verdict{{sim.Passed, sim.Liveness}, {sim.Liveness, sim.Crash}, {sim.Crash, sim.Correctness}, {Diverged, Hang}, {sim.Passed, Diverged}, {sim.Correctness, "unheard of"}} {
		if Worst(verdicts[0], verdicts[1]) != verdicts[1] || Worst(verdicts[1], verdicts[0]) != verdicts[1] {
			t.Errorf("of %v the first is taken for worse", verdicts)
		}
	}
}
