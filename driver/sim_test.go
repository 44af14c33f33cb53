package driver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// world is a cluster in one goroutine: real drivers, cores and machines on a simulated network, disks and clocks.
// Everything follows from the seed.
type world struct {
	options worldOptions
	random  *rand.Rand
	now     time.Duration
	nodes   []*simNode
	net     *network
	oracle  *oracle
	diskIDs uint64
	wiped   []*simNode // lost their disks, and not all of their new replicas are voters yet
	err     error
	figures figures
}

type worldOptions struct {
	seed       uint64
	nodes      int
	dir        string
	drift      float64 // clocks run at 1-drift to 1+drift
	readQuorum bool
	retain     uint64
	inflight   int
	// paxos, if set, takes the place of Raft.
	paxos *paxosQuorums
	// wrap, if set, changes what the cores say.
	wrap func(consensus.Core) consensus.Core
	// disks makes a node's disks; default: memory.
	disks func(w *world, n *simNode) disks
}

// paxosQuorums are the sizes of Multi-Paxos' quorums; 0 stands for a majority.
type paxosQuorums struct{ phase1, phase2 int }

// newCore makes a core with tiny limits.
func (n *simNode) newCore(o CoreOptions, seed uint64) (consensus.Core, error) {
	if q := n.w.options.paxos; q != nil {
		return paxos.New(paxos.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState,
			Applied: o.Applied, Config: o.Config, MaxApplyBytes: 2 << 10, MaxMessageBytes: 1 << 10,
			Rand: rand.New(rand.NewPCG(seed, 4)), Phase1Quorum: q.phase1, Phase2Quorum: q.phase2}, o.Log)
	}
	return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState,
		Applied: o.Applied, Config: o.Config, MaxApplyBytes: 2 << 10, MaxMessageBytes: 1 << 10}, o.Log)
}

// disks are the durable parts of a node. open gives what a process that starts now finds.
type disks interface {
	open() (storage.Log, storage.Engine, error)
	crash(*rand.Rand)
	// work lets the background of the disks go on a little.
	work(*rand.Rand)
	check() error
}

// figures count what a run covered.
type figures struct {
	Rounds, Crashes, EffectCrashes, Leaderships, Snapshots, Acked, Refused, Unknown, LeaseReads, BarrierReads, Compactions, AsyncSyncs, Voids, Wipes, KeptHashes int
}

// simNode is one node: its disks outlive its process.
type simNode struct {
	w           *world
	id          kv.NodeID
	index       int
	offset      time.Duration
	rate        float64
	stall       time.Duration // how far a disk that stalls has brought it ahead of the world
	pausedUntil time.Duration
	disks       disks
	image       disks  // as they were; see the scenarios
	disk        uint64 // its ID
	lost        bool   // the node knows that what it had is lost
	slow        bool   // its disk: syncs take long

	up          bool
	incarnation uint64
	driver      *Driver
	replica     *Replica
	engine      storage.Engine
	transport   *simTransport
	jobs        []job
	guarded     bool
	woken       atomic.Bool
	fuse        int   // effects until it crashes; 0: it does not
	failNext    error // of the next sync of the log
	failedWith  error
	next        consensus.Index // the entry that it must apply next
}

// job is something that a driver does beside its rounds.
type job struct {
	due time.Duration
	run func()
}

// crashed is what an effect panics with when the fuse has burnt down.
type crashed struct{ node *simNode }

func newWorld(t testing.TB, o worldOptions) *world {
	if tt, ok := t.(*testing.T); ok {
		cryptotest.SetGlobalRandom(tt, o.seed) // election jitter
	}
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	if o.retain == 0 {
		o.retain = 30
	}
	w := &world{options: o, random: rand.New(rand.NewPCG(o.seed, 1))}
	w.net = newNetwork(w)
	w.oracle = newOracle(w)
	for i := range o.nodes {
		n := &simNode{w: w, id: kv.NodeID(i + 1), index: i, offset: time.Duration(w.random.Int64N(int64(time.Hour)))}
		n.rate = 1 + o.drift*(2*w.random.Float64()-1)
		n.newDisks()
		w.nodes = append(w.nodes, n)
	}
	return w
}

// newDisks gives the node empty disks.
func (n *simNode) newDisks() {
	// Where every node is needed to decide, nobody can tell a new node that it always was: it would wait for ever.
	if n.w.quorumsAreProper() {
		n.w.diskIDs++
		n.disk = n.w.diskIDs
	}
	if n.w.options.disks != nil {
		n.disks = n.w.options.disks(n.w, n)
	} else {
		n.disks = newMemoryDisks(n)
	}
}

