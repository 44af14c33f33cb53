package audit

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
)

// TestScenarios plays testdata: a policy, and what it wants of operations. "put a" writes a key, "range a b" reads a span, "status" is about no keys.
func TestScenarios(t *testing.T) {
	var p Policy
	datadriven.RunTest(t, "testdata/policy.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "policy":
			p = Policy{}
			for _, arg := range d.CmdArgs {
				switch arg.Key {
				case "reads":
					p.Reads = true
				case "operations":
					p.Operations = arg.Vals
				case "not-operations":
					p.NotOperations = arg.Vals
				case "prefixes":
					p.Prefixes = arg.Vals
				case "not-prefixes":
					p.NotPrefixes = arg.Vals
				default:
					t.Fatal(arg.Key)
				}
			}
			if err := p.Validate(func(operation string) bool { return strings.ToUpper(operation[:1]) == operation[:1] }); err != nil {
				return err.Error()
			}
			return "ok"
		case "judge":
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				words := strings.Fields(line)
				var spans []kv.Span
				if len(words) > 2 {
					spans = append(spans, kv.Span{Start: []byte(words[2])})
				}
				if len(words) > 3 {
					spans[0].End = []byte(strings.ReplaceAll(words[3], "ALL", "\x00"))
				}
				fmt.Fprintf(&out, "%s: %v\n", strings.TrimSpace(line), p.Wants(words[0], words[1] == "writes", spans))
			}
			return out.String()
		}
		t.Fatal(d.Cmd)
		return ""
	})
}

// universe is all keys of up to so many of the letters.
func universe(length int, letters ...string) (all []string) {
	level := []string{""}
	for range length {
		var next []string
		for _, k := range level {
			for _, l := range letters {
				next = append(next, k+l)
			}
		}
		all, level = append(all, next...), next
	}
	return all
}

// TestSpansTwin looks at every key.
func TestSpansTwin(t *testing.T) {
	keys := universe(4, "a", "b", "c", "\xff") // spans and prefixes are shorter, and have no c: what is between them is not empty
	named := universe(3, "a", "b", "\xff")
	r := rand.New(rand.NewPCG(3, 4))
	for range 5_000 {
		s := kv.Span{Start: []byte(named[r.IntN(len(named))])}
		switch r.IntN(3) {
		case 0:
			s.End = []byte(named[r.IntN(len(named))])
		case 1:
			s.End = []byte{0}
		}
		prefix := named[r.IntN(12)] // of one or two letters
		has, lacks := false, false
		for _, k := range keys {
			in := k == string(s.Start)
			if len(s.End) > 0 {
				in = k >= string(s.Start) && (endless(s) || k < string(s.End))
			}
			if in && strings.HasPrefix(k, prefix) {
				has = true
			} else if in {
				lacks = true
			}
		}
		if got := touches(s, []byte(prefix)); got != has {
			t.Fatalf("%q touches %q: got %v, want %v", s, prefix, got, has)
		}
		if got := within(s, []byte(prefix)); got == lacks {
			t.Fatalf("%q within %q: got %v, lacks %v", s, prefix, got, lacks)
		}
	}
}
