package driver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// lone is a driver of a cluster of one node, whose rounds the test makes.
type lone struct {
	*Driver
	tb  testing.TB
	now time.Duration
}

// newLone opens the groups, numbered from 1, and waits until all lead.
func newLone(tb testing.TB, groups int, change func(*Options)) *lone {
	l := &lone{tb: tb}
	var list []consensus.GroupID
	for i := range groups {
		list = append(list, consensus.GroupID(i+1))
	}
	o := loneNode(list, func(engine storage.Engine, group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
		return openShard(engine, kv.ShardID(group), logEnd)
	})
	o.Wake = func() {}
	if change != nil {
		change(&o)
	}
	var err error
	if l.Driver, err = Open(o, func() time.Duration { return l.now }); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(l.Close)
	for l.now < 10*time.Second && slices.ContainsFunc(l.order, func(r *driven) bool { return !r.leading }) {
		l.now += 10 * time.Millisecond
		l.rounds()
	}
	return l
}

// rounds makes rounds until there is nothing more to do.
func (l *lone) rounds() {
	for more := true; more; {
		more = l.Round() || len(l.maintaining) > 0
		if err := l.Check(); err != nil && l.Err() == nil {
			l.tb.Fatal(err)
		}
	}
}

// put writes a key of a group.
func (l *lone) put(group consensus.GroupID, key string, size int) {
	done := errors.New("no answer")
	req := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: make([]byte, size)}}
	l.Replica(group).Propose(req, nil, func(_ *kv.Response, _ uint64, err error) { done = err })
	l.rounds()
	if done != nil {
		l.tb.Fatalf("group %d: put %q: %v", group, key, done)
	}
}

// TestDirtyBytesOfAllGroups: what the groups have not flushed is bounded together. Those with the most are flushed, at once, with one flush of the
// engine; those with little are left alone.
func TestDirtyBytesOfAllGroups(t *testing.T) {
	const limit = 16 << 10
	l := newLone(t, 10, func(o *Options) { o.MaxDirtyBytes = limit })
	before := l.Metrics().EngineFlushes
	for i := range 40 {
		l.put(1, fmt.Sprintf("a%d", i), 100)
	}
	l.put(9, "small", 1)
	if l.Metrics().EngineFlushes != before {
		t.Fatal("flushed although there is little")
	}
	for i := 0; l.Metrics().EngineFlushes == before && i < 100; i++ {
		l.put(consensus.GroupID(2+i%4), fmt.Sprintf("b%d", i), 100)
		if held := l.memory.DirtyBytes; held > limit {
			t.Fatalf("the groups hold %d bytes of keys that are not flushed, may %d", held, limit)
		}
	}
	if flushes := l.Metrics().EngineFlushes - before; flushes != 1 {
		t.Errorf("the engine was flushed %d times for all groups", flushes)
	}
	if held := l.driven(1).memory; held.DirtyBytes != 0 || held.FrozenBytes != 0 {
		t.Errorf("the group with the most holds %+v", held)
	}
	if l.driven(9).memory.DirtyBytes == 0 {
		t.Error("the group with the least was flushed, too")
	}
	if l.memory.DirtyBytes > limit/2 {
		t.Errorf("%d bytes are left after the flush: more than half of the limit", l.memory.DirtyBytes)
	}
}

// TestOneFlushForAllGroups: runs that are written at the same time share a flush of the engine, and all of them become durable by it.
func TestOneFlushForAllGroups(t *testing.T) {
	l := newLone(t, 20, func(o *Options) { o.FlushChunkRows = 1 })
	for i := range 60 {
		l.put(consensus.GroupID(1+i%20), fmt.Sprintf("k%d", i*i), 10)
	}
	before := l.Metrics().EngineFlushes
	for _, r := range l.order {
		r.flush.asked = true
		l.needsMaintenance(r)
	}
	l.rounds()
	l.rounds()
	if flushes := l.Metrics().EngineFlushes - before; flushes != 1 {
		t.Errorf("the engine was flushed %d times for 20 groups", flushes)
	}
	for _, r := range l.order {
		if r.flush.durable != r.machine.AppliedIndex() || r.flush.syncing != 0 {
			t.Errorf("group %d: %+v, applied is %d", r.group, r.flush, r.machine.AppliedIndex())
		}
	}
}

// slowFlush is an engine whose flushes end when the test says so.
type slowFlush struct {
	storage.Engine
	begun []func(error)
}

func (e *slowFlush) Flush(done func(error)) { e.begun = append(e.begun, done) }

