package driver

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

var (
	firstSeed = flag.Uint64("first-seed", 0, "first seed of the random runs")
	seedCount = flag.Uint64("seeds", 40, "number of random runs")
)

// TestRandom drives clusters through faults of all kinds; see world. Reproduce one with -first-seed=N -seeds=1.
func TestRandom(t *testing.T) {
	randomRuns(t, *seedCount, func(seed uint64, o *worldOptions) { o.nodes = []int{3, 3, 3, 5, 1}[seed%5] })
}

// TestRandomPaxos does the same to Multi-Paxos, with majorities and with quorums of other sizes.
func TestRandomPaxos(t *testing.T) {
	groups := []struct {
		nodes int
		paxosQuorums
	}{{3, paxosQuorums{}}, {5, paxosQuorums{4, 2}}, {5, paxosQuorums{2, 4}}, {4, paxosQuorums{2, 3}}, {3, paxosQuorums{3, 1}}, {4, paxosQuorums{0, 2}}, {5, paxosQuorums{}}, {3, paxosQuorums{1, 3}}}
	randomRuns(t, (*seedCount+1)/2, func(seed uint64, o *worldOptions) {
		group := groups[seed%uint64(len(groups))]
		o.nodes, o.paxos = group.nodes, &group.paxosQuorums
	})
}

func randomRuns(t *testing.T, count uint64, of func(uint64, *worldOptions)) {
	if testing.Short() {
		count = min(count, 8)
	}
	var total figures
	for seed := *firstSeed; seed < *firstSeed+count; seed++ {
		f, err := randomRun(t, seed, of)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		total.add(f)
	}
	t.Logf("%+v", total)
	if n := int(count); n >= 8 && (total.EffectCrashes < 5*n || total.Snapshots < n/2 || total.Acked < 200*n || total.LeaseReads < 10*n ||
		total.BarrierReads < 5*n || total.Compactions < n || total.KeptHashes < n || total.AsyncSyncs < n) {
		t.Errorf("the runs do not cover enough: %+v", total)
	}
}

func (f *figures) add(o figures) {
	f.Rounds += o.Rounds
	f.Crashes += o.Crashes
	f.EffectCrashes += o.EffectCrashes
	f.Leaderships += o.Leaderships
	f.Snapshots += o.Snapshots
	f.Acked += o.Acked
	f.Refused += o.Refused
	f.Unknown += o.Unknown
	f.LeaseReads += o.LeaseReads
	f.BarrierReads += o.BarrierReads
	f.Compactions += o.Compactions
	f.KeptHashes += o.KeptHashes
	f.AsyncSyncs += o.AsyncSyncs
	f.Voids += o.Voids
	f.Wipes += o.Wipes
}

func randomRun(t *testing.T, seed uint64, of func(uint64, *worldOptions)) (figures, error) {
	dir, err := os.MkdirTemp(t.TempDir(), "run-")
	if err != nil {
		return figures{}, err
	}
	defer os.RemoveAll(dir)
	o := worldOptions{seed: seed, dir: dir, drift: 0.02, readQuorum: seed%4 == 3, inflight: 1 + int(seed%3), retain: []uint64{4, 10, 60}[seed/5%3]}
	of(seed, &o)
	w := newWorld(t, o)
	for _, n := range w.nodes {
		if err := n.start(); err != nil {
			return w.figures, err
		}
	}
	number := 0
	for range 5 {
		for range 600 {
			w.fault()
			for range w.random.IntN(3) {
				number++
				w.request(number)
			}
			w.step(time.Duration(1+w.random.Int64N(8)) * time.Millisecond)
			if w.err != nil {
				return w.figures, w.err
			}
		}
		if err := w.recover(); err != nil {
			return w.figures, err
		}
	}
	return w.figures, nil
}

