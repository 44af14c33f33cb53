package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// nemesis disturbs the cluster, one fault after the other, as its seed decides.
type nemesis struct {
	*cluster
	recorder *recorder
	random   *rand.Rand
	faults   []fault
	counts   map[string]int
	record   []disturbance
}

// disturbance is a fault that happened.
type disturbance struct {
	name         string
	at, healed   time.Duration
	leader       bool // it hit the leader
	serving      time.Duration
	quorumIntact bool // the other two nodes could go on
}

// fault is one way to disturb. do returns when the fault is over, and leaves the cluster to heal.
type fault struct {
	name   string
	mix    string // which selection it belongs to
	weight int
	quorum bool // a majority can go on meanwhile
	do     func(*nemesis)
}

func faults() []fault {
	ms := func(low, high int) func(*nemesis) time.Duration {
		return func(n *nemesis) time.Duration {
			return time.Duration(low+n.random.IntN(high-low)) * time.Millisecond
		}
	}
	leaderFor := func(hold func(*nemesis) time.Duration, begin, end func(*nemesis, *node)) func(*nemesis) {
		return func(n *nemesis) {
			victim := n.nodes[n.victim(true)]
			begin(n, victim)
			time.Sleep(hold(n)) // the length of a fault
			end(n, victim)
		}
	}
	anyFor := func(hold func(*nemesis) time.Duration, begin, end func(*nemesis, *node)) func(*nemesis) {
		return func(n *nemesis) {
			victim := n.nodes[n.victim(false)]
			begin(n, victim)
			time.Sleep(hold(n))
			end(n, victim)
		}
	}
	kill := func(n *nemesis, v *node) { n.kill(v) }
	terminate := func(n *nemesis, v *node) { n.terminate(v) }
	start := func(n *nemesis, v *node) { n.start(v) }
	pause := func(n *nemesis, v *node) { n.pause(v) }
	resume := func(n *nemesis, v *node) { n.resume(v) }
	heal := func(n *nemesis, _ *node) { n.network.heal() }
	cut := func(out, in bool) func(*nemesis, *node) {
		return func(n *nemesis, v *node) { n.isolate(v.number, out, in, n.random.IntN(2) == 0) }
	}
	return []fault{
		{"kill the leader", "kills", 4, true, leaderFor(ms(10, 2000), kill, start)},
		{"kill a node", "kills", 3, true, anyFor(ms(10, 1500), kill, start)},
		{"kill the leader and a follower", "kills", 2, false, func(n *nemesis) { n.killTwo(ms(10, 1000)(n)) }},
		{"kill all nodes", "kills", 2, false, func(n *nemesis) { n.killAll() }},
		{"kill the leader twice", "kills", 2, true, func(n *nemesis) { n.killTwice() }},
		{"terminate the leader", "kills", 1, true, leaderFor(ms(10, 500), terminate, start)},
		{"pause the leader shortly", "pauses", 2, true, leaderFor(ms(50, 280), pause, resume)},
		{"pause the leader about as long as its lease", "pauses", 4, true, leaderFor(ms(280, 450), pause, resume)},
		{"pause the leader", "pauses", 4, true, leaderFor(ms(800, 3000), pause, resume)},
		{"pause a node", "pauses", 2, true, anyFor(ms(300, 2500), pause, resume)},
		{"pause all nodes", "pauses", 1, false, func(n *nemesis) { n.pauseAll(ms(200, 1500)(n)) }},
		{"pause the leader and kill it", "pauses", 1, true, leaderFor(ms(300, 1500), pause, func(n *nemesis, v *node) { n.kill(v); n.start(v) })},
		{"pause one node after the other", "pauses", 2, false, func(n *nemesis) { n.rollingPause() }},
		{"cut the leader off", "partitions", 4, true, leaderFor(ms(500, 3000), cut(true, true), heal)},
		{"cut off what the leader sends", "partitions", 3, true, leaderFor(ms(500, 2500), cut(true, false), heal)},
		{"cut off what the leader receives", "partitions", 3, true, leaderFor(ms(500, 2500), cut(false, true), heal)},
		{"cut the leader off briefly", "partitions", 2, true, leaderFor(ms(250, 450), cut(true, true), heal)},
		{"cut a node off", "partitions", 2, true, anyFor(ms(300, 2500), cut(true, true), heal)},
		{"cut the leader from one follower", "partitions", 3, true, func(n *nemesis) { n.cutOne(ms(500, 3000)(n)) }},
		{"cut a ring", "partitions", 1, false, func(n *nemesis) { n.ring(ms(500, 2000)(n)) }},
		{"cut everything", "partitions", 1, false, func(n *nemesis) { n.cutEverything(ms(300, 1500)(n)) }},
		{"slow links", "partitions", 2, true, func(n *nemesis) { n.slowLinks(ms(500, 2500)(n)) }},
		{"cut the leader off and pause it", "mixed", 2, true, func(n *nemesis) { n.cutAndPause(ms(300, 1500)(n)) }},
		{"kill the leader of a cluster with slow links", "mixed", 2, true, func(n *nemesis) { n.slowAndKill(ms(300, 1500)(n)) }},
		{"pause a follower and kill the leader", "mixed", 2, false, func(n *nemesis) { n.pauseAndKill(ms(500, 2000)(n)) }},
		{"leave a follower far behind", "snapshots", 3, true, func(n *nemesis) { n.leaveBehind(ms(1500, 3500)(n), false, false) }},
		{"leave a follower far behind and kill it while it catches up", "snapshots", 2, true, func(n *nemesis) { n.leaveBehind(ms(1500, 2500)(n), true, false) }},
		{"leave the leader far behind", "snapshots", 3, true, func(n *nemesis) { n.leaveBehind(ms(1500, 3500)(n), false, true) }},
	}
}

