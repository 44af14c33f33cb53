package explore

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quoratedb/quorate/consensus"
)

// ledger is what an observer of the whole past knows. It is never changed: an event makes a new one.
type ledger struct {
	leaders   map[consensus.Term]life                // who led
	grants    map[grant]consensus.ReplicaID          // who was voted for
	votes     map[vote]ballotValue                   // on any disk, ever
	chosen    map[consensus.Index]record             // by a quorum of disks under one ballot
	committed []commitment                           // known to be committed by some replica, from BootstrapIndex+1 on
	applied   map[consensus.Index]consensus.Entry    // by some replica, with the data it got
	configs   []configAt                             // the first and each applied one
	reads     map[consensus.ReadID]consensus.Index   // asked for, with the least index that is a right answer
	durable   map[consensus.ReplicaID]consensus.Term // highest term each disk has held
}

// commitment is a committed entry with the term of the replica that was first seen to know it.
type commitment struct {
	entry consensus.Entry
	term  consensus.Term
}

type life struct {
	id          consensus.ReplicaID
	incarnation int
}

type grant struct {
	term  consensus.Term
	voter consensus.ReplicaID
}

type vote struct {
	slot   consensus.Index
	ballot consensus.Term
}

type ballotValue struct {
	entry  consensus.Entry
	voters uint64 // bit set
}

type configAt struct {
	index  consensus.Index
	config consensus.Config
}

func newLedger(founders consensus.Config) *ledger {
	return &ledger{
		leaders: make(map[consensus.Term]life), grants: make(map[grant]consensus.ReplicaID), votes: make(map[vote]ballotValue),
		chosen: make(map[consensus.Index]record), applied: make(map[consensus.Index]consensus.Entry),
		configs: []configAt{{consensus.BootstrapIndex, founders}}, reads: make(map[consensus.ReadID]consensus.Index),
		durable: make(map[consensus.ReplicaID]consensus.Term),
	}
}

func (l *ledger) clone() *ledger {
	return &ledger{
		leaders: maps.Clone(l.leaders), grants: maps.Clone(l.grants), votes: maps.Clone(l.votes), chosen: maps.Clone(l.chosen),
		committed: slices.Clip(l.committed), applied: maps.Clone(l.applied), configs: slices.Clip(l.configs), reads: maps.Clone(l.reads),
		durable: maps.Clone(l.durable),
	}
}

// last is the last index known to be committed.
func (l *ledger) last() consensus.Index {
	return consensus.BootstrapIndex + consensus.Index(len(l.committed))
}

func (l *ledger) at(i consensus.Index) consensus.Entry {
	return l.committed[i-consensus.BootstrapIndex-1].entry
}

// configBefore is the membership in force for the slot.
func (l *ledger) configBefore(i consensus.Index) consensus.Config {
	config := l.configs[0].config
	for _, c := range l.configs {
		if c.index < i {
			config = c.config
		}
	}
	return config
}

// news is what a transition adds to a ledger, and the first invariant it breaks.
type news struct {
	env           *environment
	next          *ledger
	before, after *view
	eff           *effect
	violation     *Violation
}

func (n *news) violated(name Invariant, format string, args ...any) {
	if n.violation == nil && n.env.judge(name) {
		n.violation = &Violation{Invariant: name, What: fmt.Sprintf(format, args...)}
	}
}

// learn takes note of what a transition did.
func (l *ledger) learn(env *environment, before, after *view, t *transition, in input) (*ledger, *Violation) {
	n := &news{env: env, next: l.clone(), before: before, after: after, eff: &t.Effect}
	if in.verb == verbRead && !t.Effect.refused {
		n.next.reads[consensus.ReadID(in.number)] = l.last()
	}
	if in.verb == verbCrash {
		n.forgetReads()
	}
	n.disks()
	n.messages()
	n.leads()
	n.commits()
	n.applies()
	n.answers()
	return n.next, n.violation
}

// forgetReads: nobody waits any more for what a crashed replica was asked. The ids say whom they were asked of.
func (n *news) forgetReads() {
	for id := range n.next.reads {
		if readAskedOf(id) == n.after.id {
			delete(n.next.reads, id)
		}
	}
}

// disks judges what became durable.
func (n *news) disks() {
	id := n.after.id
	if n.after.seenTerm < n.next.durable[id] {
		n.violated(PromiseKept, "on the disk of replica %d the term went from %d to %d", id, n.next.durable[id], n.after.seenTerm)
	}
	n.next.durable[id] = max(n.next.durable[id], n.after.seenTerm)
	for _, rec := range n.eff.durable {
		n.voted(id, rec)
	}
}

