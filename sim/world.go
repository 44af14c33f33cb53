package sim

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/timeline"
)

const maxNodes = 7

// world is a cluster in one goroutine: real drivers, cores, machines, gateways and watch hubs on a simulated network, disks and
// clocks. Everything follows from the plan.
type world struct {
	offered      offered                       // times of revisions, with Plan.Times
	recorded     map[kv.Revision]timeline.Time // those that any node ever had
	plan         Plan
	options      RunOptions
	now          time.Duration
	queue        eventQueue
	trace        tracer
	nodes        []*node
	groups       []*group
	roster       *rosters // of members
	users        *userBook
	ledger       *ledger // of the revisions of a store of several shards
	transactions []byte  // space of sameTransactions
	net          *network
	clients      []*client
	pending      [maxNodes + 1][]*pendingAnswer // by index of a node
	gone         *rand.Rand                     // how soon clients notice that a node is gone

	switchingUntil time.Duration // a switch of quorums is under way
	contest        *contest      // in progress; nil: none
	plot           *plot         // in progress; nil: none
	double         *double       // a second process of a node; nil: there is none
	doubleEnded    time.Duration // when the last one ended; 0: there was none
	doubles        uint64        // how many there were
	backups        *backups      // that are made of the store; nil: none are
	// stopped, if set, is what becomes of a process that ends by itself or does not start, in place of what a supervisor does.
	stopped func(*node, error)

	base     time.Duration // when the clients' work began: faults count from here
	healed   time.Duration // when all faults ended
	ended    bool          // clients are asked to stop
	problem  string
	verdict  Verdict
	events   int64
	rounds   int64
	marks    map[string]int
	outcomes map[string]int
	faults   map[string]int
}

// Sources of chance. Each part of the world draws from its own, so that leaving one out changes nothing for the others.
const (
	sourcePlan uint64 = iota + 1
	sourceNode
	sourceLink
	sourceConn
	sourceClient
	sourceClientLink
	sourceElection
	sourceGone
	sourceAim
	sourcePlot
	sourceScene
	sourceRounds
	sourceBounds
	sourceEngine
	sourceSlow
	sourceDawdle
	sourceQuorum
	sourceShards
	sourceStray
	sourceEdge
	sourceHalves
	sourceEarly
	sourcePartition
	sourceWindow
	sourceCensus
	sourceStoreFaults
	sourceStore
	sourceCommit
	sourceBackup
	sourceMembers
	sourceUsers
)

func (w *world) source(kind uint64, number int) *rand.Rand {
	return rand.New(rand.NewPCG(w.plan.Seed, kind<<32|uint64(number)))
}

func newWorld(p Plan, o RunOptions) *world {
	w := &world{plan: p, options: o, ledger: newLedger(), offered: offered{}, recorded: map[kv.Revision]timeline.Time{}, marks: map[string]int{}, outcomes: map[string]int{}, faults: map[string]int{}}
	if o.Trace != nil {
		w.trace.lines = bufio.NewWriterSize(o.Trace, 64<<10)
	}
	for i := range max(p.Shards, 1) {
		w.groups = append(w.groups, newGroup(w, i))
	}
	w.gone = w.source(sourceGone, 0)
	w.roster, w.users = newRosters(w), newUserBook(w)
	w.net = newNetwork(w)
	for i := range p.Nodes {
		n := &node{w: w, id: nodeID(i + 1), index: i, random: w.source(sourceNode, i+1), format: driver.FormatNewest, nextFormat: driver.FormatNewest}
		n.chance = w.source(sourceDawdle, i+1)
		n.rate = 1 + p.Limits.ClockDrift*(2*n.random.Float64()-1)
		n.clock = clock{base: time.Duration(n.random.Int64N(int64(time.Hour))), rate: n.rate}
		n.newParts()
		n.newDisks()
		w.nodes = append(w.nodes, n)
	}
	return w
}

func (w *world) push(e event) { w.queue.push(e) }

// after plans something that is not part of a node's process.
func (w *world) after(d time.Duration, run func()) { w.push(event{at: w.now + d, run: run}) }

