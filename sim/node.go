package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/replica"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// gatewayTick is how often a node's gateway looks at the time, as in package server.
const gatewayTick = 20 * time.Millisecond

// node is one node: its disks outlive its process.
type node struct {
	w      *world
	id     kv.NodeID
	index  int
	random *rand.Rand
	conns  [maxNodes + 1]*conn // with nodes of a higher index; a second process has the highest
	clock  clock
	rate   float64 // the clock's, without faults
	disks  disks
	diskID uint64
	// diskCount is how many disks the node has had.
	diskCount uint64
	format    uint16 // the version of its program, by the frames that it speaks
	// nextFormat is that of the program which is started next.
	nextFormat uint16
	// knowsLoss: the disks are empty because what the node had is known to be lost.
	knowsLoss bool
	// hurt: what the node had is damaged or lost, and the cluster is not whole again.
	hurt   bool
	former *formerDisk // may come back; nil: none
	// wasDoubled: a second process of it ran. gone: it was such a process, and is no more.
	wasDoubled, gone bool
	leaving          bool // it was taken out of the membership though it is well, and is not back
	noCopy           bool // it has found out that nobody has a copy
	// frozenUntil: the process does not run, its clock does.
	frozenUntil time.Duration
	asleep      []func() // what came meanwhile, in order
	waking      bool     // it is being dealt with
	slow        slowness
	damage      damage

	// The process.
	up   bool
	life uint64 // number of the process
	fuse int    // effects until it crashes; 0: it does not
	// crashAtSync: it crashes when it next asks its disk to make something durable.
	crashAtSync bool
	crashPlan   crashPlan
	store       *replica.Store
	replica     *replica.Replica
	machine     replica.Machine
	core        consensus.Core
	log         *simLog
	unsynced    []storage.GroupAppend // written to the log since its last sync
	gateway     *gateway.Gateway
	transport   *transport
	driver      *coroutine
	current     *coroutine // the one that runs at the moment; nil: the event loop
	jobs        []*coroutine
	streams     []*serverStream
	failed      error
	excused     bool            // something happened to its disks that explains a failure
	woken       bool            // Round has something to do
	driving     bool            // the driver waits in the middle of a round
	roundAt     time.Duration   // when the next round begins; 0: none is planned
	alarms      []time.Duration // of the events that look at roundAt, the next one last
	roundDue    func()          // what they do: lookAtRound
	next        consensus.Index // the entry that it must apply next
	rounds      int
	elections   int // how often it became the leader
	firsts      int // entries that it was the first of all to apply
}

// crashed is what an effect panics with when the fuse has burnt down.
type crashed struct{ node *node }

// crashPlan is what becomes of the node after a crash.
type crashPlan struct {
	random *rand.Rand    // says what survives; nil: nothing that was not synced
	down   time.Duration // until the next start
	then   func()        // what happens soon after it, if anything
}

func (n *node) number() int { return int(n.id) }

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

// resume lets a coroutine of the process go on, within enter. done: its code has returned.
func (n *node) resume(c *coroutine) (value time.Duration, done bool) {
	outer := n.current
	n.current = c
	value, ok := c.next()
	n.current = outer
	if c.panicked != nil {
		if died, own := c.panicked.(crashed); own {
			panic(died)
		}
		panic(productPanic{c.panicked, c.stack})
	}
	return value, !ok
}

// sleep lets time pass for the code that calls it, while the rest of the node goes on. Code that does not run in a coroutine
// cannot wait.
func (n *node) sleep(d time.Duration) {
	if n.current != nil && d > 0 {
		n.current.wait(d)
	}
}

// spawn runs work beside the rounds.
func (n *node) spawn(work func()) {
	c := newCoroutine(func(*coroutine) { work() })
	n.jobs = append(n.jobs, c)
	n.w.mark("work beside the rounds")
	n.push(n.w.now+time.Duration(n.random.Int64N(int64(2*time.Millisecond))), func() { n.work(c) })
}

func (n *node) work(c *coroutine) {
	n.w.happened(traceJob, n.number(), 0, 0)
	d, done := n.resume(c)
	if !done {
		n.push(n.w.now+d, func() { n.work(c) })
		return
	}
	for i, other := range n.jobs {
		if other == c {
			n.jobs = append(n.jobs[:i], n.jobs[i+1:]...)
			break
		}
	}
}

// push plans an event of the process.
func (n *node) push(at time.Duration, run func()) {
	n.w.push(event{at: at, node: n, life: n.life, run: run})
}