// voted: a record is on the disk of a replica.
func (n *news) voted(id consensus.ReplicaID, rec record) {
	key := vote{rec.entry.Index, rec.ballot}
	value, known := n.next.votes[key]
	if known && !sameEntry(value.entry, rec.entry) {
		n.violated(OneValuePerBallot, "two values for slot %d under ballot %d: %s and %s", rec.entry.Index, rec.ballot, describe(value.entry), describe(rec.entry))
	}
	if !known {
		value.entry = rec.entry
	}
	value.voters |= 1 << id
	n.next.votes[key] = value
	if n.env.protocol.RaftLogs {
		return
	}
	n.stays(rec)
	config := n.next.configBefore(rec.entry.Index)
	if n.env.protocol.enough(config, func(id consensus.ReplicaID) bool { return value.voters&(1<<id) != 0 }) {
		n.choose(record{value.entry, rec.ballot})
	}
}

// choose takes note of a chosen value.
func (n *news) choose(rec record) {
	known, ok := n.next.chosen[rec.entry.Index]
	if ok && !sameEntry(known.entry, rec.entry) {
		n.violated(Agreement, "slot %d: %s was chosen under ballot %d, and now %s under ballot %d",
			rec.entry.Index, describe(known.entry), known.ballot, describe(rec.entry), rec.ballot)
	}
	if !ok || rec.ballot < known.ballot {
		n.next.chosen[rec.entry.Index] = rec
	}
}

// stays: above the ballot that chose a value there is no other value.
func (n *news) stays(rec record) {
	if known, ok := n.next.chosen[rec.entry.Index]; ok && rec.ballot > known.ballot && !sameEntry(known.entry, rec.entry) {
		n.violated(ChosenIsStable, "slot %d: %s was chosen under ballot %d, and now there is %s under ballot %d",
			rec.entry.Index, describe(known.entry), known.ballot, describe(rec.entry), rec.ballot)
	}
}

// messages judges what was said.
func (n *news) messages() {
	p := &n.env.protocol
	for _, number := range n.eff.sent {
		m := &n.env.network.letters[number].header
		if p.Granted != nil && p.Granted(m) {
			key := grant{m.Term, m.From}
			if other, ok := n.next.grants[key]; ok && other != m.To {
				n.violated(VoteOnce, "replica %d votes in term %d for %d and for %d", m.From, m.Term, other, m.To)
			}
			n.next.grants[key] = m.To
		}
		if p.Proposed == nil || p.RaftLogs {
			continue
		}
		whole, _ := n.env.network.open(number)
		for _, e := range p.Proposed(&whole) {
			n.stays(record{e, m.Term})
			if value, ok := n.next.votes[vote{e.Index, m.Term}]; ok && !sameEntry(value.entry, e) {
				n.violated(OneValuePerBallot, "two values for slot %d under ballot %d: %s and %s", e.Index, m.Term, describe(value.entry), describe(e))
			}
		}
	}
}

// leads judges a new leader, and one that goes on.
func (n *news) leads() {
	v := n.after
	if term := n.eff.leads; term != 0 {
		me := life{v.id, v.incarnation}
		if other, ok := n.next.leaders[term]; ok && other != me {
			n.violated(ElectionSafety, "replica %d leads in term %d, in its life %d; replica %d did in its life %d", v.id, term, v.incarnation, other.id, other.incarnation)
		}
		n.next.leaders[term] = me
		if n.env.protocol.RaftLogs {
			n.complete(term)
		}
	}
	was := &n.before.status
	if was.Role != consensus.RoleLeader || v.status.Role != consensus.RoleLeader || was.Term != v.status.Term {
		return
	}
	for _, rec := range n.before.log {
		now, ok := at(v.log, rec.entry.Index)
		if ok && sameEntry(now.entry, rec.entry) || !ok && rec.entry.Index <= v.base || !n.env.protocol.RaftLogs && rec.ballot != was.Term {
			continue
		}
		n.violated(LeaderAppendOnly, "leader %d of term %d had %s at %d", v.id, was.Term, describe(rec.entry), rec.entry.Index)
	}
}

