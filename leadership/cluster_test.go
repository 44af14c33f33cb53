package leadership

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/liveness"
)

// cluster is a few nodes with real cores of leadership and liveness, and the stupidest consensus there is: a term, one vote in each, and no log. Its clocks run
// at different rates; messages are late, lost, and overtake each other; processes end and come back.
type cluster struct {
	t       *testing.T
	random  *rand.Rand
	now     time.Duration
	nodes   []*member
	mail    []letter
	cut     map[[2]kv.NodeID]bool
	elected consensus.Term // the newest term of which somebody was the leader
	figures struct{ elections, leases int }
}

type member struct {
	c        *cluster
	id       kv.NodeID
	rate     float64
	instance uint64
	core     *Core
	live     *liveness.Core
	promised []promised
	tickAt   time.Duration

	term   consensus.Term // durable, as voted
	voted  bool           // in this term
	role   consensus.Role
	leader kv.NodeID
	quiet  int // ticks without a leader, or without answers of a majority
	votes  map[kv.NodeID]bool
	owed   []letter // answers that wait for the disk
	// stalled is how long the disk does nothing.
	stalled   time.Duration
	forbidden bool // has begun a hand-over in this term
}

// promised is what support is in the driver.
type promised struct {
	epoch      liveness.Epoch
	generation uint64
	until      time.Duration
}

func (m *member) Holds(node int, generation uint64, now time.Duration) bool {
	return generation != 0 && m.promised[node].generation == generation && now < m.promised[node].until
}

// takeOver asks for a vote on behalf of the leader, which hands over: promises do not matter.
const takeOver = "vote for me, the leader says"

type letter struct {
	due      time.Duration
	from, to kv.NodeID
	instance uint64
	beat     *liveness.Message
	kind     string
	term     consensus.Term
	epoch    liveness.Epoch // of an answer that vouches
}

func newCluster(t *testing.T, seed uint64, size int) *cluster {
	c := &cluster{t: t, random: rand.New(rand.NewPCG(seed, 1)), now: time.Second, cut: map[[2]kv.NodeID]bool{}}
	for i := range size {
		m := &member{c: c, id: kv.NodeID(i + 1), rate: 1 + 0.02*(2*c.random.Float64()-1)}
		c.nodes = append(c.nodes, m)
	}
	for _, m := range c.nodes {
		m.start()
	}
	return c
}

func (m *member) clock() time.Duration { return time.Duration(float64(m.c.now) * m.rate) }

// start begins another process, which knows no more than its term and vote.
func (m *member) start() {
	m.instance++
	o := options(len(m.c.nodes))
	o.Self, o.Rand = m.id, rand.New(rand.NewPCG(uint64(m.id), m.instance))
	var peers []kv.NodeID
	for _, other := range o.Nodes {
		if other != m.id {
			peers = append(peers, other)
		}
	}
	var err error
	if m.live, err = liveness.New(liveness.Options{Self: m.id, Peers: peers, Instance: m.instance, HeartbeatInterval: heartbeat, PromiseDuration: promiseDuration,
		SuspectAfter: electionTimeout}, m.clock()); err != nil {
		m.c.t.Fatal(err)
	}
	if m.core, err = New(o, m.live); err != nil {
		m.c.t.Fatal(err)
	}
	m.promised = make([]promised, len(m.c.nodes))
	m.core.Configure(consensus.ReplicaID(m.id), voters(len(m.c.nodes)))
	m.core.Start(m.clock())
	m.owed = nil
	m.become(consensus.RoleFollower, 0)
}

// become tells of a new role, term or leader.
func (m *member) become(role consensus.Role, leader kv.NodeID) {
	m.role, m.leader, m.quiet = role, leader, 0
	instance := uint64(0)
	if leader != 0 {
		instance = m.c.nodes[leader-1].instance
	}
	m.core.RoleChanged(m.clock(), consensus.RoleChange{Role: role, Term: m.term, Leader: consensus.ReplicaID(leader)}, Process{Node: leader, Instance: instance})
	m.carryOut()
}

func (m *member) carryOut() {
	ready := m.core.Ready()
	if ready.LeaderLost && m.leader != 0 {
		m.become(m.role, 0)
	}
	if ready.Campaign {
		m.campaign("vote for me")
	}
	if err := m.core.Check(); err != nil {
		m.c.t.Fatalf("at %v: node %v: %v", m.c.now, m.id, err)
	}
}

