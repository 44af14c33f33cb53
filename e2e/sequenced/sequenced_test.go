package sequenced

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// cluster is some nodes of a store of several shards, with real drivers and issuers, in one goroutine whose time the test makes.
type cluster struct {
	t      *testing.T
	paxos  bool
	random *rand.Rand
	now    time.Duration
	nodes  []*node
	groups []consensus.GroupID
	frames []frame
	window uint64
	quorum bool // nobody has a lease
	lost   func(frame) bool
	clients
}

type frame struct {
	due      time.Duration
	from, to *node
	process  [2]uint64 // that send and get it
	channel  byte
	payload  []byte
}

type node struct {
	c       *cluster
	id      kv.NodeID
	log     *storage.MemoryLog
	memory  *storage.Memory
	process uint64
	up, cut bool
	driver  *driver.Driver
	issuer  *issuer.Issuer
	jobs    []func()
	woken   bool
	ticked  time.Duration
	out     []frame
}

const (
	latency  = 2 * time.Millisecond
	election = time.Second
	beat     = 100 * time.Millisecond
)

func newCluster(t *testing.T, seed uint64, protocol string, change func(*cluster)) *cluster {
	c := &cluster{t: t, paxos: protocol == "paxos", random: rand.New(rand.NewPCG(seed, 0)), groups: []consensus.GroupID{1, 2, 3}, window: 64}
	c.clients = newClients()
	if change != nil {
		change(c)
	}
	for i := range 3 {
		n := &node{c: c, id: kv.NodeID(i + 1), log: storage.NewMemoryLog()}
		n.memory = storage.NewMemory(storage.MemoryOptions{Files: files{}})
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		n.start()
	}
	return c
}

func (n *node) clock() time.Duration { return n.c.now }

func (n *node) seeded(more uint64) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(n.id)<<32|n.process, more))
}

func (n *node) start() {
	c := n.c
	n.process++
	n.jobs, n.woken, n.out, n.up = nil, false, nil, true
	instance := uint64(n.id)<<32 | n.process
	var shards []kv.ShardID
	for _, group := range c.groups {
		shards = append(shards, kv.ShardID(group))
	}
	var err error
	n.issuer, err = issuer.New(issuer.Options{
		Self: n.id, Instance: instance, Shards: shards, Sender: n, ElectionTimeout: election, Sequencer: sequencer.Options{Window: c.window},
		Refused: func(from kv.NodeID, err error) { c.t.Errorf("node %v refused a frame of node %v: %v", n.id, from, err) },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	o := driver.Options{
		Self: n.id, Nodes: []kv.NodeID{1, 2, 3}, Log: n.log, Engine: n.memory, Transport: n, StagingDir: c.t.TempDir(), Disk: uint64(n.id), Instance: instance,
		Rand: n.seeded(1), OutOfOrderLog: c.paxos, NewCore: n.newCore, OpenMachine: n.openMachine, Groups: c.groups, HeartbeatInterval: beat, ElectionTimeout: election,
		Numbers: n.issuer, Sequencing: n.issuer, FlushLogEntries: 200, RetainLogEntries: 100,
		Spawn: func(work func()) { n.jobs = append(n.jobs, work) }, Wake: func() { n.woken = true },
		Listener: driver.Listener{
			GroupFailed: func(group consensus.GroupID, err error) { c.t.Errorf("node %v: group %d: %v", n.id, group, err) },
			Failed:      func(err error) { c.t.Errorf("node %v: %v", n.id, err) },
		},
	}
	if c.quorum {
		o.ReadSafety = driver.ReadQuorum
	}
	if n.driver, err = driver.Open(o, n.clock); err != nil {
		c.t.Fatal(err)
	}
	n.issuer.Attach(n.driver)
	for _, other := range c.nodes {
		if other != n && other.up {
			other.connected(n)
			n.connected(other)
		}
	}
}

func (n *node) connected(other *node) {
	n.driver.PeerUp(other.id, driver.FormatNewest)
	n.issuer.PeerUp(other.id)
}

func (n *node) openMachine(group consensus.GroupID, logEnd consensus.Index) (driver.Machine, error) {
	options := shard.Options{Shard: kv.ShardID(group), Rand: n.seeded(2 + uint64(group)), LogEnd: logEnd, Sequenced: true}
	return driver.OpenMachine(n.memory, options, driver.Founding{Members: consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3}}})
}

