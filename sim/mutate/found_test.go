package main

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestMutantIsFound builds one variant and lets the simulator find it.
func TestMutantIsFound(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	tree, err := newTree()
	if err != nil {
		t.Fatal(err)
	}
	selected, err := selectMutations([]string{"replica/answer-before-commit"})
	if err != nil {
		t.Fatal(err)
	}
	o := options{jobs: 1, first: 1, limit: 10 * time.Minute}
	row := o.try(context.Background(), tree, &selected[0])
	if row.Status != found {
		t.Fatalf("%+v", row)
	}
	if !strings.Contains(row.command(), "--only replica/answer-before-commit --first ") {
		t.Errorf("the command to reproduce is %q", row.command())
	}
}
