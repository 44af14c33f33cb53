package driver

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/timeline"
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
func (m *idleMachine) Shard() kv.ShardID               { return m.shard }
func (m *idleMachine) Follow()                         { m.leads = 0 }
func (m *idleMachine) Asks() []shard.Ask               { return nil }
func (m *idleMachine) AskedOf(kv.LeaseID) []kv.ShardID { return nil }
func (m *idleMachine) Answered(*shard.Ask, *kv.Response, error, bool) (shard.Outcome, bool) {
	return shard.Outcome{}, false
}
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
func (m *idleMachine) Roster() (r kv.Roster)         { return r }
func (m *idleMachine) Closed() kv.Revision           { return kv.Revision(m.applied) }
func (m *idleMachine) Highest() kv.Revision          { return kv.Revision(m.applied) }
func (m *idleMachine) Compacted() kv.Revision        { return 0 }
func (m *idleMachine) Alarms() []kv.Alarm            { return nil }
func (m *idleMachine) Auth() *auth.State             { return auth.NewState() }
func (m *idleMachine) Members() *members.List        { return &members.List{} }
func (m *idleMachine) Metrics() shard.Metrics        { return shard.Metrics{} }
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
func (m *idleMachine) CompactBegun() bool          { return false }
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
func (m *idleMachine) Unsettled(*kv.Request, kv.Revision) bool        { return false }
func (m *idleMachine) Settles(kv.Revision) uint64                     { return 0 }
func (m *idleMachine) Bounds() kv.Bounds                              { return kv.Bounds{} }
func (m *idleMachine) NeedsPresent() bool                             { return true }
func (m *idleMachine) Released() uint64                               { return 0 }
func (m *idleMachine) Contended() bool                                { return false }
func (m *idleMachine) Withdraw(*kv.Request)                           {}
func (m *idleMachine) Woken() []uint64                                { return nil }
func (m *idleMachine) Held(*kv.Request, kv.Revision) bool             { return false }
func (m *idleMachine) Undecided() []kv.UnfinishedTransaction          { return nil }
func (m *idleMachine) Finished(kv.ShardID) kv.Finished                { return kv.Finished{} }
func (m *idleMachine) PreparedSince(kv.Revision) bool                 { return false }
func (m *idleMachine) ReadAt(*mvcc.View, *kv.Request, kv.Present) (*kv.Response, error) {
	return nil, kv.ErrInvalidRequest
}
func (m *idleMachine) Read(*mvcc.View, time.Duration, *kv.Request) (*kv.Response, error) {
	return &kv.Response{}, nil
}
func (m *idleMachine) UnderBulk() *mvcc.UnderBulk { return nil }
func (m *idleMachine) Replaced(mvcc.Locator, *mvcc.UnderBulk) (kv.KeyValue, mvcc.Locator, bool, error) {
	return kv.KeyValue{}, mvcc.Locator{}, false, nil
}
func (m *idleMachine) Begin(kv.Present, bool) error               { return nil }
func (m *idleMachine) Unnumbered() int                            { return 0 }
func (m *idleMachine) EvaluateInformed(*kv.Request) shard.Outcome { return shard.Outcome{} }
func (m *idleMachine) Limit() kv.Revision                         { return 0 }
func (m *idleMachine) Number(kv.Revision, kv.Revision) error      { return nil }
func (m *idleMachine) BeginAnew() error                           { return nil }
func (m *idleMachine) StateSpans() []storage.Span                 { return nil }
func (m *idleMachine) TellAlarms(uint64)                          {}
func (m *idleMachine) Ship(storage.Batch) consensus.SnapshotMeta {
	return consensus.SnapshotMeta{Index: m.flushed, Config: m.config}
}
func (m *idleMachine) Check() error           { return nil }
func (m *idleMachine) Times() timeline.Series { return timeline.Series{} }

// idleCluster is three nodes with many groups that keep nothing.
func idleCluster(b testing.TB, groups int, paxos bool) *cluster {
	return benchCluster(b, groups, paxos, nil, func(group consensus.GroupID, _ storage.Engine, config consensus.Config) (Machine, error) {
		return &idleMachine{shard: kv.ShardID(group), applied: consensus.BootstrapIndex, term: consensus.BootstrapTerm, config: config}, nil
	})
}

