package issuer

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
)

// answers are those of calls of Multi, by name. Each call is answered once.
type answers struct {
	t    *testing.T
	of   map[string]kv.Revision
	errs map[string]error
}

func newAnswers(t *testing.T) *answers {
	return &answers{t, map[string]kv.Revision{}, map[string]error{}}
}

func (a *answers) ask(f *fakeNode, name string, writers ...kv.ShardID) {
	f.Multi(writers, func(revision kv.Revision, err error) {
		if _, twice := a.errs[name]; twice || (err == nil) != (revision != 0) {
			a.t.Errorf("%s is answered with %d, %v; before: %v", name, revision, err, twice)
		}
		a.of[name], a.errs[name] = revision, err
		if f.Known() < revision {
			a.t.Errorf("%s got %d, and %d is known", name, revision, f.Known())
		}
	})
	if err := f.Check(); err != nil {
		a.t.Error(err)
	}
}

// TestMulti: beside the sequencer a transaction gets its revision at once, elsewhere by a frame in each direction. It is the last one of all shards named.
func TestMulti(t *testing.T) {
	leader, other, _ := cleanPair(t, 3)
	got := newAnswers(t)
	got.ask(leader, "here", 1, 3)
	if got.of["here"] != 2 || len(leader.sent) > 0 {
		t.Errorf("revision %d, %d frames", got.of["here"], len(leader.sent))
	}
	got.ask(other, "elsewhere", 2, 3)
	if frames := talk(leader, other); frames != 2 || got.of["elsewhere"] != 3 {
		t.Errorf("revision %d, %d frames", got.of["elsewhere"], frames)
	}
	other.want(t, leader, kv.Present{Revision: 3, Compacted: 7, Shards: []kv.ShardProgress{{Last: 2, Clean: true}, {Last: 3, Clean: true}, {Last: 3, Clean: true}}}, 1, 2, 3)
	got.ask(leader, "nowhere")
	got.ask(leader, "too many", make([]kv.ShardID, sequencer.MaxNamed+1)...)
	if !errors.Is(got.errs["nowhere"], kv.ErrTooManyRequests) || !errors.Is(got.errs["too many"], kv.ErrTooManyRequests) {
		t.Errorf("%v", got.errs)
	}
}

// TestMultiWithoutLease: what is issued beside a sequencer that may have a successor is a gap, and the next one waits for a quorum (rule 4).
func TestMultiWithoutLease(t *testing.T) {
	leader, other, _ := cleanPair(t, 3)
	got := newAnswers(t)
	leader.lease = false
	got.ask(leader, "first", 2, 3)
	if len(got.errs) != 0 || len(leader.confirms) != 1 {
		t.Fatalf("answered %v; a quorum was asked %d times", got.of, len(leader.confirms))
	}
	leader.confirms[0](nil)
	leader.lease = true
	if leader.Tick(time.Millisecond); got.of["first"] != 2 {
		t.Errorf("revision %d", got.of["first"])
	}
	// The lease ends between the look before and the look after.
	looks := 0
	leader.leaseEnds = func() bool { looks++; return looks == 2 }
	got.ask(leader, "second", 2, 3)
	leader.leaseEnds = nil
	if leader.Tick(2 * time.Millisecond); got.of["second"] != 4 {
		t.Errorf("revision %d, and 3 was issued without the lease", got.of["second"])
	}
	// It ends after that, while frames wait for it: what was issued is the present all the same.
	leader.lease = false
	other.Learn(nil, func(kv.Present, error) {})
	other.deliver(leader)
	leader.lease = true
	looks = 0
	leader.leaseEnds = func() bool { looks++; return looks > 2 }
	if got.ask(leader, "third", 2, 3); got.of["third"] != 5 || looks < 3 {
		t.Errorf("revision %d after %d looks at the lease", got.of["third"], looks)
	}
}

// TestMultiAgain: what is lost with a connection is asked for again, and what was issued is a gap; with another sequencer, too.
func TestMultiAgain(t *testing.T) {
	leader, other, _ := cleanPair(t, 3)
	got := newAnswers(t)
	got.ask(other, "first", 2, 3)
	got.ask(other, "second", 1, 3)
	other.deliver(leader)
	leader.sent = nil
	other.PeerDown(1)
	if talk(leader, other); got.of["first"] != 4 || got.of["second"] != 5 {
		t.Errorf("revisions %v", got.of)
	}
	got.ask(other, "third", 2, 3)
	other.sent = nil
	leader.StepDown(1)
	leader.limits = nil
	leader.leadSystem(t, 6, 101)
	other.Target(1, 6)
	if talk(leader, other); got.of["third"] != 102 {
		t.Errorf("revisions %v", got.of)
	}
}

