package campaign

import (
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/sim"
)

// Stack traces of a worker. The first goroutine is always the one that looks.
const (
	stacksOfLook    = "goroutine 1 [running]:\ngithub.com/quoratedb/quorate/sim/campaign.allStacks()\n\n"
	stacksOfJobs    = "goroutine 5 [syscall]:\nsyscall.read()\ngithub.com/quoratedb/quorate/sim/campaign.readJobs(...)\n\n"
	stacksOfStarved = stacksOfLook + stacksOfJobs + "goroutine 6 [coroutine]:\nsim.Run()\n\ngoroutine 7 [runnable]:\nsim.life()\n"
	stacksOfBlocked = stacksOfLook + stacksOfJobs + "goroutine 6 [coroutine]:\nsim.Run()\n\ngoroutine 7 [sync.Mutex.Lock, 2 minutes]:\nsim.life()\n"
)

// TestWatch: a run is judged by the work that was done for it, not by real time.
func TestWatch(t *testing.T) {
	type look struct {
		after, used time.Duration
		memoryBytes uint64
		stacks      string
	}
	const limit = 2 * time.Minute
	for _, c := range []struct {
		name    string
		looks   []look
		verdict sim.Verdict
		problem string
	}{
		{"starved for a day", []look{
			{limit, time.Second, 0, stacksOfStarved}, {2 * limit, time.Second, 0, stacksOfStarved}, {24 * time.Hour, 2 * time.Second, 0, stacksOfStarved},
		}, "", ""},
		{"endless", []look{{time.Second, limit, 0, ""}, {time.Second, limit + 1, 0, ""}}, Hang, "within 2m0s of processor time"},
		{"blocked", []look{{limit, 0, 0, stacksOfBlocked}, {2*limit - 1, 0, 0, ""}, {2 * limit, 0, 0, stacksOfBlocked}}, Hang, "what never comes"},
		{"blocked for a moment", []look{{limit, 0, 0, stacksOfBlocked}, {2 * limit, 0, 0, stacksOfStarved}, {3 * limit, 0, 0, stacksOfBlocked}}, "", ""},
		{"writes its trace", []look{
			{limit, 0, 0, stacksOfLook + "goroutine 6 [IO wait]:\nos.Write()\n"}, {2 * limit, 0, 0, stacksOfLook + "goroutine 6 [IO wait]:\nos.Write()\n"},
		}, "", ""},
		{"memory", []look{{time.Second, 0, 5 << 20, ""}}, sim.Crash, "used 5 MiB of memory, and may use 4 MiB"},
	} {
		began := time.Unix(1, 0)
		w := &watch{limits: Limits{Work: limit, MemoryBytes: 4 << 20}, began: time.Hour, asked: began}
		var verdict sim.Verdict
		var problem string
		for i, l := range c.looks {
			if verdict != "" {
				t.Errorf("%s: look %d was not needed: %s", c.name, i, problem)
			}
			verdict, problem = w.look(began.Add(l.after), time.Hour+l.used, l.memoryBytes, func() string { return l.stacks })
		}
		if verdict != c.verdict || !strings.Contains(problem, c.problem) {
			t.Errorf("%s: %s, %q", c.name, verdict, problem)
		}
	}
	w := &watch{} // no limits
	if verdict, _ := w.look(time.Now(), time.Hour, 1<<40, nil); verdict != "" {
		t.Error(verdict)
	}
}
