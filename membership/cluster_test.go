package membership

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// cluster is a few nodes with real cores of membership, and no consensus at all: there is one list of decided entries, which a leader by decree adds to, and
// which everybody else applies late. Frames are late, lost and overtake each other. Processes end and come back; one disk at a time goes back in time,
// or is lost, or its replica is removed, and the group comes back to it.
type cluster struct {
	t       *testing.T
	random  *rand.Rand
	now     time.Duration
	members []*member
	mail    []letter
	entries []entry // decided; entry i has index i+1
	disks   uint64
	leader  *member
	figures figures
}

type figures struct{ restarts, images, wipes, removals, told, refused, admitted, replaced int }

// entry is a table of placements, or a membership.
type entry struct {
	table  []shard.Placement
	config *consensus.Config
}

// disk is what a process finds.
type disk struct {
	id      uint64
	record  storage.NodeRecord
	row     []byte
	applied int
	// said is the last word of the replica on this disk: what nobody may forget.
	said int
}

type member struct {
	c        *cluster
	id       kv.NodeID
	disk     disk  // durable
	image    *disk // as it was at some time
	written  disk  // will be durable with the next sync
	up       bool
	instance uint64
	began    int // said, when this process began
	node     *Node
	group    *Group
	tickAt   time.Duration
	config   consensus.Config
	table    []shard.Placement
	away     bool // the replica was removed; group tells the others
	// heard is, by replica, the furthest word that this process acted upon.
	heard map[consensus.ReplicaID]word
}

// word is the number of something that a replica said, and the process that said it, and the life of the replica.
type word struct {
	instance, life uint64
	said           int
}

type letter struct {
	due      time.Duration
	from, to kv.NodeID
	marks    []NodeMark
	message  *Message
	arrival  Arrival
	began    int // of the process that sent it
	said     int
}

// Instance and Alive: the heartbeats of a process are heard as long as it runs.
func (m *member) Instance(node kv.NodeID) uint64 { return m.c.members[node-1].instance }
func (m *member) Alive(node kv.NodeID) bool      { return m.c.members[node-1].up }

// clusterSize is how many nodes there are.
const clusterSize = 3

func newCluster(t *testing.T, seed uint64) *cluster {
	c := &cluster{t: t, random: rand.New(rand.NewPCG(seed, 7)), now: time.Second}
	for i := range clusterSize {
		c.members = append(c.members, &member{c: c, id: kv.NodeID(i + 1), disk: disk{id: c.newDisk()}})
	}
	for _, m := range c.members {
		m.start()
	}
	return c
}

func (c *cluster) newDisk() uint64 {
	c.disks++
	return 1000 + c.disks
}

// start begins a process on the disk.
func (m *member) start() {
	c := m.c
	m.instance, m.up, m.began = c.random.Uint64()|1, true, m.disk.said
	m.heard, m.written = map[consensus.ReplicaID]word{}, m.disk
	o := options(clusterSize)
	o.Self, o.Disk, o.Instance = m.id, m.disk.id, m.instance
	var err error
	if m.node, err = NewNode(c.now, o, m, m.disk.record); err != nil {
		c.t.Fatal(err)
	}
	m.write(m.node.Begin())
	m.sync()
	m.open()
	for _, other := range c.members {
		if other != m && other.node != nil {
			m.node.Connected(other.id, FormatMarks)
			other.node.Connected(m.id, FormatMarks)
		}
	}
	m.carryOut()
}

// open opens the group on the disk, again if it was removed.
func (m *member) open() {
	c := m.c
	m.away, m.began = false, m.disk.said
	removed, err := Removed(m.disk.row)
	if err != nil {
		c.t.Fatal(err)
	}
	state := GroupState{Group: 1, Founders: clusterSize/2 + 1, Row: m.disk.row, Empty: m.disk.row == nil || removed}
	for i, node := range m.node.options.Nodes {
		state.First = append(state.First, Home{node, consensus.ReplicaID(i + 1)})
		state.Config.Voters = append(state.Config.Voters, consensus.ReplicaID(i+1))
	}
	m.table = nil
	for _, e := range c.entries[:m.disk.applied] {
		if e.config != nil {
			state.Config = *e.config
		} else {
			m.table = e.table
		}
	}
	m.config, state.Table = state.Config, m.table
	if m.group, _, err = m.node.OpenGroup(state); err != nil {
		c.t.Fatalf("node %d: %v", m.id, err)
	}
}

