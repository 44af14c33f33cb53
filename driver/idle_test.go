package driver

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// idleGroups is how many groups nobody uses in these tests, beside the one that is used, if it is.
const idleGroups = 64

// groupsAtRest is three nodes with so many groups of the real state machine, which have come to rest.
func groupsAtRest(t *testing.T, groups int, paxos bool) *cluster {
	w := benchCluster(t, groups, paxos, nil, func(group consensus.GroupID, engine storage.Engine, config consensus.Config) (Machine, error) {
		return OpenMachine(engine, shard.Options{Shard: kv.ShardID(group), Rand: rand.New(rand.NewPCG(1, uint64(group)))}, Founding{Members: config})
	})
	w.latency = 100 * time.Microsecond
	w.idle(2 * time.Second)
	return w
}

// countedCost is what all nodes did.
type countedCost struct {
	frames, frameBytes int
	syncs, applied     uint64 // entries that were applied, by all nodes
	messages           map[consensus.MessageKind]int
}

// countPuts counts what puts to the first group take that come one after the other.
func countPuts(t *testing.T, groups, puts int, paxos bool) countedCost {
	w := groupsAtRest(t, groups, paxos)
	c := countedCost{messages: make(map[consensus.MessageKind]int)}
	w.look = func(channel byte, payload []byte) {
		if channel != ChannelMarked {
			return
		}
		c.frames, c.frameBytes = c.frames+1, c.frameBytes+len(payload)
		messages, err := decodeFrame(payload, true)
		if err != nil {
			t.Error(err)
		}
		for i := range messages {
			if messages[i].group != 1 {
				t.Errorf("a message of group %d, which is idle: %+v", messages[i].group, messages[i].message)
			}
			c.messages[messages[i].message.Kind]++
		}
	}
	before := figuresOf(w)
	leader := w.leader().replica
	for i := range puts {
		answered := false
		leader.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: fmt.Appendf(nil, "%0256d", i)}}, nil,
			func(_ *kv.Response, _ uint64, err error) {
				if answered = true; err != nil {
					t.Fatal(err)
				}
			})
		for limit := w.now + time.Second; !answered && w.now < limit; {
			w.step(100 * time.Microsecond)
		}
		if !answered {
			t.Fatal("a put was not answered")
		}
	}
	w.idle(500 * time.Millisecond) // notices that follow
	after := figuresOf(w)
	c.syncs, c.applied = after.Syncs-before.Syncs, after.EntriesApplied-before.EntriesApplied
	return c
}

// figuresOf adds up what the nodes count.
func figuresOf(w *cluster) (sum Metrics) {
	for _, n := range w.nodes {
		m := n.driver.Metrics()
		sum.Rounds += m.Rounds
		sum.Syncs += m.Syncs
		sum.EntriesApplied += m.EntriesApplied
	}
	return sum
}

// TestCostOfAPutAmongIdleGroups: a put takes the same entries, messages, frames and syncs whether 64 other groups are on the nodes or none, and the others
// say nothing. Frames tell how many writes their node has done, which is a longer number after the elections of more groups.
func TestCostOfAPutAmongIdleGroups(t *testing.T) {
	const puts = 100
	for protocol, paxos := range map[string]bool{"raft": false, "paxos": true} {
		alone, among := countPuts(t, 1, puts, paxos), countPuts(t, 1+idleGroups, puts, paxos)
		t.Logf("%s: %+v", protocol, alone)
		if alone.applied != 3*puts || alone.syncs != 3*puts {
			t.Errorf("%s: three nodes applied %d entries, with %d syncs, for %d puts", protocol, alone.applied, alone.syncs, puts)
		}
		if !maps.Equal(alone.messages, among.messages) || among.frameBytes > alone.frameBytes+puts {
			t.Errorf("%s: alone %+v, among idle groups %+v", protocol, alone, among)
		}
		alone.messages, alone.frameBytes = among.messages, among.frameBytes
		if alone.frames != among.frames || alone.syncs != among.syncs || alone.applied != among.applied {
			t.Errorf("%s: alone %+v, among idle groups %+v", protocol, alone, among)
		}
	}
}

// idleCost is what three nodes do in a second in which nobody asks for anything.
type idleCost struct {
	frames, rounds, mallocs uint64
	busy                    int // replicas that ticked or had work, added up over the rounds
}

func measureIdle(t *testing.T, groups int, paxos bool) (c idleCost) {
	w := groupsAtRest(t, groups, paxos)
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it allocates beside the test
	var before, after runtime.MemStats
	sent, began := w.sent, figuresOf(w).Rounds
	runtime.ReadMemStats(&before)
	for range 1000 {
		w.idle(time.Millisecond)
		for _, n := range w.nodes {
			c.busy += len(n.driver.ticking) + len(n.driver.working) + len(n.driver.dirty) + len(n.driver.maintaining)
		}
	}
	runtime.ReadMemStats(&after)
	c.frames, c.rounds, c.mallocs = uint64(w.sent-sent), figuresOf(w).Rounds-began, after.Mallocs-before.Mallocs
	return c
}

// TestIdleGroupsCostNothing: in a second in which nobody asks for anything 65 groups send, do and allocate what one does: the heartbeats of the nodes. That
// slices of the fixture grow now and then is not theirs: what counts is that there is not one allocation for each.
func TestIdleGroupsCostNothing(t *testing.T) {
	for protocol, paxos := range map[string]bool{"raft": false, "paxos": true} {
		one, many := measureIdle(t, 1, paxos), measureIdle(t, 1+idleGroups, paxos)
		t.Logf("%s: %+v", protocol, one)
		if many.mallocs < one.mallocs+idleGroups {
			many.mallocs = one.mallocs
		}
		if one != many || one.busy != 0 {
			t.Errorf("%s: one group costs %+v, %d cost %+v", protocol, one, 1+idleGroups, many)
		}
	}
}
