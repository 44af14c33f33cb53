package issuer

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
)

var (
	_ driver.Numbers    = (*Issuer)(nil)
	_ driver.Sequencing = (*Issuer)(nil)
)

// fakeNode is a driver that does what the test says, and a transport.
type fakeNode struct {
	*Issuer
	id    kv.NodeID
	lease bool
	// leaseEnds, if not nil, is asked at each look at a lease.
	leaseEnds func() bool
	confirms  []func(error)
	limits    []kv.Revision
	handOver  int
	moved     []kv.ShardID
	clean     []kv.ShardID
	above     []kv.Revision
	round     []func()
	broken    bool        // its connections
	tried     int         // frames that were not sent
	buffered  []sentFrame // they leave with the next Flush
	sent      []sentFrame
	refused   []error
	alarms    uint64 // beside one
	// looks are up to where history is compacted at each of the next looks; then it is 7.
	looks []kv.Revision
}

type sentFrame struct {
	to      kv.NodeID
	payload []byte
}

func (f *fakeNode) Later(do func())                { f.round = append(f.round, do) }
func (f *fakeNode) SystemLeaseHolds() bool         { return f.lease && (f.leaseEnds == nil || !f.leaseEnds()) }
func (f *fakeNode) ConfirmSystem(done func(error)) { f.confirms = append(f.confirms, done) }
func (f *fakeNode) ProposeLimit(_ consensus.Term, limit kv.Revision) {
	f.limits = append(f.limits, limit)
}
func (f *fakeNode) SystemNotice() (compacted kv.Revision, alarms uint64) {
	if compacted = 7; len(f.looks) > 0 {
		compacted, f.looks = f.looks[0], f.looks[1:]
	}
	return compacted, 2 + f.alarms
}
func (f *fakeNode) MayHandOver(consensus.Term)                { f.handOver++ }
func (f *fakeNode) Relocate(shards []kv.ShardID, _ kv.NodeID) { f.moved = append(f.moved, shards...) }
func (f *fakeNode) CallClean(shard kv.ShardID, above kv.Revision) {
	f.clean, f.above = append(f.clean, shard), append(f.above, above)
}

// Ask is what the round of a driver does in which one group asks.
func (f *fakeNode) Ask(group consensus.GroupID, term consensus.Term, n int, bounds kv.Bounds, got func(first, compacted kv.Revision, issued bool)) {
	f.Issuer.Ask(group, term, n, bounds, got)
	f.SendAsked()
}
func (f *fakeNode) Flush() { f.sent, f.buffered = append(f.sent, f.buffered...), nil }
func (f *fakeNode) Append(to kv.NodeID, channel byte, encode func([]byte) []byte) bool {
	if f.broken {
		f.tried++
		return false
	}
	f.buffered = append(f.buffered, sentFrame{to, encode(nil)})
	return true
}

func newFake(t testing.TB, id kv.NodeID) *fakeNode { return fakeOf(t, id, []kv.ShardID{1, 2, 3}) }

