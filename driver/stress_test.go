package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoratedb/quorate/transport/freeport"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/storage/wal"
	"github.com/quoratedb/quorate/transport"
)

// realNode is a node as the server puts it together: goroutines, sockets, files.
type realNode struct {
	id        kv.NodeID
	dir       string
	addresses map[kv.NodeID][]string
	engine    *lsm.Engine
	log       *wal.Log
	transport *transport.Transport
	driver    *Driver
	replica   *Replica
	opened    chan struct{}
	snapshots *atomic.Int64
}

type realFrames struct{ *transport.Transport }

func (f realFrames) Append(to kv.NodeID, channel byte, encode func([]byte) []byte) bool {
	return f.Transport.Append(to, transport.Channel(channel), encode)
}

func (f realFrames) OpenStream(ctx context.Context, to kv.NodeID, name string) (Stream, error) {
	return f.Transport.OpenStream(ctx, to, name)
}

func (n *realNode) Receive(from kv.NodeID, channel transport.Channel, payload []byte) {
	<-n.opened
	n.driver.Receive(from, byte(channel), payload)
}
func (n *realNode) ReceiveDone(kv.NodeID) { <-n.opened; n.driver.ReceiveDone() }
func (n *realNode) PeerUp(node kv.NodeID, info transport.PeerInfo) {
	<-n.opened
	n.driver.PeerUp(node, info.FormatVersion)
}
func (n *realNode) PeerDown(node kv.NodeID, refused bool) {
	<-n.opened
	n.driver.PeerDown(node, refused)
}
func (n *realNode) PeerReturned(kv.NodeID) {}
func (n *realNode) ReceiveStream(from kv.NodeID, name string, stream io.Reader) error {
	<-n.opened
	return n.driver.ReceiveStream(from, name, stream)
}

func (n *realNode) start(t testing.TB) {
	t.Helper()
	began := time.Now()
	var err error
	check := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	n.opened = make(chan struct{})
	n.engine, err = lsm.Open(lsm.Options{Dir: filepath.Join(n.dir, "state"), MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
	check()
	n.log, err = wal.Open(wal.Options{Dir: filepath.Join(n.dir, "log"), SegmentBytes: 1 << 20})
	check()
	staging := filepath.Join(n.dir, "staging")
	err = errors.Join(os.RemoveAll(staging), os.MkdirAll(staging, 0o755))
	check()
	peers := map[kv.NodeID][]string{}
	for id, addresses := range n.addresses {
		if id != n.id {
			peers[id] = addresses
		}
	}
	instance := rand.Uint64() | 1
	n.transport, err = transport.Open(transport.Options{Cluster: 1, Self: n.id, Name: fmt.Sprint("n", n.id), Instance: instance,
		ListenAddrs: n.addresses[n.id], Peers: peers, Handler: n})
	check()
	config := consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3}}
	n.driver, err = Open(Options{
		Self: n.id, Nodes: []kv.NodeID{1, 2, 3}, Log: n.log, Engine: n.engine, Transport: realFrames{n.transport}, StagingDir: staging,
		Instance: instance, Rand: rand.New(rand.NewPCG(instance, 1)), RetainLogEntries: 50, FlushLogBytes: 64 << 10,
		HeartbeatInterval: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond,
		NewCore: func(o CoreOptions) (consensus.Core, error) {
			return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config}, o.Log)
		},
		OpenMachine: func(_ consensus.GroupID, logEnd consensus.Index) (Machine, error) {
			return OpenMachine(n.engine, shard.Options{Rand: rand.New(rand.NewPCG(instance, 2)), LogEnd: logEnd}, Founding{Members: config})
		},
		Listener: Listener{
			SnapshotInstalled: func(consensus.GroupID, consensus.SnapshotMeta) { n.snapshots.Add(1) },
			Failed:            func(err error) { t.Errorf("node %d: %v", n.id, err) },
		},
	}, func() time.Duration { return time.Since(began) })
	check()
	n.replica = n.driver.Replica(1)
	close(n.opened)
	n.driver.Start()
}

func (n *realNode) stop(t testing.TB) {
	t.Helper()
	n.driver.Close()
	if err := errors.Join(n.driver.Flush(), n.transport.Close(), n.log.Close(), n.engine.Close()); err != nil {
		t.Errorf("node %d: %v", n.id, err)
	}
}