// wake is replica.Options.Wake.
func (n *node) wake() {
	if !n.woken {
		n.woken = true
		if !n.driving {
			n.planRound(n.w.now + n.roundLatency())
		}
	}
}

// roundLatency is how long it takes until a goroutine that was woken runs.
func (n *node) roundLatency() time.Duration {
	return 10*time.Microsecond + time.Duration(n.random.Int64N(int64(n.w.plan.wakeLatency())))
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

func (n *node) planRound(at time.Duration) {
	if n.roundAt == 0 || at < n.roundAt {
		n.roundAt = at
		n.setAlarm()
	}
}

// setAlarm makes sure that there is an event not later than the planned round. Most rounds are planned for the next heartbeat and
// happen much earlier, so an event that is there already is left to do for the next plan.
func (n *node) setAlarm() {
	if last := len(n.alarms) - 1; last < 0 || n.alarms[last] > n.roundAt {
		n.alarms = append(n.alarms, n.roundAt)
		n.push(n.roundAt, n.roundDue)
	}
}

func (n *node) lookAtRound() {
	n.alarms = n.alarms[:len(n.alarms)-1]
	switch {
	case n.roundAt == 0:
	case n.roundAt > n.w.now:
		n.setAlarm()
	default:
		if n.roundAt = 0; !n.driving { // otherwise the end of the round that waits plans the next
			n.round()
		}
	}
}

// round lets the driver do a round, or go on with the one it waits in.
func (n *node) round() {
	if !n.driving {
		n.woken = false
		n.w.happened(traceRound, n.number(), 0, 0)
	}
	value, done := n.resume(n.driver)
	switch {
	case done: // it failed
		return
	case value >= 0:
		n.driving = true
		n.push(n.w.now+value, n.round)
		return
	}
	n.driving = false
	n.w.afterRound(n)
	if n.woken || value == roundAgain {
		n.planRound(n.w.now + n.roundLatency())
		return
	}
	n.planRound(n.clock.when(n.store.NextRound(), n.w.now))
}

// What the driver's coroutine gives way with, beside times to wait.
const (
	roundDone  time.Duration = -1
	roundAgain time.Duration = -2
)

// drive is the driver's code: what replica.Store.Start does.
func (n *node) drive(c *coroutine) {
	for n.store.Err() == nil {
		value := roundDone
		if n.store.Round() {
			value = roundAgain
		}
		c.wait(value)
	}
}

// start starts a process on the disks.
func (n *node) start() {
	if n.up || n.gone {
		return
	}
	n.life++
	n.w.happened(traceStart, n.number(), n.life, 0)
	if n.w.reading() {
		n.w.line("node %d starts, process %d", n.id, n.life)
	}
	n.fuse, n.failed, n.excused, n.jobs, n.streams = 0, nil, false, nil, nil
	n.woken, n.driving, n.roundAt, n.current = false, false, 0, nil
	n.alarms, n.roundDue = n.alarms[:0], n.lookAtRound
	n.format = n.nextFormat
	n.thaw() // what came for an earlier process finds it gone
	if err := n.open(); err != nil {
		n.openFailed(err)
		return
	}
	n.up = true
	n.next = n.machine.AppliedIndex() + 1
	life := n.life
	n.replica.Subscribe(func(a *shard.Applied) {
		if n.life == life && n.up {
			n.w.truth.applied(n, a)
		}
	})
	n.driver = newCoroutine(n.drive)
	n.planRound(n.w.now + n.roundLatency())
	n.push(n.w.now, n.tick)
	n.w.net.started(n)
}

// open puts the parts of a process together, as package server does.
func (n *node) open() error {
	log, engine, err := n.disks.open()
	if err != nil {
		return err
	}
	n.log, n.unsynced = log, nil
	n.transport = &transport{node: n}
	n.store, err = replica.Open(n.replicaOptions(log, engine), n.now)
	if err != nil {
		return err
	}
	n.replica = n.store.Replica(1)
	n.gateway, err = gateway.New(n.gatewayOptions())
	return err
}

func (n *node) replicaOptions(log *simLog, engine *simEngine) replica.Options {
	p := &n.w.plan
	var nodes []kv.NodeID
	var config consensus.Config
	for i := range p.Nodes {
		nodes = append(nodes, kv.NodeID(i+1))
		config.Voters = append(config.Voters, consensus.ReplicaID(i+1))
	}
	safety := replica.ReadLease
	if p.ReadQuorum {
		safety = replica.ReadQuorum
	}
	seed := n.random.Uint64()
	machines := rand.New(rand.NewPCG(seed, 3)) // after a snapshot there is another machine, which must not draw the same IDs of leases
	return replica.Options{
		Self: n.id, Nodes: nodes, Log: log, Engine: engine, Transport: n.transport, Files: n.disks.stagedFiles(),
		StagingDir: "staging", Instance: uint64(n.id)<<32 | n.life, Rand: rand.New(rand.NewPCG(seed, 1)), ReadSafety: safety,
		Disk: n.diskID, Lost: n.knowsLoss, HeartbeatInterval: p.Limits.Heartbeat, RetainLogEntries: p.Limits.RetainLogEntries, FlushLogBytes: p.Limits.FlushLogBytes,
		FlushChunkRows: p.Limits.FlushChunkRows, MaxInflight: p.Limits.MaxInflight,
		NewCore: func(o replica.CoreOptions) (consensus.Core, error) {
			core, err := n.newCore(o, seed)
			n.core = shy{core, n}
			return n.core, err
		}, OutOfOrderLog: p.Protocol == Paxos,
		OpenMachine: func(group consensus.GroupID) (replica.Machine, error) {
			m, err := replica.OpenMachine(replica.MachineOptions{
				Engine: engine,
				Shard:  shard.Options{Shard: kv.ShardID(group), Rand: rand.New(rand.NewPCG(machines.Uint64(), 1)), MinLeaseTTLSeconds: 1},
				Store:  mvcc.Options{MaxDirtyKeys: p.Limits.MaxDirtyKeys, BucketRows: 4}, Bootstrap: config,
			})
			n.machine = m
			return m, err
		},
		ScrubInterval: scrubInterval, ScrubBytesPerSecond: scrubBytesPerSecond,
		Spawn: n.spawn, Wake: n.wake, Listener: n.listener(),
	}
}

func (n *node) newCore(o replica.CoreOptions, seed uint64) (consensus.Core, error) {
	bytes, uncommitted := n.w.plan.Limits.MaxMessageBytes, n.w.plan.Limits.MaxUncommittedBytes
	if n.w.plan.Protocol == Paxos {
		return paxos.New(paxos.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, Rand: rand.New(rand.NewPCG(seed, 2)),
			HardState: o.HardState, Applied: o.Applied, Config: o.Config, MaxMessageBytes: bytes, MaxApplyBytes: 2 * bytes, MaxUncommittedBytes: uncommitted}, o.Log)
	}
	return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks,
		HardState: o.HardState, Applied: o.Applied, Config: o.Config, MaxMessageBytes: bytes, MaxApplyBytes: 2 * bytes, MaxUncommittedBytes: uncommitted}, o.Log)
}

