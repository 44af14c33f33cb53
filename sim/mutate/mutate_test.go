package main

import (
	"errors"
	"go/parser"
	"go/token"
	"slices"
	"testing"
)

// TestMutationsApply notices a refactoring that makes a mutation meaningless: its old text must occur exactly once, and what
// comes out must be Go. Whether everything compiles is for go run ./sim/mutate --check.
func TestMutationsApply(t *testing.T) {
	tree, err := newTree()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range mutations() {
		if slices.Contains(names, m.Name) {
			t.Errorf("%s: there are two of that name", m.Name)
		}
		names = append(names, m.Name)
		if m.Breaks == "" || (m.Seeds < 1) == (m.At == 0) || len(m.Verdicts) == 0 {
			t.Errorf("%s: what it breaks, its seeds or its verdicts are missing", m.Name)
		}
		changed, err := tree.schemata([]Mutation{m})
		if err != nil {
			t.Error(err)
			continue
		}
		for path, source := range changed {
			if _, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution); err != nil {
				t.Errorf("%s: the variant is not Go: %v", m.Name, err)
			}
		}
	}
	if len(names) < 40 {
		t.Errorf("there are %d mutations, the table promises at least 40", len(names))
	}
}

func TestStaleMutation(t *testing.T) {
	m := Mutation{Name: "x", File: "x.go", Old: "a", New: "b"}
	for _, source := range []string{"", "aa"} {
		if _, err := m.apply(source); !errors.Is(err, errStale) {
			t.Errorf("applied to %q: %v", source, err)
		}
	}
	if got, err := m.apply("xay"); err != nil || got != "xby" {
		t.Errorf("got %q, %v", got, err)
	}
	m.New = m.Old
	if _, err := m.apply("a"); !errors.Is(err, errStale) {
		t.Errorf("a mutation that changes nothing: %v", err)
	}
}
