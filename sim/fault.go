package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// The kinds of faults. Fault.Node 0 means whoever leads Fault.Shard at the time, or node 1 if nobody does; Duration is how
// long it lasts, and for crashes how long the node stays down.
const (
	// FaultDelay makes what Node sends (Other: to that node only) arrive up to Amount ms later.
	FaultDelay FaultKind = "delay"
	// FaultJitter lets every frame between nodes take up to Amount ms longer.
	FaultJitter FaultKind = "jitter"
	// FaultLoss has the senders' buffers refuse a share Amount of all frames, and cuts snapshots short.
	FaultLoss FaultKind = "loss"
	// FaultDuplicate lets a share Amount of the consensus frames arrive twice, the second time late.
	FaultDuplicate FaultKind = "duplicate"
	// FaultReorder lets a share Amount of the consensus and liveness frames arrive up to a second late.
	FaultReorder FaultKind = "reorder"
	// FaultOneWay lets nothing from Node reach Other.
	FaultOneWay FaultKind = "one-way"
	// FaultPartition divides the nodes into two sides, as Seed says.
	FaultPartition FaultKind = "partition"
	// FaultPartial cuts single pairs of nodes off from each other, as Seed says.
	FaultPartial FaultKind = "partial"
	// FaultIsolate cuts Node off from all other nodes, in both directions.
	FaultIsolate FaultKind = "isolate"
	// FaultQuorumSwitch leaves Node only a bare quorum for Amount ms, and then crashes who is both in that quorum and in the next, which
	// the others form without the rest: what depends on the memory of a single node is put to the test.
	FaultQuorumSwitch FaultKind = "quorum-switch"
	// FaultBreak breaks the connections of Node (Other: to that node only); what is under way is lost.
	FaultBreak FaultKind = "break"
	// FaultClientPartition cuts some clients, as Seed says, off from Node.
	FaultClientPartition FaultKind = "client-partition"
	// FaultClientBreak breaks the connections of some clients to Node.
	FaultClientBreak FaultKind = "client-break"
	// FaultPause stops Node's process while its clock goes on: SIGSTOP, or a suspended machine.
	FaultPause FaultKind = "pause"
	// FaultClockRate lets Node's clock run at the rate 1+Amount.
	FaultClockRate FaultKind = "clock-rate"
	// FaultClockJump lets Node's clock jump Amount ms forward. Leases for reads do not survive that.
	FaultClockJump FaultKind = "clock-jump"
	// FaultCrash cuts Node's power.
	FaultCrash FaultKind = "crash"
	// FaultCrashEffect cuts Node's power at the Amount-th moment from now at which the outside could notice something.
	FaultCrashEffect FaultKind = "crash-effect"
	// FaultCrashAll cuts the power of all nodes.
	FaultCrashAll FaultKind = "crash-all"
	// FaultSlowDisk lets each sync of Node take up to Amount ms, now and then ten times as long.
	FaultSlowDisk FaultKind = "slow-disk"
	// FaultSyncFails lets Node's next write or sync fail. The node must stop; it starts again after Duration.
	FaultSyncFails FaultKind = "sync-fails"
	// FaultDiskFull lets all writes of Node fail. It must stop, and starts again after Duration.
	FaultDiskFull FaultKind = "disk-full"
	// FaultRotState lets some rows of Node's state rot; see damage.
	FaultRotState FaultKind = "rot-state"
	// FaultRotLog lets an entry of Node's log rot.
	FaultRotLog FaultKind = "rot-log"
	// FaultMisdirected lets a write of Node go to a wrong place.
	FaultMisdirected FaultKind = "misdirected"
	// FaultLyingSync lets Node's syncs do nothing and say that they did.
	FaultLyingSync FaultKind = "lying-sync"
	// FaultWipe replaces Node's disks by empty ones, and nobody tells the node. What it says about itself afterwards is Amount ms late.
	FaultWipe FaultKind = "wipe"
	// FaultWipeNoticed is FaultWipe of a node that knows that it has lost something.
	FaultWipeNoticed FaultKind = "wipe-noticed"
	// FaultOldDisk puts the disks back that Node had before they were replaced, or those of another node if it
	// has none; the others must refuse them. If there are none at all it replaces those of Node, so that the next such fault can.
	FaultOldDisk FaultKind = "old-disk"
)