func (m *member) campaign(request string) {
	m.term, m.voted, m.votes = m.term+1, true, map[kv.NodeID]bool{m.id: true}
	m.become(consensus.RoleCandidate, 0)
	if request == takeOver || !m.core.Holding(m.clock()) {
		m.tell(request)
	}
}

// tell sends to all others.
func (m *member) tell(kind string) {
	for _, other := range m.c.nodes {
		if other != m {
			m.c.post(letter{from: m.id, to: other.id, kind: kind, term: m.term, instance: m.instance})
		}
	}
}

func (c *cluster) post(l letter) {
	if c.random.IntN(20) == 0 || c.cut[[2]kv.NodeID{l.from, l.to}] {
		return
	}
	l.due = c.now + time.Duration(c.random.Int64N(int64(40*time.Millisecond)))
	if c.random.IntN(15) == 0 {
		l.due += time.Duration(c.random.Int64N(int64(time.Second)))
	}
	c.mail = append(c.mail, l)
}

// step is a round of one node: what has arrived, and the time.
func (m *member) step() {
	m.live.Advance(m.clock())
	ready := m.live.Ready()
	for i := range ready.Messages {
		m.c.post(letter{from: m.id, to: ready.Messages[i].To, beat: &ready.Messages[i].Message})
	}
	for _, node := range ready.Lapsed {
		m.core.NodeLost(m.clock(), node, false)
		m.carryOut()
	}
	for _, node := range ready.Restarted {
		m.core.NodeLost(m.clock(), node, true)
		m.carryOut()
	}
	m.core.Advance(m.clock())
	m.carryOut()
	if m.c.random.IntN(200) == 0 {
		m.stalled = m.c.now + time.Duration(m.c.random.Int64N(int64(time.Second)))
	}
	if m.c.now > m.stalled && m.c.random.IntN(3) > 0 {
		m.answer()
	}
	if m.role == consensus.RoleLeader && m.c.random.IntN(100) == 0 {
		m.forbidden = true
		m.core.ForbidLease()
		m.c.post(letter{from: m.id, to: m.c.nodes[m.c.random.IntN(len(m.c.nodes))].id, kind: "lead", term: m.term})
	}
	if m.clock() < m.tickAt {
		return
	}
	m.tickAt = m.clock() + heartbeat
	ticks := m.core.Tick(m.clock(), consensus.ReplicaID(m.leader))
	m.carryOut()
	if !ticks {
		return
	}
	if m.quiet++; m.role == consensus.RoleLeader {
		if m.tell("I lead"); m.quiet > 20 {
			m.become(consensus.RoleFollower, 0) // no quorum answers for long
		}
	} else if m.quiet > 5+m.c.random.IntN(5) {
		m.campaign("vote for me")
	}
}

// answer sends what is durable by now. It vouches by what is so now, not when the leader was heard.
func (m *member) answer() {
	for _, a := range m.owed {
		if m.core.Vouch(Member{consensus.ReplicaID(a.to), a.to}, a.term, View{m.term, consensus.ReplicaID(m.leader)}) {
			a.epoch, _ = m.live.PromiseEpoch(m.clock(), a.to)
		}
		m.c.post(a)
	}
	m.owed = nil
}

