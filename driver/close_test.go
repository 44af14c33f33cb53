package driver

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// gatedLog stands still in the next Write, and takes its time with every Sync after that.
type gatedLog struct {
	storage.Log
	armed, writing, synced, closed, late atomic.Bool

	gate chan struct{}
}

func (l *gatedLog) Write(parts []storage.GroupAppend, node *storage.NodeRecord) error {
	if l.armed.Load() && !l.writing.Swap(true) {
		<-l.gate
	}
	return l.Log.Write(parts, node)
}

func (l *gatedLog) Sync() error {
	if l.armed.Load() {
		time.Sleep(time.Second)
		l.synced.Store(true)
		l.late.Store(l.late.Load() || l.closed.Load())
	}
	return l.Log.Sync()
}

// TestCloseDuringRoundHere: a client does a round itself when the driver is closed, and the round has something synced beside it. After Close
// nothing uses the log any more: its owner closes it.
func TestCloseDuringRoundHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &gatedLog{Log: storage.NewMemoryLog(), gate: make(chan struct{})}
		engine := storage.NewMemory(storage.MemoryOptions{})
		config := consensus.Config{Voters: []consensus.ReplicaID{1}}
		began := time.Now()
		d, err := Open(Options{
			Self: 1, Nodes: []kv.NodeID{1}, Log: log, Engine: engine, Transport: nowhere{}, Instance: 1, Rand: rand.New(rand.NewPCG(1, 1)),
			NewCore: func(o CoreOptions) (consensus.Core, error) {
				return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config}, o.Log)
			},
			OpenMachine: func(_ consensus.GroupID, logEnd consensus.Index) (Machine, error) {
				return OpenMachine(engine, shard.Options{Rand: rand.New(rand.NewPCG(1, 2)), LogEnd: logEnd}, Founding{Members: config})
			},
		}, func() time.Duration { return time.Since(began) })
		if err != nil {
			t.Fatal(err)
		}
		d.Start()
		r := d.Replica(1)
		for !r.IsLeader() {
			time.Sleep(10 * time.Millisecond)
		}
		log.armed.Store(true)
		put := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k")}}
		go r.Propose(put, asker(true), func(*kv.Response, uint64, error) {})
		synctest.Wait()
		if !log.writing.Load() || d.driving.TryLock() {
			t.Fatal("the client does no round")
		}
		d.inbox.addCall(call{do: func() {}}) // something waits, so that the sync is beside the round
		go func() {
			d.Close()
			log.closed.Store(true)
		}()
		<-d.context.Done()
		for range 1000 { // until the run loop has ended; who waits for a mutex can not be waited for
			runtime.Gosched()
		}
		close(log.gate)
		time.Sleep(10 * time.Second)
		if !log.synced.Load() || !log.closed.Load() || log.late.Load() {
			t.Errorf("synced: %v, closed: %v, synced after Close: %v", log.synced.Load(), log.closed.Load(), log.late.Load())
		}
	})
}

// nowhere is the transport of a node that is alone.
type nowhere struct{ Transport }

func (nowhere) Append(kv.NodeID, byte, func([]byte) []byte) bool { return true }
func (nowhere) Flush()                                           {}

// asker is somebody who has nothing else to do, and waits or does not.
type asker bool

func (a asker) Waits() bool       { return bool(a) }
func (asker) Alone() bool         { return true }
func (asker) Left() time.Duration { return time.Hour }
func (asker) Elsewhere() bool     { return false }
