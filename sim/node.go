package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// node is one node: its disks outlive its process.
type node struct {
	w      *world
	id     kv.NodeID
	index  int
	random *rand.Rand
	chance *rand.Rand          // of the time that work beside the rounds takes
	conns  [maxNodes + 1]*conn // with nodes of a higher index; a second process has the highest
	clock  clock
	rate   float64 // the clock's, without faults
	format uint16  // the version of its program, by the frames that it speaks
	// nextFormat is that of the program which is started next.
	nextFormat uint16
	parts      []*part // by group; nil: it has no part in it
	memberOf
	hardware
	pausing
	process
	pace
}

// hardware is what a node stands on, and what happened to it.
type hardware struct {
	disks  disks
	diskID uint64
	// diskCount is how many disks the node has had.
	diskCount uint64
	slow      slowness
	damage    damage
	former    *formerDisk // may come back; nil: none
	// knowsLoss: the disks are empty because what the node had is known to be lost.
	knowsLoss bool
	// hurt: what the node had is damaged or lost, and the cluster is not whole again.
	hurt bool
	// wasDoubled: a second process of it ran. gone: it was such a process, and is no more.
	wasDoubled, gone bool
	noCopy           bool // it has found out that nobody has a copy

	fuse int // effects until it crashes; 0: it does not
	// crashAtSync: it crashes when it next asks its disk to make something durable.
	crashAtSync bool
	crashPlan   crashPlan
}

// pausing is a process that stands still for a while.
type pausing struct {
	// frozenUntil: the process does not run, its clock does.
	frozenUntil time.Duration
	asleep      []func() // what came meanwhile, in order
	waking      bool     // it is being dealt with
}

// process is what ends with a node's process.
type process struct {
	up        bool
	life      uint64 // number of the process
	store     *driver.Driver
	issuer    *issuer.Issuer // nil: the groups are no shards of one store
	clerk     *clerk         // around it
	log       *simLog
	engine    *simEngine
	unsynced  []storage.GroupAppend // written to the log since its last sync
	transport *transport
	guests    account
	failed    error
	excused   bool // something happened to its disks that explains a failure
	founding  bool // a new state machine waits for the engine
}

// pace is when a process does what.
type pace struct {
	driver  *coroutine
	current *coroutine // the one that runs at the moment; nil: the event loop
	jobs    []*coroutine
	woken   bool            // Round has something to do
	driving bool            // the driver waits in the middle of a round
	roundAt time.Duration   // when the next round begins; 0: none is planned
	alarms  []time.Duration // of the events that look at roundAt, the next one last
	// roundDue is what they do: lookAtRound.
	roundDue func()
	waited   time.Duration // when a sync ended that took long, by its own clock; 0: none did
	rounds   int
}

// crashed is what an effect panics with when the fuse has burnt down.
type crashed struct{ node *node }

// crashPlan is what becomes of the node after a crash.
type crashPlan struct {
	random *rand.Rand    // says what survives; nil: nothing that was not synced
	down   time.Duration // until the next start
	then   func()        // what happens soon after it, if anything
}

func (n *node) number() int { return placeOf(n.id) }

func (n *node) now() time.Duration { return n.clock.read(n.w.now) }

// effect is called before and after everything that the outside could notice.
func (n *node) effect() {
	if n.fuse > 0 {
		if n.fuse--; n.fuse == 0 {
			n.w.mark("crash at an effect")
			panic(crashed{n})
		}
	}
}

// enter runs code of the node's process, which may end in a crash.
func (n *node) enter(step func()) {
	outer := n.current
	n.current = nil
	defer func() {
		n.current = outer
		if r := recover(); r != nil {
			c, ok := r.(crashed)
			if !ok || c.node != n {
				panic(r)
			}
			n.crash()
		}
	}()
	step()
	if n.failed != nil && n.up {
		n.stoppedByItself()
	}
}

// frozen tells whether what comes for the node must wait: while its process does not run, and until everything that came before is dealt with.
func (n *node) frozen() bool {
	return n.w.now < n.frozenUntil || len(n.asleep) > 0 && !n.waking
}

// whenAwake does something as soon as the node is not frozen any more, after everything that came before.
func (n *node) whenAwake(run func()) {
	n.asleep = append(n.asleep, run)
	if len(n.asleep) == 1 {
		n.w.push(event{at: n.frozenUntil, run: n.awake})
	}
}

func (n *node) awake() {
	if n.w.now < n.frozenUntil { // it was paused again
		n.w.push(event{at: n.frozenUntil, run: n.awake})
		return
	}
	asleep := n.asleep
	n.asleep, n.waking = nil, true
	for _, run := range asleep {
		run()
	}
	n.waking = false
}