// inject lets a fault happen.
func (w *world) inject(i int, f *Fault) {
	if w.ended {
		return
	}
	random := rand.New(rand.NewPCG(f.Seed, 0)) // not its position: leaving out other faults must not change it
	n := w.target(f)
	w.happened(traceFault, n.number(), uint64(i), uint64(len(f.Kind)))
	w.faults[string(f.Kind)]++
	if w.reading() {
		w.line("fault: %s of node %d, other %d, for %s, amount %g, shard %d", f.Kind, n.number(), f.Other, seconds(f.Duration), f.Amount, max(f.Shard, 1))
	}
	for _, inject := range []func(*Fault, *node, *rand.Rand) bool{
		w.injectNetwork, w.injectPartition, w.injectContest, w.injectDeposed, w.injectPlot, w.injectStaged,
		w.injectNode, w.injectDisk, w.injectDamage, w.injectStale, w.injectDouble,
		w.injectMember, w.injectVersion, w.injectStop, w.injectFile, w.injectGroup, w.injectStore, w.injectCommit,
	} {
		if inject(f, n, random) {
			return
		}
	}
	w.fail(Crash, "the plan names a fault %q that this version does not know", f.Kind)
}

// target is the node that a fault is about.
func (w *world) target(f *Fault) *node {
	if f.Node == 0 {
		if leader := w.group(f.Shard).leader(); leader != nil {
			return leader.node
		}
		return w.nodes[0]
	}
	return w.nodes[(f.Node-1)%len(w.nodes)]
}

// others are the nodes that a fault of n concerns: the one it names, or all.
func (w *world) others(n *node, number int) (others []*node) {
	for _, other := range w.nodes {
		if other != n && (number == 0 || other.number() == number) {
			others = append(others, other)
		}
	}
	return others
}

// undo ends a fault after its duration, unless everything has been healed before.
func (w *world) undo(f *Fault, run func()) {
	w.after(f.Duration, func() {
		if !w.ended {
			run()
		}
	})
}

func milliseconds(amount float64) time.Duration {
	return time.Duration(amount * float64(time.Millisecond))
}

func (w *world) injectNetwork(f *Fault, n *node, _ *rand.Rand) bool {
	net := w.net
	switch f.Kind {
	case FaultDelay:
		for _, other := range w.others(n, f.Other) {
			l := net.link(n, other)
			l.delay += milliseconds(f.Amount)
			w.undo(f, func() { l.delay = max(0, l.delay-milliseconds(f.Amount)) })
		}
	case FaultJitter:
		net.jitter += milliseconds(f.Amount)
		w.undo(f, func() { net.jitter = max(0, net.jitter-milliseconds(f.Amount)) })
	case FaultLoss:
		w.share(f, &net.loss)
	case FaultDuplicate:
		w.share(f, &net.duplicate)
	case FaultReorder:
		w.share(f, &net.reorder)
	case FaultBreak:
		for _, other := range w.others(n, f.Other) {
			net.breakConn(n, other, true)
		}
	default:
		return false
	}
	return true
}

func (w *world) share(f *Fault, sum *float64) {
	*sum += f.Amount
	w.undo(f, func() {
		if *sum -= f.Amount; *sum < 1e-9 {
			*sum = 0
		}
	})
}

func (w *world) injectPartition(f *Fault, n *node, random *rand.Rand) bool {
	cut := func(from, to *node) {
		w.net.block(from, to)
		w.undo(f, func() { w.net.unblock(from, to) })
	}
	switch f.Kind {
	case FaultQuorumSwitch:
		w.switchQuorum(f, n, random)
	case FaultOneWay:
		for _, other := range w.others(n, f.Other) {
			cut(n, other)
		}
	case FaultIsolate:
		for _, other := range w.others(n, 0) {
			cut(n, other)
			cut(other, n)
		}
	case FaultPartition:
		sides := random.Uint64()
		w.eachPair(func(a, b *node) bool { return (sides>>a.index^sides>>b.index)&1 == 1 }, cut)
	case FaultPartial:
		w.eachPair(func(*node, *node) bool { return random.IntN(3) == 0 }, cut)
	case FaultClientPartition, FaultClientBreak:
		for _, c := range w.clients {
			if random.IntN(2) == 0 {
				w.cutClient(f, c, n)
			}
		}
	default:
		return false
	}
	return true
}

// switchTime is enough for an election.
const switchTime = 1500 * time.Millisecond

// switchQuorum has one majority work without the others, and then another, which shares as few nodes with it as possible. Those crash in
// between, soon or a few effects later.
func (w *world) switchQuorum(f *Fault, leader *node, random *rand.Rand) {
	if w.now < w.switchingUntil {
		return // two at a time leave no quorum at all
	}
	w.switchingUntil = w.now + milliseconds(f.Amount) + switchTime + f.Duration
	others := w.others(leader, 0)
	random.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	majority := len(w.nodes)/2 + 1
	shared := others[max(0, len(w.nodes)-majority-1):][:min(2*majority-len(w.nodes), len(others))]
	first := func(n *node) bool { return n == leader || slices.Contains(others[:majority-1], n) }
	second := func(n *node) bool { return slices.Contains(shared, n) || !first(n) }
	// Longer than until the crash, so that the others do not catch up in between.
	w.separate(first, milliseconds(f.Amount)+120*time.Millisecond)
	separated := false
	separate := func() {
		if !separated && !w.ended {
			separated = true
			w.separate(second, f.Duration+switchTime-100*time.Millisecond)
		}
	}
	w.after(milliseconds(f.Amount), func() {
		if w.ended {
			return
		}
		for _, n := range shared {
			n.crashPlan = crashPlan{survival(random), 5*time.Millisecond + time.Duration(random.Int64N(int64(50*time.Millisecond))), separate}
			if random.IntN(3) == 0 {
				n.fuse = 1 + random.IntN(20)
			} else {
				n.crashAtSync = true
			}
		}
		w.after(100*time.Millisecond, separate) // where nothing happens, nobody crashes
	})
}

