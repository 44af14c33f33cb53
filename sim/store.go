package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/driver"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/sequencer"
	"github.com/quoratedb/quorate/sim/history"
)

// Shards of one store: their keys are told apart by a partitioning, one count of revisions orders what happens in all of them, and each node has one
// gateway for all. The history of its clients is that of the whole store.

// Partition says how the keys of one store are shared by its shards.
type Partition struct {
	Kind       string   `json:"kind"` // range or hash
	SplitKeys  []string `json:"split_keys,omitempty"`
	HashPrefix int      `json:"hash_prefix,omitempty"`
}

// The kinds of partitions.
const (
	ByRange = "range"
	ByHash  = "hash"
	// NoPartition is not one of a plan: it keeps a seed from drawing one.
	NoPartition = "none"
)

// storeShare: one seed in so many has one store of several shards.
const storeShare = 4

// drawStore has some of the seeds be about one store of 2 to 16 shards, as if that had been asked for.
func (o PlanOptions) drawStore(seed uint64) PlanOptions {
	random := rand.New(rand.NewPCG(seed, sourceStore))
	switch {
	case o.Partition == NoPartition:
		o.Partition = ""
	case o.Partition != "" || o.Shards != 0 || o.Workloads != nil || o.Faults != nil:
	case random.IntN(storeShare) == 0:
		o.Partition, o.Shards = pick(random, ByRange, ByHash), 2+random.IntN(15)
	}
	return o
}

// scheme is the partition as the product has it.
func (p *Plan) scheme() partition.Scheme {
	s := partition.Scheme{Kind: partition.Range, Shards: p.Shards, HashPrefix: p.Partition.HashPrefix}
	if p.Partition.Kind == ByHash {
		s.Kind = partition.Hash
	}
	for _, key := range p.Partition.SplitKeys {
		s.SplitKeys = append(s.SplitKeys, []byte(key))
	}
	return s
}

// splitKeys are keys between, and among, those of the workloads.
var splitKeys = []string{
	"append/1", "append/2", "b/2", "b/4", "bank/", "bank/2", "bank/4", "counter/", "cycle/2", "cycle/4", "cycle/6", "edge/", "hop/1", "lock/", "nested/", "p/", "p/2", "p/4", "page/", "page/07", "page/13", "q", "r/", "r/1", "r/2", "r/3",
	"random/", "s/", "s/05", "s/10", "s/15", "s/20", "s/25", "set/", "set/002/", "sweep/", "unique/by/2", "unique/row/", "unique/row/3",
	"w/", "x",
}

// drawPartition makes the shards those of one store. Half of the partitions leave the keys of a workload together, so that it can change several at once.
func (p *Plan) drawPartition(kind string) {
	random := rand.New(rand.NewPCG(p.Seed, sourcePartition))
	p.Shards = cmp.Or(p.Shards, 2+random.IntN(7))
	p.Partition = &Partition{Kind: kind}
	p.Commit = pick(rand.New(rand.NewPCG(p.Seed, sourceCommit)), TwoPhase, ThreePhase)
	if kind == ByHash {
		p.Partition.HashPrefix = random.IntN(2)
		return
	}
	p.Shards = min(p.Shards, len(splitKeys)+1)
	for _, i := range random.Perm(len(splitKeys))[:p.Shards-1] {
		p.Partition.SplitKeys = append(p.Partition.SplitKeys, splitKeys[i])
	}
	slices.Sort(p.Partition.SplitKeys)
}

// censusShare: one store in so many has clients that list keys of many shards.
const censusShare = 3

// addCensus has some of the clients do that. By range, keys of theirs are in several shards. Half of the others have more clients whose requests and leases are
// for any keys.
func (p *Plan) addCensus() {
	random := rand.New(rand.NewPCG(p.Seed, sourceCensus))
	if random.IntN(censusShare) != 0 {
		if random.IntN(2) == 0 {
			p.replaceClients(1+random.IntN(3), pick(random, aside...))
		}
		return
	}
	p.replaceClients(2+random.IntN(3), "census")
	splits := p.Partition.SplitKeys
	for i, at := range random.Perm(len(splits))[:min(len(splits), 1+random.IntN(len(censusSplits)))] {
		splits[at] = censusSplits[i]
	}
	slices.Sort(splits)
}

// censusSplits are keys between those of the workload census.
var censusSplits = []string{"census/1", "census/5", "census/8"}

// aside are workloads whose requests are for any keys.
var aside = []string{"bulk", "random"}

// anyKeys are the workloads of a store of several shards: there are more of those whose transactions have keys in several.
func anyKeys() []string {
	return append(anyPlace(), "bank", "bulk", "cycle", "cycle", "append", "append", "unique", "unique")
}

// shared tells whether the groups are shards of one store.
func (w *world) shared() bool { return w.plan.Partition != nil }

// openIssuer makes the node's issuer, by which the driver numbers what happens in the shards.
func (n *node) openIssuer(o *driver.Options) (err error) {
	random := n.w.source(sourceWindow, 0)
	n.issuer, err = issuer.New(issuer.Options{
		Self: n.id, Instance: o.Instance, Shards: n.w.plan.scheme().ShardIDs(), Sender: n.transport, ElectionTimeout: 10 * n.w.plan.Limits.Heartbeat,
		Sequencer: sequencer.Options{Window: pick(random, uint64(2), 16, 500), Issued: n.issued},
		Refused: func(from kv.NodeID, err error) {
			n.w.fail(Crash, "node %d got a frame for the sequencer, or from it, of node %v that makes no sense: %v", n.id, from, err)
		},
	})
	if err != nil {
		return err
	}
	n.clerk = newClerk(n)
	o.Numbers, o.Sequencing = n.clerk, n.clerk
	return nil
}

