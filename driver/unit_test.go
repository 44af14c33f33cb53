package driver

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/leadership"
	"github.com/quoratedb/quorate/liveness"
	"github.com/quoratedb/quorate/membership"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

func TestQueueAgainstSlice(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var q queue[int]
	var twin []int
	for i := range 200_000 {
		if len(twin) == 0 || random.IntN(100) < 50+40*(i/20_000%2)-20 {
			q.push(i)
			twin = append(twin, i)
		} else if got := q.pop(); got != twin[0] {
			t.Fatalf("popped %d, want %d", got, twin[0])
		} else {
			twin = twin[1:]
		}
		if q.len() != len(twin) || len(twin) > 0 && (*q.front() != twin[0] || *q.at(len(twin) - 1) != twin[len(twin)-1]) {
			t.Fatalf("%d items, want %d", q.len(), len(twin))
		}
		if q.head > 1024 && q.head > len(q.items)/2+1 {
			t.Fatalf("%d dead items of %d are kept", q.head, len(q.items))
		}
	}
}

func TestWaitsEndInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var h waitHeap
	var ended []consensus.Index
	for range 1000 {
		index := consensus.Index(random.IntN(500))
		h.add(uint64(index), func(error) { ended = append(ended, index) })
	}
	for upTo := consensus.Index(0); upTo < 500; upTo += 7 {
		h.reached(uint64(upTo), nil)
		for i := range ended {
			if ended[i] > upTo || i > 0 && ended[i] < ended[i-1] {
				t.Fatalf("ended %v by %d", ended, upTo)
			}
		}
		if len(h) > 0 && h[0].until <= uint64(upTo) {
			t.Fatalf("%d still waits at %d", h[0].until, upTo)
		}
	}
	h.reached(all, errors.New("stop"))
	if len(ended) != 1000 || len(h) != 0 {
		t.Fatalf("%d of 1000 ended", len(ended))
	}
}

func sampleFrame(random *rand.Rand, marked bool) ([]byte, []groupMessage) {
	epoch := liveness.Epoch{Instance: random.Uint64(), Number: random.Uint64N(5)}
	sender := membership.Sender{Instance: epoch.Instance, Disk: 7, Position: random.Uint64()}
	frame := appendFrameHeader(nil, epoch.Number, sender, marked)
	if !marked {
		sender.Instance, sender.Position = 0, 0
	}
	var want []groupMessage
	for range random.IntN(6) {
		m := outMessage{group: consensus.GroupID(random.Uint64() >> random.IntN(64)), vouched: random.IntN(2) == 0, life: random.Uint64() >> 1 >> random.IntN(64),
			message: consensus.Message{From: 1, To: 2, Kind: 1, Term: consensus.Term(random.Uint64N(100)), Index: 7, Commit: 3}}
		for i := range random.IntN(3) {
			m.message.Entries = append(m.message.Entries, consensus.Entry{Index: consensus.Index(i + 8), Term: 1, Data: make([]byte, 1+random.IntN(1<<18))})
		}
		frame = appendGroupMessage(frame, &m)
		g := groupMessage{group: m.group, sender: sender, life: m.life, message: m.message}
		if m.vouched && epoch.Number != 0 {
			g.epoch = epoch
		}
		want = append(want, g)
	}
	return frame, want
}

func TestFrames(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for i := range 200 {
		marked := i%2 == 0
		frame, want := sampleFrame(random, marked)
		got, err := decodeFrame(frame, marked)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("decoded %d messages of %d: %v", len(got), len(want), err)
		}
		if len(want) > 0 {
			if _, err := decodeFrame(frame[:len(frame)-1], marked); err == nil {
				t.Fatal("a frame that is cut short was taken")
			}
		}
	}
}