// separate cuts those that are chosen off from all others for a while.
func (w *world) separate(chosen func(*node) bool, d time.Duration) {
	w.eachPair(func(a, b *node) bool { return chosen(a) != chosen(b) }, func(from, to *node) {
		w.net.block(from, to)
		w.after(d, func() {
			if !w.ended {
				w.net.unblock(from, to)
			}
		})
	})
}

func (w *world) eachPair(chosen func(a, b *node) bool, cut func(from, to *node)) {
	for i, a := range w.nodes {
		for _, b := range w.nodes[i+1:] {
			if chosen(a, b) {
				cut(a, b)
				cut(b, a)
			}
		}
	}
}

func (w *world) cutClient(f *Fault, c *client, n *node) {
	if f.Kind == FaultClientBreak {
		c.breakConn(n.number())
		return
	}
	conn := &c.conns[n.number()]
	conn.blocked++
	w.undo(f, func() { conn.blocked = max(0, conn.blocked-1) }) // healing may have ended it already
}

func (w *world) injectNode(f *Fault, n *node, random *rand.Rand) bool {
	switch f.Kind {
	case FaultPause:
		n.frozenUntil = max(n.frozenUntil, w.now+f.Duration)
	case FaultClockRate:
		n.clock.set(w.now, 1+f.Amount, 0)
		n.clockChanged()
		w.undo(f, func() {
			n.clock.set(w.now, n.rate, 0)
			n.clockChanged()
		})
	case FaultClockJump:
		n.clock.set(w.now, n.clock.rate, milliseconds(f.Amount))
		n.clockChanged()
	case FaultCrash:
		w.power(f, n, random)
	case FaultCrashAll:
		for _, n := range w.nodes {
			w.power(f, n, random)
		}
	case FaultCrashEffect:
		if n.up && n.fuse == 0 {
			n.fuse = max(1, int(f.Amount))
			n.crashPlan = crashPlan{random: survival(random), down: f.Duration}
		}
	default:
		return false
	}
	return true
}

// survival says what a crash leaves of what was not synced: nothing, or some.
func survival(random *rand.Rand) *rand.Rand {
	if random.IntN(3) == 0 {
		return nil
	}
	return random
}

func (w *world) power(f *Fault, n *node, random *rand.Rand) {
	n.crashPlan = crashPlan{random: survival(random), down: f.Duration}
	n.crash()
}

// clockChanged plans the next round anew: the clock may reach its time earlier than planned.
func (n *node) clockChanged() {
	if n.up && !n.driving {
		n.planRound(n.clock.when(n.store.NextRound(), n.w.now))
	}
}

func (w *world) injectDisk(f *Fault, n *node, random *rand.Rand) bool {
	switch f.Kind {
	case FaultSlowDisk:
		n.slow.sync += milliseconds(f.Amount)
		w.undo(f, func() { n.slow.sync = max(0, n.slow.sync-milliseconds(f.Amount)) })
	case FaultSyncFails:
		n.slow.failing = fmt.Errorf("%w", errSyncFailed)
		n.crashPlan = crashPlan{random: survival(random), down: f.Duration}
	case FaultDiskFull:
		n.slow.full = true
		n.crashPlan = crashPlan{random: survival(random), down: f.Duration}
		w.undo(f, func() { n.slow.full = false })
	default:
		return false
	}
	return true
}

// heal ends all faults, gives damaged nodes new disks and starts all others.
func (w *world) heal() {
	w.endSecond()
	w.replaceDamaged()
	w.net.heal()
	w.contest = nil // nobody has to keep silent any more
	for _, g := range w.groups {
		g.silent = 0
	}
	if w.plot != nil {
		w.plot.abandon()
	}
	for _, c := range w.clients {
		for i := range c.conns {
			c.conns[i].blocked = 0
		}
	}
	for _, n := range w.nodes {
		n.slow, n.fuse, n.crashAtSync, n.damage.unreadable = slowness{}, 0, false, nil
		n.restorePower()
		n.thaw()
		if n.failedAlone() {
			n.crash()
		}
		n.clock.set(w.now, n.rate, 0)
		n.clockChanged()
		n.start()
	}
}