// serveStore has a gateway serve all shards of the store.
func (n *node) serveStore(o *gateway.Options) {
	for p := range n.held() {
		o.Shards[p.group.id] = p.replica
	}
	whole, err := o.OfStore(n.w.plan.scheme(), n.clerk)
	if err != nil {
		panic(err) // the plan is valid
	}
	*o = whole
	o.Commit = n.w.plan.Commit.product()
	o.Fenced = func() bool { return n.clerk.Alarms()&(1<<kv.AlarmFence) != 0 }
}

// knows is the highest revision that the process has heard of, or has itself.
func (n *node) knows() kv.Revision {
	known := n.issuer.Known()
	for p := range n.held() {
		if p.replica != nil {
			known = max(known, p.replica.Revision())
		}
	}
	return known
}

// checkKnown: what a node answers from its own state is not newer than what it knows of.
func (n *node) checkKnown(req *kv.Request, resp *kv.Response) {
	if resp == nil || !n.w.shared() || req.Kind != kv.KindRange || !req.Range.Serializable {
		return
	}
	if known := n.knows(); resp.Revision > known {
		n.w.fail(Correctness, "node %d answers %s as of revision %d, and knows of none above %d", n.id, describeRequest(req), resp.Revision, known)
	}
}

// noteIssued notes how far the store has come: whoever is told of a revision is told later.
func (w *world) noteIssued(revision kv.Revision) {
	h := w.groups[0].history
	if n := len(h.Issued); n == 0 || h.Issued[n-1].Revision < revision {
		h.Issued = append(h.Issued, history.Issue{At: w.now, Revision: revision})
	}
}

// completeStore adds to the history of the store what clients cannot know.
func (w *world) completeStore() {
	h := w.groups[0].history
	h.Sparse = true
	h.Full = w.storeEvents()
	table, err := partition.New(w.plan.scheme())
	if err != nil {
		panic(err) // the plan is valid
	}
	h.ShardOf = func(key []byte) kv.ShardID { return table.Overlapping(kv.Span{Start: key})[0].Shard }
	for _, g := range w.groups {
		h.Commits = append(h.Commits, g.storeCommits()...)
	}
	slices.SortStableFunc(h.Commits, func(a, b history.Commit) int { return cmp.Compare(a.At, b.At) })
	h.Final = 1
	if n := len(h.Issued); n > 0 {
		h.Final = h.Issued[n-1].Revision
	}
	w.checkIssued()
	w.checkRefusals()
	if w.verdict == "" && !w.plan.LoseQuorum {
		w.explainGaps()
	}
}

// storeCommits are those of the group as they are of the store: a compaction is one when the system shard logs it.
func (g *group) storeCommits() []history.Commit {
	commits := slices.Clone(g.truth.commits)
	for i := range commits {
		if at := &commits[i].Compacted; g.index > 0 && *at > 0 {
			if !g.w.compactedBy(*at, commits[i].At) {
				g.fail(Correctness, "the shard was compacted at %d, the store was not by then", *at)
			}
			*at = 0
		}
	}
	return commits
}

// compactedBy tells whether the store was compacted at a revision by a moment.
func (w *world) compactedBy(at kv.Revision, by time.Duration) bool {
	return slices.ContainsFunc(w.groups[0].truth.commits, func(c history.Commit) bool { return c.Compacted == at && c.At <= by })
}

// compacted is up to where the store is compacted.
func (w *world) compacted() kv.Revision {
	t := w.groups[0].truth
	return t.compactedAt(consensus.BootstrapIndex + consensus.Index(len(t.log)))
}

// checkIssued: a revision is of the shards that it was issued to, and none takes effect that was not issued before.
func (w *world) checkIssued() {
	w.checkWhole()
	if h := w.groups[0].history; len(h.Full) > 0 && h.Full[len(h.Full)-1].KV.ModRevision > h.Final {
		w.fail(Correctness, "revision %d took effect, %d was issued last", h.Full[len(h.Full)-1].KV.ModRevision, h.Final)
	}
}

// validatePartition tells what is wrong with the partition of a plan.
func (p *Plan) validatePartition() error {
	if p.Partition == nil {
		return nil
	}
	if p.Partition.Kind != ByRange && p.Partition.Kind != ByHash {
		return fmt.Errorf("sim: there is no partition by %q; there are %s and %s", p.Partition.Kind, ByRange, ByHash)
	}
	if p.Homes != nil || p.Shards < 2 {
		return fmt.Errorf("sim: a store of %d shards, and homes %v; there must be several, all of them on all nodes", p.Shards, p.Homes)
	}
	if p.Commit != "" && p.Commit != TwoPhase && p.Commit != ThreePhase {
		return fmt.Errorf("sim: there is no commit protocol %q; there are %s and %s", p.Commit, TwoPhase, ThreePhase)
	}
	if err := p.scheme().Validate(); err != nil {
		return fmt.Errorf("sim: partition the keys: %w", err)
	}
	return nil
}
