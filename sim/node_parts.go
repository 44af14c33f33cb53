package sim

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/membership"
)

// gatewayTick is how often a node's gateway looks at the time, as in package server.
const gatewayTick = 20 * time.Millisecond

// open puts the parts of a process together, as package server does.
func (n *node) open() error {
	log, engine, err := n.disks.open()
	if err != nil {
		return err
	}
	n.log, n.engine, n.unsynced = log, engine, nil
	n.transport, n.guests = &transport{node: n}, account{}
	begin := n.choose()
	options := n.driverOptions(log, engine, begin)
	if n.w.shared() {
		if err := n.openIssuer(&options); err != nil {
			return err
		}
	}
	if n.store, err = driver.Open(options, n.now); err != nil {
		return err
	}
	if n.issuer != nil {
		n.issuer.Attach(leases{n.store, n})
	}
	for _, p := range begin {
		if p.replica = n.store.Replica(p.groupID()); p.replica == nil && p.failed != nil {
			n.w.mark("group failed at the start")
		}
	}
	for _, p := range begin {
		if p.replica == nil || p.gateway != nil {
			continue
		}
		if p.gateway, err = gateway.New(p.gatewayOptions()); err != nil {
			return err
		}
		if n.w.shared() {
			n.store.AskWith(p.gateway.Ask)
		}
	}
	return nil
}

// dirtyKeyBytes is what a node may keep in memory, and cache, for each key that may be dirty.
const dirtyKeyBytes = 300

// maxLogSegments is how large the real log may become: four segments are written, prepared or kept.
const maxLogSegments = 6

func (n *node) driverOptions(log *simLog, engine *simEngine, begin []*part) driver.Options {
	p := &n.w.plan
	groups := []consensus.GroupID{}
	safety := driver.ReadLease
	if p.ReadQuorum {
		safety = driver.ReadQuorum
	}
	seed := n.random.Uint64()
	first := map[consensus.GroupID][]membership.Home{}
	for _, p := range begin {
		groups = append(groups, p.groupID())
		first[p.groupID()] = n.firstOf(p, log)
	}
	for p := range n.held() {
		p.machines = rand.New(rand.NewPCG(seed, p.chance(3)))
	}
	o := driver.Options{
		Self: n.id, Nodes: n.knownNodes(), Added: n.joined(), Groups: groups, First: first, Log: log, Engine: engine, Transport: n.transport, Files: n.disks.stagedFiles(),
		StagingDir: "staging", Instance: uint64(n.id)<<32 | n.life, Rand: rand.New(rand.NewPCG(seed, 1)), ReadSafety: safety,
		Disk: n.diskID, Lost: n.knowsLoss, Founders: max(p.Phase1Quorum, p.Phase2Quorum), HeartbeatInterval: p.Limits.Heartbeat, RetainLogEntries: p.Limits.RetainLogEntries, FlushLogBytes: p.Limits.FlushLogBytes,
		FlushChunkRows: p.Limits.FlushChunkRows, MaxInflight: p.Limits.MaxInflight,
		MaxLogBytes:   maxLogSegments * p.Limits.Bounds.LogSegmentBytes,
		MaxDirtyBytes: dirtyKeyBytes * int64(p.Limits.MaxDirtyKeys), CacheBytes: dirtyKeyBytes * int64(p.Limits.MaxDirtyKeys),
		NewCore: func(o driver.CoreOptions) (consensus.Core, error) {
			p := n.partOf(o.Group)
			core, err := p.newCore(o, seed)
			p.core = shy{core, p}
			return p.core, err
		}, OutOfOrderLog: p.Protocol == Paxos,
		OpenMachine: func(group consensus.GroupID, logEnd consensus.Index) (driver.Machine, error) {
			p := n.partOf(group)
			n.founding = true
			defer func() { n.founding = false }()
			m, err := driver.OpenMachine(engine, p.machineOptions(logEnd), p.founding())
			if err != nil {
				return nil, err
			}
			p.machine = m
			return m, nil
		},
		ScrubInterval: scrubInterval, ScrubBytesPerSecond: scrubBytesPerSecond,
		HistoryHeld: n.holdHistory,
		Spawn:       n.spawn, Wake: n.wake, Listener: n.listener(),
	}
	p.Limits.Bounds.driver(&o)
	return o
}