func (n *node) newCore(o driver.CoreOptions) (consensus.Core, error) {
	if n.c.paxos {
		return paxos.New(paxos.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config,
			Rand: n.seeded(100 + uint64(o.Group))}, o.Log)
	}
	return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config}, o.Log)
}

// crash ends the process; frames from it and to it are lost.
func (n *node) crash() {
	n.up = false
	n.issuer.Stop()
	n.log, n.memory = n.log.Crash(nil), n.memory.Crash(nil)
	for _, other := range n.c.nodes {
		if other.up {
			other.driver.PeerDown(n.id, true)
			other.issuer.PeerDown(n.id)
		}
	}
}

// separate cuts the connections of a node, or makes new ones.
func (n *node) separate(cut bool) {
	n.cut = cut
	for _, other := range n.c.nodes {
		switch {
		case other == n || !other.up || !n.up:
		case cut:
			for _, ends := range [][2]*node{{n, other}, {other, n}} {
				ends[0].driver.PeerDown(ends[1].id, false)
				ends[0].issuer.PeerDown(ends[1].id)
			}
		default:
			n.connected(other)
			other.connected(n)
		}
	}
}

// Append is of the transport.
func (n *node) Append(to kv.NodeID, channel byte, encode func([]byte) []byte) bool {
	other := n.c.nodes[to-1]
	if !other.up || other.cut || n.cut {
		return false
	}
	n.out = append(n.out, frame{from: n, to: other, process: [2]uint64{n.process, other.process}, channel: channel, payload: encode(nil)})
	return true
}

// Flush is of the transport.
func (n *node) Flush() {
	for _, f := range n.out {
		if n.c.lost != nil && n.c.lost(f) {
			continue
		}
		f.due = n.c.now + latency
		n.c.frames = append(n.c.frames, f)
	}
	n.out = n.out[:0]
}

// OpenStream is of the transport.
func (n *node) OpenStream(_ context.Context, to kv.NodeID, name string) (driver.Stream, error) {
	if other := n.c.nodes[to-1]; other.up && !other.cut && !n.cut {
		return &stream{from: n, to: other, name: name}, nil
	}
	return nil, errors.New("nobody listens")
}

type stream struct {
	bytes.Buffer
	from, to *node
	name     string
}

func (s *stream) Close() error {
	return s.to.driver.ReceiveStream(s.from.id, s.name, bytes.NewReader(slices.Clone(s.Bytes())))
}

// files are those of the operating system: snapshots travel through them.
type files struct{}

func (files) Create(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, content, 0o644)
}
func (files) Read(name string) ([]byte, error) { return os.ReadFile(name) }
func (files) Remove(name string) error         { return os.Remove(name) }

func (n *node) run() {
	jobs := n.jobs
	n.jobs = nil
	for _, work := range jobs {
		work()
	}
	if n.c.now >= n.ticked+beat/2 {
		n.ticked = n.c.now
		n.issuer.Tick(n.c.now)
	}
	if !n.woken && n.c.now < n.driver.NextRound() {
		return
	}
	for n.woken = false; n.driver.Round(); {
	}
	n.Flush()
}