func FuzzDecodeFrame(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 4 {
		frame, _ := sampleFrame(random, true)
		f.Add(frame[:min(len(frame), 300)], true)
		frame, _ = sampleFrame(random, false)
		f.Add(frame[:min(len(frame), 300)], false)
	}
	f.Fuzz(func(t *testing.T, frame []byte, marked bool) {
		messages, err := decodeFrame(frame, marked)
		if err != nil {
			return
		}
		again := appendFrameHeader(nil, 2, membership.Sender{Instance: 1, Disk: 7, Position: 4}, marked)
		for i := range messages {
			again = appendGroupMessage(again, &outMessage{group: messages[i].group, life: messages[i].life, message: messages[i].message})
		}
		second, err := decodeFrame(again, marked)
		if err != nil || len(second) != len(messages) {
			t.Fatalf("%d messages became %d: %v", len(messages), len(second), err)
		}
		for i := range second {
			if second[i].group != messages[i].group || second[i].life != messages[i].life || !reflect.DeepEqual(second[i].message, messages[i].message) {
				t.Fatalf("%+v became %+v", messages[i], second[i])
			}
		}
	})
}

func TestSupport(t *testing.T) {
	s := newSupport([]kv.NodeID{10, 20, 30})
	first, second := liveness.Epoch{Instance: 1, Number: 1}, liveness.Epoch{Instance: 1, Number: 2}
	if s.set(20, liveness.Epoch{}, 100) || s.generation(20, liveness.Epoch{}) != 0 {
		t.Fatal("no promise counts as one")
	}
	if !s.set(20, first, 100) || s.set(20, first, 120) {
		t.Fatal("an epoch is new exactly once")
	}
	generation := s.generation(20, first)
	for _, c := range []struct {
		node       int
		generation uint64
		now        time.Duration
		want       bool
	}{{1, generation, 119, true}, {1, generation, 120, false}, {1, 0, 0, false}, {-1, 0, 0, false}, {2, generation, 0, false}} {
		if s.Holds(c.node, c.generation, c.now) != c.want {
			t.Errorf("%+v: %v", c, !c.want)
		}
	}
	if s.generation(20, second) != 0 {
		t.Fatal("an acknowledgement under an epoch that is not known yet counts")
	}
	if !s.set(20, second, 500) || s.Holds(1, generation, 110) || s.generation(20, first) != 0 {
		t.Fatal("an acknowledgement under an older promise counts under a newer one")
	}
}

func TestCompactLogArithmetic(t *testing.T) {
	for name, c := range map[string]struct {
		last, durable  consensus.Index
		retained       int64
		retainEntries  uint64
		retainBytes    int64
		first, kept    consensus.Index // afterwards
		retainedBefore int64
	}{
		"nothing durable":        {last: 100, durable: 1, retained: 1000, retainEntries: 10, retainBytes: 1 << 20, first: 2},
		"entries bound":          {last: 100, durable: 100, retained: 1000, retainEntries: 10, retainBytes: 1 << 20, first: 91},
		"durable bound":          {last: 100, durable: 50, retained: 1000, retainEntries: 10, retainBytes: 1 << 20, first: 51},
		"bytes bound":            {last: 101, durable: 101, retained: 1000, retainEntries: 1000, retainBytes: 100, first: 92},
		"everything is retained": {last: 100, durable: 100, retained: 1000, retainEntries: 100, retainBytes: 1 << 20, first: 2},
	} {
		log := storage.NewMemoryLog()
		var entries []consensus.Entry
		for i := consensus.Index(2); i <= c.last; i++ {
			entries = append(entries, consensus.Entry{Index: i, Term: 1, Data: []byte("x")})
		}
		if err := log.Write([]storage.GroupAppend{{Group: 1, Reset: &storage.LogPosition{Index: 1, Term: 1}, Entries: entries}}, nil); err != nil {
			t.Fatal(err)
		}
		d := &Driver{front: front{opts: Options{Log: log, RetainLogEntries: c.retainEntries, RetainLogBytes: c.retainBytes}}}
		r := &driven{driver: d, log: log.Group(1), core: &fakeCore{}, Replica: Replica{group: 1}}
		r.flush = flushState{durable: c.durable, retainedBytes: c.retained}
		if err := r.compactLog(); err != nil {
			t.Fatal(err)
		}
		if got := r.log.First(); got != c.first {
			t.Errorf("%s: the log begins at %d, want %d", name, got, c.first)
		}
		share := c.retained * int64(c.last+1-r.log.First()) / int64(c.last-1)
		if r.flush.retainedBytes < share-1 || r.flush.retainedBytes > share+1 {
			t.Errorf("%s: %d bytes retained, want %d", name, r.flush.retainedBytes, share)
		}
		if estimate := sampleLogBytes(r.log); estimate != 25*int64(c.last+1-r.log.First()) {
			t.Errorf("%s: a sample of the log says %d bytes", name, estimate)
		}
	}
}