// remove ends the replica, not the process: what it said is forgotten, and there is a row that says so.
func (m *member) remove() {
	if row := m.group.RemovedRow(); row != nil {
		m.disk.row = row
	}
	m.disk.applied, m.disk.said = 0, 0
	m.written, m.away = m.disk, true
	if m.c.leader == m {
		m.c.leader = nil
	}
	m.group.Remove(m.c.now)
	m.carryOut()
}

func (m *member) write(r *storage.NodeRecord) {
	m.written.record.Position = r.Position
	if r.Data != nil {
		m.written.record.Data = r.Data
	}
}

func (m *member) sync() {
	m.node.Syncing()
	m.disk = m.written
	m.node.Synced()
}

func (m *member) end() {
	m.up = false
	if m.c.leader == m {
		m.c.leader = nil
	}
}

// lost is what a node does that learns that its disk is not what it was: it comes back with another one.
func (m *member) lost() {
	m.end()
	m.disk, m.image = disk{id: m.c.newDisk()}, nil
	m.c.figures.replaced++
}

func (c *cluster) post(l letter) {
	if c.random.IntN(15) == 0 {
		return
	}
	l.due = c.now + time.Duration(c.random.Int64N(int64(60*time.Millisecond)))
	if c.random.IntN(20) == 0 {
		l.due += time.Duration(c.random.Int64N(int64(2 * time.Second)))
	}
	c.mail = append(c.mail, l)
}

func (m *member) carryOut() {
	c := m.c
	node, r := m.node.Ready(), m.group.Ready()
	for _, out := range node.Marks {
		c.post(letter{from: m.id, to: out.To, marks: out.Marks})
	}
	for _, out := range r.Messages {
		c.post(letter{from: m.id, to: out.To, message: &out.Message})
	}
	if r.Save != nil {
		m.written.row, m.disk.row = r.Save.Row, r.Save.Row // the engine is another file
		m.group.Saved()
	}
	for _, q := range r.Confirm {
		if c.leader == m {
			m.group.Confirmed(q)
		}
	}
	if r.Assign != nil {
		m.assign(r.Assign)
	}
	if r.Change != nil {
		m.decide(entry{config: r.Change})
	}
	if node.Failed != nil || r.Failed != nil {
		m.lost()
		return
	}
	if err := cmp.Or(m.node.Check(), m.group.Check()); err != nil {
		c.t.Fatalf("at %v: node %d: %v", c.now, m.id, err)
	}
	if m.node.HasReady() || m.group.HasReady() {
		m.carryOut()
	}
}

// assign is what the state machine does; see shard.Machine.
func (m *member) assign(r *kv.AssignReplicaRequest) {
	at := slices.IndexFunc(m.table, func(p shard.Placement) bool { return p.Node == r.Node })
	p := shard.Placement{Node: r.Node, Site: shard.Site{Disk: r.Disk, Life: r.Life}, Replica: consensus.ReplicaID(r.First)}
	newest := p.Replica
	if at >= 0 {
		newest = m.table[at].Replica
	}
	m.group.Assigned()
	switch {
	case at >= 0 && m.table[at].Site == p.Site:
		return
	case r.Replaces != 0 && consensus.ReplicaID(r.Replaces) == newest:
		p.Replica = clusterSize + 1
		for _, e := range m.c.entries {
			for _, o := range e.table {
				p.Replica = max(p.Replica, o.Replica+1)
			}
		}
	case at >= 0 || r.Replaces != 0:
		return
	}
	table := slices.DeleteFunc(slices.Clone(m.table), func(o shard.Placement) bool { return o.Node == r.Node })
	table = append(table, p)
	slices.SortFunc(table, func(a, b shard.Placement) int { return cmp.Compare(a.Node, b.Node) })
	m.decide(entry{table: table})
}

