package consensustest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// Member is what a Factory needs to make a core.
type Member struct {
	Replica   consensus.ReplicaID
	Log       consensus.LogReader
	HardState consensus.HardState
	Applied   consensus.Index
	Config    consensus.Config
	Limits
}

// Limits are the knobs of a cluster; zero means the protocol's default.
type Limits struct {
	ElectionTicks, HeartbeatTicks  int
	MaxMessageBytes, MaxApplyBytes int
	MaxInflightMessages            int
}

// Factory makes cores of one protocol.
type Factory func(Member) (consensus.Core, error)

// Options say what the fixture may expect beyond what every protocol promises.
type Options struct {
	Factory Factory
	Limits  Limits
	// RaftLogs: a leader's log holds everything chosen from the moment of its election, and two logs that
	// agree on the term at an index agree on everything before.
	RaftLogs bool
	// Begin, if set, is called before the first core of a cluster is made.
	Begin func()
	// Replicas, if not 0, is how many a random run begins with.
	Replicas int
	// Phase2Quorum, if not 0, is how many voters decide, in place of a majority.
	Phase2Quorum int
	// Describe prints a message for the command "flight" of texts that are about one protocol.
	Describe func(*consensus.Message) string
}

// node is one replica with its disk.
type node struct {
	id      consensus.ReplicaID
	core    consensus.Core // nil while down
	log     *Log
	machine *machine
	durable *machine // what a crash leaves of the state machine

	unsynced  []consensus.Append
	installs  map[consensus.Index]*machine // staged snapshots
	toApply   []consensus.Entry
	handed    consensus.Index // last entry handed out for applying
	mark      consensus.Mark
	role      consensus.RoleChange
	reads     map[consensus.ReadID]consensus.Index // waiting, with the least index that is a right answer
	holdSync  bool
	holdApply bool
}

// Cluster is a group of replicas and the network between them.
type Cluster struct {
	opts    Options
	nodes   map[consensus.ReplicaID]*node
	ids     []consensus.ReplicaID // ascending
	network network
	ledger  ledger
	events  []string
	counts  Coverage
	// violation is the first broken invariant.
	violation error
}

// NewCluster makes a group of voters 1..n.
func NewCluster(opts Options, n int) *Cluster {
	if opts.Begin != nil {
		opts.Begin()
	}
	c := &Cluster{
		opts: opts, nodes: make(map[consensus.ReplicaID]*node),
		network: network{cut: make(map[link]bool)},
		ledger:  ledger{leaders: make(map[consensus.Term]consensus.ReplicaID)},
	}
	var config consensus.Config
	for id := consensus.ReplicaID(1); int(id) <= n; id++ {
		config.Voters = append(config.Voters, id)
	}
	c.ledger.configs = []consensus.Config{config}
	for _, id := range config.Voters {
		start := &machine{index: consensus.BootstrapIndex, term: consensus.BootstrapTerm, config: config}
		c.join(id, NewLog(start.index, start.term), start)
	}
	return c
}

// Add joins a replica that has nothing and is a member of nothing.
func (c *Cluster) Add(id consensus.ReplicaID) { c.join(id, NewLog(0, 0), &machine{}) }

func (c *Cluster) join(id consensus.ReplicaID, log *Log, start *machine) {
	c.nodes[id] = &node{id: id, log: log, durable: start}
	c.ids = append(c.ids, id)
	slices.Sort(c.ids)
	c.Restart(id)
}

// Restart brings a replica back with what its disk holds.
func (c *Cluster) Restart(id consensus.ReplicaID) {
	n := c.nodes[id]
	n.machine = n.durable.clone()
	if n.machine.index > n.log.Last() {
		n.log.Reset(n.machine.index, n.machine.term)
	}
	core, err := c.opts.Factory(Member{
		Replica: id, Log: n.log, HardState: n.log.HardState(), Applied: n.machine.index, Config: n.machine.config, Limits: c.opts.Limits,
	})
	if err != nil {
		c.violated("replica %d does not start: %w", id, err)
		return
	}
	n.core, n.handed, n.mark, n.role = core, n.machine.index, consensus.Mark{}, consensus.RoleChange{}
	n.unsynced, n.toApply, n.installs = nil, nil, make(map[consensus.Index]*machine)
	n.reads = make(map[consensus.ReadID]consensus.Index)
	n.holdSync, n.holdApply = false, false
	c.settle(n)
}

