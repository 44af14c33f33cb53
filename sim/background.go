package sim

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/workload"
	"github.com/quoratedb/quorate/storage/keys"
)

// firstBackground is the number of the client that has history compacted in the end.
const firstBackground = 3 * firstAside

// backgroundShare: one run in so many ends with a look at the work in the background, which costs some time.
const backgroundShare = 3

// background demands that what nodes do beside requests gets on: that a compaction makes them flush, deletes the rows that it is about, and lets the
// log go, and that nothing is left of snapshots and of work beside the rounds. Nobody asks for anything else.
func (w *world) background() {
	if w.verdict != "" || w.plan.Seed%backgroundShare != 0 {
		return
	}
	for _, g := range w.groups {
		if w.shared() && g.index > 0 {
			break // the shards follow the first one
		}
		c := g.newClient(g.aside(firstBackground), "background", func(c workload.Client) { workload.CompactAll(c, patience/2) })
		w.runUntil(w.now+patience, 5*time.Millisecond, func() bool { return c.done })
		if w.verdict != "" {
			return
		}
	}
	var stuck error
	if !w.runUntil(w.now+patience, 5*time.Millisecond, func() bool { stuck = w.stuck(); return stuck == nil }) && w.verdict == "" {
		w.fail(Liveness, "%s after history was compacted on a healthy cluster, %v:%s", patience, stuck, w.describe())
	}
	w.compare()
}

// stuck tells what a node has not done yet.
func (w *world) stuck() error {
	for _, n := range w.nodes {
		if !n.up {
			return fmt.Errorf("node %d is down", n.id)
		}
		if err := n.unfinished(); err != nil {
			return fmt.Errorf("node %d %w", n.id, err)
		}
		for p := range n.held() {
			if err := p.unfinished(); err != nil {
				return fmt.Errorf("%s %w", p.name(), err)
			}
		}
	}
	return nil
}

func (n *node) unfinished() error {
	switch {
	case len(n.jobs) > 0:
		return fmt.Errorf("has not ended %d works beside its rounds", len(n.jobs))
	case n.disks.stagedCount() > 0:
		return fmt.Errorf("keeps %d files of snapshots", n.disks.stagedCount())
	}
	return nil
}

func (p *part) unfinished() error {
	compaction, keeps := p.group.truth.compaction, p.node.w.plan.Limits.RetainLogEntries
	log := p.log()
	rows, err := p.versionRows()
	switch needed := p.group.truth.rowsSince(p.replica.Compacted()); {
	case err != nil:
		return fmt.Errorf("cannot read its rows: %w", err)
	case p.node.w.shared() && p.replica.Compacted() < p.node.w.compacted():
		return fmt.Errorf("is compacted at revision %d, the store at %d", p.replica.Compacted(), p.node.w.compacted())
	case consensus.Index(p.replica.Applied()) < compaction:
		return errors.New("has not applied the compaction")
	case p.replica.Compacting():
		return fmt.Errorf("has not deleted what was compacted at revision %d", p.replica.Compacted())
	case rows != needed:
		return fmt.Errorf("has %d versions of keys, %d are needed", rows, needed)
	case log.First()+consensus.Index(keeps) <= compaction:
		return fmt.Errorf("has entries %d to %d of the log, though it keeps %d at most and its state is to be durable at %d",
			log.First(), log.Last(), keeps, compaction)
	}
	return nil
}

// versionRows counts the versions of keys of the group that the node has on disk.
func (p *part) versionRows() (rows int, err error) {
	lineage := keys.Of(p.group.id)
	i := p.node.engine.NewIterator(keys.AppendVersion(nil, lineage, 0, 0), keys.AppendVersion(nil, lineage, math.MaxInt64, 0))
	for ok := i.First(); ok; ok = i.Next() {
		if _, _, value, err := keys.ParseVersion(i.Key()); err == nil && !value {
			rows++
		}
	}
	return rows, errors.Join(i.Error(), i.Close())
}

// rowsSince is how many versions are needed when history was compacted at a revision: all from there on, and of each key that has none at that revision
// but lived then its last one before. Keys that died later count, too: those that a lease took with it meanwhile, for example.
func (t *truth) rowsSince(compacted kv.Revision) int {
	rows := 0
	for _, row := range t.live {
		if row.ModRevision < compacted {
			rows++
		}
	}
	for i := len(t.events) - 1; i >= 0 && t.events[i].KV.ModRevision >= compacted; i-- {
		rows++
		if e := &t.events[i]; e.KV.ModRevision > compacted && e.Prev != nil && e.Prev.ModRevision < compacted {
			rows++
		}
	}
	return rows
}