// step lets a millisecond pass.
func (c *cluster) step() {
	c.now += time.Millisecond
	var arrived []frame
	c.frames = slices.DeleteFunc(c.frames, func(f frame) bool {
		if f.due <= c.now {
			arrived = append(arrived, f)
		}
		return f.due <= c.now
	})
	for _, f := range arrived {
		switch {
		case !f.to.up || f.from.cut || f.to.cut || f.process != [2]uint64{f.from.process, f.to.process} || !f.from.up:
		case f.channel == issuer.Channel:
			f.to.issuer.HandleMessage(f.from.id, f.payload)
		default:
			f.to.driver.Receive(f.from.id, f.channel, f.payload)
			f.to.driver.ReceiveDone()
		}
	}
	for _, n := range c.nodes {
		if n.up {
			n.run()
			if err := errors.Join(n.driver.Err(), n.driver.Check(), n.issuer.Check()); err != nil {
				c.t.Fatalf("node %v: %v", n.id, err)
			}
		}
	}
}

// await lets time pass until something is so.
func (c *cluster) await(what string, is func() bool) {
	c.t.Helper()
	for end := c.now + 30*time.Second; !is(); c.step() {
		if c.now > end {
			c.t.Fatalf("in vain: %s", what)
		}
	}
}

func (c *cluster) pass(d time.Duration) {
	for end := c.now + d; c.now < end; {
		c.step()
	}
}

// leader is who serves as the leader of the group; nil: nobody.
func (c *cluster) leader(group consensus.GroupID) *node {
	for _, n := range c.nodes {
		if n.up && !n.cut && n.driver.Replica(group).IsLeader() {
			return n
		}
	}
	return nil
}

func (c *cluster) serving() bool {
	return !slices.ContainsFunc(c.groups, func(group consensus.GroupID) bool { return c.leader(group) == nil })
}

// clients is what those who use the cluster have seen.
type clients struct {
	number   int
	open     int
	answered kv.Revision // highest of all answers
	keys     map[string]kv.Revision
	given    map[kv.Revision]string
	unknown  map[string]bool
	claims   []claim
	learnt   int
	certain  int
}

// claim is what somebody was told of a shard.
type claim struct {
	shard   kv.ShardID
	last    kv.Revision
	present kv.Revision
}

func newClients() clients {
	return clients{keys: map[string]kv.Revision{}, given: map[kv.Revision]string{}, unknown: map[string]bool{}}
}

// put has something written to a group, if somebody leads it. Each key is written once.
func (c *cluster) put(group consensus.GroupID) {
	n := c.leader(group)
	if n == nil {
		return
	}
	c.number++
	key := fmt.Sprintf("%d/%d", group, c.number)
	before := c.answered
	c.open++
	req := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key)}}
	if c.random.IntN(8) == 0 { // without an effect
		req = &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: []kv.Compare{{Span: kv.Span{Start: []byte("x")}, Target: kv.CompareVersion, Result: kv.CompareGreater}}}}
	}
	process := n.process
	n.driver.Replica(group).Propose(req, nil, func(resp *kv.Response, _ uint64, err error) {
		c.open--
		switch {
		case !n.up || n.process != process:
			c.unknown[key] = true
		case errors.Is(err, kv.ErrLeaderChanged), errors.Is(err, kv.ErrNotLeader):
		case errors.Is(err, kv.ErrOutcomeUnknown):
			c.unknown[key] = true
		case err != nil:
			c.t.Errorf("%s: %v", key, err)
		case req.Kind == kv.KindTxn:
			if resp.Revision < before {
				c.t.Errorf("a read at %d, and %d was answered before it was asked for", resp.Revision, before)
			}
			c.answered = max(c.answered, resp.Revision)
		default:
			if resp.Revision <= before {
				c.t.Errorf("%s is answered at revision %d, and %d was answered before it was asked for", key, resp.Revision, before)
			}
			if other, twice := c.given[resp.Revision]; twice {
				c.t.Errorf("revision %d is given to %s and to %s", resp.Revision, other, key)
			}
			c.given[resp.Revision], c.keys[key] = key, resp.Revision
			c.answered = max(c.answered, resp.Revision)
		}
	})
}

