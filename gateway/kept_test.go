package gateway

import "testing"

// TestKeptAnswersAreBounded: of each node, and what was handed out gives room.
func TestKeptAnswersAreBounded(t *testing.T) {
	var k keptAnswers
	half := make([]byte, maxKeptBytes/2)
	for i, want := range []bool{true, true, false} {
		if got := k.keep(2, half); got != want {
			t.Errorf("answer %d to node 2 is kept: %v", i, got)
		}
	}
	if !k.keep(3, half) {
		t.Error("node 2 takes the room of node 3")
	}
	if got := len(k.take(2)); got != 2 {
		t.Errorf("%d answers were kept for node 2", got)
	}
	if len(k.take(2)) > 0 || !k.keep(2, half) {
		t.Error("what was handed out is kept on")
	}
}
