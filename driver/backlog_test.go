package driver

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
)

// countedLog counts what was written since the last sync began.
type countedLog struct {
	storage.Log
	unsynced, peak int64
}

func (l *countedLog) Write(parts []storage.GroupAppend, node *storage.NodeRecord) error {
	for i := range parts {
		l.unsynced += entriesBytes(parts[i].Entries)
	}
	l.peak = max(l.peak, l.unsynced)
	return l.Log.Write(parts, node)
}

func (l *countedLog) Sync() error {
	l.unsynced = 0
	return l.Log.Sync()
}

// TestBacklogOfSlowDisk: a node whose disk syncs nothing takes so many entries of all groups together, although the leader of each could have as many on the
// way. When the disk goes on, it gets all of them.
func TestBacklogOfSlowDisk(t *testing.T) {
	for _, paxos := range []bool{false, true} {
		t.Run(fmt.Sprintf("paxos=%v", paxos), func(t *testing.T) { testBacklogOfSlowDisk(t, paxos) })
	}
}

func testBacklogOfSlowDisk(t *testing.T, usePaxos bool) {
	const groups, inflightBytes, backlogBytes, valueBytes = 8, 64 << 10, 100 << 10, 4 << 10
	c := newCluster(t, 3, usePaxos)
	slow := c.nodes[2]
	var (
		log   *countedLog
		stuck bool
		held  []func()
	)
	start := func(n *clusterNode) {
		_, config := c.config()
		n.start(func(o *Options) {
			o.Groups, o.MaxBacklogBytes, o.FlushLogBytes = nil, backlogBytes, 1<<40
			for group := range consensus.GroupID(groups) {
				o.Groups = append(o.Groups, group+1)
			}
			o.OpenMachine = func(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
				options := shard.Options{Shard: kv.ShardID(group), Rand: rand.New(rand.NewPCG(uint64(n.id), uint64(group))), LogEnd: logEnd}
				return OpenMachine(n.memory, options, Founding{Members: config})
			}
			o.NewCore = func(o CoreOptions) (consensus.Core, error) { return smallCore(n, o, inflightBytes) }
			if n == slow {
				log = &countedLog{Log: o.Log}
				o.Log = log
				spawn := o.Spawn
				o.Spawn = func(run func()) {
					if stuck {
						held = append(held, run)
						return
					}
					spawn(run)
				}
			}
		})
	}
	leads := func() (all []*driven) {
		for _, n := range c.nodes[:2] {
			for _, r := range n.driver.order {
				if r.leading && r.LeaseValid() {
					all = append(all, r)
				}
			}
		}
		return all
	}
	start(c.nodes[0])
	start(c.nodes[1])
	c.await("leaders of all groups", func() bool { return len(leads()) == groups })
	start(slow) // which leads nothing
	caughtUp := func() bool {
		for _, r := range leads() {
			if other, err := slow.driver.replica(r.group); err != nil || other.applied.Load() != r.applied.Load() {
				return false
			}
		}
		return slow.driver.backlog.bytes.Load() == 0
	}
	c.await("a node that has everything", caughtUp)

	stuck, slow.driver.slowUntil = true, 1<<60
	for i := range 40 {
		open := 0
		for _, r := range leads() {
			open++
			put := &kv.PutRequest{Key: fmt.Appendf(nil, "%d", i), Value: make([]byte, valueBytes)}
			r.Propose(&kv.Request{Kind: kv.KindPut, Put: put}, nil, func(_ *kv.Response, _ uint64, err error) {
				if open--; err != nil {
					t.Error(err)
				}
			})
		}
		c.await("answers", func() bool { return open == 0 })
	}
	c.run(time.Second, nil)
	if log.peak < backlogBytes/2 || log.peak > backlogBytes {
		t.Errorf("%d bytes were written that are not durable, want about %d", log.peak, backlogBytes)
	}
	if m := slow.driver.Metrics(); m.MessagesPutOff == 0 || m.BacklogBytes != log.unsynced {
		t.Errorf("%d messages were put off, and %d bytes are the backlog of %d", m.MessagesPutOff, m.BacklogBytes, log.unsynced)
	}
	stuck = false
	slow.jobs = append(slow.jobs, held...)
	c.await("a node that has everything again", caughtUp)
}

// smallCore is a core that has little on the way to a replica.
func smallCore(n *clusterNode, o CoreOptions, inflightBytes int) (consensus.Core, error) {
	if n.c.paxos {
		return paxos.New(paxos.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config,
			Rand: rand.New(rand.NewPCG(uint64(n.id), uint64(o.Group))), MaxInflightBytes: inflightBytes, MaxMessageBytes: inflightBytes / 8}, o.Log)
	}
	return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, HardState: o.HardState, Applied: o.Applied, Config: o.Config,
		MaxInflightBytes: inflightBytes, MaxMessageBytes: inflightBytes / 8}, o.Log)
}
