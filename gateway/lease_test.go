package gateway

import (
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// TestPatienceOfLeaseEnds: each attempt to end a lease takes twice as long as the one that failed before it, up to a bound; that of another lease does not. What is
// known is bounded.
func TestPatienceOfLeaseEnds(t *testing.T) {
	var e leaseEnds
	for _, want := range []time.Duration{2, 4, 8, 16, 16} {
		if got := e.patience(7, time.Minute); got != want*time.Second {
			t.Errorf("an attempt may take %v, want %d s", got, want)
		}
		e.attempted(7, true)
	}
	if got := e.patience(8, time.Second); got != time.Second {
		t.Errorf("that of another lease may take %v, want the timeout of requests", got)
	}
	e.attempted(7, false)
	if got := e.patience(7, time.Minute); got != firstEndTime || len(e.failed) != 0 {
		t.Errorf("after the end an attempt may take %v, and %d are known", got, len(e.failed))
	}
	for id := range kv.LeaseID(3 * maxFailedEnds) {
		e.attempted(id, true)
	}
	if n := len(e.failed); n > maxFailedEnds {
		t.Errorf("failed attempts of %d leases are known", n)
	}
}
