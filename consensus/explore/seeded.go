package explore

import (
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
)

// Seeded is a bug put in on purpose, and the invariants that must each, judged alone, bring it to light in the setting.
type Seeded struct {
	Name   string
	Fault  Fault
	In     Setting
	Breaks []Invariant
}

// seededStates bounds the search for one of them.
const seededStates = 250_000

// RunSeeded requires that each bug is found by each invariant it is said to break, and that among them they break all invariants.
func RunSeeded(t *testing.T, p Protocol, bugs []Seeded) {
	missing := p.Invariants()
	for _, bug := range bugs {
		for _, name := range bug.Breaks {
			missing = slices.DeleteFunc(missing, func(i Invariant) bool { return i == name })
			t.Run(bug.Name+"/"+string(name), func(t *testing.T) {
				r := Explore(p, bug.In, bug.Fault, func(i Invariant) bool { return i == name }, Limits{States: seededStates, Seed: 1})
				if r.Violation == nil {
					t.Fatalf("not found in %d states (all of them: %v, depth %d)", r.States, r.Complete, r.Depth)
				}
				t.Logf("found after %d states: %v\n%s", r.States, r.Violation, strings.Join(r.Trace, "\n"))
			})
		}
	}
	for _, name := range missing {
		t.Errorf("no seeded bug breaks the invariant %q: does it judge anything?", name)
	}
}

// Find returns the setting of the name.
func Find(t *testing.T, name string) Setting {
	for _, s := range Settings() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no setting %q", name)
	return Setting{}
}

// Kind makes a fault of the messages of one kind.
func Kind(kind consensus.MessageKind, f func(core consensus.Core, m *consensus.Message)) func(consensus.Core, *consensus.Message) {
	return func(core consensus.Core, m *consensus.Message) {
		if m.Kind == kind {
			f(core, m)
		}
	}
}

// The faults that any protocol can have.

// ForgetfulDisk starts a replica with the term, and nothing else, that its first life began with.
var ForgetfulDisk = Fault{Start: func(m *consensustest.Member) {
	hard := m.HardState
	hard.Term, hard.Vote = consensus.BootstrapTerm, 0
	m.HardState = hard
	log := m.Log.(*consensustest.Log)
	log.Write(consensus.Append{HardState: &hard})
	log.Sync(1)
}}

// GreedyDisk trims the log as soon as something is written.
var GreedyDisk = Fault{Disk: func(log *consensustest.Log) { log.Compact(log.Last()) }}

// BoastfulSnapshot claims to reach one entry further than it does.
var BoastfulSnapshot = Fault{Snapshot: func(meta *consensus.SnapshotMeta, _ consensus.Index) { meta.Index++ }}

// OverwritingLeader cuts off the entry before those that it appends.
var OverwritingLeader = Fault{Work: func(core consensus.Core, rd *consensus.Ready) {
	if n := len(rd.Append.Entries); n > 0 && core.Status().Role == consensus.RoleLeader && rd.Append.Entries[0].Index > consensus.BootstrapIndex+2 {
		rd.Append.TruncateFrom = rd.Append.Entries[0].Index - 1
	}
}}

// RepeatedMarks gives out the same mark for every write.
var RepeatedMarks = Fault{Work: func(_ consensus.Core, rd *consensus.Ready) {
	if !rd.Append.Empty() {
		rd.Append.Mark.Seq = 1
	}
}}

// DamagedValues changes commands on their way to replica 2.
func DamagedValues(kind consensus.MessageKind) Fault {
	return Fault{Heard: Kind(kind, func(core consensus.Core, m *consensus.Message) {
		for i := range m.Entries {
			if m.Entries[i].Kind == consensus.EntryCommand && m.To == 2 {
				m.Entries[i].Data = []byte("damaged")
			}
		}
	})}
}
