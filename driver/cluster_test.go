package driver

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// cluster is some drivers in one goroutine, whose time the test makes, and queues between them. Nothing goes wrong unless the test does it. It is for what
// needs the inside of drivers, and for figures; package sim simulates clusters.
type cluster struct {
	tb      testing.TB
	paxos   bool
	now     time.Duration
	nodes   []*clusterNode
	latency time.Duration // of every frame
	frames  []clusterFrame
	sent    int                              // frames so far
	look    func(channel byte, frame []byte) // if set, sees each of them
	lost    func() bool                      // if set, says of each whether it is lost
}

type clusterFrame struct {
	due      time.Duration
	from, to *clusterNode
	channel  byte
	payload  []byte
	event    func() // in place of a frame
}

type clusterNode struct {
	c       *cluster
	id      kv.NodeID
	index   int
	disk    uint64
	log     *storage.MemoryLog
	memory  *storage.Memory
	delay   time.Duration // of what it sends
	cut     bool          // its frames are lost, and those to it
	process uint64
	up      bool
	driver  *Driver
	replica *driven  // the first one
	jobs    []func() // what it does beside its rounds
	woken   bool
}

// newCluster makes nodes that do not run yet.
func newCluster(tb testing.TB, nodes int, paxos bool) *cluster {
	if t, ok := tb.(*testing.T); ok {
		cryptotest.SetGlobalRandom(t, 1) // election jitter
	}
	c := &cluster{tb: tb, paxos: paxos, latency: time.Millisecond}
	for i := range nodes {
		n := &clusterNode{c: c, id: kv.NodeID(i + 1), index: i, disk: uint64(i + 1)}
		n.empty()
		c.nodes = append(c.nodes, n)
	}
	return c
}

// servingCluster has a leader with a lease.
func servingCluster(tb testing.TB, nodes int, paxos bool, latency time.Duration, change func(*Options)) *cluster {
	c := newCluster(tb, nodes, paxos)
	c.latency = latency
	for _, n := range c.nodes {
		n.start(change)
	}
	c.await("a leader that every node knows", func() bool {
		leader := c.leader()
		return leader != nil && leader.replica.LeaseValid() && !slices.ContainsFunc(c.nodes, func(n *clusterNode) bool { return n.replica.Standing() != membership.StandingMember })
	})
	return c
}

// empty gives the node disks with nothing on them.
func (n *clusterNode) empty() {
	n.log, n.memory = storage.NewMemoryLog(), storage.NewMemory(storage.MemoryOptions{Files: diskFiles{}})
}

func (n *clusterNode) clock() time.Duration { return n.c.now }

// config has a replica on every node.
func (c *cluster) config() (ids []kv.NodeID, config consensus.Config) {
	for _, n := range c.nodes {
		ids, config.Voters = append(ids, n.id), append(config.Voters, consensus.ReplicaID(n.id))
	}
	return ids, config
}

// start starts a process of the node.
func (n *clusterNode) start(change func(*Options)) {
	n.c.tb.Helper()
	n.process++
	n.jobs, n.woken = nil, false
	ids, config := n.c.config()
	o := Options{
		Self: n.id, Nodes: ids, Log: n.log, Engine: n.memory, Transport: &clusterTransport{node: n}, StagingDir: n.c.tb.TempDir(), Disk: n.disk,
		Instance: uint64(n.id)<<32 | n.process, Rand: rand.New(rand.NewPCG(uint64(n.id), n.process)), OutOfOrderLog: n.c.paxos, NewCore: n.newCore,
		OpenMachine: func(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
			options := shard.Options{Shard: kv.ShardID(group), Rand: rand.New(rand.NewPCG(uint64(n.id), uint64(group))), LogEnd: logEnd}
			return OpenMachine(n.memory, options, Founding{Members: config})
		},
		Spawn: func(run func()) { n.jobs = append(n.jobs, run) }, Wake: func() { n.woken = true },
	}
	if change != nil {
		change(&o)
	}
	var err error
	if n.driver, err = Open(o, n.clock); err != nil {
		n.c.tb.Fatal(err)
	}
	n.replica, n.up = n.driver.order[0], true
	for _, other := range n.c.nodes {
		if other != n && other.up {
			other.driver.PeerUp(n.id, FormatNewest)
			n.driver.PeerUp(other.id, FormatNewest)
		}
	}
}

func (n *clusterNode) newCore(o CoreOptions) (consensus.Core, error) {
	if n.c.paxos {
		return paxos.New(paxos.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config,
			Rand: rand.New(rand.NewPCG(uint64(n.id), uint64(o.Group)))}, o.Log)
	}
	return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config}, o.Log)
}

