package driver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// lives is a cluster of several groups, which come, go and fail.
type lives struct {
	t     *testing.T
	c     *cluster
	nodes []*livesNode
	first map[consensus.GroupID][]membership.Home
}

type livesNode struct {
	*clusterNode
	engine *slowEngine                // over memory
	breaks map[consensus.GroupID]bool // whose machine fails at the next entry
	failed map[consensus.GroupID]error
	told   []error           // why messages were refused
	shut   consensus.GroupID // whose machine cannot be opened
	leaks  consensus.GroupID // whose machine cannot be flushed
}

// brittleMachine fails when its node says so.
type brittleMachine struct {
	*shard.Machine
	fails func() bool
	leaks func() bool
}

var errBrittle = errors.New("the machine broke")

func (m *brittleMachine) Apply(e consensus.Entry, b storage.Batch) (shard.Applied, error) {
	if m.fails() {
		return shard.Applied{}, errBrittle
	}
	return m.Machine.Apply(e, b)
}

func (m *brittleMachine) FlushChunk(b storage.Batch, rows int) (bool, error) {
	if m.leaks() {
		return false, errBrittle
	}
	return m.Machine.FlushChunk(b, rows)
}

func newLives(t *testing.T, groups ...consensus.GroupID) *lives {
	l := &lives{t: t, c: newCluster(t, 3, false), first: map[consensus.GroupID][]membership.Home{}}
	for _, n := range l.c.nodes {
		node := &livesNode{clusterNode: n}
		l.nodes = append(l.nodes, node)
		l.start(node, groups...)
	}
	return l
}

// start begins a process of the node.
func (l *lives) start(n *livesNode, groups ...consensus.GroupID) {
	n.breaks, n.failed, n.told = map[consensus.GroupID]bool{}, map[consensus.GroupID]error{}, nil
	n.engine = &slowEngine{Memory: n.memory}
	n.clusterNode.start(func(o *Options) {
		o.Groups, o.First, o.Engine = groups, l.first, n.engine
		o.OpenMachine = func(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
			if group == n.shut {
				return nil, errBrittle
			}
			return l.machine(n, group, logEnd)
		}
		o.Listener = Listener{
			GroupFailed:    func(group consensus.GroupID, err error) { n.failed[group] = err },
			Failed:         func(err error) { l.t.Errorf("node %d: %v", n.id, err) },
			MessageRefused: func(_ consensus.GroupID, _ kv.NodeID, err error) { n.told = append(n.told, err) },
		}
	})
}

func (l *lives) machine(n *livesNode, group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
	first := l.first[group]
	if first == nil {
		ids, _ := l.c.config()
		first = firstReplicas(ids)
	}
	var config consensus.Config
	for _, h := range first {
		config.Voters = append(config.Voters, h.Replica)
	}
	m, err := OpenMachine(n.memory, shard.Options{Shard: kv.ShardID(group), Rand: rand.New(rand.NewPCG(uint64(n.id), uint64(group))), LogEnd: logEnd}, Founding{Members: config})
	return &brittleMachine{m, func() bool { return n.breaks[group] }, func() bool { return n.leaks == group }}, err
}

func (l *lives) await(what string, is func() bool) {
	l.t.Helper()
	l.c.await(what, is)
}

// slowEngine flushes when it is let.
type slowEngine struct {
	*storage.Memory
	held    bool
	flushes []func(error)
}

func (e *slowEngine) Flush(done func(error)) {
	if e.held {
		e.flushes = append(e.flushes, done)
		return
	}
	e.Memory.Flush(done)
}

func (e *slowEngine) let() {
	e.held = false
	for _, done := range e.flushes {
		e.Memory.Flush(done)
	}
}

// leader waits for a leader of the group.
func (l *lives) leader(group consensus.GroupID) (leader *livesNode) {
	l.t.Helper()
	l.await(fmt.Sprintf("a leader of group %d", group), func() bool {
		at := slices.IndexFunc(l.nodes, func(n *livesNode) bool {
			r := n.driver.Replica(group)
			return r != nil && r.LeaseValid()
		})
		if at >= 0 {
			leader = l.nodes[at]
		}
		return at >= 0
	})
	return leader
}

// put writes to the group, through whoever leads it.
func (l *lives) put(group consensus.GroupID, key string) {
	l.t.Helper()
	answered := false
	l.propose(l.leader(group), group, key, func(err error) {
		if answered = true; err != nil {
			l.t.Errorf("put %s to group %d: %v", key, group, err)
		}
	})
	l.await("an answer", func() bool { return answered })
}

