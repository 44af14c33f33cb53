package placement

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
)

// TestScenarios plays testdata. The commands, each with at=TIME but for the first:
//
//	new self=1 nodes=3 shards=4 policy=gathered   settle is 2 s, rest 5 s, two moves at a time
//	leaders at=1s 1=2 2=1                         shard 1 is led by node 2, shard 2 by node 1
//	reach, lose at=1s 2 3                         there is a connection to nodes 2 and 3, or none any more
//	moves at=1s                                   what is to be moved
//	moved, failed at=1s 2 3                       the moves of shards 2 and 3 have ended
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var s scenario
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out := s.run(t, d)
			if s.core != nil {
				if err := s.core.Check(); err != nil {
					t.Error(err)
				}
			}
			return out
		})
	})
}

type scenario struct {
	core  *Core
	moves map[kv.ShardID]Move
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	if d.Cmd == "new" {
		return s.begin(t, d)
	}
	var at string
	d.ScanArgs(t, "at", &at)
	now, err := time.ParseDuration(at)
	if err != nil {
		t.Fatal(err)
	}
	switch d.Cmd {
	case "moves":
		return s.ask(now)
	case "leaders":
		for _, arg := range d.CmdArgs[1:] {
			s.core.Leader(now, kv.ShardID(number(t, arg.Key)), kv.NodeID(number(t, arg.Vals[0])))
		}
	default:
		for _, arg := range d.CmdArgs[1:] {
			n := number(t, arg.Key)
			switch d.Cmd {
			case "reach", "lose":
				s.core.Reachable(now, kv.NodeID(n), d.Cmd == "reach")
			case "moved", "failed":
				s.core.Ended(now, s.moves[kv.ShardID(n)], d.Cmd == "moved")
			default:
				t.Fatalf("unknown command %s", d.Cmd)
			}
		}
	}
	return "ok"
}

func (s *scenario) begin(t *testing.T, d *datadriven.TestData) string {
	var self, nodes, shards uint64
	var policy string
	d.ScanArgs(t, "self", &self)
	d.ScanArgs(t, "nodes", &nodes)
	d.ScanArgs(t, "shards", &shards)
	d.ScanArgs(t, "policy", &policy)
	options := options(self, nodes, shards, map[string]Policy{"gathered": Gathered, "spread": Spread}[policy])
	var err error
	if s.core, err = New(options, 0); err != nil {
		return err.Error()
	}
	s.moves = make(map[kv.ShardID]Move)
	return "ok"
}

func options(self, nodes, shards uint64, policy Policy) Options {
	o := Options{Self: kv.NodeID(self), Policy: policy, Settle: 2 * time.Second, Rest: 5 * time.Second, MaxMoves: 2}
	for i := range nodes {
		o.Nodes = append(o.Nodes, kv.NodeID(i+1))
	}
	for i := range shards {
		o.Shards = append(o.Shards, kv.ShardID(i+1))
	}
	return o
}

func number(t *testing.T, text string) (n uint64) {
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (s *scenario) ask(now time.Duration) string {
	var lines []string
	for _, m := range s.core.Moves(now) {
		s.moves[m.Shard] = m
		lines = append(lines, fmt.Sprintf("shard %d to node %d", m.Shard, m.To))
	}
	if lines == nil {
		return "none"
	}
	return strings.Join(lines, "\n")
}

// Check returns an error if the core contradicts itself.
func (c *Core) Check() error {
	moving := 0
	for _, s := range c.shards {
		if s.moving {
			moving++
		}
	}
	if moving != c.moving || moving > c.options.MaxMoves {
		return fmt.Errorf("placement: %d shards are being moved, and %d are counted; at most %d may be", moving, c.moving, c.options.MaxMoves)
	}
	return nil
}

// TestWorlds has all nodes of clusters decide, each by what it hears late, while nodes die and come back and moves fail. Left alone, leaders come to where they
// should be, and stay.
func TestWorlds(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t, random)
		for w.now < 60*time.Second {
			w.step(random.IntN(200) == 0)
		}
		for _, n := range w.nodes {
			w.revive(n)
		}
		for end := w.now + 120*time.Second; w.now < end; {
			w.step(false)
		}
		moves := w.moves
		if err := w.placed(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for end := w.now + 60*time.Second; w.now < end; {
			w.step(false)
		}
		if w.moves != moves {
			t.Fatalf("seed %d: %d moves although all leaders were where they should be", seed, w.moves-moves)
		}
	}
}

type world struct {
	t      *testing.T
	random *rand.Rand
	now    time.Duration
	policy Policy
	nodes  []*worldNode
	leader map[kv.ShardID]*worldNode
	moves  int
}

type worldNode struct {
	id       kv.NodeID
	core     *Core
	alive    bool
	options  Options
	news     []func() // what it is about to hear
	underway []Move
}