// learn asks a node for the present.
func (c *cluster) learn(n *node, shards ...kv.ShardID) {
	before := c.answered
	if present, certain := n.issuer.Now(); certain {
		c.certain++
		c.judgePresent(present, before)
	}
	n.issuer.Learn(shards, func(present kv.Present, err error) {
		if err != nil {
			return
		}
		c.learnt++
		c.judgePresent(present, before)
		for i, s := range present.Shards {
			if s.Clean {
				c.claims = append(c.claims, claim{shards[i], s.Last, present.Revision})
			}
		}
	})
}

func (c *cluster) judgePresent(present kv.Present, before kv.Revision) {
	if present.Revision < before {
		c.t.Errorf("the present is %d, and %d was answered before it was asked for", present.Revision, before)
	}
	c.answered = max(c.answered, present.Revision)
}

// step of load: what clients do in a millisecond.
func (c *cluster) load(d time.Duration) {
	for end := c.now + d; c.now < end; c.step() {
		for range c.random.IntN(3) {
			c.put(c.groups[c.random.IntN(len(c.groups))])
		}
		if n := c.nodes[c.random.IntN(len(c.nodes))]; n.up && c.random.IntN(5) == 0 {
			c.learn(n, []kv.ShardID{1, 2, 3}[:c.random.IntN(4)]...)
		}
	}
}

// calm ends all faults and waits until everything is answered and every shard is clean, at every node.
func (c *cluster) calm() {
	c.lost = nil
	for _, n := range c.nodes {
		if n.cut {
			n.separate(false)
		}
		if !n.up {
			n.start()
		}
	}
	c.await("leaders", c.serving)
	c.await("answers", func() bool { return c.open == 0 || c.crashed() })
	clean := 0
	for _, n := range c.nodes {
		c.await("all shards clean", func() bool {
			done := false
			n.issuer.Learn([]kv.ShardID{1, 2, 3}, func(present kv.Present, err error) {
				if err != nil || done {
					return
				}
				done = !slices.ContainsFunc([]int{0, 1, 2}, func(i int) bool {
					return !present.Shards[i].Clean || present.Shards[i].Last > n.driver.Replica(c.groups[i]).Revision()
				})
			})
			c.pass(20 * time.Millisecond)
			return done
		})
		clean++
	}
}

// crashed: requests of processes that are gone are never answered.
func (c *cluster) crashed() bool {
	return slices.ContainsFunc(c.nodes, func(n *node) bool { return n.process > 1 })
}

// judge holds what was told against what all nodes have in the end.
func (c *cluster) judge() {
	everything := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}}
	for _, n := range c.nodes {
		found := 0
		for _, group := range c.groups {
			resp, err := n.driver.Replica(group).Read(everything)
			if err != nil {
				c.t.Fatal(err)
			}
			for _, e := range resp.Range.KVs {
				if rev, ok := c.keys[string(e.Key)]; ok && rev == e.ModRevision {
					found++
				} else if ok {
					c.t.Errorf("node %v has %s at revision %d, which was answered with %d", n.id, e.Key, e.ModRevision, rev)
				}
				if n != c.nodes[0] {
					continue
				}
				for _, told := range c.claims { // rule 16
					if told.shard == kv.ShardID(group) && e.ModRevision > told.last && e.ModRevision <= told.present {
						c.t.Errorf("shard %d was said to have nothing from %d to %d, and has %s at %d", group, told.last, told.present, e.Key, e.ModRevision)
					}
				}
			}
		}
		if found != len(c.keys) {
			c.t.Errorf("node %v has %d of %d keys", n.id, found, len(c.keys))
		}
	}
}

// move has the leadership of a group moved in order.
func (c *cluster) move(group consensus.GroupID) (moved *bool) {
	moved = new(bool)
	from := c.leader(group)
	if from == nil {
		return moved
	}
	to := c.nodes[(int(from.id)+c.random.IntN(2))%3].id
	from.driver.Replica(group).Transfer(to, func(err error) { *moved = err == nil })
	return moved
}

