package replica

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/liveness"
)

// follower is a replica on node 1 with real promises; its leaders are processes of node 2, which may not say which one they are.
type follower struct {
	*bench
	t       *testing.T
	now     time.Duration
	live    *liveness.Core
	promise time.Duration
	tickAt  time.Duration

	// Of the process of node 2 that lives.
	instance uint64
	beats    uint64
	says     bool // which process it is
	leads    bool // in the core's term
	heard    bool // the core has heard so
	// What it counts on, as a leader that knows no more than it is told: a promise of the epoch under which it was last vouched for.
	until          time.Duration
	epoch, vouched liveness.Epoch
}

func newFollower(t *testing.T) *follower {
	f := &follower{bench: newBench(), t: t, now: time.Second, promise: 300 * time.Millisecond}
	s := f.store
	s.opts.Rand = rand.New(rand.NewPCG(1, 1))
	s.opts.Self, s.opts.HeartbeatInterval, s.opts.ElectionTimeout = 1, 100*time.Millisecond, 500*time.Millisecond
	s.marks.heard = map[kv.NodeID]uint64{}
	s.clock = func() time.Duration { return f.now }
	s.order, s.out = []*Replica{f.Replica}, []peerOut{{node: 2}}
	f.role, f.leading = consensus.RoleChange{Term: 1}, false
	f.bench.core.status = consensus.Status{Term: 1}
	f.bench.core.lost = func() { f.bench.core.status.Leader, f.heard = 0, false }
	f.instance = 7
	f.learned = map[kv.NodeID]consensus.ReplicaID{}
	var err error
	f.live, err = liveness.New(liveness.Options{Self: 1, Peers: []kv.NodeID{2}, Instance: 1, HeartbeatInterval: s.opts.HeartbeatInterval,
		PromiseDuration: f.promise, SuspectAfter: time.Second, DriftMargin: time.Millisecond}, f.now)
	if err != nil {
		t.Fatal(err)
	}
	s.live = f.live
	return f
}

// beat is a heartbeat of the living process of node 2, which hears the answer at once.
func (f *follower) beat() {
	f.t.Helper()
	f.beats++
	if err := f.live.Receive(f.now, 2, liveness.Message{Kind: liveness.KindHeartbeat, Instance: f.instance, Seq: f.beats}); err != nil {
		f.t.Fatal(err)
	}
	f.epoch, _ = f.live.PromiseEpoch(f.now, 2)
	f.until = f.now + f.promise
}

// restart has another process take the place of the one of node 2.
func (f *follower) restart(says bool) {
	f.instance++
	f.beats, f.leads, f.heard, f.says = 0, false, false, says
	f.until, f.epoch, f.vouched = 0, liveness.Epoch{}, liveness.Epoch{}
}

// elect makes the living process of node 2 the leader of the next term.
func (f *follower) elect() {
	f.bench.core.status.Term++
	f.bench.core.status.Leader = 0
	f.leads, f.heard, f.vouched = true, false, liveness.Epoch{}
}

// word is a message of the leader.
func (f *follower) word() {
	if !f.leads {
		return
	}
	instance := uint64(0)
	if f.says {
		instance = f.instance
	}
	f.store.marks.hears(2, instance)
	f.bench.core.status.Leader, f.heard = 2, true
}

// round does what a round does beside receiving: events first are what came.
func (f *follower) round(events ...func()) {
	f.t.Helper()
	f.live.Advance(f.now)
	ready := f.live.Ready()
	for _, node := range ready.Lapsed {
		f.store.nodeLost(f.now, node, false)
	}
	for _, node := range ready.Restarted {
		f.store.nodeLost(f.now, node, true)
	}
	clear(f.store.marks.heard)
	for _, event := range events {
		event()
	}
	if f.now >= f.tickAt && f.ticking {
		f.tickAt = f.now + f.store.opts.HeartbeatInterval
		f.mayTick(f.now)
	}
	if status := f.bench.core.status; status.Leader != f.role.Leader || status.Term != f.role.Term {
		f.roleChanged(consensus.RoleChange{Term: status.Term, Leader: status.Leader})
	}
	f.answerLeader()
	f.settle(f.now)
	if counts := f.leads && f.vouched != (liveness.Epoch{}) && f.vouched == f.epoch && f.now < f.until; counts && !f.supporting(f.now) {
		f.t.Fatalf("at %v: process %d leads and counts on a promise until %v, and node 1 is free to elect somebody else", f.now, f.instance, f.until)
	}
}

// answerLeader sends the core's answer if the leader was heard; the leader takes it.
func (f *follower) answerLeader() {
	f.store.out[0].messages = nil
	status := f.bench.core.status
	f.send([]consensus.Message{{From: 1, To: 2, Term: status.Term}})
	if f.heard && f.store.out[0].messages[0].vouched && f.leads {
		f.vouched, _ = f.live.PromiseEpoch(f.now, 2)
	}
}

func (f *follower) wait(d time.Duration, events ...func()) {
	f.t.Helper()
	f.now += d
	f.round(events...)
}