func newWorld(t *testing.T, random *rand.Rand) *world {
	w := &world{t: t, random: random, policy: Gathered + Policy(random.IntN(2)), leader: make(map[kv.ShardID]*worldNode)}
	count, shards := 2+random.Uint64N(4), 1+random.Uint64N(20)
	for i := range count {
		n := &worldNode{id: kv.NodeID(i + 1), options: options(i+1, count, shards, w.policy)}
		n.options.MaxMoves = 1 + random.IntN(4)
		w.nodes = append(w.nodes, n)
	}
	for i := range shards {
		w.leader[kv.ShardID(i+1)] = w.nodes[random.IntN(len(w.nodes))]
	}
	for _, n := range w.nodes {
		w.revive(n)
	}
	return w
}

// revive starts a node's process, unless it runs.
func (w *world) revive(n *worldNode) {
	if n.alive {
		return
	}
	var err error
	if n.core, err = New(n.options, w.now); err != nil {
		w.t.Fatal(err)
	}
	n.alive, n.news, n.underway = true, nil, nil
	for _, other := range w.nodes {
		if other != n && other.alive {
			n.core.Reachable(w.now, other.id, true)
			w.tell(other, func() { other.core.Reachable(w.now, n.id, true) })
		}
	}
	for id, leader := range w.leader {
		n.core.Leader(w.now, id, leader.id)
	}
}

func (w *world) tell(n *worldNode, news func()) {
	if n.alive {
		n.news = append(n.news, news)
	}
}

// lead makes a node the leader of a shard; all hear of it.
func (w *world) lead(id kv.ShardID, leader *worldNode) {
	w.leader[id] = leader
	for _, n := range w.nodes {
		w.tell(n, func() { n.core.Leader(w.now, id, leader.id) })
	}
}

// kill ends a node's process. Others are elected.
func (w *world) kill(n *worldNode) {
	n.alive = false
	var rest []*worldNode
	for _, other := range w.nodes {
		if other.alive {
			rest = append(rest, other)
			w.tell(other, func() { other.core.Reachable(w.now, n.id, false) })
		}
	}
	if len(rest) == 0 {
		w.revive(n)
		return
	}
	for _, id := range n.options.Shards {
		if w.leader[id] == n {
			w.lead(id, rest[w.random.IntN(len(rest))])
		}
	}
}

func (w *world) step(fault bool) {
	w.now += 50 * time.Millisecond
	if n := w.nodes[w.random.IntN(len(w.nodes))]; fault && n.alive {
		w.kill(n)
	} else if fault {
		w.revive(n)
	}
	for _, n := range w.nodes {
		for n.alive && len(n.news) > 0 && w.random.IntN(3) > 0 {
			news := n.news[0]
			n.news = n.news[1:]
			news()
		}
		if n.alive {
			w.decide(n)
		}
	}
}

func (w *world) decide(n *worldNode) {
	n.underway = append(n.underway, n.core.Moves(w.now)...)
	var later []Move
	for _, m := range n.underway {
		if w.random.IntN(3) == 0 {
			later = append(later, m)
			continue
		}
		to := w.nodes[m.To-1]
		moved := w.leader[m.Shard] == n && to.alive && w.random.IntN(10) > 0
		if m.Shard == kv.SystemShard {
			w.t.Fatalf("node %d moves the system shard", n.id)
		}
		if moved {
			w.moves++
			w.lead(m.Shard, to)
		}
		n.core.Ended(w.now, m, moved)
	}
	n.underway = later
	if err := n.core.Check(); err != nil {
		w.t.Fatal(err)
	}
}

// placed tells which leaders are not where they should be.
func (w *world) placed() error {
	count := make(map[kv.NodeID]int)
	for id, leader := range w.leader {
		count[leader.id]++
		if w.policy == Gathered && leader != w.leader[kv.SystemShard] {
			return fmt.Errorf("shard %d is led by node %d, and the system shard by node %d", id, leader.id, w.leader[kv.SystemShard].id)
		}
	}
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if w.policy == Spread && count[a.id] > count[b.id]+1 {
				return fmt.Errorf("the nodes lead %v", count)
			}
		}
	}
	return nil
}

func TestOptions(t *testing.T) {
	for _, change := range []func(*Options){
		func(o *Options) { o.Self = 9 }, func(o *Options) { o.Shards = o.Shards[1:] }, func(o *Options) { o.Policy = 0 },
		func(o *Options) { o.Settle = 0 }, func(o *Options) { o.Rest = 0 }, func(o *Options) { o.MaxMoves = 0 },
	} {
		o := options(1, 3, 3, Spread)
		change(&o)
		if _, err := New(o, 0); err == nil {
			t.Errorf("%+v are accepted", o)
		}
	}
}
