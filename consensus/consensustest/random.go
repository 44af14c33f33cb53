package consensustest

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// randomRun drives a cluster through arbitrary events.
type randomRun struct {
	c        *Cluster
	rng      *rand.Rand
	proposed int
	reads    consensus.ReadID
	faults   int // in a thousand steps, of each sort
	trace    []string
}

// maxReplicas bounds how many replicas a random run makes.
const maxReplicas = 6

// Coverage counts what happened in a random run, so that a test can insist that something did.
type Coverage struct {
	Leaderships, Chosen, Configs, Snapshots, ReadsConfirmed, ReadsFailed, Crashes int
}

// Add adds the figures of another run.
func (v *Coverage) Add(o Coverage) {
	v.Leaderships += o.Leaderships
	v.Chosen += o.Chosen
	v.Configs += o.Configs
	v.Snapshots += o.Snapshots
	v.ReadsConfirmed += o.ReadsConfirmed
	v.ReadsFailed += o.ReadsFailed
	v.Crashes += o.Crashes
}

// RunRandom drives a cluster of replicas through so many random events with every fault, then heals it and
// requires that it agrees and makes progress. The error tells what went wrong and the last events before.
func RunRandom(opts Options, seed uint64, steps int) (Coverage, error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	opts.Limits = Limits{
		ElectionTicks: 10, HeartbeatTicks: 1 + rng.IntN(3),
		MaxMessageBytes: []int{1, 60, 1 << 20}[rng.IntN(3)], MaxApplyBytes: []int{1, 80, 1 << 20}[rng.IntN(3)],
		MaxInflightMessages: 1 + rng.IntN(8),
	}
	size := 1 + 2*rng.IntN(3)
	if opts.Replicas != 0 {
		size = opts.Replicas
	}
	r := &randomRun{c: NewCluster(opts, size), rng: rng, faults: rng.IntN(12)}
	for step := 0; step < steps && r.c.violation == nil; step++ {
		r.step()
	}
	r.recover()
	if err := r.c.violation; err != nil {
		return r.c.coverage(), fmt.Errorf("seed %d: %w\nlast events: %v", seed, err, r.trace[max(0, len(r.trace)-40):])
	}
	return r.c.coverage(), nil
}

func (c *Cluster) coverage() Coverage {
	v := c.counts
	v.Leaderships, v.Chosen, v.Configs = len(c.ledger.leaders), len(c.ledger.entries), len(c.ledger.configs)-1
	return v
}

func (r *randomRun) note(format string, args ...any) {
	r.trace = append(r.trace, fmt.Sprintf(format, args...))
	if len(r.trace) > 1000 {
		r.trace = slices.Clone(r.trace[900:])
	}
}

func (r *randomRun) pick() *node { return r.c.nodes[r.c.ids[r.rng.IntN(len(r.c.ids))]] }

// leader returns a running replica that believes it leads, or any.
func (r *randomRun) leader() *node {
	at := r.rng.IntN(len(r.c.ids))
	for i := range r.c.ids {
		if n := r.c.nodes[r.c.ids[(at+i)%len(r.c.ids)]]; n.core != nil && n.role.Role == consensus.RoleLeader {
			return n
		}
	}
	return r.pick()
}

func (r *randomRun) act(n *node, what string, f func(consensus.Core) error) {
	r.note("%s %d", what, n.id)
	_ = r.c.act(n.id, f) // refusals are part of the game
}

// step does one random thing. The weights make progress likely and faults frequent; how frequent
// is drawn for each run.
func (r *randomRun) step() {
	switch p := r.rng.IntN(1000); {
	case p < 620:
		r.flight()
	case p < 740:
		r.act(r.pick(), "tick", func(core consensus.Core) error { core.Tick(); return nil })
	case p < 820:
		r.propose()
	case p < 850:
		r.read()
	case p < 920:
		r.disk()
	case p < 940:
		r.rare()
	case p < 960:
		r.mend()
	case p < 960+r.faults:
		r.partition()
	case p < 960+2*r.faults:
		r.crash()
	default:
		r.flight()
	}
}

// mend heals the network or brings a replica back.
func (r *randomRun) mend() {
	if r.rng.IntN(2) == 0 {
		r.note("heal")
		clear(r.c.network.cut)
		return
	}
	for _, id := range r.c.ids {
		if r.c.nodes[id].core == nil {
			r.note("restart %d", id)
			r.c.Restart(id)
			return
		}
	}
}

// flight delivers, loses, doubles or raises a random message: the order is arbitrary.
func (r *randomRun) flight() {
	flight := r.c.network.flight
	if len(flight) == 0 {
		return
	}
	at := r.rng.IntN(min(len(flight), 1+r.rng.IntN(12)))
	e := flight[at]
	r.note("message %d>%d", e.from, e.to)
	switch p := r.rng.IntN(100); {
	case p < 4: // stays, and is delivered too: a duplicate
	case p < 10:
		r.c.network.flight = slices.Delete(flight, at, at+1)
		r.c.lose(e)
		return
	default:
		r.c.network.flight = slices.Delete(flight, at, at+1)
	}
	if sender := r.c.nodes[e.from]; e.snapshot != nil && sender.core != nil && r.rng.IntN(2) == 0 {
		e.raise(sender.machine)
	}
	r.c.deliver(e)
}

