package explore

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// scenario writes a way down in the language of package consensustest: the same events make the same there.
func (e *search) scenario(way []action) []string {
	s := &script{search: e}
	e.onSent = func(m uint32) { s.flight = append(s.flight, m) }
	defer func() { e.onSent = nil }()
	s.add("cluster n=%d", e.setting.Voters)
	for i := range e.setting.Joiners {
		s.add("add %d", e.setting.Voters+1+i)
	}
	for i := range e.setting.Voters + e.setting.Joiners {
		if e.setting.HoldSync {
			s.add("hold-sync %d", i+1)
		}
		if e.setting.HoldApply {
			s.add("hold-apply %d", i+1)
		}
	}
	var founders consensus.Config
	for id := 1; id <= e.setting.Voters; id++ {
		founders.Voters = append(founders.Voters, consensus.ReplicaID(id))
	}
	w := &world{ledger: e.keep(newLedger(founders))}
	for id := 1; id <= e.setting.Voters+e.setting.Joiners; id++ {
		w.replicas = append(w.replicas, e.automaton.begin(consensus.ReplicaID(id), founders))
		e.input(w, consensus.ReplicaID(id), input{verb: verbRestart})
	}
	for _, a := range slices.Concat(e.begun, way) {
		s.perform(w, a)
	}
	return s.lines
}

// script is a text under construction, with the messages in flight in the order in which they were sent.
type script struct {
	*search
	lines  []string
	flight []uint32
}

func (s *script) add(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// perform writes an action down and does it.
func (s *script) perform(w *world, a action) {
	switch a.verb {
	case verbDeliver, verbDuplicate, verbDrop:
		s.aboutMessage(w, a)
	default:
		s.add("%s", a.command())
		if a.verb == verbRestart {
			if s.setting.HoldSync {
				s.add("hold-sync %d", a.node)
			}
			if s.setting.HoldApply {
				s.add("hold-apply %d", a.node)
			}
		}
	}
	s.do(w, a)
}

// aboutMessage names a message by its link and its place among those in flight there.
func (s *script) aboutMessage(w *world, a action) {
	m := &s.network.letters[a.message].header
	place, at := 0, 0
	for i, other := range s.flight {
		if o := &s.network.letters[other].header; o.From == m.From && o.To == m.To {
			place++
		}
		if other == a.message {
			at = i
			break
		}
	}
	name := fmt.Sprintf("from=%d to=%d at=%d", m.From, m.To, place)
	if a.verb == verbDuplicate {
		// A copy goes to the end of the flight, the original is delivered.
		s.add("copy %s", name)
		s.flight = append(s.flight, a.message)
	}
	if v := s.view(w, m.To); a.verb != verbDrop && v.up && s.forgets(v, m) {
		s.add("leader-lost %d", m.To)
	}
	s.flight = slices.Delete(s.flight, at, at+1)
	if a.verb == verbDrop {
		s.add("drop %s", name)
	} else {
		s.add("deliver %s", name)
	}
}