// Crash stops a replica; what was not synced is lost. With stateFirst a snapshot that was being installed has
// reached the state machine, but not the log.
func (c *Cluster) Crash(id consensus.ReplicaID, stateFirst bool) {
	n := c.nodes[id]
	for i := range n.unsynced {
		if s := n.unsynced[i].Snapshot; s != nil && stateFirst {
			n.durable = n.installs[s.Index].clone()
		}
	}
	n.core = nil
	n.log.Crash()
	c.counts.Crashes++
}

// Checkpoint makes the state machine durable and, if asked to, forgets the log before it.
func (c *Cluster) Checkpoint(id consensus.ReplicaID, compact bool) {
	n := c.nodes[id]
	n.durable = n.machine.clone()
	if compact {
		n.log.Compact(n.durable.index)
		n.core.Compact(n.durable.index)
		c.settle(n)
	}
}

// act lets f do something with the core of a running replica, and the core come to rest.
func (c *Cluster) act(id consensus.ReplicaID, f func(core consensus.Core) error) error {
	n := c.nodes[id]
	if n == nil || n.core == nil {
		return errDown
	}
	err := f(n.core)
	c.settle(n)
	return err
}

var errDown = errors.New("the replica is down")

// settle does the work of a core until there is no more, and checks every invariant.
func (c *Cluster) settle(n *node) {
	c.check(n)
	for rounds := 0; c.violation == nil; rounds++ {
		if n.core.HasReady() {
			c.take(n, n.core.Ready())
		} else if !c.proceed(n) {
			break
		}
		c.check(n)
		if rounds == 10_000 {
			c.violated("replica %d does not come to rest", n.id)
		}
	}
}

// proceed syncs or applies what is due.
func (c *Cluster) proceed(n *node) bool {
	due := slices.ContainsFunc(n.unsynced, func(a consensus.Append) bool { return a.Sync })
	switch {
	case due && !n.holdSync:
		c.sync(n, len(n.unsynced))
	case len(n.toApply) > 0 && !n.holdApply:
		c.apply(n, len(n.toApply))
	default:
		return false
	}
	return true
}

// take carries out one Ready.
func (c *Cluster) take(n *node, rd consensus.Ready) {
	if rd.Role != nil {
		n.role = *rd.Role
		c.roleTaken(n)
	}
	c.send(n, rd.Messages)
	if !rd.Append.Empty() {
		c.write(n, rd.Append)
	} else if len(rd.Append.AfterSync) > 0 || len(rd.Append.Entries) > 0 || rd.Append.HardState != nil {
		c.violated("replica %d wants a write without a mark", n.id)
	}
	for _, e := range rd.Committed {
		if e.Index != n.handed+1 {
			c.violated("replica %d hands out entry %d after entry %d", n.id, e.Index, n.handed)
		}
		n.handed = e.Index
	}
	n.toApply = append(n.toApply, rd.Committed...)
	for _, read := range rd.Reads {
		c.readAnswered(n, read)
	}
}

func (c *Cluster) write(n *node, a consensus.Append) {
	if !n.mark.Less(a.Mark) {
		c.violated("replica %d gives out mark %v after %v", n.id, a.Mark, n.mark)
	}
	n.mark = a.Mark
	needed := len(a.Entries) > 0 || a.Snapshot != nil || len(a.AfterSync) > 0
	if needed && !a.Sync {
		c.violated("replica %d does not ask for the sync that mark %v needs", n.id, a.Mark)
	}
	if a.Snapshot != nil {
		if staged := n.installs[a.Snapshot.Index]; staged == nil || !staged.config.Equal(a.Snapshot.Config) || staged.term != a.Snapshot.Term {
			c.violated("replica %d installs a snapshot at %d that it did not get", n.id, a.Snapshot.Index)
		}
		n.handed = a.Snapshot.Index
		n.toApply = nil
	}
	n.log.Write(a)
	n.unsynced = append(n.unsynced, a)
}

