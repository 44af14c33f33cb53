package campaign

import (
	"fmt"
	"strings"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// watch tells when a run breaks its limits.
type watch struct {
	limits Limits
	began  time.Duration // what the process had used of processors when the run began
	asked  time.Time     // when the run began, or it was last asked what its goroutines do
	parked bool          // nobody was able to go on then
}

// look is called every so often. used is the time of processors that the process has used, stacks shows what all goroutines do.
func (w *watch) look(now time.Time, used time.Duration, memoryBytes uint64, stacks func() string) (verdict sim.Verdict, problem string) {
	limit := w.limits.Work
	switch {
	case w.limits.MemoryBytes != 0 && memoryBytes > w.limits.MemoryBytes:
		return sim.Crash, fmt.Sprintf("the run used %d MiB of memory, and may use %d MiB", memoryBytes>>20, w.limits.MemoryBytes>>20)
	case limit == 0:
		return "", ""
	case used-w.began > limit:
		return Hang, fmt.Sprintf("the run did not end within %v of processor time", limit)
	}
	// A run that waits for what never comes uses none. One that gets no processor does not either: its goroutine could go on.
	if now.Sub(w.asked) < limit {
		return "", ""
	}
	before := w.parked
	w.asked, w.parked = now, allParked(stacks())
	if before && w.parked {
		return Hang, fmt.Sprintf("the run waits for what never comes: for %v no goroutine was able to go on", limit)
	}
	return "", ""
}

// parkedStates are those of goroutines that wait for others, as a stack trace names them.
var parkedStates = []string{"chan receive", "chan send", "select", "sync.", "semacquire", "coroutine"}

// allParked tells whether all goroutines that stacks shows wait for each other: but the first one, which has asked, and the one that waits for jobs.
func allParked(stacks string) bool {
	for i, goroutine := range strings.Split(strings.TrimSpace(stacks), "\n\n") {
		if i == 0 || strings.Contains(goroutine, "campaign.readJobs(") {
			continue
		}
		_, state, _ := strings.Cut(goroutine, "[")
		parked := false
		for _, name := range parkedStates {
			parked = parked || strings.HasPrefix(state, name)
		}
		if !parked {
			return false
		}
	}
	return true
}
