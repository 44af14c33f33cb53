package issuer

import (
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// TestCostBesideTheSequencer: who leads beside the sequencer numbers a batch, and reads the present, without allocations or frames.
func TestCostBesideTheSequencer(t *testing.T) {
	f := newFake(t, 1)
	f.leadSystem(t, 5, 1)
	f.Lead(2, 3, 1, 0)
	f.sent = nil
	for what, do := range map[string]func(){
		"numbers": func() { f.Hold(); f.Take(2, 1) },
		"present": func() { f.Now() },
	} {
		if n := testing.AllocsPerRun(20, do); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
	if len(f.sent) != 0 || len(f.refused) != 0 {
		t.Errorf("sent %v, refused %v", f.sent, f.refused)
	}
}

// TestOneQuestion: what the groups of a node ask for in one round is one frame, and so is the answer.
func TestOneQuestion(t *testing.T) {
	f, other := newFake(t, 1), newFake(t, 2)
	f.leadSystem(t, 5, 1)
	other.Target(1, 5)
	other.Lead(2, 3, 1, 0)
	other.Lead(3, 3, 1, 0)
	talk(f, other)
	got := 0
	other.Issuer.Ask(2, 3, 2, kv.Bounds{}, func(kv.Revision, kv.Revision, bool) { got++ })
	other.Issuer.Ask(3, 3, 1, kv.Bounds{}, func(kv.Revision, kv.Revision, bool) { got++ })
	if len(other.sent)+len(other.buffered) != 0 {
		t.Fatalf("%d frames left before everybody had asked", len(other.sent)+len(other.buffered))
	}
	other.SendAsked()
	if asked, answered := other.deliver(f), f.deliver(other); asked != 1 || answered != 1 {
		t.Errorf("%d questions, %d answers", asked, answered)
	}
	if other.doRound(); got != 2 {
		t.Errorf("%d groups have their revisions", got)
	}
}