// TestNoGaps: without failures revisions are dense, although leaders move, that of the system shard too, and the sequencer with it (rule 6).
func TestNoGaps(t *testing.T) {
	for _, protocol := range []string{"raft", "paxos"} {
		t.Run(protocol, func(t *testing.T) {
			c := newCluster(t, 1, protocol, nil)
			c.await("leaders", c.serving)
			c.load(time.Second)
			moves := 0
			for range 12 {
				moved := c.move(c.groups[c.random.IntN(3)])
				c.load(400 * time.Millisecond)
				if c.await("leaders", c.serving); *moved {
					moves++
				}
			}
			c.calm()
			c.judge()
			if int(c.answered) != len(c.given)+1 || moves < 6 {
				t.Errorf("%d writes, and %d was the last revision; %d leaders moved", len(c.given), c.answered, moves)
			}
			if c.certain == 0 || c.learnt == 0 || len(c.claims) == 0 {
				t.Errorf("%d present revisions without asking, %d asked for, %d claims", c.certain, c.learnt, len(c.claims))
			}
			t.Logf("%d writes, %d moves, %d learnt, %d claims", len(c.given), moves, c.learnt, len(c.claims))
		})
	}
}

// TestFailures: nodes crash, are cut off, and lose frames; leaders move. All that is answered is unique and in real time, every shard becomes clean again,
// and there is progress.
func TestFailures(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for _, protocol := range []string{"raft", "paxos"} {
		for seed := range seeds {
			t.Run(fmt.Sprint(protocol, seed), func(t *testing.T) {
				c := newCluster(t, seed, protocol, func(c *cluster) { c.quorum = seed%3 == 2 })
				c.await("leaders", c.serving)
				for range 6 {
					c.fault()
					c.load(300 * time.Millisecond)
					if c.random.IntN(2) == 0 {
						c.load(2 * time.Second)
					}
					c.calm()
					before := len(c.given)
					c.load(300 * time.Millisecond)
					if len(c.given) == before {
						t.Fatal("nothing is written any more")
					}
				}
				c.calm()
				c.judge()
				t.Logf("%d writes up to revision %d, %d learnt, %d certain, %d claims", len(c.given), c.answered, c.learnt, c.certain, len(c.claims))
			})
		}
	}
}

func (c *cluster) fault() {
	n := c.nodes[c.random.IntN(3)]
	if leader := c.leader(1); leader != nil && c.random.IntN(2) == 0 {
		n = leader
	}
	switch c.random.IntN(5) {
	case 0:
		n.crash()
	case 1:
		n.separate(true)
	case 2:
		c.lost = func(f frame) bool { return f.channel == issuer.Channel && c.random.IntN(10) == 0 }
	case 3:
		c.move(1)
	case 4:
		c.lost = func(f frame) bool { return f.channel == issuer.Channel && c.random.IntN(2) == 0 }
		c.move(c.groups[c.random.IntN(3)])
	}
}

// TestCannotReachTheSequencer: a leader whose frames to the sequencer are lost hands its shard over, to where writes go on.
func TestCannotReachTheSequencer(t *testing.T) {
	c := newCluster(t, 1, "raft", nil)
	c.await("leaders", c.serving)
	for c.leader(1) == c.leader(2) {
		c.move(2)
		c.pass(time.Second)
	}
	from, sequencer := c.leader(2), c.leader(1)
	c.lost = func(f frame) bool {
		return f.channel == issuer.Channel && (f.from == from && f.to == sequencer || f.from == sequencer && f.to == from)
	}
	c.put(2)
	c.await("another leader", func() bool { return c.leader(2) != from && c.leader(2) != nil })
	before := len(c.given)
	c.load(time.Second)
	if c.leader(1) != sequencer || c.leader(3) == nil || len(c.given) == before {
		t.Error("too much was moved, or nothing is written any more")
	}
	c.calm()
	c.judge()
}
