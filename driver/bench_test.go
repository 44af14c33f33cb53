package driver

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// idleMachine is the smallest state machine that a driver can drive: entries count, nothing is kept.
type idleMachine struct {
	shard            kv.ShardID
	applied, flushed consensus.Index
	term             consensus.Term
	config           consensus.Config
	leads            consensus.Term
	pending          int
	seq              uint64
}

func (m *idleMachine) Lead(term consensus.Term, _ time.Duration) error {
	m.leads, m.seq = term, 0
	return nil
}
func (m *idleMachine) Shard() kv.ShardID { return m.shard }
func (m *idleMachine) Follow()           { m.leads = 0 }
func (m *idleMachine) Evaluate(*kv.Request) shard.Outcome {
	m.pending++
	return shard.Outcome{Response: &kv.Response{}, Effects: true, WaitFor: m.seq + 1}
}
func (m *idleMachine) TakeProposal(time.Duration) ([]byte, uint64) {
	m.pending = 0
	m.seq++
	return []byte{byte(m.seq), byte(m.seq >> 8), byte(m.seq >> 16), byte(m.seq >> 24)}, m.seq
}
func (m *idleMachine) HasProposal() bool        { return m.pending > 0 }
func (m *idleMachine) PendingBytes() int        { return m.pending }
func (m *idleMachine) Tick(time.Duration) error { return nil }
func (m *idleMachine) Renew(*kv.LeaseKeepAliveRequest, time.Duration) (*kv.Response, bool) {
	return nil, false
}
func (m *idleMachine) WantsTicks() bool { return false }
func (m *idleMachine) Apply(e consensus.Entry, _ storage.Batch) (shard.Applied, error) {
	if e.Index != m.applied+1 {
		return shard.Applied{}, fmt.Errorf("entry %d after %d", e.Index, m.applied)
	}
	m.applied, m.term = e.Index, e.Term
	a := shard.Applied{Index: e.Index, Term: e.Term}
	if len(e.Data) == 4 {
		a.Seq = uint64(e.Data[0]) | uint64(e.Data[1])<<8 | uint64(e.Data[2])<<16 | uint64(e.Data[3])<<24
	}
	return a, nil
}
func (m *idleMachine) AppliedIndex() consensus.Index { return m.applied }
func (m *idleMachine) AppliedTerm() consensus.Term   { return m.term }
func (m *idleMachine) Config() consensus.Config      { return m.config }
func (m *idleMachine) Placements() []shard.Placement { return nil }
func (m *idleMachine) Revision() kv.Revision         { return kv.Revision(m.applied) }
func (m *idleMachine) Compacted() kv.Revision        { return 0 }
func (m *idleMachine) Alarms() []kv.Alarm            { return nil }
func (m *idleMachine) DirtyRows() int                { return 0 }
func (m *idleMachine) Memory() mvcc.Memory           { return mvcc.Memory{} }
func (m *idleMachine) ShrinkCache()                  {}
func (m *idleMachine) NeedsFlush() bool              { return false }
func (m *idleMachine) Freeze() bool                  { return true }
func (m *idleMachine) FlushChunk(storage.Batch, int) (bool, error) {
	m.flushed = m.applied
	return true, nil
}
func (m *idleMachine) FlushDone() consensus.Index  { return m.flushed }
func (m *idleMachine) MarkDurable(consensus.Index) {}
func (m *idleMachine) CompactReady() bool          { return true }
func (m *idleMachine) CompactStep(storage.Batch, int) (bool, error) {
	return false, nil
}
func (m *idleMachine) NextBeside() *shard.Beside                      { return nil }
func (m *idleMachine) FinishBeside(*shard.Beside) (out shard.Outcome) { return out }
func (m *idleMachine) StepBulk() (*shard.Beside, shard.Outcome)       { return nil, shard.Outcome{} }
func (m *idleMachine) AbandonBulk(*shard.Beside) error                { return nil }
func (m *idleMachine) Sealed() bool                                   { return false }
func (m *idleMachine) Bulk() (staged, pending int)                    { return 0, 0 }
func (m *idleMachine) ApplyBulk(storage.Batch, int)                   {}
func (m *idleMachine) View() *mvcc.View                               { return nil }
func (m *idleMachine) Read(*mvcc.View, time.Duration, *kv.Request) (*kv.Response, error) {
	return &kv.Response{}, nil
}
func (m *idleMachine) UnderBulk() *mvcc.UnderBulk { return nil }
func (m *idleMachine) Replaced(mvcc.Locator, *mvcc.UnderBulk) (kv.KeyValue, mvcc.Locator, bool, error) {
	return kv.KeyValue{}, mvcc.Locator{}, false, nil
}
func (m *idleMachine) StateSpans() []storage.Span { return nil }
func (m *idleMachine) Check() error               { return nil }