func (n *node) listener() driver.Listener {
	w := n.w
	return driver.Listener{
		RoleChanged: func(group consensus.GroupID, change consensus.RoleChange, leader kv.NodeID) {
			w.happened(traceRole, n.partOf(group).number(), uint64(change.Role)<<32|uint64(leader), uint64(change.Term))
			p := n.partOf(group)
			if change.Role == consensus.RoleLeader {
				w.mark("leader elected")
				p.group.elected(p, change.Term)
				p.checkElected()
				if w.contest != nil && w.contest.group == p.group {
					w.contest.elected(n)
				}
			}
			if w.reading() {
				w.line("%s | %s in term %d, the leader is node %d", p.name(), change.Role, change.Term, leader)
			}
			if p.gateway != nil {
				p.gateway.LeaderChanged(p.group.id)
			}
		},
		NodeLost: func(kv.NodeID) { w.mark("node lost") },
		SnapshotSent: func(group consensus.GroupID, to kv.NodeID, meta consensus.SnapshotMeta, _ int64, err error) {
			w.mark("snapshot sent")
			if w.reading() {
				w.line("%s | sent node %d a snapshot at index %d: %v", n.partOf(group).name(), to, meta.Index, err)
			}
		},
		SnapshotInstalled: func(group consensus.GroupID, meta consensus.SnapshotMeta) {
			w.mark("snapshot installed")
			if w.reading() {
				w.line("%s | installed a snapshot at index %d", n.partOf(group).name(), meta.Index)
			}
		},
		Lost:   func(consensus.GroupID, consensus.ReplicaID) { w.mark("loss found out") },
		Joined: n.takesPart,
		ListChanged: func(list *members.List) {
			if w.plan.Members {
				n.hear(list, true)
			}
		},
		Removed:        n.groupLeft,
		SlowSync:       func(time.Duration) { w.mark("slow sync") },
		MessageRefused: func(consensus.GroupID, kv.NodeID, error) { w.mark("message refused") },
		Scrubbed:       func(driver.ScrubPass) { w.mark("scrub pass") },
		ScrubFailed: func(err error) {
			if !n.excused && !n.hasNoPower() && !errors.Is(err, errUnreadable) {
				w.fail(Crash, "node %d cannot read its disks again, and no fault explains it: %v", n.id, err)
			}
		},
		GroupFailed: func(group consensus.GroupID, err error) { n.partOf(group).groupFailed(err) },
		Failed:      n.nodeFailed,
	}
}

// receive takes a frame, as package server's peerHandler does.
func (n *node) receive(from kv.NodeID, channel byte, payload []byte) {
	if channel == gateway.ChannelRequest || channel == gateway.ChannelResponse {
		g := n.w.groups[shardOf(payload)-1]
		p := n.door(g)
		if p == nil {
			return
		}
		p.stranger = p.group != g
		p.expectKind(from, channel, payload)
		p.gateway.HandleMessage(from, channel, payload)
		return
	}
	if channel == issuer.Channel && n.issuer != nil {
		n.issuer.HandleMessage(from, payload)
		return
	}
	if n.understands(channel) {
		n.store.Receive(from, channel, payload)
	}
	n.store.ReceiveDone()
}

// shardOf is the shard that a frame between gateways is about, as package gateway/link has it.
func shardOf(payload []byte) kv.ShardID {
	if payload[0] <= ofShard {
		return kv.SystemShard
	}
	shard, _ := binary.Uvarint(payload[9:])
	return kv.ShardID(shard)
}

// ofShard is added to the kind of a frame that has the number of its shard.
const ofShard = 16

func (n *node) peerUp(node kv.NodeID, version uint16) {
	if other := n.w.named(node, uint(n.index)); n.w.plan.Members && other != nil {
		n.tellList(other)
	}
	n.store.PeerUp(node, version)
	if n.issuer != nil {
		n.issuer.PeerUp(node)
	}
	for f := range n.fronts() {
		f.gateway.PeerUp(node, n.dialect(version))
	}
}

func (n *node) peerDown(node kv.NodeID, refused bool) {
	n.store.PeerDown(node, refused)
	if n.issuer != nil {
		n.issuer.PeerDown(node)
	}
	for f := range n.fronts() {
		f.gateway.PeerDown(node)
	}
}

// tick lets the gateways notice deadlines, and the issuer what does not come.
func (n *node) tick() {
	if n.issuer != nil {
		n.issuer.Tick(n.now())
	}
	for f := range n.fronts() {
		f.tick(n.now())
	}
	n.push(n.w.now+gatewayTick, n.tick)
}