// fault lets something go wrong, now and then.
func (w *world) fault() {
	n := w.nodes[w.random.IntN(len(w.nodes))]
	if leader := w.leader(); leader != nil && w.random.IntN(2) == 0 {
		n = leader
	}
	other := w.nodes[w.random.IntN(len(w.nodes))]
	switch p := w.random.IntN(600); {
	case p < 3 && n.up:
		n.crash()
	case p < 9 && n.up:
		n.fuse = 1 + w.random.IntN(60)
	case p < 18 && !n.up:
		if err := n.start(); err != nil {
			w.fail("%w", err)
		}
	case p < 22 && n != other:
		w.net.block(n.index, other.index, true)
	case p < 26: // cut off altogether
		for i := range w.nodes {
			if i != n.index {
				w.net.block(n.index, i, true)
				w.net.block(i, n.index, true)
			}
		}
	case p < 31:
		w.net.heal()
	case p < 34 && n.up:
		n.pausedUntil = w.now + time.Duration(w.random.Int64N(int64(1500*time.Millisecond)))
	case p < 36:
		n.slow = !n.slow
	case p < 38:
		w.net.loss = w.random.Float64() * 0.2
	case p < 40:
		w.net.reorder = w.random.Float64() * 0.1
	case p < 41:
		w.net.jitter = time.Duration(1 + w.random.Int64N(int64(200*time.Millisecond)))
	case p < 50: // slow in one direction, or in both
		for i := range w.nodes {
			d := time.Duration(w.random.Int64N(int64(2500 * time.Millisecond)))
			if w.random.IntN(4) > 0 {
				w.net.links[i][n.index].delay = d
			} else if w.random.IntN(3) == 0 {
				w.net.links[n.index][i].delay = d
			}
		}
	case p < 58 && w.majorities() && w.mayWipe(n):
		n.wipe(w.random.IntN(2) == 0)
		if !slices.Contains(w.wiped, n) {
			w.wiped = append(w.wiped, n)
		}
	case p < 61 && n != other && n.up && other.up:
		n.driver.PeerDown(other.id, false)
		n.driver.PeerUp(other.id, FormatNewest)
	}
}

// mayWipe tells whether the node can lose its disks and nothing that was acknowledged is lost with them: fewer than half of the
// nodes are without what they had at any time, again and again if need be.
func (w *world) mayWipe(n *simNode) bool {
	switch {
	case slices.Contains(w.wiped, n):
		return w.random.IntN(2) == 0
	case len(w.wiped) > 0:
		return len(w.wiped) < (len(w.nodes)-1)/2
	}
	return len(w.nodes) > 2 && w.whole()
}

// recover heals everything: then the cluster must serve, answer what is open, and be of one mind.
func (w *world) recover() error {
	if err := w.heal(); err != nil {
		return err
	}
	w.run(12*time.Second, func() bool {
		leader := w.leader()
		if leader == nil || len(w.oracle.open) > 0 || !w.whole() {
			return false
		}
		for _, n := range w.nodes {
			if n.replica.Applied() != leader.replica.Applied() || n.replica.Applied() != uint64(len(w.oracle.log))+1 {
				return false
			}
		}
		return true
	})
	if w.err != nil {
		return w.err
	}
	leader := w.leader()
	if leader == nil {
		return fmt.Errorf("at %v: nobody leads long after everything is well: %s", w.now, w.describe())
	}
	if !w.whole() {
		return fmt.Errorf("at %v: not every node has a voter: %v, placed %v: %s", w.now, leader.replica.machine.Config(), leader.replica.machine.Placements(), w.describe())
	}
	for op := range w.oracle.open {
		return fmt.Errorf("at %v: %s was never answered: %s", w.now, op.name, w.describe())
	}
	for _, n := range w.nodes {
		if queued := n.driver.queued.Load(); queued != 0 {
			return fmt.Errorf("node %d counts %d requests, all are answered", n.id, queued)
		}
		if err := n.disks.check(); err != nil {
			return err
		}
	}
	return w.compareStates()
}

func (w *world) describe() (text string) {
	for _, n := range w.nodes {
		if !n.up {
			text += fmt.Sprintf("\nnode %d is down", n.id)
			continue
		}
		s := n.replica.core.Status()
		text += fmt.Sprintf("\nnode %d, replica %d on disk %d, %s: %s of %d in term %d, commit %d applied %d last %d, followed %d ticking %v campaign at %v of %v, config %v, placed %v, rounds %d depends %d barriers %d waits %d unsynced %d syncing %d jobs %d", n.id, n.replica.membership.Self(), n.disk, n.replica.Standing(), s.Role, s.Leader, s.Term, s.Commit, s.Applied, s.Last,
			n.replica.leadership.Followed(), n.replica.ticking, n.replica.leadership.Due(), n.clock(), n.replica.core.Status().Config, n.replica.machine.Placements(), n.replica.rounds.len(), n.replica.depends.len(), len(n.replica.barriers), len(n.replica.waits), len(n.driver.unsynced), len(n.driver.syncing), len(n.jobs))
	}
	return text
}

// majorities tells whether any smaller or larger membership on the way to a new replica has quorums.
func (w *world) majorities() bool {
	return w.options.paxos == nil || *w.options.paxos == paxosQuorums{}
}