// fakeCore answers what the tests need.
type fakeCore struct {
	consensus.Core
	status    consensus.Status
	proposals int
	barriers  []consensus.ReadID
	overload  bool
	shipped   []consensus.ReplicaID
	lost      func() // LeaderLost
}

func (c *fakeCore) Compact(consensus.Index) {}
func (c *fakeCore) LeaderLost() {
	if c.lost != nil {
		c.lost()
	}
}
func (c *fakeCore) SnapshotDone(to consensus.ReplicaID, _ bool) {
	c.shipped = append(c.shipped, to)
}
func (c *fakeCore) Status() consensus.Status { return c.status }
func (c *fakeCore) Quiet() bool              { return c.status.Quiet }
func (c *fakeCore) Brief() consensus.Brief {
	s := &c.status
	return consensus.Brief{RoleChange: consensus.RoleChange{Role: s.Role, Term: s.Term, Leader: s.Leader}, LeaseForbidden: s.LeaseForbidden}
}
func (c *fakeCore) HasReady() bool { return false }
func (c *fakeCore) Failed() error  { return nil }
func (c *fakeCore) ReadBarrier(id consensus.ReadID) error {
	c.barriers = append(c.barriers, id)
	return nil
}
func (c *fakeCore) Propose([][]byte) error {
	if c.overload {
		return consensus.ErrOverloaded
	}
	c.proposals++
	return nil
}

// fakeMachine evaluates requests to outcomes given in advance.
type fakeMachine struct {
	Machine
	outcomes []shard.Outcome
	untaken  bool
	seq      uint64
	applied  consensus.Index
	config   consensus.Config // default: replicas 1 to 3 vote
	// onEvaluate, if set, is called for each evaluation.
	onEvaluate func()
}

func (m *fakeMachine) Sealed() bool { return false }

func (m *fakeMachine) Asks() []shard.Ask { return nil }

func (m *fakeMachine) Evaluate(*kv.Request) shard.Outcome {
	if m.onEvaluate != nil {
		m.onEvaluate()
	}
	out := m.outcomes[0]
	m.outcomes = m.outcomes[1:]
	m.untaken = m.untaken || out.Effects
	return out
}
func (m *fakeMachine) HasProposal() bool { return m.untaken }
func (m *fakeMachine) PendingBytes() int { return 0 }
func (m *fakeMachine) TakeProposal(time.Duration) ([]byte, uint64) {
	m.untaken = false
	m.seq++
	return []byte("x"), m.seq
}
func (m *fakeMachine) AppliedIndex() consensus.Index { return m.applied }
func (m *fakeMachine) Follow()                       {}
func (m *fakeMachine) Placements() []shard.Placement { return nil }
func (m *fakeMachine) Roster() (r kv.Roster)         { return r }
func (m *fakeMachine) Config() consensus.Config {
	if len(m.config.Voters) > 0 {
		return m.config
	}
	return consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3}}
}

// bench is a leading replica of fakes.
type bench struct {
	*driven
	core    *fakeCore
	machine *fakeMachine
	answers []error
}