func (m *member) decide(e entry) {
	m.c.entries = append(m.c.entries, e)
	m.apply()
}

// apply applies the next entry, and makes it durable.
func (m *member) apply() {
	e := m.c.entries[m.written.applied]
	m.written.applied++
	at := consensus.Index(m.written.applied)
	if e.config != nil {
		m.config = *e.config
		m.group.ConfigApplied(at, m.config)
	} else if m.table = e.table; m.group.Placed(at, m.table, kv.Roster{}) != nil {
		m.lost()
		return
	}
	m.sync()
	m.group.Flushed(at)
	m.carryOut()
}

// step is a round of one node.
func (m *member) step() {
	c := m.c
	if m.away && c.random.IntN(300) == 0 {
		if !m.group.WantsTicks() {
			c.figures.told++
		}
		m.open()
		m.carryOut()
	}
	if m.group.Held() {
		m.tick()
		return
	}
	if m.written.applied < len(c.entries) && c.random.IntN(3) == 0 {
		if m.apply(); !m.up {
			return
		}
	}
	if c.random.IntN(4) == 0 {
		m.written.said++ // something that must never be forgotten
		m.write(m.node.Write(c.now))
		m.sync()
	}
	for _, other := range c.members {
		if to := m.group.Newest(other.id); other != m && c.random.IntN(3) == 0 {
			a := Arrival{Node: m.id, From: m.group.Self(), To: to, Life: m.group.Life(), Sender: m.node.Sender()}
			c.post(letter{from: m.id, to: other.id, arrival: a, began: m.began, said: m.disk.said})
		}
	}
	m.tick()
}

func (m *member) tick() {
	c := m.c
	if c.now < m.tickAt {
		return
	}
	m.tickAt = c.now + m.node.options.HeartbeatInterval
	if m.group.Tick(c.now); m.group.WantsRepair() {
		p := Progress{Config: m.config}
		for _, other := range c.members {
			r := consensus.Replication{Replica: other.group.Self(), Match: consensus.Index(other.disk.applied), Active: other.up && !other.group.Held()}
			p.Replicas = append(p.Replicas, r)
		}
		m.group.Repair(p)
	}
	m.node.Tick(c.now)
	m.carryOut()
}

func (m *member) receive(l letter) {
	c := m.c
	switch {
	case l.marks != nil:
		m.node.Receive(c.now, l.from, l.marks)
	case l.message != nil:
		_ = m.group.Receive(c.now, l.from, l.message)
	case m.group.Held():
	default:
		m.node.BeginRound()
		if m.group.Admit(c.now, l.arrival) != nil {
			c.figures.refused++
			break
		}
		c.figures.admitted++
		id, speaks, life := l.arrival.From, l.arrival.Sender.Instance, l.arrival.Life
		before := m.heard[id]
		if (speaks != before.instance || life != before.life) && l.began < before.said {
			c.t.Fatalf("at %v: node %d listens to replica %d of node %d, whose process began with %d words, and has heard %d of that replica",
				c.now, m.id, id, l.from, l.began, before.said)
		}
		m.heard[id] = word{speaks, life, max(before.said, l.said)}
	}
	if m.up {
		m.carryOut()
	}
}

// elect makes somebody the leader who has a vote, if there is none.
func (c *cluster) elect() {
	if c.leader != nil || c.random.IntN(20) > 0 {
		return
	}
	m := c.members[c.random.IntN(len(c.members))]
	if !m.up || m.group.Held() || !m.config.Votes(m.group.Self()) {
		return
	}
	for m.up && m.written.applied < len(c.entries) {
		m.apply()
	}
	if m.up && m.config.Votes(m.group.Self()) {
		c.leader = m
		m.group.Lead(consensus.Index(m.written.applied))
		m.carryOut()
	}
}

