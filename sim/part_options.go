package sim

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/paxos"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

func (p *part) machineOptions(logEnd consensus.Index) shard.Options {
	limits, seed := &p.node.w.plan.Limits, p.machines.Uint64()
	o := shard.Options{
		Shard: p.group.id, Rand: rand.New(rand.NewPCG(seed, 1)), MinLeaseTTLSeconds: 1, LogEnd: logEnd, RoundLooks: limits.RoundLooks, PartBytes: limits.PartBytes,
		Versions:  limits.Bounds.versions(rand.New(rand.NewPCG(seed, 2))),
		Sequenced: p.node.w.shared(),
	}
	o.Versions.MaxDirtyKeys, o.Versions.BucketRows = limits.MaxDirtyKeys, 4
	limits.Bounds.machine(&o)
	return o
}

func (p *part) newCore(o driver.CoreOptions, seed uint64) (consensus.Core, error) {
	plan := &p.node.w.plan
	bytes, uncommitted := plan.Limits.MaxMessageBytes, plan.Limits.MaxUncommittedBytes
	if plan.Protocol == Paxos {
		return paxos.New(paxos.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks, Rand: rand.New(rand.NewPCG(seed, p.chance(2))),
			HardState: o.HardState, Applied: o.Applied, Config: o.Config, MaxMessageBytes: bytes, MaxApplyBytes: 2 * bytes, MaxUncommittedBytes: uncommitted,
			Phase1Quorum: plan.Phase1Quorum, Phase2Quorum: plan.Phase2Quorum}, o.Log)
	}
	return raft.New(raft.Options{Replica: o.Replica, ElectionTicks: o.ElectionTicks,
		HardState: o.HardState, Applied: o.Applied, Config: o.Config, MaxMessageBytes: bytes, MaxApplyBytes: 2 * bytes, MaxUncommittedBytes: uncommitted}, o.Log)
}

// chance is which of several streams of chance from one seed is this group's.
func (p *part) chance(of uint64) uint64 { return of | uint64(p.group.index)<<8 }

func (p *part) gatewayOptions() gateway.Options {
	n, w := p.node, p.node.w
	limits, seed := &w.plan.Limits, n.random.Uint64()
	jitter := rand.New(rand.NewPCG(seed, 4))
	p.asks = seed | 1
	o := gateway.Options{
		Self: n.id, Router: entrance(p.group.id), Watched: p.group.id, Shards: map[kv.ShardID]gateway.Shard{p.group.id: p.replica},
		Sender:          n.transport,
		ValidateRequest: func(r *kv.Request) error { return shard.Validate(r, shard.Limits{}) },
		GuestMemory:     n.guestMemory(rand.New(rand.NewPCG(seed, 5))),
		RequestTimeout:  3 * time.Second, Instance: p.asks, Spawn: p.countReads(), Clock: n.now, Await: n.await,
		Listener: gateway.Listener{
			LeaderLost: func(kv.NodeID, int) { w.mark("writes of unknown outcome") },
			BadMessage: func(from kv.NodeID, err error) {
				if p.stranger && errors.Is(err, kv.ErrShardNotHere) { // the node will hold it, or did
					w.mark("frame of a shard that is not here")
					return
				}
				p.group.fail(Crash, "node %d got a message of node %v that it does not understand: %v", n.id, from, err)
			},
		},
		Watch: watch.Options{
			StreamBytes: limits.WatchRingRecords * 200, RingBytes: limits.WatchRingRecords * 200,
			ProgressInterval: 300 * time.Millisecond, Jitter: jitter.Int64N, Wake: p.wakeHub, WakeIn: p.wakeHubIn,
			Listener: watch.Listener{
				Lagging: func(int) { w.mark("watch detached") },
				Gap:     func(kv.Revision, kv.Revision) { w.mark("watch gap") },
			},
		},
	}
	if w.plan.Users {
		p.serveUsers(&o)
	}
	if w.shared() {
		n.serveStore(&o)
	}
	limits.Bounds.gateway(&o)
	return o
}
