package autocompact

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
)

// TestScenarios plays testdata. The commands:
//
//	new mode=periodic retention=1h revision=5   begins at time 0
//	run until=2h each=100 [may=false] [fails]   wakes the core whenever it wants, and adds so many revisions each time before;
//	                                            prints what is compacted. fails: every compaction fails
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var s scenario
		datadriven.RunTest(t, path, s.run)
	})
}

type scenario struct {
	core     *Core
	now      time.Duration
	revision kv.Revision
}

func argument(d *datadriven.TestData, name, absent string) string {
	for _, arg := range d.CmdArgs {
		if arg.Key == name {
			return strings.Join(arg.Vals, ",")
		}
	}
	return absent
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "new":
		policy, err := Policy{Mode: Mode(argument(d, "mode", ""))}, error(nil)
		if retention := argument(d, "retention", ""); policy.Mode == Revision {
			policy.Revisions = atoi(t, retention)
		} else if policy.Period, err = time.ParseDuration(retention); err != nil {
			t.Fatal(err)
		}
		s.now, s.revision = 0, kv.Revision(atoi(t, argument(d, "revision", "1")))
		if s.core, err = New(policy, s.now, s.revision); err != nil {
			return err.Error()
		}
		return "ok"
	case "run":
		return s.play(t, d)
	}
	t.Fatalf("unknown command %s", d.Cmd)
	return ""
}

func (s *scenario) play(t *testing.T, d *datadriven.TestData) string {
	until, err := time.ParseDuration(argument(d, "until", ""))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for s.core.Next() <= until {
		if _, early := s.core.Wake(s.core.Next()-1, s.revision, true); early {
			t.Fatal("compacts before it is time")
		}
		s.now = s.core.Next()
		s.revision += kv.Revision(atoi(t, argument(d, "each", "0")))
		at, compact := s.core.Wake(s.now, s.revision, argument(d, "may", "true") == "true")
		if !compact {
			continue
		}
		if _, twice := s.core.Wake(s.now+24*time.Hour, s.revision, true); twice {
			t.Fatal("two compactions at a time")
		}
		failed := argument(d, "fails", "no") != "no"
		fmt.Fprintf(&out, "%v: compact at %d of %d", s.now, at, s.revision)
		if failed {
			out.WriteString(", which fails")
		}
		out.WriteString("\n")
		s.core.Ended(s.now, s.revision, !failed)
	}
	if out.Len() == 0 {
		return "nothing"
	}
	return out.String()
}

func atoi(t *testing.T, text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPolicyIsChecked: what a program gives, not a flag.
func TestPolicyIsChecked(t *testing.T) {
	for _, p := range []Policy{{Mode: "hourly", Period: time.Hour}, {Mode: Periodic, Period: -1}, {Mode: Periodic, Period: 1}, {Mode: Revision, Revisions: -1}} {
		if _, err := New(p, 0, 1); err == nil {
			t.Errorf("%+v was accepted", p)
		}
	}
	if _, err := New(Policy{Mode: Periodic}, 0, 1); err == nil {
		t.Error("a policy that compacts nothing has a core")
	}
}