// TestMultiEnds: nobody waits for ever, and what nobody waits for is not asked for again.
func TestMultiEnds(t *testing.T) {
	leader, other, _ := cleanPair(t, 3)
	got := newAnswers(t)
	other.Tick(0)
	got.ask(other, "timeout", 2, 3)
	other.sent = nil
	other.broken = true
	other.PeerDown(1)
	other.Tick(1999 * time.Millisecond)
	got.ask(other, "later", 2, 3)
	if len(got.errs) != 0 {
		t.Errorf("after 1,999 ms: %v", got.errs)
	}
	other.Tick(2 * time.Second)
	if !errors.Is(got.errs["timeout"], kv.ErrTimeout) || len(got.errs) != 1 {
		t.Errorf("after 2 s: %v", got.errs)
	}
	other.broken = false
	other.PeerUp(1)
	if talk(leader, other); got.of["later"] != 2 {
		t.Errorf("revisions %v", got.of)
	}
	got.ask(other, "stopped", 2, 3)
	other.Stop()
	got.ask(other, "after", 2, 3)
	if !errors.Is(got.errs["stopped"], kv.ErrStopped) || !errors.Is(got.errs["after"], kv.ErrStopped) {
		t.Errorf("%v", got.errs)
	}
	talk(leader, other) // the answer comes, and nobody is called twice
}

// TestMultiHasNoRoom: while issuing is stopped for a hand-over a transaction waits, and those that come later wait behind it.
func TestMultiHasNoRoom(t *testing.T) {
	f := newFake(t, 1)
	f.leadSystem(t, 5, 1)
	f.Lead(2, 3, 1, 0)
	f.HandOver()
	got := newAnswers(t)
	got.ask(f, "first", 2, 3)
	if f.commit(t, 5); len(got.errs) != 0 {
		t.Errorf("revisions %v during a hand-over", got.of)
	}
	f.HandOverFailed()
	got.ask(f, "second", 2, 3)
	f.commit(t, 5)
	if got.of["first"] != 2 || got.of["second"] != 3 {
		t.Errorf("revisions %v", got.of)
	}
}

// TestMultiBeyondRoom: what the asker has no room for is asked for when it has.
func TestMultiBeyondRoom(t *testing.T) {
	leader, other, all := cleanPair(t, 1024)
	got := newAnswers(t)
	const calls = sequencer.MaxNamed/1024 + 2
	for n := range calls {
		got.ask(other, fmt.Sprint(n), all...)
	}
	if m := other.Metrics(); m.MultisAsked != calls-2 {
		t.Errorf("%d are asked for, %d of %d have room", m.MultisAsked, calls-2, calls)
	}
	talk(leader, other)
	for n := range calls {
		if want := kv.Revision(2 + n); got.of[fmt.Sprint(n)] != want {
			t.Errorf("call %d got %d, %v", n, got.of[fmt.Sprint(n)], got.errs[fmt.Sprint(n)])
		}
	}
}

// TestDoubt: the leader of a shard hears that somebody waits for a transaction's number there, and calls the shard clean as of it. Then it hears no more.
func TestDoubt(t *testing.T) {
	leader, other, _ := cleanPair(t, 3)
	other.Lead(3, 6, 1, 0)
	talk(leader, other)
	if !other.BeginClean(3) {
		t.Fatal("cannot begin")
	}
	got := newAnswers(t)
	got.ask(leader, "aborted", 2, 3)
	other.EndClean(3, 1) // as of a present before
	other.clean = nil
	question := func() (last kv.Revision) {
		leader.Learn([]kv.ShardID{3}, func(present kv.Present, err error) { last = present.Shards[0].Last })
		talk(leader, other)
		return last
	}
	for n := range 8 {
		if len(other.clean) > 0 {
			t.Fatalf("to be called clean after %d questions", n)
		}
		if last := question(); last != 2 {
			t.Fatalf("last is %d", last)
		}
	}
	if fmt.Sprint(other.clean) != "[3]" || !other.BeginClean(3) {
		t.Fatalf("to be called clean: %v", other.clean)
	}
	other.EndClean(3, 1)
	talk(leader, other)
	other.clean = nil
	for range 20 {
		if last := question(); last != 1 || len(other.clean) > 0 {
			t.Fatalf("last is %d, to be called clean: %v", last, other.clean)
		}
	}
}

// TestCostOfMulti: beside the sequencer a transaction costs no frame; elsewhere those that come while a frame waits share one in each direction.
func TestCostOfMulti(t *testing.T) {
	for _, shards := range []int{3, 64} {
		leader, other, all := cleanPair(t, shards)
		done := 0
		got := func(_ kv.Revision, err error) {
			if err != nil {
				t.Error(err)
			}
			done++
		}
		for range 50 { // below the limit
			leader.Multi(all[:2], got)
		}
		if len(leader.sent) > 0 || done != 50 {
			t.Errorf("%d frames, %d answers", len(leader.sent), done)
		}
		other.Multi(all[:2], got)
		if len(other.sent) != 1 || len(other.sent[0].payload) > 40 {
			t.Errorf("%d frames; the first has %d bytes", len(other.sent), len(other.sent[0].payload))
		}
		if frames := talk(leader, other); frames != 2 || done != 51 {
			t.Errorf("%d frames, %d answers", frames, done)
		}
		other.broken = true // all that come meanwhile
		other.Multi(all[:2], got)
		for range 20 {
			other.Multi(all[1:3], got)
		}
		other.broken = false
		if other.PeerUp(1); len(other.sent) != 1 {
			t.Errorf("%d frames for 21 transactions", len(other.sent))
		}
		if talk(leader, other); done != 72 {
			t.Errorf("%d answers", done)
		}
		if n := testing.AllocsPerRun(20, func() { leader.Multi(all[:2], got) }); n > 3 { // the shards, the call, the list of calls
			t.Errorf("%v allocations beside the sequencer", n)
		}
	}
}