// crash ends the process. What it has sent still arrives.
func (n *clusterNode) crash() {
	n.up = false
	n.log, n.memory = n.log.Crash(nil), n.memory.Crash(nil)
	for _, other := range n.c.nodes {
		if other.up {
			other.driver.PeerDown(n.id, true)
		}
	}
}

// run does what there is to do at the node.
func (n *clusterNode) run() {
	if !n.up {
		return
	}
	jobs := n.jobs
	n.jobs = nil
	for _, run := range jobs {
		run()
	}
	if !n.woken && n.c.now < n.driver.NextRound() {
		return
	}
	for n.woken = false; n.driver.Round(); {
	}
}

// step lets time pass.
func (c *cluster) step(d time.Duration) {
	c.now += d
	var arrived []clusterFrame
	c.frames = slices.DeleteFunc(c.frames, func(f clusterFrame) bool {
		if f.due > c.now {
			return false
		}
		arrived = append(arrived, f)
		return true
	})
	for _, f := range arrived {
		if f.event != nil {
			f.event()
		} else if f.to.up && !f.from.cut && !f.to.cut {
			f.to.driver.Receive(f.from.id, f.channel, f.payload)
			f.to.driver.ReceiveDone()
		}
	}
	for _, n := range c.nodes {
		n.run()
	}
}

// at has something happen after a while.
func (c *cluster) at(after time.Duration, event func()) {
	c.frames = append(c.frames, clusterFrame{due: c.now + after, event: event})
}

// run lets time pass until it is over, or something is so, which it reports.
func (c *cluster) run(d time.Duration, until func() bool) bool {
	c.tb.Helper()
	for end := c.now + d; c.now < end; {
		c.step(time.Millisecond)
		for _, n := range c.nodes {
			if n.up && n.driver.Err() == nil {
				if err := n.driver.Check(); err != nil {
					c.tb.Fatalf("node %d: %v", n.id, err)
				}
			}
		}
		if until != nil && until() {
			return true
		}
	}
	return false
}

// await lets time pass until something is so.
func (c *cluster) await(what string, is func() bool) {
	c.tb.Helper()
	if !is() && !c.run(20*time.Second, is) {
		c.tb.Fatalf("in vain: %s", what)
	}
}

// leader is who leads the first group, in the highest term if several believe so.
func (c *cluster) leader() (newest *clusterNode) {
	for _, n := range c.nodes {
		if n.up && n.replica.IsLeader() && (newest == nil || n.replica.role.Term > newest.replica.role.Term) {
			newest = n
		}
	}
	return newest
}

func rangeRequest(key string) *kv.Request {
	return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte(key)}}}
}

// clusterTransport is a node's end of the queues.
type clusterTransport struct {
	node    *clusterNode
	frames  []clusterFrame
	scratch []byte // frames are encoded here
}

func (t *clusterTransport) Append(to kv.NodeID, channel byte, encode func([]byte) []byte) bool {
	t.scratch = encode(t.scratch[:0])
	t.frames = append(t.frames, clusterFrame{from: t.node, to: t.node.c.nodes[to-1], channel: channel, payload: bytes.Clone(t.scratch)})
	return true
}

func (t *clusterTransport) Flush() {
	c := t.node.c
	for _, f := range t.frames {
		if c.sent++; c.look != nil {
			c.look(f.channel, f.payload)
		}
		if c.lost != nil && c.lost() {
			continue
		}
		f.due = c.now + c.latency + t.node.delay
		c.frames = append(c.frames, f)
	}
	t.frames = t.frames[:0]
}

var errAway = errors.New("nobody listens")

func (t *clusterTransport) OpenStream(_ context.Context, to kv.NodeID, name string) (Stream, error) {
	if n := t.node.c.nodes[to-1]; n.up {
		return &clusterStream{from: t.node, to: n, name: name}, nil
	}
	return nil, errAway
}

type clusterStream struct {
	bytes.Buffer
	from, to *clusterNode
	name     string
}

func (s *clusterStream) Close() error {
	return s.to.driver.ReceiveStream(s.from.id, s.name, bytes.NewReader(slices.Clone(s.Bytes())))
}

// diskFiles are files of the operating system: snapshots travel through them.
type diskFiles struct{}

func (diskFiles) Create(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, content, 0o644)
}
func (diskFiles) Read(name string) ([]byte, error) { return os.ReadFile(name) }
func (diskFiles) Remove(name string) error         { return os.Remove(name) }