// thaw ends a pause.
func (n *node) thaw() {
	n.frozenUntil = min(n.frozenUntil, n.w.now)
	if len(n.asleep) > 0 && !n.waking {
		n.awake()
	}
}

// start starts a process on the disks.
func (n *node) start() {
	if n.up || n.gone || n.outside {
		return
	}
	n.life++
	n.w.happened(traceStart, n.number(), n.life, 0)
	if n.w.reading() {
		n.w.line("node %d starts, process %d", n.id, n.life)
	}
	n.fuse, n.failed, n.excused, n.founding, n.jobs = 0, nil, false, false, nil
	if !n.damage.lasting {
		n.damage.unreadable = nil
	}
	n.woken, n.driving, n.roundAt, n.current, n.waited = false, false, 0, nil, 0
	n.alarms, n.roundDue = n.alarms[:0], n.lookAtRound
	n.format = n.nextFormat
	n.thaw() // what came for an earlier process finds it gone
	if err := n.open(); err != nil {
		n.openFailed(err)
		return
	}
	n.up, n.damage.lasting = true, false
	for p := range n.held() {
		switch {
		case p.late:
			p.addLate()
		case p.failed != nil:
			life := n.life
			n.w.after(100*time.Millisecond, func() { p.restart(life, n.random) })
		case !p.removed:
			p.begin()
		}
	}
	n.beginList()
	n.driver = newCoroutine(n.drive)
	n.planRound(n.w.now + n.roundLatency())
	n.push(n.w.now, n.tick)
	if n.w.plan.Times {
		n.push(n.w.now+timesInterval, n.recordTime)
	}
	n.w.net.started(n)
}

// crash ends the process and the machine. Whoever waits for it never hears.
func (n *node) crash() {
	if !n.up {
		return
	}
	plan := n.crashPlan
	n.crashPlan = crashPlan{}
	n.w.happened(traceCrash, n.number(), n.life, 0)
	n.w.mark("crash")
	if n.w.reading() {
		n.w.line("node %d crashes", n.id)
	}
	n.end()
	n.disks.crash(plan.random)
	if n.damage.lied {
		n.lose("it forgot what it had acknowledged: "+n.damage.why, true, plan.down)
		return
	}
	n.w.after(max(plan.down, time.Millisecond), n.start)
	if plan.then != nil {
		n.w.after(4*time.Millisecond, plan.then) // what was sent before has arrived by then
	}
}

// end lets go of everything that was the process.
func (n *node) end() {
	n.up, n.fuse, n.crashAtSync = false, 0, false
	n.count()
	for _, c := range append(n.jobs, n.driver) {
		if c != nil && c != n.current {
			c.stop()
		}
	}
	n.jobs, n.driver, n.current = nil, nil, nil
	n.w.net.stopped(n)
	n.w.clientsLose(n)
	for p := range n.held() {
		p.streams = nil
	}
}

// count adds what the process did to the marks.
func (n *node) count() {
	s := n.store.Metrics()
	n.w.count("frame refused", int64(s.FramesDropped))
	n.w.count("sync", int64(s.Syncs))
	n.w.count("decided beside the rounds", int64(s.RequestsBeside))
	for f := range n.fronts() {
		f.count()
	}
}

// stoppedByItself deals with a process that could not go on. Its disks must explain why.
func (n *node) stoppedByItself() {
	err := n.failed
	if n.w.stopped != nil {
		n.w.stopped(n, err)
		return
	}
	if n.repaired(err) {
		return
	}
	if !n.excused && !n.hasNoPower() {
		n.w.fail(Crash, "node %d stopped without a fault that explains it: %v", n.id, err)
		return
	}
	n.w.mark("stopped by its disk")
	if n.w.reading() {
		n.w.line("node %d stops: %v", n.id, err)
	}
	n.crash()
}

// openFailed deals with a process that did not start.
func (n *node) openFailed(err error) {
	switch {
	case n.w.stopped != nil:
		n.w.stopped(n, err)
	case n.hasNoPower():
		n.disks.crash(nil)
		n.w.after(time.Millisecond, n.start)
	case !n.repaired(err):
		n.w.fail(Crash, "node %d does not start: %v", n.id, err)
	}
}

// describe says where the node stands.
func (n *node) describe() string {
	if !n.up {
		return fmt.Sprintf("node %d is down", n.id)
	}
	var parts []string
	for p := range n.held() {
		parts = append(parts, p.describe())
	}
	return strings.Join(parts, "\n  ")
}