func (l *lives) propose(n *livesNode, group consensus.GroupID, key string, done func(error)) {
	n.driver.Replica(group).Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key)}}, nil, func(_ *kv.Response, _ uint64, err error) { done(err) })
}

// has tells whether the node's replica of the group holds the key.
func (n *livesNode) has(group consensus.GroupID, key string) bool {
	resp, err := n.driver.Replica(group).Read(rangeRequest(key))
	return err == nil && len(resp.Range.KVs) == 1
}

// do waits for something that a node was asked to do.
func (l *lives) do(what string, ask func(done func(error))) (err error) {
	l.t.Helper()
	calls := 0
	ask(func(e error) { calls, err = calls+1, e })
	l.await(what, func() bool { return calls > 0 })
	if calls != 1 {
		l.t.Errorf("%s was answered %d times", what, calls)
	}
	return err
}

// TestGroupFailsAlone: the machine of one group breaks on the node that leads it. Those who wait are answered, the group goes on without the node, and the node
// without the group. The next process has both.
func TestGroupFailsAlone(t *testing.T) {
	l := newLives(t, 1, 2, 3)
	for group := consensus.GroupID(1); group <= 3; group++ {
		l.put(group, "before")
	}
	n := l.leader(2)
	n.breaks[2] = true
	var answer error
	l.propose(n, 2, "during", func(err error) { answer = err })
	l.await("the failure", func() bool { return n.failed[2] != nil && answer != nil })
	failed := n.driver.Replica(2)
	switch {
	case !errors.Is(n.failed[2], errBrittle) || !errors.Is(n.failed[2], errGroupFailed) || len(n.failed) != 1:
		t.Errorf("told: %v", n.failed)
	case !errors.Is(answer, kv.ErrOutcomeUnknown):
		t.Errorf("what was proposed is answered with %v", answer)
	case n.driver.Err() != nil || n.driver.Metrics().GroupsFailed != 1:
		t.Errorf("the node: %v, %d groups failed", n.driver.Err(), n.driver.Metrics().GroupsFailed)
	case failed.IsLeader() || failed.LeaseValid() || failed.Readable() == nil || !strings.Contains(failed.Standing(), errBrittle.Error()):
		t.Errorf("the replica leads: %v, its lease is valid: %v, it is readable: %v, standing: %s", failed.IsLeader(), failed.LeaseValid(), failed.Readable(), failed.Standing())
	}
	for _, err := range []error{
		l.do("a barrier", func(done func(error)) { failed.ReadIndex(func(_ uint64, err error) { done(err) }) }),
		l.do("an index", func(done func(error)) { failed.WaitApplied(1<<40, done) }),
		l.do("a hand-over", func(done func(error)) { failed.Transfer(1, done) }),
	} {
		if err == nil {
			t.Error("a replica that has failed does what it is asked for")
		}
	}
	l.await("another leader", func() bool {
		return slices.ContainsFunc(l.nodes, func(o *livesNode) bool { return o != n && o.driver.Replica(2).IsLeader() })
	})
	for group := consensus.GroupID(1); group <= 3; group++ {
		l.put(group, "after")
	}
	if !n.has(1, "after") && !n.has(3, "after") {
		l.await("the other groups", func() bool { return n.has(1, "after") && n.has(3, "after") })
	}

	n.crash()
	l.start(n, 1, 2, 3)
	l.await("the failed replica in the next process", func() bool {
		return n.driver.Replica(2).Standing() == membership.StandingMember && n.has(2, "after") && n.has(2, "during")
	})
}

