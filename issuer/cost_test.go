package issuer

import "testing"

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