func (n *node) listener() replica.Listener {
	w := n.w
	return replica.Listener{
		RoleChanged: func(_ consensus.GroupID, change consensus.RoleChange, leader kv.NodeID) {
			w.happened(traceRole, n.number(), uint64(change.Role)<<32|uint64(leader), uint64(change.Term))
			if change.Role == consensus.RoleLeader {
				w.mark("leader elected")
				w.leads(n, change.Term)
				if w.contest != nil {
					w.contest.elected(n)
				}
			}
			if w.reading() {
				w.line("node %d | %s in term %d, the leader is node %d", n.id, change.Role, change.Term, leader)
			}
			if n.gateway != nil {
				n.gateway.LeaderChanged()
			}
		},
		NodeLost: func(kv.NodeID) { w.mark("node lost") },
		SnapshotSent: func(_ consensus.GroupID, to kv.NodeID, meta consensus.SnapshotMeta, _ int64, err error) {
			w.mark("snapshot sent")
			if w.reading() {
				w.line("node %d | sent node %d a snapshot at index %d: %v", n.id, to, meta.Index, err)
			}
		},
		SnapshotInstalled: func(_ consensus.GroupID, meta consensus.SnapshotMeta) {
			w.mark("snapshot installed")
			if w.reading() {
				w.line("node %d | installed a snapshot at index %d", n.id, meta.Index)
			}
		},
		Lost:           func(consensus.GroupID, consensus.ReplicaID) { w.mark("loss found out") },
		Joined:         n.joined,
		SlowSync:       func(time.Duration) { w.mark("slow sync") },
		MessageRefused: func(consensus.GroupID, kv.NodeID, error) { w.mark("message refused") },
		Scrubbed:       func(replica.ScrubPass) { w.mark("scrub pass") },
		ScrubFailed: func(err error) {
			if !n.excused && !n.hasNoPower() {
				w.fail(Crash, "node %d cannot read its disks again, and no fault explains it: %v", n.id, err)
			}
		},
		Failed: func(err error) { n.failed = err },
	}
}