// sync makes the oldest count writes durable.
func (c *Cluster) sync(n *node, count int) {
	count = min(count, len(n.unsynced))
	if count == 0 {
		return
	}
	done := n.unsynced[:count]
	n.unsynced = slices.Clone(n.unsynced[count:])
	n.log.Sync(count)
	for i := range done {
		if s := done[i].Snapshot; s != nil {
			n.machine = n.installs[s.Index].clone()
			n.durable = n.machine.clone()
			c.installed(n)
		}
	}
	n.core.AckAppend(done[count-1].Mark)
	for i := range done {
		c.send(n, done[i].AfterSync)
	}
}

// apply applies the oldest count entries.
func (c *Cluster) apply(n *node, count int) {
	count = min(count, len(n.toApply))
	if count == 0 {
		return
	}
	for _, e := range n.toApply[:count] {
		if err := n.machine.apply(e); err != nil {
			c.violated("replica %d: %w", n.id, err)
			return
		}
		c.chosen(n, e)
	}
	n.toApply = slices.Clone(n.toApply[count:])
	n.core.AckApplied(n.machine.index)
}

func (c *Cluster) send(n *node, messages []consensus.Message) {
	for i := range messages {
		m := &messages[i]
		if m.From != n.id || m.To == n.id {
			c.violated("replica %d sends a message from %d to %d", n.id, m.From, m.To)
		}
		e := &envelope{link: link{m.From, m.To}, encoded: consensus.AppendMessage(nil, m)}
		if m.Class == consensus.ClassSnapshot {
			e.snapshot = n.machine.clone()
			e.raise(n.machine)
		}
		c.network.send(e)
	}
}

// raise lets a snapshot in flight be sent at a later state than its message says.
func (e *envelope) raise(state *machine) {
	m, err := consensus.DecodeMessage(e.encoded)
	if err != nil || m.Snapshot == nil || state.index < m.Snapshot.Index {
		return
	}
	meta := state.meta()
	m.Snapshot = &meta
	e.encoded, e.snapshot = consensus.AppendMessage(nil, &m), state.clone()
}

// deliver hands an envelope to its receiver, if it still can.
func (c *Cluster) deliver(e *envelope) {
	to := c.nodes[e.to]
	if to == nil || to.core == nil || e.lost || c.network.cut[e.link] {
		c.lose(e)
		return
	}
	m, err := consensus.DecodeMessage(e.encoded)
	if err != nil {
		c.violated("a message does not survive its encoding: %w", err)
		return
	}
	if e.snapshot != nil {
		to.installs[m.Snapshot.Index] = e.snapshot.clone()
	}
	// An error means that the message came too late to make sense, which is legal.
	stepError := to.core.Step(m)
	c.settle(to)
	if e.snapshot != nil {
		_ = c.act(e.from, func(core consensus.Core) error { core.SnapshotDone(e.to, stepError == nil); return nil })
	}
}

// lose forgets an envelope. The sender of a snapshot notices.
func (c *Cluster) lose(e *envelope) {
	if e.snapshot != nil {
		_ = c.act(e.from, func(core consensus.Core) error { core.SnapshotDone(e.to, false); return nil })
	}
}

// stabilize delivers until nothing is in flight.
func (c *Cluster) stabilize() {
	for count := 0; len(c.network.flight) > 0 && c.violation == nil; count++ {
		e := c.network.flight[0]
		c.network.flight = c.network.flight[1:]
		c.deliver(e)
		if count == 100_000 {
			c.violated("the messages never end")
		}
	}
}

func (c *Cluster) isolate(id consensus.ReplicaID) {
	for _, other := range c.ids {
		c.network.cut[link{id, other}], c.network.cut[link{other, id}] = true, true
	}
}

func (c *Cluster) violated(format string, args ...any) {
	if c.violation == nil {
		c.violation = fmt.Errorf(format, args...)
	}
}

func (c *Cluster) event(format string, args ...any) {
	c.events = append(c.events, fmt.Sprintf(format, args...))
}