// idleCluster is three nodes with many groups that keep nothing, in the simulated world.
func idleCluster(b testing.TB, groups int, quorums *paxosQuorums) *world {
	return benchCluster(b, groups, quorums, func(group consensus.GroupID, _ storage.Engine, config consensus.Config) (Machine, error) {
		return &idleMachine{shard: kv.ShardID(group), applied: consensus.BootstrapIndex, term: consensus.BootstrapTerm, config: config}, nil
	})
}

// realCluster is three nodes with one group of the real state machine, in memory.
func realCluster(b testing.TB, quorums *paxosQuorums) *world {
	return benchCluster(b, 1, quorums, func(group consensus.GroupID, engine storage.Engine, config consensus.Config) (Machine, error) {
		return OpenMachine(engine, shard.Options{Shard: kv.ShardID(group), Rand: rand.New(rand.NewPCG(1, uint64(group)))}, Founding{Members: config})
	})
}

// openBenchMachine makes the state machine of a group.
type openBenchMachine func(group consensus.GroupID, engine storage.Engine, config consensus.Config) (Machine, error)

func benchCluster(b testing.TB, groups int, quorums *paxosQuorums, open openBenchMachine) *world {
	w := newWorld(b, worldOptions{seed: 1, nodes: 3, paxos: quorums})
	ids, config := w.nodes[0].nodeIDs()
	var list []consensus.GroupID
	for i := range groups {
		list = append(list, consensus.GroupID(i+1))
	}
	for _, n := range w.nodes {
		n.incarnation++
		n.transport = &simTransport{node: n}
		var err error
		engine := storage.NewMemory(storage.MemoryOptions{})
		n.driver, err = Open(Options{
			Self: n.id, Nodes: ids, Log: storage.NewMemoryLog(), Engine: engine, Transport: n.transport,
			Instance: uint64(n.id), Rand: rand.New(rand.NewPCG(uint64(n.id), 2)), Groups: list, FlushLogBytes: 1 << 40,
			Wake: func() { n.woken.Store(true) },
			NewCore: func(o CoreOptions) (consensus.Core, error) {
				if quorums != nil {
					return paxos.New(paxos.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config,
						Rand: rand.New(rand.NewPCG(uint64(n.id), uint64(o.Group)))}, o.Log)
				}
				return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config}, o.Log)
			},
			OpenMachine: func(group consensus.GroupID, _ consensus.Index) (Machine, error) { return open(group, engine, config) },
		}, n.clock)
		if err != nil {
			b.Fatal(err)
		}
		n.driver.spawn = func(run func()) { n.jobs = append(n.jobs, job{due: w.now, run: run}) }
		n.replica, n.up = n.driver.Replica(1), true
	}
	settled := func() bool {
		leaders := 0
		for _, n := range w.nodes {
			if len(n.driver.ticking) > 0 || n.driver.Err() != nil {
				return false
			}
			for _, r := range n.driver.order {
				if r.leading {
					leaders++
				}
			}
		}
		return leaders == groups
	}
	for end := w.now + 20*time.Second; !settled(); {
		if w.idle(20 * time.Millisecond); w.now > end {
			b.Fatalf("the groups do not settle: %d, %d, %d tick", len(w.nodes[0].driver.ticking), len(w.nodes[1].driver.ticking), len(w.nodes[2].driver.ticking))
		}
	}
	return w
}

