package sim

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/sim/oracle"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// compare holds the states of all nodes against each other. Every node is there: who lost its data has it again.
func (w *world) compare() {
	w.recover() // the checks of the workloads may have written
	if w.verdict != "" {
		return
	}
	for _, n := range w.nodes {
		if err := n.disks.check(); err != nil {
			w.fail(Crash, "the disks of node %d: %v", n.id, err)
		}
		if err := n.store.Check(); err != nil {
			w.fail(Crash, "node %d breaks an invariant: %v", n.id, err)
		}
		if m := n.store.Metrics(); m.RequestsQueued != 0 || m.RequestBytes != 0 {
			w.fail(Crash, "node %d counts %d requests of %d bytes, all are answered", n.id, m.RequestsQueued, m.RequestBytes)
		}
		if n.guests.bytes != 0 {
			w.fail(Crash, "node %d holds %d bytes for requests that others forwarded to it, all are answered", n.id, n.guests.bytes)
		}
	}
	for _, g := range w.groups {
		g.compare()
	}
	w.checkMembers()
}

// compare holds the states of all nodes against each other, and against what happened.
func (g *group) compare() {
	var first *part
	for p := range g.parts() {
		p.check()
		if err := p.machine.(*shard.Machine).CheckVersions(); err != nil {
			g.fail(Crash, "%s: %v", p.name(), err)
		}
		p.checkGateway()
		if err := g.truth.tellsTheTruth(p); err != nil {
			g.fail(Correctness, "%v", err)
		}
		if first == nil {
			first = p
			continue
		}
		if err := sameState(first, p); err != nil {
			g.fail(Correctness, "%v", err)
		}
	}
	g.compareHashes()
}

// judge holds the answers against the oracle.
func (w *world) judge() {
	for _, g := range w.groups {
		if w.verdict != "" || w.shared() && g.index > 0 {
			return
		}
		g.complete()
		if problems := oracle.Check(g.history); len(problems) > 0 {
			g.fail(Correctness, "%s", strings.Join(problems, "\n"))
		}
	}
}

// complete adds to the history what clients cannot know.
func (g *group) complete() {
	w, h := g.w, g.history
	if w.shared() {
		w.completeStore()
	} else {
		h.Full, h.Final, h.Commits = g.truth.events, g.truth.revision, g.truth.commits
	}
	h.ClockDrift, h.HealthySince = w.plan.Limits.ClockDrift, w.healed
	h.MaxEffectBytes, h.KeysPerExpiry = w.plan.Limits.Bounds.MaxRequestEffectBytes, w.plan.Limits.Bounds.keysPerExpiry(w.shared())
	if w.plan.LoseQuorum {
		h.HealthySince = 0 // leases end with those who kept them
	}
	for _, f := range w.plan.Faults {
		if f.Kind == FaultClockJump || f.Kind == FaultClockRate {
			// Then nobody can say when a lease of the store ends.
			h.ClockDrift, h.HealthySince = 1e4, 0
		}
	}
}

// sameState compares two nodes' parts of a group at every revision that they still have.
func sameState(a, b *part) error {
	if a.replica.Applied() != b.replica.Applied() || a.replica.Revision() != b.replica.Revision() || a.replica.Compacted() != b.replica.Compacted() {
		return fmt.Errorf("node %d is at entry %d, revision %d, compacted %d; node %d at %d, %d, %d", a.node.id, a.replica.Applied(), a.replica.Revision(),
			a.replica.Compacted(), b.node.id, b.replica.Applied(), b.replica.Revision(), b.replica.Compacted())
	}
	left, right := a.replica.View(), b.replica.View()
	defer left.Close()
	defer right.Close()
	// A hash covers all rows up to its revision that were not superseded and forgotten, so a few say as much as all.
	first, last := max(1, a.replica.Compacted()), a.replica.Revision()
	for _, revision := range []kv.Revision{first, first + (last-first)/2, last} {
		x, err := left.Hash(revision)
		if err != nil {
			return fmt.Errorf("node %d at revision %d: %w", a.node.id, revision, err)
		}
		y, err := right.Hash(revision)
		if err != nil {
			return fmt.Errorf("node %d at revision %d: %w", b.node.id, revision, err)
		}
		if x != y {
			return fmt.Errorf("at revision %d node %d has hash %x, node %d %x", revision, a.node.id, x, b.node.id, y)
		}
	}
	return nil
}

// tellsTheTruth compares the history that a node retains with what happened.
func (t *truth) tellsTheTruth(p *part) error {
	view := p.replica.View()
	defer view.Close()
	from := max(view.Compacted(), 1) + 1
	events := t.events
	for len(events) > 0 && events[0].KV.ModRevision < from {
		events = events[1:]
	}
	for from <= view.Closed() {
		next, err := view.History(from, view.Closed(), 1<<20, func(e *mvcc.Effect) error {
			switch {
			case len(events) == 0:
				return fmt.Errorf("the history has %q at revision %d, which never happened", e.Key, e.At.Rev)
			case !sameEvent(e, &events[0]):
				return fmt.Errorf("the history has %q=%q at revision %d, but %q=%q at %d is next", e.Key, e.Value, e.At.Rev,
					events[0].KV.Key, events[0].KV.Value, events[0].KV.ModRevision)
			}
			events = events[1:]
			return nil
		})
		if err != nil {
			return fmt.Errorf("node %d: %w", p.node.id, err)
		}
		from = next
	}
	if len(events) > 0 {
		return fmt.Errorf("node %d: revision %d is missing in the history", p.node.id, events[0].KV.ModRevision)
	}
	return nil
}

func sameEvent(e *mvcc.Effect, event *kv.Event) bool {
	return bytes.Equal(e.Key, event.KV.Key) && e.At.Rev == event.KV.ModRevision && e.Version == event.KV.Version &&
		(e.Version == 0 || bytes.Equal(e.Value, event.KV.Value) && e.Create == event.KV.CreateRevision && e.Lease == event.KV.Lease)
}