func newBench(outcomes ...shard.Outcome) *bench {
	b := &bench{core: &fakeCore{status: consensus.Status{Role: consensus.RoleLeader, Term: 3}}, machine: &fakeMachine{outcomes: outcomes, applied: 1}}
	options := Options{Nodes: []kv.NodeID{1, 2, 3}, Self: 1, Rand: rand.New(rand.NewPCG(1, 1)), Sequencing: unheard{}}.WithDefaults()
	d := &Driver{front: front{opts: options, support: newSupport(options.Nodes), clock: func() time.Duration { return 5 }}}
	b.driven = &driven{driver: d, Replica: Replica{front: &d.front, group: 1, machine: b.machine}, core: b.core, leading: true, role: consensus.RoleChange{Role: consensus.RoleLeader, Term: 3, Leader: 1}}
	var err error
	if b.driven.leadership, err = leadership.New(leadershipOptions(1, &d.opts), nil); err != nil {
		panic(err)
	}
	if d.node, err = membership.NewNode(0, membershipOptions(&d.opts), nil, storage.NodeRecord{}); err != nil {
		panic(err)
	}
	if b.membership, _, err = d.node.OpenGroup(membership.GroupState{Group: 1, First: firstReplicas(d.opts.Nodes)}); err != nil {
		panic(err)
	}
	b.driven.leadership.RoleChanged(0, b.role, leadership.Process{})
	for i := range outcomes {
		b.answers = append(b.answers, errOpen)
		d.queued.Add(1)
		b.queue.push(request{replica: b.driven, done: func(_ *kv.Response, _ uint64, err error) {
			if b.answers[i] != errOpen {
				panic("answered twice")
			}
			b.answers[i] = err
		}})
	}
	return b
}

var errOpen = errors.New("open")

func (b *bench) expect(t *testing.T, when string, want ...error) {
	t.Helper()
	b.driver.answer()
	for i := range want {
		if !errors.Is(b.answers[i], want[i]) && b.answers[i] != want[i] {
			t.Fatalf("%s: answer %d is %v, want %v", when, i, b.answers[i], want[i])
		}
	}
}

// hold gives or takes the lease.
func (b *bench) hold(valid bool) {
	b.lease.Store(nil)
	if valid {
		b.lease.Store(&leadership.Lease{Sets: [2]leadership.VoterSet{{Need: 1, Voters: []leadership.Voter{{}}}}})
	}
}

func TestDependents(t *testing.T) {
	write, failed := shard.Outcome{Effects: true, WaitFor: 1}, shard.Outcome{WaitFor: 1}
	t.Run("wait for what they looked at", func(t *testing.T) {
		b := newBench(write, failed)
		b.hold(true)
		if err := b.evaluate(0); err != nil {
			t.Fatal(err)
		}
		b.expect(t, "proposed", errOpen, errOpen)
		b.decided(3, 1, false)
		b.expect(t, "applied", nil, nil)
		if b.driver.queued.Load() != 0 {
			t.Fatal("requests are still counted")
		}
	})
	t.Run("on effects of nobody's request, not yet proposed", func(t *testing.T) {
		b := newBench(failed)
		b.hold(true)
		b.machine.untaken = true // expired leases
		if err := b.evaluate(0); err != nil {
			t.Fatal(err)
		}
		b.expect(t, "proposed", errOpen)
		b.decided(3, 1, false)
		b.expect(t, "applied", nil)
	})
	t.Run("ask a quorum without a lease", func(t *testing.T) {
		b := newBench(write, failed)
		if err := b.evaluate(0); err != nil {
			t.Fatal(err)
		}
		b.decided(3, 1, false)
		b.expect(t, "applied", nil, errOpen)
		b.barriers.seal()
		b.barrierDone(consensus.ReadState{ID: b.core.barriers[0], Index: 1})
		b.expect(t, "confirmed", nil, nil)
	})
	t.Run("fail with the leadership", func(t *testing.T) {
		b := newBench(write, failed)
		if err := b.evaluate(0); err != nil {
			t.Fatal(err)
		}
		b.stepDown()
		b.expect(t, "stepped down", errOpen, kv.ErrLeaderChanged)
		b.decided(3, 1, false)
		b.expect(t, "committed by the next leader", nil)
	})
}