func (m *member) receive(l letter) {
	now := m.clock()
	if l.beat != nil {
		_ = m.live.Receive(now, l.from, *l.beat)
		epoch, until := m.live.Support(l.from)
		if p := &m.promised[l.from-1]; epoch != (liveness.Epoch{}) {
			if p.epoch != epoch {
				*p = promised{epoch: epoch, generation: p.generation + 1}
			}
			p.until = until
		}
		return
	}
	from := Process{Node: l.from, Instance: l.instance}
	switch l.kind {
	case "lead":
		if l.term == m.term && m.leader == l.from {
			m.campaign(takeOver)
		}
	case "vote for me", takeOver:
		if l.kind != takeOver && !m.core.HearCandidate(now, from, l.term, m.term) {
			return
		}
		m.carryOut()
		if l.term > m.term {
			m.term, m.voted = l.term, true
			m.become(consensus.RoleFollower, 0)
			m.c.post(letter{from: m.id, to: l.from, kind: "my vote", term: m.term})
		}
	case "my vote":
		if m.role != consensus.RoleCandidate || l.term != m.term {
			return
		}
		if m.votes[l.from] = true; len(m.votes) > len(m.c.nodes)/2 {
			m.c.elected = max(m.c.elected, m.term)
			m.c.figures.elections++
			m.become(consensus.RoleLeader, m.id)
			m.votes, m.forbidden = map[kv.NodeID]bool{}, false
			m.core.Lead(m.electorate())
			m.tell("I lead")
		}
	case "I lead":
		if l.term < m.term || l.term == m.term && m.role == consensus.RoleLeader || l.instance != m.c.nodes[l.from-1].instance {
			return
		}
		m.term = l.term
		m.become(consensus.RoleFollower, l.from)
		m.owed = append(m.owed, letter{from: m.id, to: l.from, kind: "I follow", term: m.term})
	case "I follow":
		if m.role != consensus.RoleLeader || l.term != m.term {
			return
		}
		if m.votes[l.from] = true; len(m.votes) >= len(m.c.nodes)/2 {
			m.quiet, m.votes = 0, map[kv.NodeID]bool{}
		}
		if p := m.promised[l.from-1]; l.epoch != (liveness.Epoch{}) && p.epoch == l.epoch && m.core.Acknowledge(consensus.ReplicaID(l.from), p.generation) {
			m.core.Reckon(m.electorate())
		}
	}
}

func (m *member) electorate() (e Electorate) {
	e.Forbidden = m.forbidden
	for i := range m.c.nodes {
		e.Voters = append(e.Voters, Member{consensus.ReplicaID(i + 1), kv.NodeID(i + 1)})
	}
	return e
}

// observe: who holds a lease leads in the newest term that anybody ever led in, and nobody else holds one.
func (c *cluster) observe() {
	holder := kv.NodeID(0)
	for _, m := range c.nodes {
		l := m.core.Lease()
		if l == nil || !l.Valid(m, m.clock()) {
			continue
		}
		if c.figures.leases++; m.term < c.elected || holder != 0 {
			c.t.Fatalf("at %v: node %v holds a lease in term %d, and so does node %v (0: nobody); somebody was elected in term %d",
				c.now, m.id, m.term, holder, c.elected)
		}
		holder = m.id
	}
}

func (c *cluster) run(steps int) {
	for range steps {
		c.now += time.Duration(1 + c.random.Int64N(int64(20*time.Millisecond)))
		if c.random.IntN(60) == 0 {
			c.nodes[c.random.IntN(len(c.nodes))].start()
		}
		if c.random.IntN(100) == 0 {
			c.divide()
		}
		var left []letter
		arrived := c.mail
		c.mail = nil
		for _, l := range arrived {
			if l.due > c.now {
				left = append(left, l)
				continue
			}
			c.nodes[l.to-1].receive(l)
			c.observe()
		}
		c.mail = append(left, c.mail...)
		for _, m := range c.nodes {
			if c.random.IntN(30) > 0 { // a process that does not run now and then
				m.step()
			}
			c.observe()
		}
	}
}

// divide cuts other links than before: some pairs, in one direction or both, or those of one node to all others but one.
func (c *cluster) divide() {
	clear(c.cut)
	any := func() kv.NodeID { return kv.NodeID(1 + c.random.IntN(len(c.nodes))) }
	for range c.random.IntN(len(c.nodes)) {
		a, b := any(), any()
		c.cut[[2]kv.NodeID{a, b}] = true
		c.cut[[2]kv.NodeID{b, a}] = c.random.IntN(4) > 0
	}
	if c.random.IntN(2) == 0 {
		lonely, friend := any(), any()
		for _, m := range c.nodes {
			if m.id != friend {
				c.cut[[2]kv.NodeID{lonely, m.id}], c.cut[[2]kv.NodeID{m.id, lonely}] = true, true
			}
		}
	}
}

// TestNoTwoLeases: the invariant of the package, with everything beside consensus and the driver real.
func TestNoTwoLeases(t *testing.T) {
	elections, leases := 0, 0
	for seed := range uint64(120) {
		c := newCluster(t, seed, 3+2*int(seed%2))
		c.run(3000)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		elections, leases = elections+c.figures.elections, leases+c.figures.leases
	}
	t.Logf("%d elections, %d looks at a lease that held", elections, leases)
	if elections < 1000 || leases < 100_000 {
		t.Errorf("too little happened: %d elections, leases held %d times", elections, leases)
	}
}
