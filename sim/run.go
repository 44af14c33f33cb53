package sim

import (
	"bufio"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/quoratedb/quorate/sim/workload"
)

// election guards crypto/rand.Reader. Package go.etcd.io/raft draws the jitter of its election timeouts from that variable and lets nobody
// pass another source, so a run of Raft replaces it by a seeded one, and only one run at a time can.
var election sync.Mutex

// chance is a rand.Rand as an io.Reader.
type chance struct{ *rand.Rand }

func (c chance) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c.Uint32())
	}
	return len(p), nil
}

// Run executes a plan. It returns when the verdict is known.
func Run(p Plan, o RunOptions) (result Result) {
	if p.Protocol == Raft {
		election.Lock()
		before := cryptorand.Reader
		defer func() {
			cryptorand.Reader = before
			election.Unlock()
		}()
	}
	if err := p.Validate(); err != nil {
		return Result{Plan: p, Verdict: Crash, Problem: err.Error()}
	}
	w := newWorld(p, o)
	if p.Protocol == Raft {
		cryptorand.Reader = chance{w.source(sourceElection, 0)}
	}
	w.run()
	w.finish()
	w.marks["rounds"] = int(w.rounds)
	if w.reading() {
		_ = w.trace.lines.(*bufio.Writer).Flush() // a trace that cannot be written is no verdict about the run
	}
	if w.verdict == "" {
		w.verdict = Passed
	}
	return Result{
		Plan: p, Verdict: w.verdict, Problem: w.problem, Hash: w.trace.hash, Time: w.now, Events: w.events,
		Operations: w.outcomes, Faults: w.faults, Marks: w.marks,
	}
}

// Validate tells what is wrong with a plan.
func (p Plan) Validate() error {
	switch {
	case p.Nodes < 1 || p.Nodes > maxNodes:
		return fmt.Errorf("sim: a cluster of %d nodes; 1 to %d are possible", p.Nodes, maxNodes)
	case p.Shards < 0 || p.Shards > MaxShards:
		return fmt.Errorf("sim: %d shards; 1 to %d are possible", p.Shards, MaxShards)
	case p.Homes != nil && !p.housed():
		return fmt.Errorf("sim: the homes %v are not those of %d shards on %d nodes", p.Homes, max(p.Shards, 1), p.Nodes)
	case p.validatePartition() != nil:
		return p.validatePartition()
	case p.Protocol != Raft && p.Protocol != Paxos:
		return fmt.Errorf("sim: the protocol %q is unknown; there are %q and %q", p.Protocol, Raft, Paxos)
	case p.Engine != Memory && p.Engine != Pebble:
		return fmt.Errorf("sim: the engine %q is unknown; there are %q and %q", p.Engine, Memory, Pebble)
	case p.Duration <= 0 || p.Limits.Heartbeat <= 0:
		return errors.New("sim: the duration and the heartbeat interval must be positive")
	}
	for _, f := range p.Faults {
		if !slices.ContainsFunc(faultRanges, func(r faultRange) bool { return r.kind == f.Kind }) {
			return fmt.Errorf("sim: there is no fault of kind %q", f.Kind)
		}
	}
	for _, c := range p.Clients {
		if c.Shard < 0 || c.Shard > max(p.Shards, 1) {
			return fmt.Errorf("sim: client %d works on shard %d; there are %d", c.Number, c.Shard, max(p.Shards, 1))
		}
		if _, _, found := workload.Find(c.Workload); !found {
			return fmt.Errorf("sim: there is no workload %q", c.Workload)
		}
	}
	return nil
}

// run is the course of a run. A panic of the code under test ends it.
func (w *world) run() {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case productPanic:
			w.fail(Crash, "%v", r)
		default:
			w.fail(Crash, "%v", productPanic{r, debug.Stack()})
		}
	}()
	for _, n := range w.nodes {
		n.start()
	}
	w.crashEarly()
	w.aside("setup", func(l workload.Workload) func(workload.Client) { return l.Setup })
	if w.verdict != "" {
		return
	}
	w.begun()
	w.base = w.now
	w.begin()
	w.runUntil(w.base+w.plan.Duration, time.Second, nil)
	if w.verdict != "" {
		return
	}
	w.ended, w.healed = true, w.now
	w.heal()
	if w.plan.LoseQuorum {
		w.giveUp()
		return
	}
	w.recover()
	w.aside("check", func(l workload.Workload) func(workload.Client) { return l.Check })
	if w.verdict != "" {
		return
	}
	w.backups.last()
	w.compare()
	w.background()
	w.judge()
	w.backups.check()
	w.checkTimes()
}

// earlyShare: in one run in so many nodes crash while groups begin.
const earlyShare = 4

// crashEarly takes the power of nodes while groups begin: who has begun must be able to tell the others later that they never had anything.
func (w *world) crashEarly() {
	random := w.source(sourceEarly, 0)
	if random.IntN(earlyShare) != 0 || w.plan.harmless() {
		return
	}
	for range 1 + random.IntN(3) {
		n := w.nodes[random.IntN(len(w.nodes))]
		down := time.Duration(random.Int64N(int64(500 * time.Millisecond)))
		w.after(time.Duration(random.Int64N(int64(400*time.Millisecond))), func() {
			if n.up && n.fuse == 0 {
				w.mark("crash while groups begin")
				n.crashPlan, n.fuse = crashPlan{random: survival(random), down: down}, 1+random.IntN(60)
			}
		})
	}
}