// TestFlushCoversWhatWasWrittenBefore: a run that is written while the engine flushes becomes durable by the next flush, which waits for this one.
func TestFlushCoversWhatWasWrittenBefore(t *testing.T) {
	l := newLone(t, 3, nil)
	engine := &slowFlush{Engine: l.opts.Engine}
	l.opts.Engine = engine
	flush := func(group consensus.GroupID) *driven {
		r := l.driven(group)
		l.put(group, "k", 10)
		r.flush.asked = true
		l.needsMaintenance(r)
		l.rounds()
		return r
	}
	first := flush(1)
	second, third := flush(2), flush(3)
	for i, want := range [][]bool{{false, false, false}, {true, false, false}, {true, true, true}} {
		for n, r := range []*driven{first, second, third} {
			if durable := r.flush.durable == r.machine.AppliedIndex(); durable != want[n] {
				t.Errorf("after %d flushes group %d is durable: %v", i, r.group, durable)
			}
		}
		if i < 2 {
			if len(engine.begun) != i+1 {
				t.Fatalf("%d flushes have begun when %d have ended", len(engine.begun), i)
			}
			engine.begun[i](nil)
			l.rounds()
		}
	}
}

// TestCacheOfAllGroups: what the groups cache is bounded together. Who caches the most forgets first.
func TestCacheOfAllGroups(t *testing.T) {
	const limit = 8 << 10
	l := newLone(t, 4, func(o *Options) { o.CacheBytes = limit })
	l.put(4, "seldom", 1)
	for i := range 400 {
		l.put(consensus.GroupID(1+i%3), fmt.Sprintf("k%d", i), 1)
		if held := l.memory.CacheBytes; held > limit {
			t.Fatalf("the groups cache %d bytes, may %d", held, limit)
		}
	}
	if l.memory.CacheBytes == 0 || l.driven(4).memory.CacheBytes == 0 {
		t.Errorf("all groups cache %d bytes, one with one key %d", l.memory.CacheBytes, l.driven(4).memory.CacheBytes)
	}
}

// unflushable is an engine that cannot flush.
type unflushable struct{ storage.Engine }

func (unflushable) Flush(done func(error)) { done(storage.ErrUnusable) }

// TestFailedEngineFlush: nothing counts as durable, and the node stops.
func TestFailedEngineFlush(t *testing.T) {
	l := newLone(t, 2, nil)
	l.put(1, "k", 1)
	l.opts.Engine = unflushable{l.opts.Engine}
	r := l.driven(1)
	durable := r.flush.durable
	r.flush.asked = true
	l.needsMaintenance(r)
	l.rounds()
	if !errors.Is(l.Err(), storage.ErrUnusable) || r.flush.durable != durable {
		t.Errorf("the node says %v, durable is %d, was %d", l.Err(), r.flush.durable, durable)
	}
}

// TestMemoryNotGivenBack: what is reckoned and is not there is found, and what is there and not reckoned.
func TestMemoryNotGivenBack(t *testing.T) {
	l := newLone(t, 2, nil)
	l.put(2, "k", 100)
	r := l.driven(2)
	for name, wrong := range map[string]func(){
		"a group":            func() { r.memory.DirtyBytes-- },
		"a flush":            func() { r.memory.FrozenBytes = r.memory.DirtyBytes },
		"all groups":         func() { l.memory.CacheBytes++ },
		"a machine that was": func() { r.machine = l.driven(1).machine },
	} {
		machine, own, all := r.machine, r.memory, l.memory
		wrong()
		if err := l.checkMemory(); err == nil || !strings.Contains(err.Error(), "in memory") {
			t.Errorf("%s: got %v", name, err)
		}
		r.machine, r.memory, l.memory = machine, own, all
	}
}

// TestMemoryOfIdleGroup: a replica that nobody uses holds at most 16 KiB, its part of the log and the state in memory included.
func TestMemoryOfIdleGroup(t *testing.T) {
	const groups, limit = 300, 16 << 10
	for name, paxos := range map[string]bool{"raft": false, "paxos": true} {
		t.Run(name, func(t *testing.T) {
			before := heapBytes()
			w := benchCluster(t, groups, paxos, nil, func(group consensus.GroupID, engine storage.Engine, config consensus.Config) (Machine, error) {
				return OpenMachine(engine, shard.Options{Shard: kv.ShardID(group), Rand: rand.New(rand.NewPCG(1, uint64(group)))}, Founding{Members: config})
			})
			held := (heapBytes() - before) / int64(groups*len(w.nodes))
			runtime.KeepAlive(w)
			if t.Logf("%d bytes a replica", held); held > limit {
				t.Errorf("a replica holds %d bytes, may %d", held, limit)
			}
		})
	}
}

// heapBytes is what is reachable.
func heapBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
