package driver

import (
	"fmt"
	"maps"
	"runtime"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/kv"
)

// cost is what a write takes in the steady state, of the whole cluster.
type cost struct {
	Frames, FrameBytes, Syncs float64
	Latency                   time.Duration // on the network of the fixture
	// Of all writes together, with the news of the last one: entries in the leader's log and their bytes, messages by kind, and the
	// bytes of entries in messages.
	entries, entryBytes, sentBytes int
	messages                       map[consensus.MessageKind]int
	mallocs                        float64 // a write, of the cluster and the fixture
}

// costPuts is how many writes writeCost measures.
const costPuts = 100

// writeCost measures writes that come one after the other: puts of a value of 256 bytes at the key "k".
func writeCost(t *testing.T, nodes int, paxos bool) (c cost) {
	w := newCluster(t, nodes, paxos)
	for _, n := range w.nodes {
		n.start(func(o *Options) { o.RetainLogEntries, o.MaxInflight = 2*costPuts, 1 }) // the entries are looked at afterwards
	}
	w.await("a leader", func() bool { return w.leader() != nil && w.leader().replica.LeaseValid() })
	return costOfWrites(w, w.leader().replica)
}

// costOfWrites measures writes to what a replica leads.
func costOfWrites(w *cluster, leader *driven) (c cost) {
	t := w.tb
	w.latency = 100 * time.Microsecond
	w.run(time.Second, nil)
	syncs := func() (sum float64) {
		for _, n := range w.nodes {
			sum += float64(n.driver.metrics.syncs.Load())
		}
		return sum
	}
	c.messages = make(map[consensus.MessageKind]int)
	w.look = func(channel byte, payload []byte) {
		if channel != ChannelMarked {
			return
		}
		c.Frames += 1. / costPuts
		c.FrameBytes += float64(len(payload)) / costPuts
		messages, err := decodeFrame(payload, true)
		if err != nil {
			t.Error(err)
		}
		for i := range messages {
			m := &messages[i].message
			c.messages[m.Kind]++
			for k := range m.Entries {
				c.sentBytes += len(m.Entries[k].Data)
			}
		}
	}
	before, began, first := syncs(), w.now, leader.log.Last()+1
	var mallocs, mallocsBefore runtime.MemStats
	runtime.ReadMemStats(&mallocsBefore)
	for i := range costPuts {
		answered := false
		leader.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: fmt.Appendf(nil, "%0256d", i)}}, nil,
			func(_ *kv.Response, _ uint64, err error) {
				if err != nil {
					t.Fatal(err)
				}
				answered = true
			})
		for limit := w.now + time.Second; !answered && w.now < limit; {
			w.step(100 * time.Microsecond)
		}
		if !answered {
			t.Fatal("a put was not answered")
		}
	}
	runtime.ReadMemStats(&mallocs)
	c.mallocs = float64(mallocs.Mallocs-mallocsBefore.Mallocs) / costPuts
	c.Latency = (w.now - began) / costPuts
	w.run(500*time.Millisecond, nil) // notices that follow
	c.Syncs = (syncs() - before) / costPuts
	entries, err := leader.log.Entries(first, leader.log.Last()+1, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	c.entries = len(entries)
	for i := range entries {
		c.entryBytes += len(entries[i].Data)
	}
	return c
}

// TestCostOfAPut holds what 100 puts to one shard, one after the other, take of three nodes, exactly: another entry, message or sync for each
// of them would be a price for everybody. A number that becomes smaller is to be held, too.
func TestCostOfAPut(t *testing.T) {
	for _, c := range []struct {
		protocol string
		paxos    bool
		bytes    int // of the entries: key and value are 257 of each
		messages map[consensus.MessageKind]int
	}{
		{"raft", false, 273 * costPuts, map[consensus.MessageKind]int{
			raft.KindAppend: 2*costPuts + 2, raft.KindAppendResponse: 2*costPuts + 2, // the last is committed: a notice
		}},
		{"paxos", true, 275 * costPuts, map[consensus.MessageKind]int{
			paxos.KindAccept: 2 * costPuts, paxos.KindAccepted: 2 * costPuts,
			paxos.KindHeartbeat: 4, paxos.KindHeartbeatResponse: 2, // a notice, and whether all have heard it
		}},
	} {
		t.Run(c.protocol, func(t *testing.T) {
			got := writeCost(t, 3, c.paxos)
			t.Logf("%+v", got)
			if got.entries != costPuts || got.Syncs != 3 {
				t.Errorf("%d entries and %.2f syncs on each node for %d puts", got.entries, got.Syncs/3, costPuts)
			}
			if !maps.Equal(got.messages, c.messages) {
				t.Errorf("messages by kind: %v instead of %v", got.messages, c.messages)
			}
			if got.entryBytes > c.bytes || got.sentBytes != 2*got.entryBytes {
				t.Errorf("the entries have %d bytes, %d at most are expected; sent were %d", got.entryBytes, c.bytes, got.sentBytes)
			}
		})
	}
}

// TestPaxosCostsWhatRaftDoes: in the steady state both need one round trip and one sync on each node, and no more
// messages or bytes than the other.
func TestPaxosCostsWhatRaftDoes(t *testing.T) {
	for _, nodes := range []int{3, 5} {
		raft := writeCost(t, nodes, false)
		paxos := writeCost(t, nodes, true)
		t.Logf("%d nodes: raft %+v, paxos %+v", nodes, raft, paxos)
		if paxos.Frames > 1.05*raft.Frames || paxos.FrameBytes > 1.05*raft.FrameBytes || paxos.Syncs > 1.05*raft.Syncs || paxos.Latency > raft.Latency+raft.Latency/20 {
			t.Errorf("%d nodes: a write costs %+v with Paxos and %+v with Raft", nodes, paxos, raft)
		}
		if most := float64(nodes) * 1.05; paxos.Syncs > most || raft.Syncs > most {
			t.Errorf("%d nodes: %.2f and %.2f syncs a write", nodes, raft.Syncs, paxos.Syncs)
		}
	}
}