// TestGroupFailsAtStart: a group whose machine cannot be opened fails alone, and the others of its node run. If there is no other one, the node does not start.
func TestGroupFailsAtStart(t *testing.T) {
	l := newLives(t, 1, 2, 3)
	for group := consensus.GroupID(1); group <= 3; group++ {
		l.put(group, "before")
	}
	n := l.leader(2)
	n.crash()
	n.shut = 2
	l.start(n, 1, 2, 3)
	if !errors.Is(n.failed[2], errBrittle) || !errors.Is(n.failed[2], errGroupFailed) || len(n.failed) != 1 || n.driver.Metrics().GroupsFailed != 1 {
		t.Errorf("told: %v; %d groups failed", n.failed, n.driver.Metrics().GroupsFailed)
	}
	if n.driver.Replica(2) != nil || n.driver.Err() != nil {
		t.Errorf("the node has a replica of group 2: %v, and failed: %v", n.driver.Replica(2) != nil, n.driver.Err())
	}
	for group := consensus.GroupID(1); group <= 3; group++ {
		l.put(group, "during")
	}
	l.await("the other groups", func() bool { return n.has(1, "during") && n.has(3, "during") })
	n.crash()
	n.shut = 0
	l.start(n, 1, 2, 3)
	l.await("the group in the next process", func() bool { return n.has(2, "before") && n.has(2, "during") })

	o := loneNode([]consensus.GroupID{2, 3}, func(storage.Engine, consensus.GroupID, consensus.Index) (Machine, error) { return nil, errBrittle })
	if _, err := Open(o, func() time.Duration { return 0 }); !errors.Is(err, errBrittle) || !strings.Contains(err.Error(), "group 2") || !strings.Contains(err.Error(), "group 3") {
		t.Errorf("a node none of whose groups can be opened: %v", err)
	}
}