// mark counts that something worth covering happened.
func (w *world) mark(name string) { w.marks[name]++ }

// count adds to what mark counts.
func (w *world) count(name string, times int64) {
	if times > 0 {
		w.marks[name] += int(times)
	}
}

// fail ends the run with the first thing that was wrong.
func (w *world) fail(v Verdict, format string, args ...any) {
	if w.verdict == "" {
		w.verdict = v
		w.problem = fmt.Sprintf("at %s: ", seconds(w.now)) + fmt.Sprintf(format, args...)
		if w.reading() {
			w.line("%s: %s", v, w.problem)
		}
	}
}

// step lets the next event happen.
func (w *world) step() {
	e := w.queue.pop()
	w.now = e.at
	if e.node != nil {
		w.process(e)
		return
	}
	w.events++
	e.run()
}

// process lets an event of a node's process happen, unless the process is gone.
func (w *world) process(e event) {
	n := e.node
	switch {
	case !n.up || n.life != e.life:
	case n.frozen():
		n.whenAwake(func() { w.process(e) })
	default:
		w.events++
		n.enter(e.run)
	}
}

// maxEvents ends a run that goes round in circles without letting time pass.
const maxEvents = 20_000_000

// runUntil lets events happen until the time has come, or the condition holds, which is asked every so often.
func (w *world) runUntil(end, every time.Duration, condition func() bool) bool {
	look := w.now + every
	for w.verdict == "" && len(w.queue.heap) > 0 && w.queue.heap[0].at <= end {
		w.step()
		if w.plot != nil {
			w.plot.look()
		}
		if condition != nil && w.now >= look {
			if condition() {
				return true
			}
			look = w.now + every
		}
		if w.events > maxEvents {
			w.fail(Liveness, "%d events in %s: something goes round in circles", w.events, seconds(w.now))
		}
	}
	if w.verdict == "" && w.now < end {
		w.now = end
	}
	return condition != nil && w.verdict == "" && condition()
}

// afterRound holds a node, and now and then the world, against what must always be true.
func (w *world) afterRound(n *node) {
	w.rounds++
	n.rounds++
	if n.failed != nil {
		return
	}
	if n.rounds%checkEvery == 0 {
		w.checkNode(n)
	}
	if w.shared() {
		for p := range n.held() {
			p.sameTransactions()
		}
	}
	if w.plan.Users {
		w.users.lookAt(n)
	}
	if w.rounds%4 == 0 {
		for _, g := range w.groups {
			g.observeLeases()
			g.observeBound()
		}
	}
	if w.rounds%16 == 0 {
		w.lookWhole()
		w.checkVoters()
	}
}

// checkEvery is how many rounds of a node lie between two looks at its invariants.
const checkEvery = 16

func (w *world) checkNode(n *node) {
	if err := n.store.Check(); err != nil {
		w.fail(Crash, "node %d breaks an invariant: %v", n.id, err)
	}
	if n.issuer != nil {
		if err := n.issuer.Check(); err != nil {
			w.fail(Crash, "node %d breaks an invariant: %v", n.id, err)
		}
	}
	// One at a time: with many groups it is what a run costs.
	n.checkFailures()
	if p := n.parts[n.rounds/checkEvery%len(n.parts)]; p != nil && p.up() && p.failed == nil {
		p.check()
	}
}

// check holds the state machine against what must always be true.
func (p *part) check() {
	if err := p.machine.Check(); err != nil {
		p.group.fail(Crash, "the state machine of node %d breaks an invariant: %v", p.node.id, err)
	}
}

// describe says where every node stands.
func (w *world) describe() string {
	var b strings.Builder
	for _, n := range w.processes() {
		b.WriteString("\n  " + n.describe())
	}
	for _, c := range w.clients {
		if !c.done {
			fmt.Fprintf(&b, "\n  %sclient %d (%s) waits for %s", c.group.prefix(), c.number, c.workload, c.waitsFor)
		}
	}
	return b.String()
}