// idle lets time pass without looking at everything.
func (w *world) idle(d time.Duration) {
	for end := w.now + d; w.now < end; {
		w.now += time.Millisecond
		w.net.deliver()
		for _, n := range w.nodes {
			n.run()
		}
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIdleGroups measures the CPU that three nodes use in a second of their time, by the number of groups.
func BenchmarkIdleGroups(b *testing.B) {
	for _, groups := range []int{1, 10_000} {
		b.Run(fmt.Sprint("groups=", groups), func(b *testing.B) {
			w := idleCluster(b, groups, nil)
			began, rounds := cpuTime(), w.figures.Rounds
			for b.Loop() {
				w.idle(time.Second)
			}
			b.ReportMetric(float64((cpuTime()-began).Microseconds())/float64(b.N), "cpu-us/idle-s")
			b.ReportMetric(float64(w.figures.Rounds-rounds)/float64(b.N), "rounds/idle-s")
		})
	}
}

// BenchmarkPutAmongIdleGroups measures a put to one group while all others are idle.
func BenchmarkPutAmongIdleGroups(b *testing.B) {
	for _, c := range []struct {
		name    string
		groups  int
		quorums *paxosQuorums
	}{{"groups=1", 1, nil}, {"groups=1,paxos", 1, &paxosQuorums{}}, {"groups=10000", 10_000, nil}, {"groups=10000,paxos", 10_000, &paxosQuorums{}}} {
		b.Run(c.name, func(b *testing.B) {
			w := idleCluster(b, c.groups, c.quorums)
			var leader *Replica
			for _, n := range w.nodes {
				if n.replica.leading {
					leader = n.replica
				}
			}
			w.net.jitter = 1
			req := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k")}}
			began := cpuTime()
			for b.Loop() {
				done := false
				leader.Propose(req, nil, func(_ *kv.Response, _ uint64, err error) {
					if err != nil {
						b.Fatal(err)
					}
					done = true
				})
				for !done {
					w.now += 10 * time.Microsecond
					w.net.deliver()
					for _, n := range w.nodes {
						n.run()
					}
				}
			}
			b.ReportMetric(float64((cpuTime()-began).Nanoseconds())/1000/float64(b.N), "cpu-us/put")
		})
	}
}

// BenchmarkPuts measures a put among others at the same time, with the real state machine: what three nodes use of the CPU, and what they allocate.
// Engine, log and network are in memory.
func BenchmarkPuts(b *testing.B) {
	for _, c := range []struct {
		protocol string
		quorums  *paxosQuorums
	}{{"raft", nil}, {"paxos", &paxosQuorums{}}} {
		for _, atOnce := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("%s/at-once=%d", c.protocol, atOnce), func(b *testing.B) { benchmarkPuts(b, realCluster(b, c.quorums), atOnce) })
		}
	}
}

func benchmarkPuts(b *testing.B, w *world, atOnce int) {
	w.net.jitter = 1
	leader := w.leader()
	requests := make([]*kv.Request, 4096)
	for i := range requests {
		requests[i] = &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: fmt.Appendf(nil, "key/%08d", i), Value: make([]byte, 256)}}
	}
	waiting, next := 0, 0
	answered := func(_ *kv.Response, _ uint64, err error) {
		if err != nil {
			b.Fatal(err)
		}
		waiting--
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := cpuTime()
	for b.Loop() {
		for range atOnce {
			waiting++
			leader.replica.Propose(requests[next%len(requests)], nil, answered)
			next++
		}
		for waiting > 0 {
			w.now += 10 * time.Microsecond
			w.net.deliver()
			for _, n := range w.nodes {
				n.run()
			}
		}
	}
	runtime.ReadMemStats(&after)
	puts := float64(b.N * atOnce)
	b.ReportMetric(float64((cpuTime()-began).Nanoseconds())/1000/puts, "cpu-us/put")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/puts, "allocs/put")
}

// TestIdleGroupsAreSilent: nothing but the heartbeats of the nodes passes between idle groups.
func TestIdleGroupsAreSilent(t *testing.T) {
	t.Run("raft", func(t *testing.T) { testIdleGroupsAreSilent(t, nil) })
	t.Run("paxos", func(t *testing.T) { testIdleGroupsAreSilent(t, &paxosQuorums{}) })
}

func testIdleGroupsAreSilent(t *testing.T, quorums *paxosQuorums) {
	w := idleCluster(t, 200, quorums)
	w.idle(time.Second)
	sent := w.net.seq
	w.idle(10 * time.Second)
	// Three nodes send each other a heartbeat and its answer ten times a second.
	if frames := w.net.seq - sent; frames > 3*2*2*10*10+12 {
		t.Errorf("%d frames in 10 idle seconds", frames)
	}
	perNode := map[kv.NodeID]int{}
	for _, n := range w.nodes {
		for _, r := range n.driver.order {
			if r.leading {
				perNode[n.id]++
			}
			if r.ticking {
				t.Fatalf("group %d of node %d still ticks", r.group, n.id)
			}
		}
	}
	for _, n := range w.nodes {
		if perNode[n.id] < 40 {
			t.Errorf("node %d leads %d of 200 groups: %v", n.id, perNode[n.id], perNode)
		}
	}
}