// complete: a leader has everything committed in earlier terms. Not what was in later ones: votes may arrive so late that their
// candidate begins to lead when others have done so in later terms.
func (n *news) complete(term consensus.Term) {
	for i := n.after.base + 1; i <= n.next.last(); i++ {
		if i <= consensus.BootstrapIndex || n.next.committed[i-consensus.BootstrapIndex-1].term >= term {
			continue
		}
		if rec, ok := at(n.after.log, i); !ok || !sameEntry(rec.entry, n.next.at(i)) {
			n.violated(LeaderCompleteness, "replica %d leads in term %d without the committed entry %s at %d", n.after.id, term, describe(n.next.at(i)), i)
		}
	}
}

// commits judges what the replica knows to be committed.
func (n *news) commits() {
	v := n.after
	if !v.up || v.installing {
		return
	}
	for _, rec := range v.log {
		i := rec.entry.Index
		switch {
		case i > v.status.Commit || i <= consensus.BootstrapIndex:
		case i <= n.next.last():
			if known := n.next.at(i); !sameEntry(known, rec.entry) {
				n.violated(Agreement, "replica %d has %s committed at %d, another one %s", v.id, describe(rec.entry), i, describe(known))
			}
		case i == n.next.last()+1:
			n.next.committed = append(n.next.committed, commitment{rec.entry, v.status.Term})
		}
	}
}

// applies judges what reached the state machine.
func (n *news) applies() {
	for _, e := range n.eff.applied {
		known, ok := n.next.applied[e.Index]
		if ok && !sameEntry(known, e) {
			n.violated(StateMachineSafety, "replica %d applies %s at %d, another one applied %s", n.after.id, describe(e), e.Index, describe(known))
		}
		if ok {
			continue
		}
		n.next.applied[e.Index] = e
		if e.Kind == consensus.EntryConfig {
			n.changed(e)
		}
	}
	if s := n.eff.installed; s != nil {
		n.snapshot(s)
	}
	if v := n.after; v.durableBase > max(n.next.last(), consensus.BootstrapIndex) {
		n.violated(TrimmedIsDecided, "the log of replica %d begins after %d, committed is %d", v.id, v.durableBase, n.next.last())
	}
}

// changed: the quorums of successive memberships meet.
func (n *news) changed(e consensus.Entry) {
	config, err := consensus.DecodeConfig(e.Data)
	if err != nil {
		n.violated(StateMachineSafety, "entry %d holds no membership: %v", e.Index, err)
		return
	}
	before := n.next.configs[len(n.next.configs)-1].config
	if n.env.protocol.RaftLogs && !overlap(before, config) {
		n.violated(QuorumsOverlap, "a quorum of %s and one of %s need not meet", before, config)
	}
	n.next.configs = append(n.next.configs, configAt{e.Index, config})
}

// overlap tells whether every quorum of a meets every quorum of b, by trying all.
func overlap(a, b consensus.Config) bool {
	members := slices.Concat(a.Members(), b.Members())
	slices.Sort(members)
	members = slices.Compact(members)
	for set := range 1 << len(members) {
		in := func(id consensus.ReplicaID) bool { return set&(1<<slices.Index(members, id)) != 0 }
		if a.HasQuorum(in) && b.HasQuorum(func(id consensus.ReplicaID) bool { return !in(id) }) {
			return false
		}
	}
	return true
}

// snapshot judges an installed state.
func (n *news) snapshot(s *machine) {
	var values []string
	for i := consensus.BootstrapIndex + 1; i <= min(s.index, n.next.last()); i++ {
		if e := n.next.at(i); e.Kind == consensus.EntryCommand {
			values = append(values, string(e.Data))
		}
	}
	if s.index > n.next.last() || s.values != strings.Join(values, " ") {
		n.violated(SnapshotContent, "replica %d installs %q at %d; committed is %q, up to %d", n.after.id, s.values, s.index, values, n.next.last())
	}
}

// answers judges the answers to read barriers.
func (n *news) answers() {
	for _, answer := range n.eff.reads {
		least, asked := n.next.reads[answer.ID]
		delete(n.next.reads, answer.ID)
		switch {
		case !asked:
			n.violated(ReadsAreFresh, "replica %d answers read %d, which nobody waits for", n.after.id, answer.ID)
		case answer.Index != 0 && answer.Index < least:
			n.violated(ReadsAreFresh, "replica %d answers read %d at %d, but %d was committed before it was asked for", n.after.id, answer.ID, answer.Index, least)
		}
	}
}

func describe(e consensus.Entry) string {
	switch e.Kind {
	case consensus.EntryBarrier:
		return fmt.Sprintf("a barrier of term %d", e.Term)
	case consensus.EntryConfig:
		return fmt.Sprintf("a membership of term %d", e.Term)
	}
	return fmt.Sprintf("%q of term %d", e.Data, e.Term)
}