func (n *simNode) clock() time.Duration {
	return n.offset + time.Duration(float64(n.w.now+n.stall)*n.rate)
}

// effect is called before and after everything that the outside could notice.
func (n *simNode) effect() {
	if n.fuse > 0 {
		if n.fuse--; n.fuse == 0 {
			panic(crashed{n})
		}
	}
}

// guard runs a step of the node, which may end in a crash.
func (n *simNode) guard(step func()) {
	n.guarded = true
	defer func() {
		n.guarded = false
		if r := recover(); r != nil {
			c, ok := r.(crashed)
			if !ok || c.node != n {
				panic(r)
			}
			n.w.figures.EffectCrashes++
			n.crash()
		}
	}()
	step()
}

func (n *simNode) nodeIDs() (ids []kv.NodeID, config consensus.Config) {
	for i := range n.w.options.nodes {
		ids = append(ids, kv.NodeID(i+1))
		config.Voters = append(config.Voters, consensus.ReplicaID(i+1))
	}
	return ids, config
}

// start starts a process on the disks.
func (n *simNode) start() error {
	n.fuse, n.failNext, n.failedWith, n.jobs, n.stall, n.pausedUntil = 0, nil, nil, nil, 0, 0
	log, engine, err := n.disks.open()
	if err != nil {
		return err
	}
	n.incarnation++
	n.engine = engine
	n.transport = &simTransport{node: n}
	ids, config := n.nodeIDs()
	staging, err := os.MkdirTemp(n.w.options.dir, "staging-")
	if err != nil {
		return err
	}
	seed := n.w.random.Uint64()
	safety := ReadLease
	if n.w.options.readQuorum {
		safety = ReadQuorum
	}
	n.driver, err = Open(Options{
		Self: n.id, Nodes: ids, Log: log, Engine: engine, Transport: n.transport, StagingDir: staging,
		Instance: uint64(n.id)<<32 | n.incarnation, Rand: rand.New(rand.NewPCG(seed, 2)), ReadSafety: safety,
		RetainLogEntries: n.w.options.retain, FlushLogBytes: 4 << 10, FlushChunkRows: 4, KeepHashes: 3, MaxInflight: n.w.options.inflight,
		Disk: n.disk, Lost: n.lost,
		Founders: n.w.options.paxos.largest(), OutOfOrderLog: n.w.options.paxos != nil,
		NewCore: func(o CoreOptions) (consensus.Core, error) {
			core, err := n.newCore(o, seed)
			if err == nil && n.w.options.wrap != nil {
				core = n.w.options.wrap(core)
			}
			return core, err
		},
		OpenMachine: func(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
			return OpenMachine(engine, shard.Options{
				Shard: kv.ShardID(group), Rand: rand.New(rand.NewPCG(seed, 3)), MinLeaseTTLSeconds: 1, LogEnd: logEnd,
				Versions: mvcc.Options{MaxDirtyKeys: 12, BucketRows: 4},
			}, Founding{Members: config})
		},
		Spawn: func(run func()) {
			n.w.figures.AsyncSyncs++
			n.jobs = append(n.jobs, job{due: n.w.now + time.Duration(n.w.random.Int64N(int64(30*time.Millisecond))), run: run})
		},
		Wake: func() { n.woken.Store(true) },
		Listener: Listener{
			RoleChanged: func(_ consensus.GroupID, change consensus.RoleChange, _ kv.NodeID) {
				if change.Role == consensus.RoleLeader {
					n.w.figures.Leaderships++
				}
			},
			SnapshotInstalled: func(consensus.GroupID, consensus.SnapshotMeta) { n.w.figures.Snapshots++ },
			Failed:            func(err error) { n.failedWith = err },
		},
	}, n.clock)
	if err != nil {
		return fmt.Errorf("node %d: %w", n.id, err)
	}
	n.replica = n.driver.Replica(1)
	n.next = n.replica.machine.AppliedIndex() + 1
	n.up = true
	incarnation := n.incarnation
	n.replica.Subscribe(func(a *shard.Applied) {
		if n.incarnation == incarnation && n.up {
			n.w.oracle.applied(n, a)
		}
	})
	n.w.net.started(n)
	return nil
}

// crash ends the process. Whoever waits for it never hears.
func (n *simNode) crash() {
	n.up = false
	n.w.figures.Crashes++
	n.disks.crash(n.w.random)
	n.w.net.stopped(n)
	n.w.oracle.crashed(n)
}