func (r *randomRun) propose() {
	n := r.leader()
	var data [][]byte
	for range 1 + r.rng.IntN(3) {
		r.proposed++
		data = append(data, fmt.Appendf(nil, "v%d", r.proposed))
	}
	r.act(n, "propose", func(core consensus.Core) error { return core.Propose(data) })
}

func (r *randomRun) read() {
	r.reads++
	n := r.leader()
	r.note("read %d", n.id)
	_ = r.c.askRead(n.id, r.reads)
}

// disk holds, releases and does parts of the syncing and applying.
func (r *randomRun) disk() {
	n := r.pick()
	if n.core == nil {
		return
	}
	r.note("disk %d", n.id)
	switch r.rng.IntN(7) {
	case 0:
		n.holdSync = true
	case 1:
		n.holdSync = false
	case 2:
		n.holdApply = true
	case 3:
		n.holdApply = false
	case 4:
		r.c.sync(n, 1)
	case 5:
		r.c.apply(n, 1+r.rng.IntN(3))
	case 6:
		r.c.Checkpoint(n.id, r.rng.IntN(2) == 0)
	}
	r.c.settle(n)
}

func (r *randomRun) partition() {
	if r.rng.IntN(2) == 0 {
		r.c.isolate(r.pick().id)
	} else {
		r.c.network.cut[link{r.pick().id, r.pick().id}] = true
	}
	r.note("partition %d", len(r.c.network.cut))
}

func (r *randomRun) crash() {
	if n := r.pick(); n.core != nil {
		r.note("crash %d", n.id)
		r.c.Crash(n.id, r.rng.IntN(2) == 0)
	}
}

func (r *randomRun) rare() {
	n, peer := r.leader(), r.pick().id
	switch r.rng.IntN(7) {
	case 0:
		r.act(r.pick(), "campaign", func(core consensus.Core) error { core.Campaign(); return nil })
	case 1:
		if peer%2 == 0 {
			r.act(n, "hand over", func(core consensus.Core) error { return core.HandOver(peer) })
		} else {
			r.act(n, "transfer", func(core consensus.Core) error { return core.TransferLeader(peer) })
		}
	case 2:
		r.act(r.pick(), "leader lost", func(core consensus.Core) error { core.LeaderLost(); return nil })
	case 3:
		r.act(n, "unreachable", func(core consensus.Core) error { core.Unreachable(peer); return nil })
	case 4:
		r.act(n, "snapshot done", func(core consensus.Core) error { core.SnapshotDone(peer, r.rng.IntN(2) == 0); return nil })
	default:
		config := r.config()
		r.act(n, "config "+config.String(), func(core consensus.Core) error { return core.ProposeConfig(config) })
	}
}

// config makes a random membership, and the replicas it needs: mostly a small change of the latest one.
func (r *randomRun) config() (config consensus.Config) {
	latest := r.c.ledger.configs[len(r.c.ledger.configs)-1]
	for id := consensus.ReplicaID(1); id <= maxReplicas; id++ {
		p := r.rng.IntN(12)
		switch {
		case p < 5 && slices.Contains(latest.Voters, id), p == 6, p == 7 && slices.Contains(latest.Learners, id):
			config.Voters = append(config.Voters, id)
		case p == 8, p < 3 && slices.Contains(latest.Learners, id):
			config.Learners = append(config.Learners, id)
		case p > 8 && slices.Contains(latest.Voters, id):
			config.Voters = append(config.Voters, id)
		}
	}
	for _, id := range config.Members() {
		if r.c.nodes[id] == nil {
			r.c.Add(id)
		}
	}
	return config
}

// recover ends all faults and requires that the group gets a leader, decides something new, and that
// every member arrives at the same.
func (r *randomRun) recover() {
	clear(r.c.network.cut)
	for _, id := range r.c.ids {
		n := r.c.nodes[id]
		if n.core == nil {
			r.c.Restart(id)
		}
		n.holdSync, n.holdApply = false, false
		r.c.settle(n)
	}
	last := "the last value"
	for range 300 {
		for _, id := range r.c.ids {
			_ = r.c.act(id, func(core consensus.Core) error { core.Tick(); return nil })
		}
		r.c.stabilize()
		if r.c.violation != nil || r.agreed(last) {
			return
		}
		leader := r.leader()
		if leader.role.Role == consensus.RoleLeader && !slices.Contains(leader.machine.values, last) {
			_ = r.c.act(leader.id, func(core consensus.Core) error { return core.Propose([][]byte{[]byte(last)}) })
		}
	}
	var state []string
	for _, id := range r.c.ids {
		n := r.c.nodes[id]
		state = append(state, fmt.Sprintf("%d: %d values, log %d-%d, %+v", id, len(n.machine.values), n.log.First(), n.log.Last(), n.core.Status()))
	}
	r.c.violated("the healed group does not come to an agreement: %q", state)
}

// agreed tells whether every member of the latest membership has applied the value and the same before it.
func (r *randomRun) agreed(value string) bool {
	config := r.c.ledger.configs[len(r.c.ledger.configs)-1]
	var first *node
	for _, id := range config.Members() {
		n := r.c.nodes[id]
		if first == nil {
			first = n
		}
		if !slices.Contains(n.machine.values, value) || !slices.Equal(n.machine.values, first.machine.values) || len(n.reads) > 0 {
			return false
		}
	}
	return !config.Joint()
}
