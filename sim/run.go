package sim

import (
	"bufio"
	"bytes"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
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
		if _, found := findWorkload(c.Workload); !found {
			return fmt.Errorf("sim: there is no workload %q", c.Workload)
		}
	}
	return nil
}

func findWorkload(name string) (Workload, bool) {
	for _, w := range Workloads() {
		if w.Name == name {
			return w, true
		}
	}
	return Workload{}, false
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
	w.aside("setup", func(l Workload) func(Client) { return l.Setup })
	if w.verdict != "" {
		return
	}
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
	w.aside("check", func(l Workload) func(Client) { return l.Check })
	if w.verdict != "" {
		return
	}
	w.compare()
	w.background()
	w.judge()
}

// begin starts the clients and plans the faults.
func (w *world) begin() {
	for _, c := range w.plan.Clients {
		l, _ := findWorkload(c.Workload)
		w.group(c.Shard).newClient(c.Number, l.Name, l.Client)
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
func (w *world) aside(what string, part func(Workload) func(Client)) {
	type place struct {
		g        *group
		workload string
	}
	seen := map[place]bool{}
	for _, p := range w.plan.Clients {
		l, _ := findWorkload(p.Workload)
		run, g := part(l), w.group(p.Shard)
		if seen[place{g, l.Name}] || run == nil || w.verdict != "" {
			continue
		}
		seen[place{g, l.Name}] = true
		// The number decides what is random about the client, so it must not depend on who else takes part.
		number := firstAside + slices.IndexFunc(Workloads(), func(other Workload) bool { return other.Name == l.Name })
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
			if end := uint64(p.group.lastApplied()); p.replica.Applied() != end || p.gateway.Metrics().CallsInFlight > 0 {
				return fmt.Errorf("%s has not applied entry %d, or has calls in flight", p.name(), end)
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

// compare holds the states of all nodes against each other. Every node is there: who lost its data has it again.
func (w *world) compare() {
	w.recover() // the checks of the workloads may have written
	if w.verdict != "" {
		return
	}
	for _, n := range w.nodes {
		if err := n.disks.check(); err != nil {
			w.fail(Crash, "the disks of node %d: %v", n.id, err)
		}
		if err := n.store.Check(); err != nil {
			w.fail(Crash, "node %d breaks an invariant: %v", n.id, err)
		}
		if m := n.store.Metrics(); m.RequestsQueued != 0 || m.RequestBytes != 0 {
			w.fail(Crash, "node %d counts %d requests of %d bytes, all are answered", n.id, m.RequestsQueued, m.RequestBytes)
		}
		if n.guests.bytes != 0 {
			w.fail(Crash, "node %d holds %d bytes for requests that others forwarded to it, all are answered", n.id, n.guests.bytes)
		}
	}
	for _, g := range w.groups {
		g.compare()
	}
}

// compare holds the states of all nodes against each other, and against what happened.
func (g *group) compare() {
	var first *part
	for p := range g.parts() {
		p.check()
		p.checkGateway()
		if err := g.truth.tellsTheTruth(p); err != nil {
			g.fail(Correctness, "%v", err)
		}
		if first == nil {
			first = p
			continue
		}
		if err := sameState(first, p); err != nil {
			g.fail(Correctness, "%v", err)
		}
	}
}

// judge holds the answers against the oracle.
func (w *world) judge() {
	for _, g := range w.groups {
		if w.verdict != "" {
			return
		}
		g.complete()
		if problems := checkHistory(&g.history); len(problems) > 0 {
			g.fail(Correctness, "%s", strings.Join(problems, "\n"))
		}
	}
}

// complete adds to the history what clients cannot know.
func (g *group) complete() {
	w, h := g.w, &g.history
	h.Full, h.Final, h.Commits = g.truth.events, g.truth.revision, g.truth.commits
	h.ClockDrift, h.HealthySince = w.plan.Limits.ClockDrift, w.healed
	h.MaxEffectBytes, h.KeysPerExpiry = w.plan.Limits.Bounds.MaxRequestEffectBytes, w.plan.Limits.Bounds.keysPerExpiry()
	if w.plan.LoseQuorum {
		h.HealthySince = 0 // leases end with those who kept them
	}
	for _, f := range w.plan.Faults {
		if f.Kind == FaultClockJump || f.Kind == FaultClockRate {
			// Then nobody can say when a lease of the store ends.
			h.ClockDrift, h.HealthySince = 1e4, 0
		}
	}
}

// sameState compares two nodes' parts of a group at every revision that they still have.
func sameState(a, b *part) error {
	if a.replica.Applied() != b.replica.Applied() || a.replica.Revision() != b.replica.Revision() || a.replica.Compacted() != b.replica.Compacted() {
		return fmt.Errorf("node %d is at entry %d, revision %d, compacted %d; node %d at %d, %d, %d", a.node.id, a.replica.Applied(), a.replica.Revision(),
			a.replica.Compacted(), b.node.id, b.replica.Applied(), b.replica.Revision(), b.replica.Compacted())
	}
	left, right := a.replica.View(), b.replica.View()
	defer left.Close()
	defer right.Close()
	// A hash covers all rows up to its revision that were not superseded and forgotten, so a few say as much as all.
	first, last := max(1, a.replica.Compacted()), a.replica.Revision()
	for _, revision := range []kv.Revision{first, first + (last-first)/2, last} {
		x, err := left.Hash(revision)
		if err != nil {
			return fmt.Errorf("node %d at revision %d: %w", a.node.id, revision, err)
		}
		y, err := right.Hash(revision)
		if err != nil {
			return fmt.Errorf("node %d at revision %d: %w", b.node.id, revision, err)
		}
		if x != y {
			return fmt.Errorf("at revision %d node %d has hash %x, node %d %x", revision, a.node.id, x, b.node.id, y)
		}
	}
	return nil
}

// tellsTheTruth compares the history that a node retains with what happened.
func (t *truth) tellsTheTruth(p *part) error {
	view := p.replica.View()
	defer view.Close()
	from := max(view.Compacted(), 1) + 1
	events := t.events
	for len(events) > 0 && events[0].KV.ModRevision < from {
		events = events[1:]
	}
	for from <= view.Revision() {
		next, err := view.History(from, view.Revision(), 1<<20, func(e *mvcc.Effect) error {
			switch {
			case len(events) == 0:
				return fmt.Errorf("the history has %q at revision %d, which never happened", e.Key, e.At.Rev)
			case !sameEvent(e, &events[0]):
				return fmt.Errorf("the history has %q=%q at revision %d, but %q=%q at %d is next", e.Key, e.Value, e.At.Rev,
					events[0].KV.Key, events[0].KV.Value, events[0].KV.ModRevision)
			}
			events = events[1:]
			return nil
		})
		if err != nil {
			return fmt.Errorf("node %d: %w", p.node.id, err)
		}
		from = next
	}
	if len(events) > 0 {
		return fmt.Errorf("node %d: revision %d is missing in the history", p.node.id, events[0].KV.ModRevision)
	}
	return nil
}

func sameEvent(e *mvcc.Effect, event *kv.Event) bool {
	return bytes.Equal(e.Key, event.KV.Key) && e.At.Rev == event.KV.ModRevision && e.Version == event.KV.Version &&
		(e.Version == 0 || bytes.Equal(e.Value, event.KV.Value) && e.Create == event.KV.CreateRevision && e.Lease == event.KV.Lease)
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