func (n *node) gatewayOptions() gateway.Options {
	p := &n.w.plan
	seed := n.random.Uint64()
	jitter := rand.New(rand.NewPCG(seed, 4))
	return gateway.Options{
		Self: n.id, Shard: n.replica, Rows: n.replica.Row, Sender: n.transport,
		ValidateRequest: func(r *kv.Request) error { return shard.Validate(r, shard.Limits{}) },
		RequestTimeout:  3 * time.Second, DriverFlushes: true, Instance: seed | 1, Spawn: n.spawn, Clock: n.now,
		Listener: gateway.Listener{
			LeaderLost: func(kv.NodeID, int) { n.w.mark("writes of unknown outcome") },
			BadMessage: func(from kv.NodeID, err error) {
				n.w.fail(Crash, "node %d got a message of node %v that it does not understand: %v", n.id, from, err)
			},
		},
		Watch: watch.Options{
			StreamBytes: p.Limits.WatchRingRecords * 200, RingBytes: p.Limits.WatchRingRecords * 200, ChunkBytes: 2 << 10, BatchBytes: 1 << 10,
			ProgressInterval: 300 * time.Millisecond, Jitter: jitter.Int64N, Wake: n.wakeHub,
			Listener: watch.Listener{
				Lagging: func(int) { n.w.mark("watch detached") },
				Gap:     func(kv.Revision, kv.Revision) { n.w.mark("watch gap") },
			},
		},
	}
}

// receive takes a frame, as package server's peerHandler does.
func (n *node) receive(from kv.NodeID, channel byte, payload []byte) {
	if channel == gateway.ChannelRequest || channel == gateway.ChannelResponse {
		n.gateway.HandleMessage(from, channel, payload)
		return
	}
	if n.understands(channel) {
		n.store.Receive(from, channel, payload)
	}
	n.store.ReceiveDone()
}

func (n *node) peerDown(node kv.NodeID, refused bool) {
	n.store.PeerDown(node, refused)
	n.gateway.PeerDown(node)
}

// tick lets the gateway notice deadlines.
func (n *node) tick() {
	n.gateway.Tick(n.now())
	n.pollStreams()
	n.push(n.w.now+gatewayTick, n.tick)
}

// wakeHub plans what the goroutine of a watch hub does.
func (n *node) wakeHub() {
	n.push(n.w.now+n.roundLatency(), func() {
		for n.gateway.DispatchWatches() {
		}
		n.pollStreams()
	})
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
	n.streams = nil
}

// count adds what the process did to the marks.
func (n *node) count() {
	g, s := n.gateway.Metrics(), n.store.Metrics()
	for _, m := range []struct {
		name  string
		count int64
	}{
		{"barrier asked", g.BarrierCount}, {"call forwarded", g.ForwardedCalls}, {"call tried again", g.RetryCount}, {"call timed out", g.Timeouts},
		{"answer lost", g.LostAnswers}, {"watch caught up from history", g.Watch.HistoryReadCount}, {"watch caught up from memory", g.Watch.RingReadCount},
		{"frame refused", int64(s.FramesDropped)}, {"sync", int64(s.Syncs)},
	} {
		if m.count > 0 {
			n.w.marks[m.name] += int(m.count)
		}
	}
}

// stoppedByItself deals with a process that could not go on. Its disks must explain why.
func (n *node) stoppedByItself() {
	err := n.failed
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
	case n.hasNoPower():
		n.disks.crash(nil)
		n.w.after(time.Millisecond, n.start)
	case !n.repaired(err):
		n.w.fail(Crash, "node %d does not start: %v", n.id, err)
	}
}

// describe says where the node stands.
func (n *node) describe() string {
	switch {
	case !n.up:
		return fmt.Sprintf("node %d is down", n.id)
	}
	leader, term := n.replica.Leader()
	g := n.gateway.Metrics()
	return fmt.Sprintf("node %d: %s; leads %v, leader %d, term %d, applied %d, committed %d, revision %d, lease %v, frozen until %v, driving %v; gateway: %d calls, %d queued, %d sent",
		n.id, n.replica.Standing(), n.replica.IsLeader(), leader, term, n.replica.Applied(), n.replica.Committed(), n.replica.Revision(), n.replica.LeaseValid(),
		n.frozenUntil, n.driving, g.CallsInFlight, g.QueuedCalls, g.SentCalls)
}