// TestStress runs three nodes with all their goroutines on sockets and files, for the race detector above all. One of
// them stops, falls behind and comes back by a snapshot. Every call is answered exactly once, those that race with Close too.
func TestStress(t *testing.T) {
	addresses := map[kv.NodeID][]string{}
	for id := kv.NodeID(1); id <= 3; id++ {
		address, err := freeport.Address()
		if err != nil {
			t.Fatal(err)
		}
		addresses[id] = []string{address}
	}
	var nodes [3]*realNode
	var snapshots atomic.Int64
	for i := range nodes {
		nodes[i] = &realNode{id: kv.NodeID(i + 1), dir: t.TempDir(), addresses: addresses, snapshots: &snapshots}
		nodes[i].start(t)
	}
	var asked, answered, succeeded atomic.Int64
	var running sync.WaitGroup
	var guard sync.RWMutex // a node that stops is not asked
	stop := make(chan struct{})
	for worker := range 8 {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				guard.RLock()
				n := nodes[random.IntN(3)]
				for _, candidate := range nodes {
					if candidate.replica.IsLeader() && random.IntN(4) > 0 {
						n = candidate
					}
				}
				r := n.replica
				done := make(chan struct{})
				answer := func(err error) {
					answered.Add(1)
					if err == nil {
						succeeded.Add(1)
					}
					close(done) // twice would panic
				}
				asked.Add(1)
				key := []byte(fmt.Sprintf("key%d", random.IntN(500)))
				switch i % 6 {
				case 0, 1, 2:
					r.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: key, Value: make([]byte, 200)}}, nil, func(_ *kv.Response, _ uint64, err error) { answer(err) })
				case 3:
					r.ReadIndex(func(index uint64, err error) {
						if err != nil {
							answer(err)
							return
						}
						n.replica.WaitApplied(index, answer)
					})
				case 4:
					_, err := r.Read(rangeRequest(string(key)))
					_ = r.LeaseValid()
					answer(err)
				case 5:
					view := r.View()
					_, err := view.Hash(view.Revision())
					err = errors.Join(err, view.Close())
					_, _ = r.Leader()
					_ = r.Revision() + r.Compacted()
					r.Applied()
					r.Committed()
					n.driver.Metrics()
					answer(err)
				}
				guard.RUnlock()
				select {
				case <-done:
				case <-time.After(20 * time.Second):
					t.Error("a call was not answered")
					return
				}
			}
		})
	}
	wait := func(what string, until func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !until(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: not within 30 s", what)
			}
		}
	}
	wait("some requests", func() bool { return succeeded.Load() > 1000 })
	for round := range 2 {
		follower := nodes[0]
		for _, n := range nodes {
			if !n.replica.IsLeader() {
				follower = n
			}
		}
		guard.Lock()
		follower.stop(t)
		before := succeeded.Load()
		installed := snapshots.Load()
		replica := follower.replica
		guard.Unlock()
		replica.Propose(rangeRequest("x"), nil, func(_ *kv.Response, _ uint64, err error) {
			if err == nil {
				t.Error("a closed node answered")
			}
		})
		// Until what the follower misses is no longer in the leader's log.
		wait("requests without a follower", func() bool {
			for _, n := range nodes {
				if n.replica.IsLeader() && n != follower {
					return succeeded.Load() > before+500 && uint64(n.log.Group(1).First()) > replica.Applied()+10
				}
			}
			return false
		})
		guard.Lock()
		follower.start(t)
		guard.Unlock()
		wait(fmt.Sprintf("a snapshot in round %d", round), func() bool { return snapshots.Load() > installed })
	}
	// Close while everybody asks.
	running.Go(func() { nodes[0].driver.Close() })
	time.Sleep(20 * time.Millisecond)
	close(stop)
	for _, n := range nodes[1:] {
		running.Go(n.driver.Close)
	}
	running.Wait()
	for _, n := range nodes {
		n.stop(t)
	}
	if asked.Load() != answered.Load() {
		t.Errorf("%d calls, %d answers", asked.Load(), answered.Load())
	}
	t.Logf("%d calls, %d succeeded, %d snapshots installed", asked.Load(), succeeded.Load(), snapshots.Load())
}
