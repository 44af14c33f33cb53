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
	selected, err := selectMutations([]string{"driver/answer-before-commit"})
	if err != nil {
		t.Fatal(err)
	}
	o := options{jobs: 1, first: 1, limit: 10 * time.Minute}
	rows, err := o.runAll(context.Background(), tree, selected)
	if err != nil {
		t.Fatal(err)
	}
	if err := verdict(rows); err != nil {
		t.Fatalf("%v: %+v", err, rows)
	}
	if row := rows[0]; !strings.Contains(row.command(), "--only driver/answer-before-commit --first ") {
		t.Errorf("the command to reproduce is %q", row.command())
	}
}
