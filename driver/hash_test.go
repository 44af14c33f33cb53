package driver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// alone starts the only node of a cluster, which leads when alone returns.
func alone(t *testing.T, change func(*Options)) *driven {
	engine := storage.NewMemory(storage.MemoryOptions{})
	config := consensus.Config{Voters: []consensus.ReplicaID{1}}
	began := time.Now()
	options := Options{
		Self: 1, Nodes: []kv.NodeID{1}, Log: storage.NewMemoryLog(), Engine: engine, Transport: nowhere{}, Instance: 1, Rand: rand.New(rand.NewPCG(1, 1)),
		NewCore: func(o CoreOptions) (consensus.Core, error) {
			return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config}, o.Log)
		},
		OpenMachine: func(_ consensus.GroupID, logEnd consensus.Index) (Machine, error) {
			return OpenMachine(engine, shard.Options{Rand: rand.New(rand.NewPCG(1, 2)), LogEnd: logEnd}, Founding{Members: config})
		},
	}
	change(&options)
	d, err := Open(options, func() time.Duration { return time.Since(began) })
	if err != nil {
		t.Fatal(err)
	}
	d.Start()
	t.Cleanup(d.Close)
	r := d.driven(1)
	for !r.IsLeader() {
		time.Sleep(10 * time.Millisecond)
	}
	return r
}

func (r *Replica) answer(t *testing.T, req *kv.Request) {
	t.Helper()
	answered := make(chan error, 1)
	r.Propose(req, nil, func(_ *kv.Response, _ uint64, err error) { answered <- err })
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}

// TestHashOfCompaction: what a revision amounts to before history is compacted there, it does afterwards: at once, when the rows are
// deleted, and after later compactions; until there were more of them than hashes are kept.
func TestHashOfCompaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held []func()
		hold := false
		r := alone(t, func(o *Options) {
			o.KeepHashes = 3
			o.Spawn = func(work func()) {
				if hold {
					held = append(held, work)
					return
				}
				go work()
			}
		})
		revision := kv.Revision(1)
		write := func(n int) {
			for range n {
				key := fmt.Appendf(nil, "k%d", revision%7)
				if revision%5 == 0 {
					r.answer(t, &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: fmt.Appendf(nil, "k%d", (revision-1)%7)}}})
				} else {
					r.answer(t, &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: key, Value: fmt.Appendf(nil, "%d", revision)}})
				}
				revision++
			}
		}
		want := map[kv.Revision]uint32{}
		compact := func(at kv.Revision, physical bool) {
			view := r.View()
			hash, err := view.Hash(at)
			view.Close()
			if err != nil {
				t.Fatal(err)
			}
			want[at] = hash
			r.answer(t, &kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: at, Physical: physical}})
		}
		check := func(revisions ...kv.Revision) {
			t.Helper()
			for _, at := range revisions {
				if hash, _, found, err := r.CompactionHash(context.Background(), at); err != nil || !found || hash.Fold() != want[at] {
					t.Errorf("hash of the compaction at %d: %x, %v, %v; before it was %x", at, hash, found, err, want[at])
				}
			}
		}
		write(40)
		compact(10, true)
		check(10)
		write(20)
		synctest.Wait()
		hold = true // from here on nothing is hashed: so nothing may be deleted that is needed for it
		compact(30, false)
		compact(50, false)
		write(3)
		waits, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, _, _, err := r.CompactionHash(waits, 50); err == nil {
			t.Error("a hash that is being taken was not waited for")
		}
		hold = false
		for _, work := range held {
			go work()
		}
		check(10, 30, 50)
		compact(55, true)
		check(30, 50, 55)
		if _, _, found, _ := r.CompactionHash(context.Background(), 10); found {
			t.Error("more hashes are kept than were asked for")
		}
	})
}