func TestFateOfProposals(t *testing.T) {
	write := shard.Outcome{Effects: true, WaitFor: 1}
	for name, c := range map[string]struct {
		decide func(*bench)
		want   error
	}{
		"applied":                   {func(b *bench) { b.decided(3, 1, false) }, nil},
		"void":                      {func(b *bench) { b.decided(3, 1, true) }, kv.ErrLeaderChanged},
		"a later one was applied":   {func(b *bench) { b.decided(3, 2, false) }, kv.ErrLeaderChanged},
		"a later term's barrier":    {func(b *bench) { b.decided(4, 0, false) }, kv.ErrLeaderChanged},
		"an earlier term's entry":   {func(b *bench) { b.decided(2, 9, false) }, errOpen},
		"this term's barrier":       {func(b *bench) { b.decided(3, 0, false) }, errOpen},
		"a snapshot took its place": {func(b *bench) { b.fateUnknown() }, kv.ErrOutcomeUnknown},
		"stopped":                   {func(b *bench) { b.failAll(kv.ErrStopped) }, kv.ErrOutcomeUnknown},
	} {
		b := newBench(write)
		if err := b.evaluate(0); err != nil {
			t.Fatal(err)
		}
		c.decide(b)
		b.expect(t, name, c.want)
	}
}

func TestOverloadedCore(t *testing.T) {
	b := newBench(shard.Outcome{Effects: true, WaitFor: 1}, shard.Outcome{Effects: true, WaitFor: 1})
	b.core.overload = true
	for range 3 {
		if err := b.evaluate(0); err != nil {
			t.Fatal(err)
		}
	}
	b.expect(t, "no room", errOpen, errOpen)
	b.core.overload = false
	if err := b.evaluate(0); err != nil {
		t.Fatal(err)
	}
	if b.core.proposals != 1 {
		t.Fatalf("%d proposals", b.core.proposals)
	}
	b.decided(3, 1, false)
	b.expect(t, "applied", nil, nil)

	b = newBench(shard.Outcome{Effects: true, WaitFor: 1})
	b.core.overload = true
	if err := b.evaluate(0); err != nil {
		t.Fatal(err)
	}
	b.stepDown()
	b.expect(t, "never proposed", kv.ErrLeaderChanged)
}

// TestUnwantedRequests: what nobody waits for any more when it is its turn is not evaluated, and what follows is.
func TestUnwantedRequests(t *testing.T) {
	b := newBench(shard.Outcome{Effects: true, WaitFor: 1}, shard.Outcome{Effects: true, WaitFor: 2})
	gone, waits := b.queue.pop(), b.queue.pop()
	gone.by, waits.by = asker(false), asker(true)
	b.queue.push(gone)
	b.queue.push(waits)
	b.machine.outcomes = b.machine.outcomes[:1] // one evaluation; a second one panics
	if err := b.evaluate(0); err != nil {
		t.Fatal(err)
	}
	b.decided(3, 1, false)
	b.expect(t, "evaluated", kv.ErrTimeout, nil)
	if n := b.driver.metrics.requestsUnwanted.Load(); n != 1 {
		t.Fatalf("%d requests were counted", n)
	}
}

// TestNotEvaluated: a request that was still queued when the leadership ended is told from one that was evaluated.
func TestNotEvaluated(t *testing.T) {
	b := newBench(shard.Outcome{Effects: true, WaitFor: 1})
	b.stepDown()
	b.expect(t, "stepped down", kv.ErrNotLeader)
}