// whole tells whether every node's newest replica has a vote, on the disk that the table says, and everybody knows.
func (c *cluster) whole() bool {
	for _, m := range c.members {
		at := slices.IndexFunc(m.table, func(p shard.Placement) bool {
			return p.Node == m.id && p.Disk == m.disk.id && p.Life == m.group.Life() && p.Replica == m.group.Self()
		})
		if !m.up || m.group.Held() || at < 0 || m.group.standing.Text != StandingMember || m.disk.applied != len(c.entries) {
			return false
		}
		for _, other := range c.members {
			// Who went back in time is not believed to be a process of its disk.
			if seen := m.node.marks.seen[other.id].mark(other.disk.id); other != m && (seen == nil || seen.present().Instance != other.instance) {
				return false
			}
		}
	}
	return c.leader != nil
}

// run lets the time pass until something is so, or for steps.
func (c *cluster) run(steps int, until func() bool) bool {
	for range steps {
		c.now += time.Duration(1 + c.random.Int64N(int64(20*time.Millisecond)))
		var left []letter
		arrived := c.mail
		c.mail = nil
		for _, l := range arrived {
			if l.due > c.now {
				left = append(left, l)
			} else if to := c.members[l.to-1]; to.up {
				to.receive(l)
			}
		}
		c.mail = append(left, c.mail...)
		for _, m := range c.members {
			switch {
			case m.up:
				m.step()
			case c.random.IntN(30) == 0:
				m.start()
			}
		}
		if c.elect(); until != nil && until() {
			return true
		}
	}
	return false
}

// hurt does something to one node.
func (c *cluster) hurt() {
	m := c.members[c.random.IntN(len(c.members))]
	image := m.disk
	switch c.random.IntN(4) {
	case 0:
		c.figures.restarts++
		m.end()
	case 1:
		c.figures.wipes++
		m.end()
		m.disk, m.image = disk{id: c.newDisk()}, nil
	case 2:
		c.figures.removals++
		m.remove()
	case 3:
		// The others have to have it on their disks that it is further.
		at := image.record.Position
		remembered := func() bool {
			return !m.up || !slices.ContainsFunc(c.members, func(o *member) bool {
				return o != m && o.node.Witnessed(m.id, image.id) <= at
			})
		}
		if !c.run(3000, remembered) || !m.up || m.disk.id != image.id {
			return
		}
		c.figures.images++
		m.end()
		m.disk = image
	}
}

// TestNobodyListensToWhoForgot: whoever acts upon a word of a replica was never told more by it than the process knows that speaks. And whatever is
// lost, everybody is there again in the end.
func TestNobodyListensToWhoForgot(t *testing.T) {
	var total figures
	for seed := range uint64(40) {
		c := newCluster(t, seed)
		for i := range 12 {
			if !c.run(20_000, c.whole) {
				t.Fatalf("seed %d, after %d blows: the cluster does not become whole: %s", seed, i, c.describe())
			}
			c.hurt()
		}
		total.restarts += c.figures.restarts
		total.images += c.figures.images
		total.wipes += c.figures.wipes
		total.removals += c.figures.removals
		total.told += c.figures.told
		total.refused += c.figures.refused
		total.admitted += c.figures.admitted
		total.replaced += c.figures.replaced
	}
	t.Logf("%+v", total)
	if total.restarts < 50 || total.images < 50 || total.wipes < 50 || total.removals < 50 || total.told < 50 || total.replaced < 50 || total.refused < 100 || total.admitted < 10_000 {
		t.Errorf("too little happened: %+v", total)
	}
}

func (c *cluster) describe() (text string) {
	for _, m := range c.members {
		text += fmt.Sprintf("\nnode %d: up %v, replica %d, disk %d, %s, applied %d of %d, %v %v, seen %+v", m.id, m.up, m.group.Self(), m.disk.id, m.group.standing.Text, m.disk.applied, len(c.entries), m.config, m.table, m.node.marks.seen)
	}
	return text
}