func fakeOf(t testing.TB, id kv.NodeID, shards []kv.ShardID) *fakeNode {
	f := &fakeNode{id: id, lease: true}
	var err error
	f.Issuer, err = New(Options{
		Self: id, Instance: uint64(id), Shards: shards, Sender: f, Sequencer: sequencer.Options{Window: 100},
		Refused: func(_ kv.NodeID, err error) { f.refused = append(f.refused, err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Attach(f)
	return f
}

// leadSystem makes the node the leader of the system shard, with a limit in force.
func (f *fakeNode) leadSystem(t testing.TB, term consensus.Term, limit kv.Revision) {
	t.Helper()
	f.Target(f.id, term)
	f.Lead(1, term, 1, limit)
	f.commit(t, term)
}

// commit has the limit in force that was asked for.
func (f *fakeNode) commit(t testing.TB, term consensus.Term) {
	t.Helper()
	if len(f.limits) == 0 {
		t.Fatal("no limit was asked for")
	}
	limit := f.limits[0]
	f.limits = f.limits[1:]
	f.LimitApplied(term, limit)
	if err := f.Check(); err != nil {
		t.Fatal(err)
	}
}

// deliver takes what was sent to the other node there; of is how many frames.
func (f *fakeNode) deliver(to *fakeNode) (of int) {
	sent := f.sent
	f.sent = nil
	for _, s := range sent {
		if s.to == to.id {
			to.HandleMessage(f.id, s.payload)
			of++
		}
	}
	return of
}

// talk has two nodes talk until nothing is left to be said.
func talk(a, b *fakeNode) (frames int) {
	for {
		n := a.deliver(b) + b.deliver(a)
		if frames += n; n == 0 {
			return frames
		}
	}
}

// doRound does what was left to the next round.
func (f *fakeNode) doRound() {
	for len(f.round) > 0 {
		do := f.round[0]
		f.round = f.round[1:]
		do()
	}
}

// TestTake: who leads beside the sequencer gets numbers without a message. Without the lease afterwards they are a gap, and the shard is to be called clean
// again when a later present is known (rules 4 and 16).
func TestTake(t *testing.T) {
	f := newFake(t, 1)
	f.leadSystem(t, 5, 1)
	f.Lead(2, 3, 1, 0)
	f.clean = nil
	if present, exact := f.Hold(); present.Revision != 1 || present.Compacted != 7 || !exact {
		t.Fatalf("%+v, %v", present, exact)
	}
	if first, compacted, issued := f.Take(2, 3); first != 2 || compacted != 7 || !issued {
		t.Errorf("%d, %d, %v", first, compacted, issued)
	}
	if first, issued := f.hold(t, 0); first != 5 || !issued {
		t.Errorf("%d, %v", first, issued)
	}
	if first, issued := f.hold(t, 200); issued {
		t.Errorf("%d numbers on from %d, and the limit is 101", 200, first)
	}
	if present, certain := f.Now(); present.Revision != 4 || present.Compacted != 7 || !certain || f.Known() != 4 {
		t.Errorf("%+v, %v, known %d", present, certain, f.Known())
	}
	f.Hold()
	f.lease = false
	if _, _, issued := f.Take(2, 2); issued {
		t.Error("issued without the lease")
	}
	if _, certain := f.Now(); certain {
		t.Error("certain without the lease")
	}
	if present, exact := f.Hold(); present.Revision != 6 || exact {
		t.Errorf("%+v, %v", present, exact)
	}
	if slices.Contains(f.clean, 2) && f.BeginClean(2) {
		t.Error("clean as of a present before the numbers that are lost")
	}
	f.lease = true
	f.Tick(time.Millisecond)
	if !slices.Contains(f.clean, 2) || !f.BeginClean(2) {
		t.Errorf("to be called clean: %v", f.clean)
	}
	f.EndClean(2, 4)
	f.want(t, f, kv.Present{Revision: 6, Compacted: 7, Shards: []kv.ShardProgress{{Last: 4, Clean: true}}}, 2)
	f.Ask(2, 3, 1, kv.Bounds{}, func(kv.Revision, kv.Revision, bool) {})
	if m := f.Metrics(); m != (Metrics{RevisionsIssued: 6, BatchesAsked: 1, SessionsBegun: 1, HoldsRefused: 1}) {
		t.Errorf("%+v", m)
	}
}

func (f *fakeNode) hold(t *testing.T, n int) (kv.Revision, bool) {
	t.Helper()
	if _, exact := f.Hold(); !exact {
		t.Fatal("not exact")
	}
	first, _, issued := f.Take(2, n)
	return first, issued
}

// want learns, and compares.
func (f *fakeNode) want(t *testing.T, with *fakeNode, want kv.Present, shards ...kv.ShardID) {
	t.Helper()
	called := 0
	f.Learn(shards, func(present kv.Present, err error) {
		if called++; err != nil || fmt.Sprint(present) != fmt.Sprint(want) {
			t.Errorf("%+v, %v; want %+v", present, err, want)
		}
	})
	talk(f, with)
	if called != 1 {
		t.Errorf("answered %d times", called)
	}
}

// TestCompactedMeanwhile: what is compacted before numbers are issued keeps them from being issued, for who says that it matters. What is compacted afterwards, when
// the frame is made, does not matter to them.
func TestCompactedMeanwhile(t *testing.T) {
	for _, c := range []struct {
		looks  []kv.Revision // when they are issued, and when the frame is made
		bounds kv.Bounds
		told   kv.Revision
		issued bool
	}{
		{[]kv.Revision{7, 9}, kv.Bounds{}, 9, true},
		{[]kv.Revision{7, 9}, kv.Bounds{Compacted: 7}, 7, true},
		{[]kv.Revision{8, 9}, kv.Bounds{Compacted: 7}, 9, false},
		{[]kv.Revision{7, 9}, kv.Bounds{Most: 1, Compacted: 7}, 9, false},
	} {
		f, other := newFake(t, 1), newFake(t, 2)
		f.leadSystem(t, 5, 1)
		other.Target(1, 5)
		other.Lead(2, 3, 1, 0)
		talk(f, other)
		called := 0
		other.Ask(2, 3, 1, c.bounds, func(_, compacted kv.Revision, issued bool) {
			if called++; compacted != c.told || issued != c.issued {
				t.Errorf("%v, within %+v: issued %v, and history is compacted at %d", c.looks, c.bounds, issued, compacted)
			}
		})
		f.looks = c.looks
		if talk(f, other); called != 1 || len(f.looks) != 0 {
			t.Errorf("%v, within %+v: told %d times, %d looks are left", c.looks, c.bounds, called, len(f.looks))
		}
	}
}

// TestConfirmed: without the lease the sequencer's frames wait for a quorum, which must have been asked when they were made (rule 4).
func TestConfirmed(t *testing.T) {
	f, other := newFake(t, 1), newFake(t, 2)
	f.leadSystem(t, 5, 1)
	f.lease = false
	other.Target(1, 5)
	other.Lead(2, 3, 1, 0)
	other.deliver(f)
	if len(f.sent) > 0 || len(f.confirms) != 1 {
		t.Fatalf("%d frames left, a quorum was asked %d times", len(f.sent), len(f.confirms))
	}
	var first, compacted kv.Revision
	other.Ask(2, 3, 2, kv.Bounds{}, func(rev, told kv.Revision, _ bool) { first, compacted = rev, told })
	other.deliver(f) // comes while the first answer waits
	f.confirms[0](nil)
	if len(f.sent) != 1 || len(f.confirms) != 2 {
		t.Fatalf("%d frames left, a quorum was asked %d times", len(f.sent), len(f.confirms))
	}
	if f.deliver(other); first != 0 {
		t.Error("a number came that nobody has confirmed")
	}
	f.lease = true
	other.want(t, f, kv.Present{Revision: 3, Compacted: 7})
	if first != 2 || compacted != 7 {
		t.Errorf("number %d, and history is compacted at %d", first, compacted)
	}
	// The quorum that was asked before does not do for what is made now.
	f.lease = false
	other.Ask(2, 3, 1, kv.Bounds{}, func(rev, _ kv.Revision, _ bool) { first = rev })
	other.deliver(f)
	if f.confirms[1](nil); len(f.sent) != 0 || len(f.confirms) != 3 {
		t.Fatalf("%d frames left, a quorum was asked %d times", len(f.sent), len(f.confirms))
	}
	// It does not lead any more. What it says in a later term is of that.
	f.StepDown(1)
	f.confirms[2](nil)
	if len(f.sent) != 0 || f.here.epoch.Load() != 0 {
		t.Error("something left of a sequencer that is gone")
	}
	f.lease = true
	f.leadSystem(t, 6, 101)
	if first != 2 {
		t.Errorf("number %d", first)
	}
	other.Target(1, 6)
	if talk(f, other); first != 102 {
		t.Errorf("number %d", first)
	}
}

// TestEarly: whoever comes before the barrier is applied hears when it is, and begins anew at once.
func TestEarly(t *testing.T) {
	f, other := newFake(t, 1), newFake(t, 2)
	f.Target(1, 5)
	f.Lead(3, 2, 1, 0)
	other.Target(1, 5)
	other.Lead(2, 3, 1, 0)
	var got [2]kv.Revision
	other.Ask(2, 3, 1, kv.Bounds{}, func(rev, _ kv.Revision, _ bool) { got[0] = rev })
	f.Ask(3, 2, 1, kv.Bounds{}, func(rev, _ kv.Revision, _ bool) { got[1] = rev })
	talk(f, other)
	f.leadSystem(t, 5, 1)
	talk(f, other)
	f.doRound()
	if got[0]+got[1] != 5 || got[0] == 0 || got[1] == 0 {
		t.Errorf("numbers %v", got)
	}
	f.Lead(1, 7, 1, 0)
	if len(f.refused) != 1 || !errors.Is(f.refused[0], errNoLimit) {
		t.Errorf("%v", f.refused)
	}
}

// TestLearn: calls are gathered, whoever comes while a frame is on its way waits for the next (rule 17), and nobody waits for ever.
func TestLearn(t *testing.T) {
	f, other := newFake(t, 1), newFake(t, 2)
	f.leadSystem(t, 5, 1)
	other.Target(1, 5)
	answers := map[string]error{}
	learn := func(name string, shards ...kv.ShardID) {
		other.Learn(shards, func(_ kv.Present, err error) {
			if _, twice := answers[name]; twice {
				t.Errorf("%s is answered twice", name)
			}
			answers[name] = err
		})
	}
	for _, shards := range [][]kv.ShardID{nil, {2}} {
		clear(answers)
		learn("first", shards...)
		if len(other.sent) != 1 {
			t.Fatalf("%d frames", len(other.sent))
		}
		learn("second", shards...)
		if learn("third", shards...); len(other.sent) != 1 {
			t.Errorf("%d frames on their way", len(other.sent))
		}
		other.deliver(f)
		f.deliver(other)
		if len(answers) != 1 || len(other.sent) != 1 {
			t.Errorf("answered: %v, then %d frames", answers, len(other.sent))
		}
		if talk(f, other); len(answers) != 3 {
			t.Errorf("answered: %v", answers)
		}
	}
	clear(answers)
	learn("timeout")
	learn("timeout of a frontier", 2)
	other.Tick(1999 * time.Millisecond)
	if len(answers) != 0 {
		t.Errorf("after 1,999 ms: %v", answers)
	}
	other.Tick(2 * time.Second)
	other.Target(0, 6)
	learn("no leader")
	other.Tick(4 * time.Second)
	learn("stopped")
	other.Stop()
	learn("stopped before")
	for name, want := range map[string]error{
		"timeout": kv.ErrTimeout, "timeout of a frontier": kv.ErrTimeout, "no leader": kv.ErrNoLeader, "stopped": kv.ErrStopped, "stopped before": kv.ErrStopped,
	} {
		if !errors.Is(answers[name], want) {
			t.Errorf("%s: %v", name, answers[name])
		}
	}
}

// TestCallbacks: who is called may call, and hears of things in their order. Nobody is called from under the lock of a replica.
func TestCallbacks(t *testing.T) {
	f := newFake(t, 1)
	f.Target(1, 5)
	f.Lead(2, 3, 1, 0)
	var order []string
	f.Ask(2, 3, 1, kv.Bounds{}, func(kv.Revision, kv.Revision, bool) {
		order = append(order, "number")
		f.Learn(nil, func(kv.Present, error) { order = append(order, "within") })
		_, _ = f.Hold()
		f.Take(2, 0)
	})
	f.Learn(nil, func(kv.Present, error) { order = append(order, "learnt"); f.Known() })
	f.leadSystem(t, 5, 1)
	f.doRound()
	if fmt.Sprint(order) != "[learnt number within]" {
		t.Errorf("%v", order)
	}
	order = nil
	f.Learn(nil, func(kv.Present, error) { order = append(order, "learnt") })
	f.lease = false
	f.Learn([]kv.ShardID{2}, func(kv.Present, error) { order = append(order, "frontier") })
	f.lease = true
	f.Hold()
	if f.Take(2, 1); len(order) != 1 { // which finds the lease, and has the frame leave
		t.Errorf("called with the lock held: %v", order)
	}
	if f.doRound(); fmt.Sprint(order) != "[learnt frontier]" {
		t.Errorf("%v", order)
	}
}

// TestUnreached: a sequencer without a connection is tried with each tick, and when there is one. Then the shards led here should be led elsewhere, unless
// that would not help.
func TestUnreached(t *testing.T) {
	f, other := newFake(t, 1), newFake(t, 2)
	f.leadSystem(t, 5, 1)
	other.broken = true
	other.Target(1, 5)
	other.Lead(2, 3, 1, 0)
	var first kv.Revision
	other.Ask(2, 3, 1, kv.Bounds{}, func(rev, _ kv.Revision, _ bool) { first = rev })
	for range 10 {
		other.Learn(nil, func(kv.Present, error) {})
	}
	if other.tried != 1 {
		t.Errorf("%d frames were tried", other.tried)
	}
	for ms := range 15 {
		if other.Tick(time.Duration(ms) * 100 * time.Millisecond); ms == 12 {
			if fmt.Sprint(other.moved) != "[2]" {
				t.Errorf("%v is to be led elsewhere", other.moved)
			}
			other.Target(0, 6)
			other.moved = nil
		}
	}
	other.Tick(3 * time.Second)
	if len(other.moved) != 0 {
		t.Errorf("%v is to be led elsewhere, and nobody leads the system shard", other.moved)
	}
	other.broken = false
	other.PeerUp(1)
	if talk(f, other); first != 2 {
		t.Errorf("number %d", first)
	}
	// What was asked for and is on a connection that breaks is asked for again, and what was issued is a gap (rule 9).
	other.Ask(2, 3, 1, kv.Bounds{}, func(rev, _ kv.Revision, _ bool) { first = rev })
	other.deliver(f)
	other.PeerDown(1)
	if talk(f, other); first != 4 {
		t.Errorf("number %d", first)
	}
}

// TestHandOver: nothing is issued from then on, and leadership may be moved when the limit is the last revision that was (rule 6).
func TestHandOver(t *testing.T) {
	f := newFake(t, 1)
	f.leadSystem(t, 5, 1)
	f.Lead(2, 3, 1, 0)
	f.hold(t, 4)
	f.HandOver()
	if fmt.Sprint(f.limits) != "[5]" || f.handOver != 0 {
		t.Fatalf("limits %v, handed over %d", f.limits, f.handOver)
	}
	if _, exact := f.Hold(); exact {
		t.Error("held during a hand-over")
	}
	if f.commit(t, 5); f.handOver != 1 {
		t.Errorf("handed over %d", f.handOver)
	}
	var first kv.Revision
	f.Ask(2, 3, 1, kv.Bounds{}, func(rev, _ kv.Revision, _ bool) { first = rev })
	if f.doRound(); first != 0 {
		t.Errorf("number %d during a hand-over", first)
	}
	f.HandOverFailed()
	f.commit(t, 5)
	if f.doRound(); first != 6 {
		t.Errorf("number %d", first)
	}
}

// TestClean: the steps of a Clean come in order, or it does not count (rule 16).
func TestClean(t *testing.T) {
	f, other := newFake(t, 1), newFake(t, 2)
	f.leadSystem(t, 5, 1)
	other.Target(1, 5)
	other.Lead(2, 3, 1, 0)
	if talk(f, other); fmt.Sprint(other.clean) != "[2]" {
		t.Fatalf("to be called clean: %v", other.clean)
	}
	unclean := kv.Present{Revision: 1, Compacted: 7, Shards: []kv.ShardProgress{{}}}
	if other.EndClean(2, 1); other.BeginClean(3) {
		t.Error("a shard that is not led here")
	}
	other.want(t, f, unclean, 2)
	if !other.BeginClean(2) {
		t.Fatal("cannot begin")
	}
	other.Voided(2, 1000) // meanwhile
	other.EndClean(2, 1)
	other.want(t, f, unclean, 2)
	other.StepDown(2)
	other.Lead(2, 4, 1, 0)
	if !other.BeginClean(2) {
		t.Fatal("cannot begin")
	}
	other.EndClean(2, 1)
	other.want(t, f, kv.Present{Revision: 1, Compacted: 7, Shards: []kv.ShardProgress{{Last: 1, Clean: true}}}, 2)
	// What was issued and is not applied is told by the frontier.
	other.Ask(2, 4, 2, kv.Bounds{}, func(kv.Revision, kv.Revision, bool) {})
	talk(f, other)
	other.clean, other.above = nil, nil
	other.want(t, f, kv.Present{Revision: 3, Compacted: 7, Shards: []kv.ShardProgress{{Last: 3, Clean: true}}}, 2)
	if fmt.Sprint(other.clean, other.above) != "[2] [3]" {
		t.Errorf("to be called clean: %v above %v", other.clean, other.above)
	}
	other.Applied(2, 3)
	other.clean, other.above = nil, nil
	other.want(t, f, kv.Present{Revision: 3, Compacted: 7, Shards: []kv.ShardProgress{{Last: 3, Clean: true}}}, 2)
	if len(other.clean) != 0 {
		t.Errorf("to be called clean: %v above %v", other.clean, other.above)
	}
}

// TestMalformed: frames that make no sense are refused, and change nothing.
func TestMalformed(t *testing.T) {
	f := newFake(t, 1)
	f.leadSystem(t, 5, 1)
	for _, payload := range []string{"", "\x01", "\x02\x00", "\x09abc"} {
		f.HandleMessage(2, []byte(payload))
	}
	if len(f.refused) != 4 || f.Check() != nil {
		t.Errorf("%v, %v", f.refused, f.Check())
	}
	for _, o := range []Options{{}, {Self: 1, Sender: f, Shards: []kv.ShardID{1}}, {Self: 1, Sender: f, Shards: []kv.ShardID{1}, Instance: 1, Sequencer: sequencer.Options{Window: 1}}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// racer is a node for many goroutines: a driver that does what it is told with its next round, and queues to other nodes.
type racer struct {
	*Issuer
	id       kv.NodeID
	peers    map[kv.NodeID]*racer
	calls    chan func()
	inbox    chan sentFrame // to is who sent it
	replica  sync.Mutex     // the lock that drivers hold when they call Hold, Take and Ask
	got      atomic.Int64
	answered atomic.Int64
	multis   atomic.Int64
}

func (r *racer) Later(do func())                     { r.calls <- do }
func (r *racer) SystemLeaseHolds() bool              { return r.id == 1 }
func (r *racer) SystemNotice() (kv.Revision, uint64) { return 0, 0 }
func (r *racer) ConfirmSystem(done func(error))      { r.calls <- func() { done(nil) } }
func (r *racer) ProposeLimit(term consensus.Term, limit kv.Revision) {
	r.calls <- func() { r.LimitApplied(term, limit) }
}
func (r *racer) MayHandOver(consensus.Term)       {}
func (r *racer) Relocate([]kv.ShardID, kv.NodeID) {}
func (r *racer) CallClean(shard kv.ShardID, _ kv.Revision) {
	r.calls <- func() {
		if r.BeginClean(consensus.GroupID(shard)) {
			r.EndClean(consensus.GroupID(shard), 1)
		}
	}
}
func (r *racer) Flush() {}
func (r *racer) Append(to kv.NodeID, _ byte, encode func([]byte) []byte) bool {
	select {
	case r.peers[to].inbox <- sentFrame{r.id, encode(nil)}:
		return true
	default:
		return false
	}
}

// TestGoroutines: a driver, a transport and clients of each of two nodes at once. Nobody waits for anybody for ever, and no number is given twice.
func TestGoroutines(t *testing.T) {
	nodes := map[kv.NodeID]*racer{}
	for id := kv.NodeID(1); id <= 2; id++ {
		r := &racer{id: id, peers: nodes, calls: make(chan func(), 1<<16), inbox: make(chan sentFrame, 1<<10)}
		var err error
		if r.Issuer, err = New(Options{Self: id, Instance: uint64(id), Shards: []kv.ShardID{1, 2, 3}, Sender: r, Sequencer: sequencer.Options{Window: 50}}); err != nil {
			t.Fatal(err)
		}
		r.Attach(r)
		nodes[id] = r
	}
	var given sync.Map
	give := func(first kv.Revision, n int) {
		for rev := first; rev < first+kv.Revision(n); rev++ {
			if _, twice := given.LoadOrStore(rev, true); twice {
				t.Errorf("revision %d is given twice", rev)
			}
		}
	}
	const rounds = 200
	var group sync.WaitGroup
	stop := make(chan struct{})
	var finished atomic.Int64
	for _, r := range nodes {
		shard := consensus.GroupID(r.id + 1)
		r.calls <- func() {
			r.Target(1, 5)
			if r.id == 1 {
				r.Lead(1, 5, 1, 1)
			}
			r.Lead(shard, 3, 1, 0)
		}
		group.Go(func() { // the driver
			waiting := atomic.Bool{}
			for done := 0; done < rounds; {
				select {
				case do := <-r.calls:
					do()
					continue
				default:
				}
				if waiting.Load() {
					r.Tick(time.Duration(done) * time.Microsecond)
					runtime.Gosched()
					continue
				}
				r.replica.Lock()
				n := done % 3
				if _, exact := r.Hold(); exact {
					if first, _, issued := r.Take(shard, n); issued {
						give(first, n)
						done++
					}
				} else {
					waiting.Store(true)
					r.Ask(shard, 3, n, kv.Bounds{}, func(first, _ kv.Revision, _ bool) {
						r.replica.Lock() // who is called may wait for it
						defer r.replica.Unlock()
						give(first, n)
						r.got.Add(1)
						waiting.Store(false)
					})
					done++
				}
				r.replica.Unlock()
				r.SendAsked()
			}
			for finished.Add(1); finished.Load() < int64(len(nodes)) || waiting.Load(); { // the others need what it does in its rounds
				select {
				case do := <-r.calls:
					do()
				default:
					r.Tick(time.Second)
					runtime.Gosched()
				}
			}
		})
	}
	var background sync.WaitGroup
	for _, r := range nodes {
		background.Go(func() { // the transport
			for {
				select {
				case f := <-r.inbox:
					r.HandleMessage(f.to, f.payload)
				case <-stop:
					return
				}
			}
		})
		background.Go(func() { // clients
			for {
				select {
				case <-stop:
					return
				default:
				}
				asked := make(chan struct{})
				before := r.Known()
				r.Learn([]kv.ShardID{2, 3}[:before%3], func(present kv.Present, err error) {
					if err == nil && present.Revision < before {
						t.Errorf("%d, and %d was known before", present.Revision, before)
					}
					r.replica.Lock()
					defer r.replica.Unlock()
					r.answered.Add(1)
					close(asked)
				})
				select {
				case <-asked:
				case <-stop:
					return
				}
				r.Now()
				asked = make(chan struct{})
				r.Multi([]kv.ShardID{2, 3}, func(revision kv.Revision, err error) {
					if err != nil && !errors.Is(err, kv.ErrTimeout) {
						t.Error(err)
					}
					r.replica.Lock()
					defer r.replica.Unlock()
					if err == nil {
						give(revision, 1)
						r.multis.Add(1)
					}
					close(asked)
				})
				select {
				case <-asked:
				case <-stop:
					return
				}
				runtime.Gosched()
			}
		})
	}
	group.Wait()
	close(stop)
	background.Wait()
	if nodes[1].multis.Load() == 0 || nodes[2].multis.Load() == 0 {
		t.Errorf("%d and %d transactions got revisions", nodes[1].multis.Load(), nodes[2].multis.Load())
	}
	if nodes[2].got.Load() == 0 || nodes[1].answered.Load() == 0 {
		t.Errorf("%d batches came by messages, %d questions were answered", nodes[2].got.Load(), nodes[1].answered.Load())
	}
}

// TestAlarms: the sequencer's node looks at the system shard; whoever asks for numbers elsewhere is told with them, before they are given out.
func TestAlarms(t *testing.T) {
	a, b := newFake(t, 1), newFake(t, 2)
	a.leadSystem(t, 5, 1)
	b.Target(1, 5)
	b.Lead(2, 3, 1, 0)
	talk(a, b)
	for _, alarms := range []uint64{4, 0, 4} {
		a.alarms = alarms
		if got := a.Alarms(); got != 2+alarms {
			t.Errorf("the sequencer's node is told %b", got)
		}
		if got := b.Alarms(); got == 2+alarms {
			t.Errorf("another node is told %b before it has heard of it", got)
		}
		told := uint64(0)
		b.Ask(2, 3, 1, kv.Bounds{}, func(kv.Revision, kv.Revision, bool) { told = b.Alarms() })
		talk(a, b)
		b.doRound()
		if told != 2+alarms {
			t.Errorf("alarms %b came with numbers, want %b", told, 2+alarms)
		}
	}
}
