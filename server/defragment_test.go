package server

import (
	"errors"
	"testing"
	"testing/synctest"
)

// TestReclamationsAreShared: who asks while space is given back waits for the next time, together with all others who did.
func TestReclamationsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r reclamations
		gate, runs := make(chan error), 0
		run := func() error { runs++; return <-gate }
		first, start := r.join(run)
		if start == nil {
			t.Fatal("nobody does the work")
		}
		go start()
		synctest.Wait()
		second, startSecond := r.join(run)
		third, startThird := r.join(run)
		if startSecond != nil || startThird != nil || second != third || second == first {
			t.Fatal("those who come later do not share the next time")
		}
		failure := errors.New("no space")
		gate <- failure
		<-first.done
		synctest.Wait()
		select {
		case <-second.done:
			t.Fatal("the second was answered by what the first had done")
		default:
		}
		gate <- nil
		<-second.done
		if first.err != failure || second.err != nil || runs != 2 {
			t.Errorf("%v, %v, %d runs", first.err, second.err, runs)
		}
		if _, again := r.join(run); again == nil {
			t.Error("nobody does the work any more")
		}
	})
}