// realCluster is three nodes with groups of the real state machine and engine. If they are several, they are shards of one store.
func realCluster(b testing.TB, groups int, paxos bool) *cluster {
	var numbers *steadyNumbers
	return benchCluster(b, groups, paxos, func(o *Options, n *clusterNode) {
		engine, err := lsm.Open(lsm.Options{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { engine.Close() })
		o.Engine = engine
		if groups > 1 {
			if numbers == nil {
				numbers = &steadyNumbers{c: n.c, sequencer: n.c.nodes[0], last: 1}
			}
			o.Numbers = steadyNode{numbers, n}
		}
	}, func(group consensus.GroupID, engine storage.Engine, config consensus.Config) (Machine, error) {
		options := shard.Options{Shard: kv.ShardID(group), Rand: rand.New(rand.NewPCG(1, uint64(group))), Sequenced: groups > 1}
		return OpenMachine(engine, options, Founding{Members: config})
	})
}

// lead has the groups led by the nodes in turn, or all by the first one, and returns who leads them.
func (c *cluster) lead(groups int, spread bool) []*Replica {
	leaders := make([]*Replica, groups)
	c.await("the leaders", func() bool {
		settled := true
		for i := range leaders {
			group, to := consensus.GroupID(i+1), c.nodes[0]
			if spread {
				to = c.nodes[i%len(c.nodes)]
			}
			if leaders[i] = to.driver.Replica(group); leaders[i].serving.Load() {
				continue
			}
			settled = false
			for _, n := range c.nodes {
				if r := n.driver.driven(group); r.leading && !r.leadership.Transferring() {
					r.Transfer(to.id, func(error) {})
				}
			}
		}
		return settled
	})
	return leaders
}

// openBenchMachine makes the state machine of a group.
type openBenchMachine func(group consensus.GroupID, engine storage.Engine, config consensus.Config) (Machine, error)

func benchCluster(b testing.TB, groups int, paxos bool, change func(*Options, *clusterNode), open openBenchMachine) *cluster {
	c := newCluster(b, 3, paxos)
	_, config := c.config()
	var list []consensus.GroupID
	for i := range groups {
		list = append(list, consensus.GroupID(i+1))
	}
	for _, n := range c.nodes {
		n.start(func(o *Options) {
			o.Groups, o.FlushLogBytes, o.Disk = list, 1<<40, 0
			if change != nil {
				change(o, n)
			}
			o.OpenMachine = func(group consensus.GroupID, _ consensus.Index) (Machine, error) {
				return open(group, o.Engine, config)
			}
		})
	}
	settled := func() bool {
		leaders := 0
		for _, n := range c.nodes {
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
	for end := c.now + 20*time.Second; !settled(); {
		if c.idle(20 * time.Millisecond); c.now > end {
			b.Fatalf("the groups do not settle: %d, %d, %d tick", len(c.nodes[0].driver.ticking), len(c.nodes[1].driver.ticking), len(c.nodes[2].driver.ticking))
		}
	}
	return c
}

// idle lets time pass without looking at everything.
func (c *cluster) idle(d time.Duration) {
	for end := c.now + d; c.now < end; {
		c.step(time.Millisecond)
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
			c := idleCluster(b, groups, false)
			rounds := func() (sum uint64) {
				for _, n := range c.nodes {
					sum += n.driver.Metrics().Rounds
				}
				return sum
			}
			began, before := cpuTime(), rounds()
			for b.Loop() {
				c.idle(time.Second)
			}
			b.ReportMetric(float64((cpuTime()-began).Microseconds())/float64(b.N), "cpu-us/idle-s")
			b.ReportMetric(float64(rounds()-before)/float64(b.N), "rounds/idle-s")
		})
	}
}

// BenchmarkPutAmongIdleGroups measures a put to one group while all others are idle.
func BenchmarkPutAmongIdleGroups(b *testing.B) {
	for _, c := range []struct {
		name   string
		groups int
		paxos  bool
	}{{"groups=1", 1, false}, {"groups=1,paxos", 1, true}, {"groups=10000", 10_000, false}, {"groups=10000,paxos", 10_000, true}} {
		b.Run(c.name, func(b *testing.B) {
			cluster := idleCluster(b, c.groups, c.paxos)
			leader := cluster.leader().replica
			cluster.latency = 0
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
					cluster.step(10 * time.Microsecond)
				}
			}
			b.ReportMetric(float64((cpuTime()-began).Nanoseconds())/1000/float64(b.N), "cpu-us/put")
		})
	}
}

// BenchmarkPuts measures a put among others at the same time, with the real state machine: what three nodes use of the CPU, and what they allocate.
// Log and network are in memory.
func BenchmarkPuts(b *testing.B) {
	for _, c := range []struct {
		protocol string
		paxos    bool
	}{{"raft", false}, {"paxos", true}} {
		for _, atOnce := range []int{1, 64, 256, 1024} {
			for _, leaders := range []string{"one", "beside", "spread"} {
				groups := 16
				if leaders == "one" {
					groups = 1
				}
				b.Run(fmt.Sprintf("%s/at-once=%d/groups=%d/leaders=%s", c.protocol, atOnce, groups, leaders), func(b *testing.B) {
					cluster := realCluster(b, groups, c.paxos)
					benchmarkPuts(b, cluster, cluster.lead(groups, leaders == "spread"), atOnce)
				})
			}
		}
	}
}

func benchmarkPuts(b *testing.B, c *cluster, leaders []*Replica, atOnce int) {
	c.latency = 0
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
			leaders[next%len(leaders)].Propose(requests[next%len(requests)], nil, answered)
			next++
		}
		for waiting > 0 {
			c.step(10 * time.Microsecond)
		}
	}
	runtime.ReadMemStats(&after)
	puts := float64(b.N * atOnce)
	b.ReportMetric(float64((cpuTime()-began).Nanoseconds())/1000/puts, "cpu-us/put")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/puts, "allocs/put")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/puts, "bytes/put")
}

// TestIdleGroupsAreSilent: nothing but the heartbeats of the nodes passes between idle groups.
func TestIdleGroupsAreSilent(t *testing.T) {
	t.Run("raft", func(t *testing.T) { testIdleGroupsAreSilent(t, false) })
	t.Run("paxos", func(t *testing.T) { testIdleGroupsAreSilent(t, true) })
}

func testIdleGroupsAreSilent(t *testing.T, paxos bool) {
	c := idleCluster(t, 200, paxos)
	c.idle(time.Second)
	sent := c.sent
	c.idle(10 * time.Second)
	// Three nodes send each other a heartbeat and its answer ten times a second.
	if frames := c.sent - sent; frames > 3*2*2*10*10+12 {
		t.Errorf("%d frames in 10 idle seconds", frames)
	}
	perNode := map[kv.NodeID]int{}
	for _, n := range c.nodes {
		for _, r := range n.driver.order {
			if r.leading {
				perNode[n.id]++
			}
			if r.ticking {
				t.Fatalf("group %d of node %d still ticks", r.group, n.id)
			}
		}
	}
	for _, n := range c.nodes {
		if perNode[n.id] < 40 {
			t.Errorf("node %d leads %d of 200 groups: %v", n.id, perNode[n.id], perNode)
		}
	}
}