// choose keeps the faults of the mixes, which are separated by commas; all but "snapshots" if empty.
func choose(mixes string) (chosen []fault) {
	for _, f := range faults() {
		if mixes == "" && f.mix != "snapshots" || slices.Contains(strings.Split(mixes, ","), f.mix) {
			chosen = append(chosen, f)
		}
	}
	return chosen
}

// run disturbs until the context ends, and heals.
func (n *nemesis) run(ctx context.Context) {
	n.counts = map[string]int{}
	total := 0
	for _, f := range n.faults {
		total += f.weight
	}
	for ctx.Err() == nil {
		pick := n.random.IntN(total)
		var f fault
		for _, f = range n.faults {
			if pick -= f.weight; pick < 0 {
				break
			}
		}
		d := disturbance{name: f.name, at: n.recorder.now(), leader: strings.Contains(f.name, "leader"), quorumIntact: f.quorum}
		n.t.Logf("%8.3fs %s", d.at.Seconds(), f.name)
		f.do(n)
		n.restore()
		d.healed = n.recorder.now()
		d.serving = n.waitServing(servingBound)
		n.counts[f.name]++
		n.record = append(n.record, d)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(n.random.Int64N(int64(600 * time.Millisecond)))):
		}
	}
}

// servingBound is how soon all nodes must serve when everything is healed: an election that was split, at worst,
// on a machine with other work.
const servingBound = 20 * time.Second

// restore heals everything, whatever it was.
func (n *nemesis) restore() {
	n.network.heal()
	for _, v := range n.nodes {
		n.resume(v)
		n.start(v)
	}
}

// victim is the leader or, if nobody leads or somebody else is wanted, any node.
func (n *nemesis) victim(leader bool) int {
	random := n.random.IntN(len(n.nodes))
	if leader {
		if at := n.leader(); at >= 0 {
			return at
		}
	}
	return random
}

func (n *nemesis) killAll() {
	order := n.random.Perm(len(n.nodes))
	for _, i := range order {
		n.kill(n.nodes[i])
	}
	time.Sleep(time.Duration(n.random.IntN(300)) * time.Millisecond)
	for _, i := range n.random.Perm(len(n.nodes)) {
		n.start(n.nodes[i])
	}
}

// killTwice kills the leader, starts it, and kills whoever leads then, before the first is ready.
func (n *nemesis) killTwice() {
	for range 2 {
		v := n.nodes[n.victim(true)]
		n.kill(v)
		time.Sleep(time.Duration(n.random.IntN(700)) * time.Millisecond)
		n.start(v)
	}
}

func (n *nemesis) killTwo(hold time.Duration) {
	first := n.victim(true)
	second := (first + 1 + n.random.IntN(len(n.nodes)-1)) % len(n.nodes)
	n.kill(n.nodes[first])
	n.kill(n.nodes[second])
	time.Sleep(hold)
	n.start(n.nodes[second])
	n.start(n.nodes[first])
}

func (n *nemesis) pauseAll(hold time.Duration) {
	for _, i := range n.random.Perm(len(n.nodes)) {
		n.pause(n.nodes[i])
	}
	time.Sleep(hold)
	for _, i := range n.random.Perm(len(n.nodes)) {
		n.resume(n.nodes[i])
		time.Sleep(time.Duration(n.random.IntN(100)) * time.Millisecond)
	}
}

// rollingPause pauses nodes so that the one before wakes just after the next has fallen asleep.
func (n *nemesis) rollingPause() {
	order := n.random.Perm(len(n.nodes))
	for round := range 6 {
		v := n.nodes[order[round%len(n.nodes)]]
		n.pause(v)
		time.Sleep(time.Duration(100+n.random.IntN(500)) * time.Millisecond)
		if round > 0 {
			n.resume(n.nodes[order[(round-1)%len(n.nodes)]])
		}
	}
}

