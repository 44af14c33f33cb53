package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/kv"
)

// Faults of a store of several shards: between the node that issues revisions, which leads the system shard, and the leaders of the others, and in one
// shard while the others go on.
const (
	// FaultSequencerCut cuts the node that issues revisions off from some of the nodes that lead shards, as Seed says, and from no others.
	FaultSequencerCut FaultKind = "sequencer-cut"
	// FaultSequencerLost cuts the power of the node that issues revisions.
	FaultSequencerLost FaultKind = "sequencer-lost"
	// FaultSequencerPaused stops the process of the node that issues revisions, while its clock goes on.
	FaultSequencerPaused FaultKind = "sequencer-paused"
	// FaultSequencerMoves has the leader of the system shard hand over to another node, as FaultTransfer does.
	FaultSequencerMoves FaultKind = "sequencer-moves"
	// FaultSessionLoss has the senders' buffers refuse a share Amount of the frames from and to the sequencer, and of no others.
	FaultSessionLoss FaultKind = "session-loss"
	// FaultSessionBreaks breaks the connection of the node that issues revisions with another one, as Seed says, again and again.
	FaultSessionBreaks FaultKind = "session-breaks"
	// FaultSlowShard lets each sync of Node that makes something of Shard durable take up to Amount ms; those of other shards take as long as ever.
	FaultSlowShard FaultKind = "slow-shard"
	// FaultLaggard lets consensus messages of the leader of Shard reach Node Amount ms later, so that it has of some shards less than of others.
	FaultLaggard FaultKind = "laggard"
)

// storeFaults are those.
var storeFaults = []FaultKind{
	FaultSequencerCut, FaultSequencerLost, FaultSequencerPaused, FaultSequencerMoves, FaultSessionLoss, FaultSessionBreaks, FaultSlowShard, FaultLaggard,
}

// ofStore: the groups are shards of one store, and its nodes ask each other for revisions.
func ofStore(p *Plan) bool { return p.Partition != nil && p.Nodes > 1 }

// aimedShare: one store in so many has some of those faults and no others, unless it is about plots.
const aimedShare = 3

// aimAtStore chooses them; nil: the run has faults of all kinds.
func (p *Plan) aimAtStore() []FaultKind {
	random := rand.New(rand.NewPCG(p.Seed, sourceStoreFaults))
	if p.Partition == nil || random.IntN(aimedShare) != 0 {
		return nil
	}
	var kinds []FaultKind
	for _, of := range [][]FaultKind{storeFaults, commitFaults} {
		for _, i := range random.Perm(len(of))[:1+random.IntN(3)] {
			kinds = append(kinds, of[i])
		}
	}
	if random.IntN(3) > 0 {
		kinds = append(kinds, FaultAnchorSilent)
	}
	if random.IntN(3) == 0 {
		kinds = append(kinds, FaultParticipantSilent)
	}
	return kinds
}

func (w *world) injectStore(f *Fault, _ *node, random *rand.Rand) bool {
	if !slices.Contains(storeFaults, f.Kind) {
		return false
	}
	issues := w.group(int(kv.SystemShard)).leader()
	if f.Kind == FaultSequencerMoves {
		w.transfer(w.group(int(kv.SystemShard)), random)
		return true
	}
	if issues == nil {
		return true // nobody does at the moment
	}
	switch n := issues.node; f.Kind {
	case FaultSequencerCut:
		for _, other := range w.others(n, 0) {
			if w.leadsShards(other) && random.IntN(2) == 0 {
				w.cutFor(f, n, other)
			}
		}
	case FaultSequencerLost:
		w.power(f, n, random)
	case FaultSequencerPaused:
		n.frozenUntil = max(n.frozenUntil, w.now+f.Duration)
	case FaultSessionLoss:
		w.share(f, &w.net.sessionLoss)
	case FaultSessionBreaks:
		others := w.others(n, 0)
		w.breakAgain(n, others[random.IntN(len(others))], w.now+f.Duration, random)
	case FaultSlowShard:
		w.slowShard(f)
	case FaultLaggard:
		w.laggard(f, random)
	}
	return true
}

// leadsShards tells whether the node leads any.
func (w *world) leadsShards(n *node) bool {
	return slices.ContainsFunc(w.groups, func(g *group) bool { l := g.leader(); return l != nil && l.node == n })
}

// cutFor cuts two nodes off from each other while the fault lasts.
func (w *world) cutFor(f *Fault, a, b *node) {
	for _, ends := range [2][2]*node{{a, b}, {b, a}} {
		w.net.block(ends[0], ends[1])
		w.undo(f, func() { w.net.unblock(ends[0], ends[1]) })
	}
}

// breakAgain breaks a connection as soon as it has been there for a while.
func (w *world) breakAgain(a, b *node, until time.Duration, random *rand.Rand) {
	if w.ended || w.now > until {
		return
	}
	w.net.breakConn(a, b, true)
	w.after(5*time.Millisecond+time.Duration(random.Int64N(int64(150*time.Millisecond))), func() { w.breakAgain(a, b, until, random) })
}

func (w *world) slowShard(f *Fault) {
	n := w.target(f)
	n.slow.shard, n.slow.shardSync = w.group(f.Shard).id, milliseconds(f.Amount)
	w.undo(f, func() { n.slow.shardSync = 0 })
}

func (w *world) laggard(f *Fault, random *rand.Rand) {
	leader := w.group(f.Shard).leader()
	if leader == nil {
		return
	}
	others := w.others(leader.node, f.Node)
	if len(others) > 0 {
		w.net.lagFor(leader.node, others[random.IntN(len(others))], driver.ChannelConsensus, milliseconds(f.Amount), f.Duration)
	}
}

// losesSession tells whether the sender's buffer refuses a frame from or to the sequencer.
func (n *network) losesSession(from, to *node, channel byte) bool {
	return n.sessionLoss > 0 && channel == issuer.Channel && n.link(from, to).random.Float64() < n.sessionLoss
}

// writesSlowly tells whether the next sync makes something durable of the shard that the node's disk is slow with.
func (n *node) writesSlowly() bool {
	return n.slow.shardSync > 0 && slices.ContainsFunc(n.parts, func(p *part) bool { return p != nil && p.group.id == n.slow.shard && p.unsynced() })
}