// TestOverloadedCoreChangesMembership: a core that has no room and then changes the membership goes on leading afterwards, and everything that is evaluated
// builds on the proposal that it had no room for.
func TestOverloadedCoreChangesMembership(t *testing.T) {
	b := newBench(shard.Outcome{Effects: true, WaitFor: 1}, shard.Outcome{Effects: true, WaitFor: 2})
	first, second := b.queue.pop(), b.queue.pop()
	b.queue.push(first)
	b.core.overload = true
	evaluate := func() {
		t.Helper()
		if err := b.evaluate(0); err != nil {
			t.Fatal(err)
		}
	}
	evaluate()
	b.core.status.LeaseForbidden = true
	b.queue.push(second)
	evaluate()
	b.expect(t, "meanwhile", errOpen, errOpen)
	b.core.status.LeaseForbidden, b.core.overload = false, false
	evaluate()
	if b.core.proposals != 2 {
		t.Fatalf("%d proposals", b.core.proposals)
	}
	b.decided(3, 1, false)
	b.decided(3, 2, false)
	b.expect(t, "applied", nil, nil)
}

// TestOwnVoidEntry: a leader whose own entry applies nothing cannot go on.
func TestOwnVoidEntry(t *testing.T) {
	b := newBench()
	if err := b.announce(&shard.Applied{Index: 5, Term: 3, Seq: 2, Void: true}, nil, 0); err == nil {
		t.Error("it goes on")
	}
	b.stepDown()
	if err := b.announce(&shard.Applied{Index: 5, Term: 3, Seq: 2, Void: true}, nil, 0); err != nil {
		t.Errorf("after it has stepped down: %v", err)
	}
}

func TestBarriersAreSharedUntilTheyLeave(t *testing.T) {
	b := newBench()
	var got []consensus.Index
	ask := func() { b.askBarrier(func(index consensus.Index, _ error) { got = append(got, index) }) }
	ask()
	ask()
	b.barriers.seal() // its messages leave
	ask()
	if len(b.core.barriers) != 2 {
		t.Fatalf("%d barriers for two rounds", len(b.core.barriers))
	}
	b.machine.applied = 7
	b.barrierDone(consensus.ReadState{ID: b.core.barriers[0], Index: 6})
	if len(got) != 2 || got[0] != 6 {
		t.Fatalf("answered %v", got)
	}
	b.barriers.seal()
	b.barrierDone(consensus.ReadState{ID: b.core.barriers[1], Index: 9})
	if len(got) != 2 {
		t.Fatal("answered before the index is applied")
	}
	b.waits.indices.reached(9, nil)
	if len(got) != 3 {
		t.Fatal("not answered")
	}
	b.barrierDone(consensus.ReadState{ID: b.core.barriers[1], Index: 9})
	if len(got) != 3 {
		t.Fatal("answered twice")
	}
}

// TestSnapshotShippedInAnotherTerm: a core that is not told that a snapshot has arrived sends no other one to that replica.
func TestSnapshotShippedInAnotherTerm(t *testing.T) {
	b := newBench()
	b.shipments = newShipments()
	b.shipments.under[2] = true
	b.core.status.Term = 5
	b.driven.shipped(2, &consensus.Message{To: 2, Term: 4, Snapshot: &consensus.SnapshotMeta{Index: 9}}, 100, nil)
	if len(b.core.shipped) != 1 || b.core.shipped[0] != 2 || len(b.shipments.under) != 0 {
		t.Errorf("the core heard of %v, on the way are %v", b.core.shipped, b.shipments.under)
	}
}

// stagingMachine has a part of a bulk.
type stagingMachine struct{ *fakeMachine }

func (stagingMachine) Bulk() (staged, pending int) { return 1, 0 }

// TestNoFlushBesideABulk: a flush that is wanted while a bulk is staged is not forgotten.
func TestNoFlushBesideABulk(t *testing.T) {
	b := newBench()
	b.driven.machine = stagingMachine{b.machine}
	b.flush.asked, b.flush.logBytes = true, 7
	if more, err := b.maintain(); err != nil || more {
		t.Errorf("maintain: %v, %v; an entry that is applied calls it again", more, err)
	}
	if b.flush.running || !b.flush.asked || b.flush.logBytes != 7 {
		t.Errorf("a flush that cannot begin left %+v", b.flush)
	}
}