// isolate cuts what a node sends, receives, or both.
func (n *nemesis) isolate(number int, out, in, swallow bool) {
	for other := range n.nodes {
		if other == number {
			continue
		}
		if out {
			n.network.cut(number, other, swallow)
		}
		if in {
			n.network.cut(other, number, swallow)
		}
	}
}

// cutOne cuts the leader from one follower, in one direction or both: the follower still hears the other one.
func (n *nemesis) cutOne(hold time.Duration) {
	leader := n.victim(true)
	other := (leader + 1 + n.random.IntN(len(n.nodes)-1)) % len(n.nodes)
	direction := n.random.IntN(3)
	swallow := n.random.IntN(2) == 0
	if direction != 1 {
		n.network.cut(leader, other, swallow)
	}
	if direction != 0 {
		n.network.cut(other, leader, swallow)
	}
	time.Sleep(hold)
}

// ring cuts so that each node hears only one of the others.
func (n *nemesis) ring(hold time.Duration) {
	for from := range n.nodes {
		n.network.cut(from, (from+1)%len(n.nodes), false)
	}
	time.Sleep(hold)
}

func (n *nemesis) cutEverything(hold time.Duration) {
	for number := range n.nodes {
		n.isolate(number, true, false, number == 0)
	}
	time.Sleep(hold)
}

func (n *nemesis) slowLinks(hold time.Duration) {
	for from := range n.nodes {
		for to := range n.nodes {
			if from != to && n.random.IntN(3) > 0 {
				n.network.slow(from, to, time.Duration(n.random.IntN(120))*time.Millisecond)
			}
		}
	}
	time.Sleep(hold)
}

func (n *nemesis) cutAndPause(hold time.Duration) {
	v := n.nodes[n.victim(true)]
	n.isolate(v.number, n.random.IntN(2) == 0, true, n.random.IntN(2) == 0)
	time.Sleep(time.Duration(n.random.IntN(300)) * time.Millisecond)
	n.pause(v)
	time.Sleep(hold)
	n.network.heal()
	time.Sleep(time.Duration(n.random.IntN(200)) * time.Millisecond)
	n.resume(v)
}

func (n *nemesis) slowAndKill(hold time.Duration) {
	n.slowLinks(hold)
	v := n.nodes[n.victim(true)]
	n.kill(v)
	time.Sleep(hold)
	n.start(v)
}

func (n *nemesis) pauseAndKill(hold time.Duration) {
	leader := n.victim(true)
	follower := n.nodes[(leader+1+n.random.IntN(len(n.nodes)-1))%len(n.nodes)]
	n.pause(follower)
	time.Sleep(time.Duration(n.random.IntN(400)) * time.Millisecond)
	n.kill(n.nodes[leader])
	time.Sleep(hold / 2)
	n.resume(follower)
	time.Sleep(hold / 2)
	n.start(n.nodes[leader])
}

// leaveBehind keeps a node from following for so long that the others have forgotten the entries it
// needs: a compaction makes them flush their state and cut their logs. It needs a small --snapshot-count.
func (n *nemesis) leaveBehind(hold time.Duration, killIt, leader bool) {
	v := n.nodes[n.victim(true)]
	if !leader {
		v = n.nodes[(v.number+1+n.random.IntN(len(n.nodes)-1))%len(n.nodes)]
	}
	switch n.random.IntN(3) {
	case 0:
		n.kill(v)
	case 1:
		n.pause(v)
	default:
		n.isolate(v.number, true, true, n.random.IntN(2) == 0)
	}
	time.Sleep(hold)
	for range 3 {
		n.compact(v)
		time.Sleep(100 * time.Millisecond)
	}
	n.restore()
	if killIt {
		time.Sleep(time.Duration(n.random.IntN(500)) * time.Millisecond)
		n.kill(v)
		n.start(v)
	}
}

// compact compacts at a revision that every watcher has passed.
func (n *nemesis) compact(except *node) {
	at := n.recorder.compactable()
	for _, v := range n.nodes {
		if v == except || at < 2 {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := v.client.Compact(ctx, at)
		cancel()
		if err == nil {
			return
		}
	}
}

// summary lists what was done.
func (n *nemesis) summary() string {
	var names []string
	total := 0
	for name, count := range n.counts {
		names = append(names, fmt.Sprintf("%dx %s", count, name))
		total += count
	}
	slices.Sort(names)
	return fmt.Sprintf("%d faults: %s", total, strings.Join(names, "; "))
}
