package server

import (
	"fmt"
	"testing"
	"time"
)

func TestRepetitions(t *testing.T) {
	var r repetitions
	for _, step := range []struct {
		kind, reason string
		at           time.Duration
		want         bool
	}{
		{"refused", "n2", 0, true},
		{"refused", "n2", time.Second, false},
		{"refused", "n3", time.Second, true},
		{"refused by", "n2", time.Second, true},
		{"refused", "n2", repeatInterval, true},
		{"refused", "n2", 2*repeatInterval - 1, false},
	} {
		if got := r.allows(step.kind, step.reason, step.at); got != step.want {
			t.Errorf("%s %s at %v: %v, want %v", step.kind, step.reason, step.at, got, step.want)
		}
	}
	written := 0
	for i := range 10 * maxRepetitions {
		if r.allows("refused", fmt.Sprint(i), 3*repeatInterval) {
			written++
		}
		r.allows(fmt.Sprint(i%50), fmt.Sprint(i), time.Duration(i)*repeatInterval)
		if len(r.last) > maxRepetitions {
			t.Fatalf("%d lines remembered", len(r.last))
		}
	}
	if written != maxLinesOfKind {
		t.Errorf("%d lines were written in a minute, for as many reasons as somebody could think of", written)
	}
}