// begun waits until every group has begun. Of a group with clients the setup has shown that it has.
func (w *world) begun() {
	if len(w.groups) == 1 || w.verdict != "" {
		return
	}
	if !w.runUntil(w.now+patience, 5*time.Millisecond, w.whole) && w.verdict == "" {
		w.fail(Liveness, "not all groups have begun on a healthy cluster:%s", w.describe())
	}
}

// begin starts the clients and plans the faults.
func (w *world) begin() {
	for _, c := range w.plan.Clients {
		l, _, _ := workload.Find(c.Workload)
		w.group(c.Shard).newClient(c.Number, l.Name, l.Client)
	}
	if len(w.groups) > 1 && !w.shared() {
		w.stray(w.source(sourceStray, 0))
	}
	w.backups = newBackups(w)
	if w.plan.Users {
		w.users.begin()
	}
	for i := range w.plan.Faults {
		f := &w.plan.Faults[i]
		w.push(event{at: w.base + f.At, run: func() { w.inject(i, f) }})
	}
}

// patience is how long a healthy cluster may take to do what it must.
const patience = 30 * time.Second

// firstAside is the number from which on clients set up workloads and check them.
const firstAside = 1000

// aside runs a part of each workload that takes part in a group, one client after the other, on a healthy cluster.
func (w *world) aside(what string, part func(workload.Workload) func(workload.Client)) {
	type once struct {
		g        *group
		workload string
	}
	seen := map[once]bool{}
	for _, p := range w.plan.Clients {
		l, place, _ := workload.Find(p.Workload)
		run, g := part(l), w.group(p.Shard)
		if seen[once{g, l.Name}] || run == nil || w.verdict != "" {
			continue
		}
		seen[once{g, l.Name}] = true
		// The number decides what is random about the client, so it must not depend on who else takes part.
		number := firstAside + place
		if what == "check" {
			number += firstAside
		}
		c := g.newClient(g.aside(number), l.Name+" "+what, run)
		w.runUntil(w.now+patience, 10*time.Millisecond, func() bool { return c.done })
		if w.verdict == "" && !c.done {
			g.fail(Liveness, "the %s of workload %s did not end on a healthy cluster:%s", what, l.Name, w.describe())
		}
	}
}

// aside is the number of a client that sets up or checks this group's part of a workload.
func (g *group) aside(number int) int { return number + g.index*4*firstAside }

// recover demands that a healed cluster serves, answers what is open, and becomes of one mind.
func (w *world) recover() {
	if w.verdict != "" {
		return
	}
	if w.reading() {
		w.line("everything is healed")
	}
	if !w.runUntil(w.now+patience, 5*time.Millisecond, func() bool { return w.unsettled() == nil }) && w.verdict == "" {
		if i := slices.IndexFunc(w.nodes, (*node).rotten); i >= 0 {
			w.fail(Liveness, "%s after everything was healed node %d has not found out that its disks are rotten (%s):%s",
				patience, w.nodes[i].id, w.nodes[i].damage.why, w.describe())
			return
		}
		w.fail(Liveness, "%s after everything was healed the cluster has not settled: %v:%s", patience, w.unsettled(), w.describe())
	}
}

// unsettled tells what is missing until every client has returned and every node is in every group of its a voter that has applied and answered
// everything.
func (w *world) unsettled() error {
	for _, c := range w.clients {
		if !c.done {
			return fmt.Errorf("client %d waits", c.number)
		}
	}
	for _, g := range w.groups {
		if !g.whole() {
			return fmt.Errorf("shard %d is not whole", g.id)
		}
	}
	for _, n := range w.nodes {
		if n.rotten() || !n.up || n.driving || n.store.Metrics().RequestsQueued > 0 {
			return fmt.Errorf("node %d is not at rest", n.id)
		}
		for p := range n.held() {
			if end := uint64(p.group.lastApplied()); !p.up() || p.replica.Applied() != end || p.gateway.Metrics().CallsInFlight > 0 {
				return fmt.Errorf("%s has not applied entry %d, or has calls in flight", p.name(), end)
			}
			if err := p.undecided(); err != nil {
				return err
			}
		}
	}
	return nil
}

// giveUp demands of a cluster that has lost too much that no answer was wrong, and that every node says so where nobody has a copy.
// Where somebody has, nobody may serve.
func (w *world) giveUp() {
	copies := slices.ContainsFunc(w.nodes, func(n *node) bool { return n.diskCount == 1 })
	ended := w.runUntil(w.now+patience, 5*time.Millisecond, func() bool {
		running := slices.ContainsFunc(w.clients, func(c *client) bool { return !c.done })
		return !running && !copies && !slices.ContainsFunc(w.nodes, func(n *node) bool { return !n.noCopy })
	})
	switch {
	case w.verdict != "":
	case copies && slices.ContainsFunc(w.groups, func(g *group) bool { return g.leader() != nil }):
		w.fail(Correctness, "%s after a quorum had lost its data somebody serves:%s", patience, w.describe())
	case !copies && !ended:
		w.fail(Liveness, "%s after all nodes had lost their data not every one says that no copy is left:%s", patience, w.describe())
	}
	w.judge()
}

// finish ends whatever still runs.
func (w *world) finish() {
	if w.plot != nil {
		w.plot.abandon()
	}
	for _, c := range w.clients {
		c.over = true
		c.code.stop()
	}
	for _, n := range w.processes() {
		if n.up {
			n.count()
		}
		for _, c := range append(n.jobs, n.driver) {
			if c != nil {
				c.stop()
			}
		}
		n.disks.close()
	}
}