// TestFlushOfOthers: at an orderly stop the state of a group that cannot be flushed keeps no other one from it.
func TestFlushOfOthers(t *testing.T) {
	l := newLives(t, 1, 2, 3)
	for group := consensus.GroupID(1); group <= 3; group++ {
		l.put(group, "k")
	}
	n := l.nodes[0]
	l.await("all groups", func() bool { return n.has(1, "k") && n.has(2, "k") && n.has(3, "k") })
	n.driver.Close()
	n.leaks = 1
	if err := n.driver.Flush(); !errors.Is(err, errBrittle) || !strings.Contains(err.Error(), "group 1") {
		t.Errorf("the flush: %v", err)
	}
	n.leaks = 0
	for group := consensus.GroupID(1); group <= 3; group++ {
		m, err := l.machine(n, group, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := m.AppliedIndex() == n.driver.Replica(group).machine.AppliedIndex(), group != 1; got != want {
			t.Errorf("the state of group %d is durable: %v", group, got)
		}
	}
}

// TestOfNode: what is about the disk, or what it holds, stops the node, whichever group meets it.
func TestOfNode(t *testing.T) {
	for _, c := range []struct {
		err  error
		node bool
	}{
		{errBrittle, false},
		{consensus.ErrNotLeader, false},
		{ofShared(errBrittle), true},
		{fmt.Errorf("apply: %w", ofShared(errBrittle)), true},
		{fmt.Errorf("read: %w", storage.ErrCorrupt), true},
		{fmt.Errorf("write: %w", storage.ErrUnusable), true},
		{fmt.Errorf("group 1: %w", ErrLost), true},
		{fmt.Errorf("group 1: %w", ErrNoCopy), true},
	} {
		if got := ofNode(c.err); got != c.node {
			t.Errorf("%v: about the node: %v", c.err, got)
		}
	}
	if ofShared(nil) != nil {
		t.Error("no error is one of the engine")
	}
}

// newAddedLives adds, while group 1 runs, group 2 on all nodes, and group 3 on two of them with replica IDs of its own.
func newAddedLives(t *testing.T) *lives {
	l := newLives(t, 1)
	l.put(1, "before")
	for _, n := range l.nodes {
		if err := l.do("add", func(done func(error)) { n.driver.Add(2, nil, done) }); err != nil {
			t.Fatal(err)
		}
	}
	l.first[3] = []membership.Home{{Node: 1, Replica: 7}, {Node: 3, Replica: 9}}
	for _, i := range []int{0, 2} {
		if err := l.do("add", func(done func(error)) { l.nodes[i].driver.Add(3, l.first[3], done) }); err != nil {
			t.Fatal(err)
		}
	}
	l.put(2, "two")
	l.put(3, "three")
	return l
}

// TestAdd: groups begin on nodes that run, and what cannot begin is refused.
func TestAdd(t *testing.T) {
	l := newAddedLives(t)
	if got := l.leader(3).driver.Replica(3).machine.Config(); !got.Equal(consensus.Config{Voters: []consensus.ReplicaID{7, 9}}) {
		t.Errorf("group 3 consists of %v", got)
	}
	l.await("that it is known on which disks they are", func() bool { return len(l.leader(3).driver.Replica(3).machine.Placements()) == 2 })
	if err := l.do("add again", func(done func(error)) { l.nodes[0].driver.Add(2, nil, done) }); err == nil {
		t.Error("a group was added twice")
	}
	if err := l.do("add elsewhere", func(done func(error)) { l.nodes[1].driver.Add(3, l.first[3], done) }); err == nil || !strings.Contains(err.Error(), "node 2") {
		t.Errorf("a group was added on a node that it did not begin with: %v", err)
	}
	for _, group := range []consensus.GroupID{0, storage.MaxGroup + 1} {
		if err := l.do("add", func(done func(error)) { l.nodes[0].driver.Add(group, nil, done) }); err == nil {
			t.Errorf("group %d was added", group)
		}
	}
	l.refusesByName()
}

// TestRemove: groups go, while somebody is at work for them, too. What was theirs is gone, and the others' is not.
func TestRemove(t *testing.T) {
	l := newAddedLives(t)
	n := l.leader(2)
	answers := 0
	l.propose(n, 2, "late", func(error) { answers++ })
	finish := l.workFor(n, 2)
	removed := false
	n.driver.Remove(2, func(err error) {
		if removed = true; err != nil {
			t.Error(err)
		}
	})
	l.c.run(100*time.Millisecond, nil)
	if removed || n.driver.Replica(2) != nil || answers != 1 {
		t.Errorf("removed while somebody is at work for it: %v; still there: %v; a late write is answered %d times", removed, n.driver.Replica(2) != nil, answers)
	}
	finish()
	l.await("the removal", func() bool { return removed })
	for _, o := range l.nodes {
		if o == n {
			continue
		}
		if err := l.do("remove", func(done func(error)) { o.driver.Remove(2, done) }); err != nil {
			t.Error(err)
		}
	}
	for _, o := range l.nodes {
		if o.crash(); slices.Contains(o.log.Groups(), 2) {
			t.Errorf("node %d has the groups %v in its log", o.id, o.log.Groups())
		}
	}
	for i, o := range l.nodes {
		groups := []consensus.GroupID{1, 3}
		if i == 1 {
			groups = groups[:1]
		}
		l.dropState(o, 2)
		l.start(o, groups...)
	}
	l.put(1, "after")
	l.put(3, "after")
	// What the replicas of group 2 voted for is forgotten on these disks, and there is nobody who knows.
	for _, o := range l.nodes {
		if err := l.do("add what was removed", func(done func(error)) { o.driver.Add(2, nil, done) }); err != nil {
			t.Errorf("a group that was removed is not added again: %v", err)
		}
	}
	l.await("that the group is gone", func() bool {
		return !slices.ContainsFunc(l.nodes, func(o *livesNode) bool { return !errors.Is(o.failed[2], membership.ErrNoReplica) })
	})
	if err := l.do("remove again", func(done func(error)) { l.nodes[0].driver.Remove(4, done) }); err == nil {
		t.Error("what is not there was removed")
	}
	l.put(1, "at last")
}

// TestComeBack: a replica is removed and comes back to the same disk and process, again and again, the leader's and others', with crashes in between. It is
// another one each time, under an ID that was never used. The others go on meanwhile, although the node goes on sending heartbeats to them.
func TestComeBack(t *testing.T) {
	l := newLives(t, 1, 2)
	l.put(2, "before")
	random := rand.New(rand.NewPCG(1, 1))
	l.c.lost = func() bool { return random.IntN(10) < 3 }
	ids := map[consensus.ReplicaID]bool{1: true, 2: true, 3: true}
	for round := range 6 {
		n := l.leader(2)
		if round%3 == 2 {
			n = l.nodes[slices.IndexFunc(l.nodes, func(o *livesNode) bool { return o != n })]
		}
		if round == 0 {
			r := n.driver.driven(2)
			r.flush.asked = true
			n.driver.needsMaintenance(r)
			l.await("a flush", func() bool { return r.flush.durable > consensus.BootstrapIndex })
		}
		if err := l.do("remove", func(done func(error)) { n.driver.Remove(2, done) }); err != nil {
			t.Fatal(err)
		}
		l.await("another leader", func() bool {
			return slices.ContainsFunc(l.nodes, func(o *livesNode) bool { return o != n && o.driver.Replica(2).IsLeader() })
		})
		l.put(2, fmt.Sprint("without ", round))
		l.await("that all know", func() bool { return len(n.driver.departed) == 0 })
		if round == 0 {
			if err := l.do("add too early", func(done func(error)) { n.driver.Add(2, nil, done) }); !errors.Is(err, membership.ErrStateLeft) {
				t.Errorf("a group was added on top of what is left of its state: %v", err)
			}
		}
		l.dropState(n, 2)
		groups := []consensus.GroupID{1}
		if round%2 == 0 {
			if err := l.do("add", func(done func(error)) { n.driver.Add(2, nil, done) }); err != nil {
				t.Fatal(err)
			}
			groups = append(groups, 2)
		}
		if round > 2 {
			l.restart(n, groups...)
		}
		if n.driver.Replica(2) == nil {
			if err := l.do("add", func(done func(error)) { n.driver.Add(2, nil, done) }); err != nil {
				t.Fatal(err)
			}
		}
		l.await("that it is a member again", func() bool {
			r := n.driver.Replica(2)
			return r.Standing() == membership.StandingMember && n.has(2, "before") && n.has(2, fmt.Sprint("without ", round))
		})
		if id := n.driver.driven(2).membership.Self(); ids[id] {
			t.Errorf("node %d has replica %d, which was there before", n.id, id)
		} else {
			ids[id] = true
		}
	}
	l.put(1, "after")
}

// TestRemoveHandsOver: the leader that is removed leads until another does; if that takes too long it goes all the same.
func TestRemoveHandsOver(t *testing.T) {
	for _, reached := range []bool{true, false} {
		l := newLives(t, 1, 2)
		l.put(2, "before")
		n := l.leader(2)
		n.cut = !reached
		began, removed := l.c.now, false
		n.driver.Remove(2, func(err error) { removed = err == nil })
		n.driver.Round()
		if err := l.do("remove twice", func(done func(error)) { n.driver.Remove(2, done) }); err == nil {
			t.Error("removed twice")
		}
		l.await("its end", func() bool { return n.driver.Replica(2) == nil })
		took := l.c.now - began
		if another := slices.ContainsFunc(l.nodes, func(o *livesNode) bool { return o != n && o.driver.driven(2).role.Role == consensus.RoleLeader }); reached && (!another || took > 100*time.Millisecond) {
			t.Errorf("after %v the leader was removed; another leads: %v", took, another)
		}
		if o := n.driver.opts; took > o.ElectionTimeout+4*o.HeartbeatInterval {
			t.Errorf("reached: %v: it took %v", reached, took)
		}
		n.cut = false
		l.await("the removal", func() bool { return removed })
		l.put(2, "after")
	}
}

// restart ends the process of the node as a crash does, and begins another one.
func (l *lives) restart(n *livesNode, groups ...consensus.GroupID) {
	n.crash()
	l.start(n, groups...)
}

// TestRemoveIsDurableInOrder: the log of a replica goes only when it is durable that it was removed: an empty log must not be taken for that of a replica that
// has voted. Until both are, the group is not added again.
func TestRemoveIsDurableInOrder(t *testing.T) {
	l := newLives(t, 1, 2)
	l.put(2, "before")
	n := l.nodes[0]
	n.engine.held = true
	removed := false
	n.driver.Remove(2, func(err error) { removed = err == nil })
	l.c.run(100*time.Millisecond, nil)
	if removed || !slices.Contains(n.log.Groups(), 2) {
		t.Fatal("the log went before it was durable that the replica was removed")
	}
	if err := l.do("add while it is being removed", func(done func(error)) { n.driver.Add(2, nil, done) }); err == nil {
		t.Error("added while it is being removed")
	}
	n.engine.let()
	l.await("the removal", func() bool { return removed })
	if slices.Contains(n.log.Groups(), 2) {
		t.Error("removed, and the log is there")
	}
	row, found, err := n.memory.Crash(nil).Get(keys.Identity(2), nil)
	if gone, _ := membership.Removed(row); err != nil || !found || !gone {
		t.Errorf("the row says %x: %v", row, err)
	}
}

// TestRemovedLogIsLeft: the node stops when it is durable that a replica was removed, and its log is still there. It is not that of the next replica.
func TestRemovedLogIsLeft(t *testing.T) {
	l, n := newLeftLives(t)
	l.restart(n, 1, 2)
	if got := n.driver.driven(2).membership.Life(); got != 1 {
		t.Errorf("it is in life %d", got)
	}
	l.await("that it is a member again", func() bool { return n.driver.Replica(2).Standing() == membership.StandingMember && n.has(2, "before") })
}

// TestRemovedLogIsLeftToAdd: the next replica is added to a node that runs, and whose disk is slow. No round waits for it.
func TestRemovedLogIsLeftToAdd(t *testing.T) {
	l, n := newLeftLives(t)
	l.restart(n, 1)
	log := &besideLog{Log: n.log, driver: n.driver}
	n.driver.opts.Log, n.driver.slowUntil = log, time.Hour
	if err := l.do("add", func(done func(error)) { n.driver.Add(2, nil, done) }); err != nil {
		t.Fatal(err)
	}
	l.await("that it is a member", func() bool { return n.driver.Replica(2).Standing() == membership.StandingMember && n.has(2, "before") })
	if log.within > 0 || log.beside == 0 {
		t.Errorf("%d syncs within rounds, %d beside them", log.within, log.beside)
	}
	if l.restart(n, 1, 2); !slices.Contains(n.log.Groups(), 2) {
		t.Error("nothing is left of what was added")
	}
}

// newLeftLives returns a node that was to lose its replica of group 2, and stops before the log is dropped. Its state is gone.
func newLeftLives(t *testing.T) (*lives, *livesNode) {
	l := newLives(t, 1, 2)
	l.put(2, "before")
	n := l.nodes[0]
	finish := l.workFor(n, 2)
	n.driver.Remove(2, func(err error) { t.Errorf("removed: %v", err) })
	l.c.run(100*time.Millisecond, nil)
	l.await("that the others know", func() bool { return len(n.driver.departed) == 0 })
	n.driver.removing[2].done = func(error) {}
	finish()
	if !slices.Contains(n.log.Groups(), 2) {
		t.Fatal("the log is gone")
	}
	l.dropState(n, 2)
	return l, n
}

// besideLog counts syncs.
type besideLog struct {
	storage.Log
	driver         *Driver
	within, beside int
}

func (l *besideLog) Sync() error {
	if l.driver.inRound.Load() {
		l.within++
	} else {
		l.beside++
	}
	return l.Log.Sync()
}

// refusesByName: node 2 has no replica of group 3, and is sent frames for it.
func (l *lives) refusesByName() {
	l.t.Helper()
	n := l.nodes[1]
	n.told = nil
	before := n.driver.Metrics().MessagesRefused
	message := outMessage{group: 3, message: consensus.Message{From: 7, To: 8, Kind: raft.KindHeartbeat, Term: 1}}
	n.driver.Receive(1, ChannelMarked, appendGroupMessage(appendFrameHeader(nil, 0, l.nodes[0].driver.node.Sender(), true), &message))
	n.driver.Receive(1, ChannelIdentity, membership.AppendMessage(nil, &membership.Message{Kind: membership.KindQuestion, Standing: 1, Group: 3, Site: shard.Site{Disk: 1001}}))
	n.driver.ReceiveDone()
	l.await("refusals", func() bool { return len(n.told) == 2 })
	for _, err := range n.told {
		if !strings.Contains(err.Error(), "no replica of group 3") {
			l.t.Errorf("told: %v", err)
		}
	}
	if got := n.driver.Metrics().MessagesRefused; got != before+2 {
		l.t.Errorf("%d messages were refused", got-before)
	}
}

// workFor has a goroutine at work for the replica until the result is called.
func (l *lives) workFor(n *livesNode, group consensus.GroupID) (finish func()) {
	r := n.driver.driven(group)
	at := len(n.jobs)
	r.spawn(func() {}, func() {})
	work := n.jobs[at]
	n.jobs = slices.Delete(n.jobs, at, at+1)
	return func() { n.jobs = append(n.jobs, work) }
}

// dropState is what the caller of Remove does.
func (l *lives) dropState(n *livesNode, group consensus.GroupID) {
	b := n.memory.NewBatch()
	for _, span := range keys.Spans(kv.ShardID(group)) {
		b.DeleteRange(span.Lower, span.Upper)
	}
	if err := n.memory.Apply(b); err != nil {
		l.t.Fatal(err)
	}
	n.memory.Flush(func(error) {})
}

// TestStopWhileLivesChange: whoever waits for a replica to come or go is answered once when the node stops.
func TestStopWhileLivesChange(t *testing.T) {
	l := newLives(t, 1, 2)
	l.put(2, "two")
	n := l.nodes[0]
	finish := l.workFor(n, 2)
	answers := map[string][]error{}
	note := func(what string) func(error) {
		return func(err error) { answers[what] = append(answers[what], err) }
	}
	n.driver.Remove(2, note("remove"))
	n.driver.Add(3, nil, note("add"))
	n.driver.Round()
	n.driver.Close()
	finish()
	n.driver.Add(4, nil, note("late"))
	for _, what := range []string{"remove", "add", "late"} {
		if got := answers[what]; len(got) != 1 || !errors.Is(got[0], kv.ErrStopped) {
			t.Errorf("%s: %v", what, got)
		}
	}
}