// TestFormerProcessEnds: what was promised to an earlier process of a node ends, while nobody knows which process leads: nodes of an older version do
// not say. Whoever leads is not let down.
func TestFormerProcessEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(f *follower)
	}{
		{"the second process was elected before its first heartbeat came", func(f *follower) {
			f.round(f.beat)
			f.restart(false)
			f.elect()
			f.wait(20*time.Millisecond, f.word)
			f.wait(20*time.Millisecond, f.beat, f.word)
		}},
		{"the second process was elected after its first heartbeat", func(f *follower) {
			f.round(f.beat)
			f.restart(false)
			f.wait(20*time.Millisecond, f.beat)
			f.elect()
			f.wait(20*time.Millisecond, f.word)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFollower(t)
			test.run(f)
			for range 100 {
				f.wait(10*time.Millisecond, f.word)
				f.wait(10*time.Millisecond, f.beat)
				f.wait(10 * time.Millisecond)
			}
			if f.vouched != f.epoch || f.followed != 2 {
				t.Fatalf("the leader is followed: %v, vouched for under %v, promised under %v", f.followed, f.vouched, f.epoch)
			}
		})
	}
	t.Run("the first process led", func(t *testing.T) {
		f := newFollower(t)
		f.elect()
		f.round(f.beat, f.word)
		f.restart(false)
		ended := f.now + f.promise
		for f.followed != 0 && f.now < ended+f.promise+2*f.store.opts.HeartbeatInterval {
			f.wait(10*time.Millisecond, f.beat)
		}
		if f.followed != 0 || f.campaignAt == 0 {
			t.Fatalf("at %v node 1 still holds still for a process that ended; its promise to that one ended at %v", f.now, ended)
		}
	})
}

// TestWithdrawnPromiseMadeAgain: a replica without a leader withdraws its promise, and then hears the leader again, and vouches for it. When it
// loses the leader the next time, what it withdrew before does not count.
func TestWithdrawnPromiseMadeAgain(t *testing.T) {
	f := newFollower(t)
	f.elect()
	f.round(f.beat, f.word)
	f.bench.core.lost()
	withdrawn := f.now
	for ; f.freeAt == 0; f.wait(50*time.Millisecond, f.beat) {
		if f.now > withdrawn+time.Second {
			t.Fatal("the promise was never withdrawn")
		}
	}
	f.wait(50*time.Millisecond, f.beat, f.word)
	for range 20 {
		f.wait(50*time.Millisecond, f.beat, f.word)
	}
	f.bench.core.lost()
	for range 5 {
		f.wait(50 * time.Millisecond)
	}
	if f.freeAt != 0 {
		t.Fatal("the promise was withdrawn again before an election timeout had passed")
	}
}

// TestLeaderWithoutVote: a leader was elected before it knew that its vote had been taken away, and steps down when it finds out. It cannot ask for
// votes to say so, and its node lives: who followed it must not wait for ever, nor let go of a leader that is about to find out.
func TestLeaderWithoutVote(t *testing.T) {
	f := newFollower(t)
	f.elect()
	f.round(f.beat, f.word)
	f.machine.config = consensus.Config{Voters: []consensus.ReplicaID{1, 3}, Learners: []consensus.ReplicaID{2}}
	for range 3 {
		f.wait(20*time.Millisecond, f.beat, f.word) // it does not know yet
	}
	silent := f.now
	for f.followed != 0 {
		if f.wait(20*time.Millisecond, f.beat); f.now > silent+time.Second+2*f.promise {
			t.Fatalf("node 1 still holds still for a leader without a vote, which is silent since %v", silent)
		}
	}
	if f.campaignAt == 0 || f.bench.core.status.Leader != 0 {
		t.Error("nobody campaigns")
	}
	// A replica that is newer than the membership here may well lead.
	f = newFollower(t)
	f.machine.config = consensus.Config{Voters: []consensus.ReplicaID{1}}
	f.elect()
	f.round(f.beat, f.word)
	for range 200 {
		f.wait(20*time.Millisecond, f.beat)
	}
	if f.followed != 2 || f.vouched == (liveness.Epoch{}) {
		t.Error("a leader that is newer than the membership is not followed")
	}
}

// TestTwoVersionsInOneRound: a process that does not say who it is leads, and one that does takes its place in the same round.
func TestTwoVersionsInOneRound(t *testing.T) {
	f := newFollower(t)
	f.elect()
	f.round(f.beat, f.word, func() { f.store.marks.hears(2, 8) })
	if f.followedInstance != 0 {
		t.Fatalf("process %d is taken for the leader: nobody knows which of the two it is", f.followedInstance)
	}
}

// TestPromisesAreKept lets processes of a node come, lead and go at random, with and without telling which one they are, and compares with what a
// leader may count on (round). A node that nobody leads from is not waited for longer than an election timeout and two promises.
func TestPromisesAreKept(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		f := newFollower(t)
		deaf := time.Duration(0) // no words of a leader before
		leaderless := f.now
		for range 2000 {
			var events []func()
			if random.IntN(60) == 0 {
				f.restart(random.IntN(2) == 0)
			}
			if random.IntN(25) == 0 {
				f.elect()
			}
			if random.IntN(100) == 0 {
				deaf = f.now + time.Duration(random.Int64N(int64(2*time.Second)))
			}
			if random.IntN(40) == 0 {
				events = append(events, f.bench.core.lost)
			}
			if random.IntN(3) == 0 {
				events = append(events, f.beat)
			}
			if f.now >= deaf && random.IntN(2) == 0 {
				events = append(events, f.word)
			}
			random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			f.wait(time.Duration(random.Int64N(int64(60*time.Millisecond))), events...)
			if f.role.Leader != 0 || !f.supporting(f.now) {
				leaderless = f.now
			}
			if f.now-leaderless > f.store.opts.ElectionTimeout+2*f.promise+3*f.store.opts.HeartbeatInterval {
				t.Fatalf("seed %d: at %v node 1 holds still for nobody since %v", seed, f.now, leaderless)
			}
		}
		if f.t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
