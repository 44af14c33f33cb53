package campaign

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// writeTrace runs a spec and gives the trace file.
func writeTrace(t *testing.T, spec Spec) string {
	t.Helper()
	var file bytes.Buffer
	w, err := NewTraceWriter(&file, "1.0", spec, fakePlan(spec))
	if err != nil {
		t.Fatal(err)
	}
	report := RunHere(fakeSimulator{}, spec, sim.RunOptions{Trace: w})
	if err := w.End(report); err != nil {
		t.Fatal(err)
	}
	return file.String()
}

// TestDescribedFaultNumbers are those of the whole plan, also when a shorter time leaves out some.
func TestDescribedFaultNumbers(t *testing.T) {
	plan := fakePlan(Spec{Faults: []int{2, 5, 8}})
	plan.Faults = plan.Faults[:2]
	if text := strings.Join(DescribePlan(Spec{Faults: []int{2, 5, 8}}, plan), "\n"); !strings.Contains(text, "fault 2: at 200ms") || !strings.Contains(text, "fault 5: at 500ms") {
		t.Error(text)
	}
}

var tracedSpec = Spec{Seed: 4, Faults: []int{2, 5}, Duration: time.Second}

func TestTraceFile(t *testing.T) {
	text := writeTrace(t, tracedSpec)
	for _, part := range []string{
		"# quorate simulator trace, format 1\n# version 1.0\n# run {\"seed\":4,\"clients\":null,\"faults\":[2,5],\"duration\":1000000000}\n",
		"# | seed 4: raft on memory, 3 nodes, reads rely on clocks, 1s of work and faults\n# | client 1: registers\n",
		"# | fault 5: at 500ms kind5 node=leader\n# trace\n200ms kind2\n500ms kind5\n# end\n# verdict passed\n# lines 2\n",
		"\n# hash 000000000000001c\n",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	head, err := ReadTrace(strings.NewReader(text), "1.0")
	if err != nil || asJSON(head.Spec) != asJSON(tracedSpec) || head.Lines != 2 || head.Verdict != sim.Passed || head.Hash != "000000000000001c" {
		t.Errorf("%+v, %v", head, err)
	}
}

func TestTraceFilesThatAreRefused(t *testing.T) {
	text := writeTrace(t, tracedSpec)
	for _, c := range []struct {
		name, text string
		want       error
		advice     string
	}{
		{"empty", "", ErrNoTrace, "--trace FILE"},
		{"other file", "hello\nworld\n", ErrNoTrace, "--trace FILE"},
		{"other format", strings.Replace(text, "format 1", "format 2", 1), ErrOtherVersion, "reads format 1"},
		{"other version", strings.Replace(text, "version 1.0", "version 0.9", 1), ErrOtherVersion, "run the seed again"},
		{"changed", strings.Replace(text, "500ms kind5\n# end", "501ms kind5\n# end", 1), ErrDamaged, "checksum"},
		{"line missing", strings.Replace(text, "200ms kind2\n", "", 1), ErrDamaged, "checksum"},
		{"bad run", strings.Replace(text, `"faults":[2,5]`, `"faults":[2,`, 1), ErrDamaged, "run"},
		{"no hash", text[:strings.Index(text, "# hash")], ErrDamaged, `"hash"`},
		{"bad hash", strings.Replace(text, "# hash 0", "# hash x", 1), ErrDamaged, "not a trace hash"},
	} {
		if _, err := ReadTrace(strings.NewReader(c.text), "1.0"); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.advice) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for length := range len(text) {
		if _, err := ReadTrace(strings.NewReader(text[:length]), "1.0"); err == nil {
			t.Fatalf("cut off after %d of %d bytes, it was accepted", length, len(text))
		}
	}
}

func TestReplay(t *testing.T) {
	replay := func(text string) (*Replayed, error) {
		return Replay(t.Context(), strings.NewReader(text), "1.0", fakeSimulator{}, Here{fakeSimulator{}})
	}
	for _, spec := range []Spec{tracedSpec, {Seed: seedWrong}, {Seed: seedPanics}} {
		if r, err := replay(writeTrace(t, spec)); err != nil || !r.Same || r.Report.Spec.Seed != spec.Seed {
			t.Errorf("%+v, %v", r, err)
		}
	}
	r, err := replay(writeTrace(t, Spec{Seed: seedUnstable}))
	if err != nil || r.Same || r.DifferentLine != 11 || !strings.HasPrefix(r.SavedLine, "the ") || r.SavedLine == r.ThisLine || r.Hash == r.Saved.Hash {
		t.Errorf("%+v, %v", r, err)
	}
	// Of the same version by name, but from a simulator that draws other plans.
	text := strings.Replace(writeTrace(t, tracedSpec), `"nodes":3`, `"nodes":5`, 1)
	if _, err := replay(text); !errors.Is(err, ErrOtherVersion) || !strings.Contains(err.Error(), "draws another plan from seed 4") {
		t.Error(err)
	}
	text = strings.Replace(writeTrace(t, tracedSpec), `"faults":[2,5]`, `"faults":[2,50]`, 1)
	if _, err := replay(text); !errors.Is(err, ErrOtherVersion) || !strings.Contains(err.Error(), "no fault 50") {
		t.Error(err)
	}
}

// TestReplayOfLongerOrShorterTrace: a trace that is the beginning of the other is not the same.
func TestReplayOfLongerOrShorterTrace(t *testing.T) {
	for _, lines := range []string{"200ms kind2\n", "200ms kind2\n500ms kind5\nmore\n"} {
		var file bytes.Buffer
		w, err := NewTraceWriter(&file, "1.0", tracedSpec, fakePlan(tracedSpec))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(lines)); err != nil {
			t.Fatal(err)
		}
		if err := w.End(RunHere(fakeSimulator{}, tracedSpec, sim.RunOptions{})); err != nil {
			t.Fatal(err)
		}
		r, err := Replay(t.Context(), bytes.NewReader(file.Bytes()), "1.0", fakeSimulator{}, Here{fakeSimulator{}})
		if err != nil || r.Same || r.DifferentLine == 0 || r.SavedLine == r.ThisLine {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

func TestParseHash(t *testing.T) {
	for text, want := range map[string]uint64{"0": 0, "000000000000001c": 28, "0xffffffffffffffff": 1<<64 - 1} {
		if got, err := ParseHash(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "xyz", "-1", "11112222333344445"} {
		if _, err := ParseHash(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
