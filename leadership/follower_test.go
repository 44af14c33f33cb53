package leadership

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/liveness"
)

const (
	heartbeat       = 100 * time.Millisecond
	promiseDuration = 300 * time.Millisecond
	electionTimeout = 500 * time.Millisecond
)

// options of node 1 of so many.
func options(nodes int) Options {
	o := Options{Group: 1, Self: 1, Rand: rand.New(rand.NewPCG(1, 1)),
		HeartbeatInterval: heartbeat, PromiseDuration: promiseDuration, ElectionTimeout: electionTimeout}
	for i := range nodes {
		o.Nodes = append(o.Nodes, kv.NodeID(i+1))
	}
	return o
}

func voters(nodes int) (config consensus.Config) {
	for i := range nodes {
		config.Voters = append(config.Voters, consensus.ReplicaID(i+1))
	}
	return config
}

// follower is a replica on node 1 with real promises. Its consensus core is what the test says it is, and its leaders are processes of node 2,
// which may not say which one they are.
type follower struct {
	t       *testing.T
	core    *Core
	live    *liveness.Core
	now     time.Duration
	tickAt  time.Duration
	ticking bool
	view    View            // of the consensus core
	heard   map[uint64]bool // processes of node 2 that spoke in this round

	// Of the process of node 2 that lives.
	instance uint64
	beats    uint64
	says     bool // which process it is
	leads    bool // in the core's term
	// What it counts on, as a leader that knows no more than it is told: a promise of the epoch under which it was last vouched for.
	until          time.Duration
	epoch, vouched liveness.Epoch
}

func newFollower(t *testing.T) *follower {
	f := &follower{t: t, now: time.Second, view: View{Term: 1}, instance: 7}
	var err error
	f.live, err = liveness.New(liveness.Options{Self: 1, Peers: []kv.NodeID{2}, Instance: 1, HeartbeatInterval: heartbeat,
		PromiseDuration: promiseDuration, SuspectAfter: time.Second, DriftMargin: time.Millisecond}, f.now)
	if err != nil {
		t.Fatal(err)
	}
	if f.core, err = New(options(3), f.live); err != nil {
		t.Fatal(err)
	}
	f.core.Configure(1, voters(3))
	f.core.RoleChanged(f.now, consensus.RoleChange{Term: 1}, Process{})
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
	f.until = f.now + promiseDuration
}

// restart has another process take the place of the one of node 2.
func (f *follower) restart(says bool) {
	f.instance++
	f.beats, f.leads, f.says = 0, false, says
	f.until, f.epoch, f.vouched = 0, liveness.Epoch{}, liveness.Epoch{}
}

// elect makes the living process of node 2 the leader of the next term.
func (f *follower) elect() {
	f.view = View{Term: f.view.Term + 1}
	f.leads, f.vouched = true, liveness.Epoch{}
}

// word is a message of the leader.
func (f *follower) word() {
	if !f.leads {
		return
	}
	if f.says {
		f.heard[f.instance] = true
	} else {
		f.heard[0] = true
	}
	f.view.Leader = 2
}

// lose has the consensus core forget its leader.
func (f *follower) lose() { f.view.Leader = 0 }

func (f *follower) carryOut() {
	if f.core.Ready().LeaderLost {
		f.lose()
		f.ticking = true
	}
	if err := f.core.Check(); err != nil {
		f.t.Fatalf("at %v: %v", f.now, err)
	}
}

// round does what a round of the driver does: events are what came.
func (f *follower) round(events ...func()) {
	f.t.Helper()
	f.live.Advance(f.now)
	ready := f.live.Ready()
	for _, node := range ready.Lapsed {
		f.core.NodeLost(f.now, node, false)
		f.carryOut()
	}
	for _, node := range ready.Restarted {
		f.core.NodeLost(f.now, node, true)
		f.carryOut()
	}
	f.heard = map[uint64]bool{}
	for _, event := range events {
		event()
	}
	if f.now >= f.tickAt && f.ticking {
		f.tickAt = f.now + heartbeat
		f.core.Tick(f.now, f.view.Leader)
		f.carryOut()
	}
	f.tellRole()
	if f.view.Leader == 2 && f.core.Vouch(Member{Replica: 2, Node: 2}, f.view.Term, f.view) && f.leads {
		f.vouched, _ = f.live.PromiseEpoch(f.now, 2) // the leader takes the answer
	}
	f.ticking = !f.core.Idle(f.now, nil)
	if counts := f.leads && f.vouched != (liveness.Epoch{}) && f.vouched == f.epoch && f.now < f.until; counts && !f.core.Holding(f.now) {
		f.t.Fatalf("at %v: process %d leads and counts on a promise until %v, and node 1 is free to elect somebody else", f.now, f.instance, f.until)
	}
}

// tellRole tells of what changed in the consensus core.
func (f *follower) tellRole() {
	if role := f.core.Role(); f.view.Leader == role.Leader && f.view.Term == role.Term {
		return
	}
	leader := Process{Node: kv.NodeID(f.view.Leader)}
	for instance := range f.heard {
		if len(f.heard) == 1 && leader.Node != 0 {
			leader.Instance = instance
		}
	}
	f.core.RoleChanged(f.now, consensus.RoleChange{Term: f.view.Term, Leader: f.view.Leader}, leader)
	f.carryOut()
}

func (f *follower) wait(d time.Duration, events ...func()) {
	f.t.Helper()
	f.now += d
	f.round(events...)
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
				events = append(events, f.lose)
			}
			if random.IntN(3) == 0 {
				events = append(events, f.beat)
			}
			if f.now >= deaf && random.IntN(2) == 0 {
				events = append(events, f.word)
			}
			random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			f.wait(time.Duration(random.Int64N(int64(60*time.Millisecond))), events...)
			if f.core.Role().Leader != 0 || !f.core.Holding(f.now) {
				leaderless = f.now
			}
			if f.now-leaderless > electionTimeout+2*promiseDuration+3*heartbeat {
				t.Fatalf("seed %d: at %v node 1 holds still for nobody since %v", seed, f.now, leaderless)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
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
			if f.vouched != f.epoch || f.core.following.leader.Node != 2 {
				t.Fatalf("the leader is followed: %v, vouched for under %v, promised under %v", f.core.following.leader, f.vouched, f.epoch)
			}
		})
	}
}
