package groups

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
)

// Load is what clients in the node's own process do: puts, each client one after the other, each to a random one of the groups.
type Load struct {
	Groups   []consensus.GroupID
	Clients  int
	Duration time.Duration
	Profile  string // file for a CPU profile; empty: none
}

const (
	loadKeys  = 10_000 // of all groups together
	loadBytes = 256
)

// Puts is what came of a load.
type Puts struct{ Acknowledged, Failed int64 }

// Run lets clients put for a while.
func (s *Service) Run(load Load, puts *Puts) error {
	if load.Profile != "" {
		file, err := os.Create(load.Profile)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if load.Clients == 0 || len(load.Groups) == 0 {
		<-time.After(load.Duration) // for the profile of one that follows
		return nil
	}
	var failed, acknowledged atomic.Int64
	var working sync.WaitGroup
	end := time.Now().Add(load.Duration)
	for i := range load.Clients {
		working.Go(func() {
			for random := rand.New(rand.NewPCG(randomID(), uint64(i))); time.Now().Before(end); {
				if s.node.put(load.Groups[random.IntN(len(load.Groups))], random.IntN(max(1, loadKeys/len(s.node.config.Groups)))) == nil {
					acknowledged.Add(1)
				} else {
					failed.Add(1)
				}
			}
		})
	}
	working.Wait()
	puts.Acknowledged, puts.Failed = acknowledged.Load(), failed.Load()
	return nil
}

// put is one put of a client that waits for its answer.
func (n *node) put(group consensus.GroupID, key int) error {
	done := make(chan error, 1)
	n.gateway.Submit(&gateway.Call{
		Req: &kv.Request{Kind: kv.KindPut, Principal: strconv.FormatUint(uint64(group), 10),
			Put: &kv.PutRequest{Key: fmt.Appendf(nil, "key/%08d", key), Value: make([]byte, loadBytes)}},
		Done: func(_ *kv.Response, err error) { done <- err },
	})
	return <-done
}

// Usage is what a process has used since its start.
type Usage struct {
	CPU            time.Duration // user and system
	Rounds, Syncs  uint64
	Entries        uint64 // applied
	Frames, Writes int64  // to other nodes
	HeapBytes      int64  // reachable
	Mallocs        uint64
}

// Usage tells what the process has used. collect: it is to tell what is reachable, too.
func (s *Service) Usage(collect bool, u *Usage) error {
	var memory runtime.MemStats
	if collect {
		runtime.GC()
		runtime.GC()
	}
	runtime.ReadMemStats(&memory)
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return err
	}
	driver, transport := s.node.driver.Metrics(), s.node.transport.Metrics()
	*u = Usage{CPU: time.Duration(used.Utime.Nano() + used.Stime.Nano()), Rounds: driver.Rounds, Syncs: driver.Syncs, Entries: driver.EntriesApplied,
		Frames: transport.FramesSent, Writes: transport.Flushes, HeapBytes: int64(memory.HeapAlloc), Mallocs: memory.Mallocs}
	return nil
}

// minus is what was used since before.
func (u Usage) minus(before Usage) Usage {
	return Usage{CPU: u.CPU - before.CPU, Rounds: u.Rounds - before.Rounds, Syncs: u.Syncs - before.Syncs, Entries: u.Entries - before.Entries,
		Frames: u.Frames - before.Frames, Writes: u.Writes - before.Writes, HeapBytes: u.HeapBytes, Mallocs: u.Mallocs - before.Mallocs}
}

// plus adds what another process has used.
func (u Usage) plus(other Usage) Usage {
	return Usage{CPU: u.CPU + other.CPU, Rounds: u.Rounds + other.Rounds, Syncs: u.Syncs + other.Syncs, Entries: u.Entries + other.Entries,
		Frames: u.Frames + other.Frames, Writes: u.Writes + other.Writes, HeapBytes: u.HeapBytes + other.HeapBytes, Mallocs: u.Mallocs + other.Mallocs}
}