// wipe takes the node's disks away. known: the node finds its data damaged; otherwise it finds nothing.
func (n *simNode) wipe(known bool) {
	if n.up {
		n.crash()
	}
	n.newDisks()
	n.lost = known
	n.w.figures.Wipes++
}

// whole tells whether every node's newest replica is a voter, and nobody else is; and everybody knows. As long as only the
// leader knows that a membership change is over, the others would go by the old one without it: it must not be lost.
func (w *world) whole() bool {
	leader := w.leader()
	if leader == nil || leader.replica.membership.WantsRepair() {
		return false
	}
	for _, n := range w.nodes {
		if !n.up {
			return false
		}
		newest := leader.replica.membership.Newest(n.id)
		voters := n.replica.machine.Config()
		if voters.Joint() || len(voters.Learners) > 0 || len(voters.Voters) != len(w.nodes) || !voters.Votes(newest) || n.replica.membership.Unflushed() {
			return false
		}
		at := slices.IndexFunc(leader.machine().Placements(), func(p shard.Placement) bool { return p.Node == n.id && p.Disk == n.disk })
		if n.disk != 0 && at < 0 {
			return false
		}
	}
	return true
}

func (n *simNode) paused() bool { return n.w.now < n.pausedUntil }

// run does what is due at the node.
func (n *simNode) run() {
	if !n.up || n.paused() {
		return
	}
	n.stall = 0
	n.guard(func() {
		n.disks.work(n.w.random)
		for i := 0; i < len(n.jobs); i++ {
			if n.jobs[i].due <= n.w.now {
				run := n.jobs[i].run
				n.jobs = append(n.jobs[:i], n.jobs[i+1:]...)
				run()
				i--
			}
		}
		woken := n.woken.Swap(false)
		if !woken && n.clock() < n.driver.NextRound() {
			return
		}
		for i := 0; ; i++ {
			n.w.figures.Rounds++
			if !n.driver.Round() || n.paused() {
				break
			}
			if i == 1000 {
				n.w.fail("node %d: the rounds do not end", n.id)
				return
			}
		}
	})
}

func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("at %v: "+format, append([]any{w.now}, args...)...)
	}
}

// step lets the time pass.
func (w *world) step(d time.Duration) {
	w.now += d
	w.net.deliver()
	for _, i := range w.random.Perm(len(w.nodes)) {
		w.nodes[i].run()
	}
	w.observe()
}

// observe holds the whole world against what must always be true.
func (w *world) observe() {
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		if n.failedWith != nil {
			w.fail("node %d stopped: %w", n.id, n.failedWith)
			return
		}
		if err := errors.Join(n.driver.Check(), n.checkMachine()); err != nil {
			w.fail("node %d: %w", n.id, err)
			return
		}
	}
	w.oracle.observeLeases()
	if len(w.wiped) > 0 && w.whole() {
		w.wiped = nil
	}
}

func (n *simNode) checkMachine() error {
	m := n.replica.machine.(*shard.Machine)
	return errors.Join(m.Check(), m.CheckVersions())
}

// run lets the time pass in small steps until it is over or the condition holds.
func (w *world) run(d time.Duration, until func() bool) bool {
	for end := w.now + d; w.now < end && w.err == nil; {
		w.step(time.Duration(1+w.random.Int64N(8)) * time.Millisecond)
		if until != nil && until() {
			return true
		}
	}
	return false
}

// leader returns the node that serves, if there is one; the newest if an older one does not know yet.
func (w *world) leader() (newest *simNode) {
	for _, n := range w.nodes {
		if n.up && !n.paused() && n.replica.IsLeader() && (newest == nil || n.replica.role.Term > newest.replica.role.Term) {
			newest = n
		}
	}
	return newest
}

func (w *world) heal() error {
	w.net.heal()
	for _, n := range w.nodes {
		n.slow, n.pausedUntil, n.fuse = false, min(n.pausedUntil, w.now+50*time.Millisecond), 0
		if !n.up {
			if err := n.start(); err != nil {
				return err
			}
		}
	}
	return nil
}

// quorumsAreProper tells whether the cluster can decide without one of its nodes.
func (w *world) quorumsAreProper() bool {
	q := w.options.paxos
	return q == nil || w.options.nodes == 1 || max(q.phase1, q.phase2) < w.options.nodes
}

// largest is the size of the larger quorum; 0 for a majority.
func (q *paxosQuorums) largest() int {
	if q == nil {
		return 0
	}
	return max(q.phase1, q.phase2)
}
