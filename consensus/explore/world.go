package explore

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/statespace"
)

// world is a state of the whole group.
type world struct {
	replicas []stateID
	flight   []uint32 // messages, ascending
	ledger   uint32   // number of what the observer knows
	left     Budget
}

func (w *world) clone() *world {
	return &world{replicas: slices.Clone(w.replicas), flight: slices.Clone(w.flight), ledger: w.ledger, left: w.left}
}

// key identifies the world.
func (w *world) key(buf []byte) uint64 {
	buf = buf[:0]
	for _, id := range w.replicas {
		buf = binary.LittleEndian.AppendUint32(buf, uint32(id))
	}
	for _, m := range w.flight {
		buf = binary.LittleEndian.AppendUint32(buf, m)
	}
	buf = binary.LittleEndian.AppendUint32(buf, w.ledger)
	b := &w.left
	for _, n := range []int8{b.Campaigns, b.Proposals, b.Crashes, b.Duplicates, b.Ticks, b.Compactions, b.Drops, b.Transfers, b.HandOvers, b.Reads, b.Configs} {
		buf = append(buf, byte(n))
	}
	return statespace.Hash(buf)
}

// universe is what all worlds of an exploration have in common.
type universe struct {
	*automaton
	setting  Setting
	ledgers  []*ledger
	numbers  map[uint64]uint32 // of ledgers, by fingerprint
	lessons  map[lesson]learned
	buf      []byte
	mustLose [256]bool
	onSent   func(uint32) // if set, hears of every message
	refused  bool         // the last input
}

// lesson is a transition that an observer with a certain past sees.
type lesson struct{ ledger, transition uint32 }

type learned struct {
	ledger    uint32
	violation *Violation
}

func newUniverse(p Protocol, s Setting, fault Fault, judge func(Invariant) bool) *universe {
	u := &universe{
		automaton: newAutomaton(environment{protocol: p, holdSync: s.HoldSync, holdApply: s.HoldApply, fault: fault, judge: judge}),
		setting:   s, numbers: make(map[uint64]uint32), lessons: make(map[lesson]learned),
	}
	for _, kind := range s.Lost {
		u.mustLose[kind] = true
	}
	return u
}

func (u *universe) keep(l *ledger) uint32 {
	f := fingerprints.Of(l)
	if number, ok := u.numbers[f]; ok {
		return number
	}
	number := uint32(len(u.ledgers))
	u.numbers[f] = number
	u.ledgers = append(u.ledgers, l)
	return number
}

// begin makes the world in which the exploration starts.
func (u *universe) begin() (*world, []action, *Violation) {
	s := &u.setting
	var founders consensus.Config
	for id := 1; id <= s.Voters; id++ {
		founders.Voters = append(founders.Voters, consensus.ReplicaID(id))
	}
	w := &world{left: s.Budget, ledger: u.keep(newLedger(founders))}
	w.left.Configs = int8(len(s.Targets))
	for id := 1; id <= s.Voters+s.Joiners; id++ {
		w.replicas = append(w.replicas, u.automaton.begin(consensus.ReplicaID(id), founders))
		if v := u.input(w, consensus.ReplicaID(id), input{verb: verbRestart}); v != nil {
			return w, nil, v
		}
	}
	var done []action
	for _, a := range s.Begin {
		done = append(done, a)
		if v := u.do(w, a); v != nil {
			return w, done, v
		}
		more, v := u.calm(w)
		if done = append(done, more...); v != nil {
			return w, done, v
		}
	}
	w.left = s.Budget
	w.left.Configs = int8(len(s.Targets))
	return w, done, nil
}

// calm syncs, applies and delivers until nothing is left to be done; messages of the deaf replica are lost.
func (u *universe) calm(w *world) (done []action, violation *Violation) {
	for len(done) < 10_000 {
		a, ok := u.nextCalm(w)
		if !ok {
			return done, nil
		}
		done = append(done, a)
		if violation = u.do(w, a); violation != nil {
			return done, violation
		}
	}
	panic("explore: the beginning of setting " + u.setting.Name + " never ends")
}

func (u *universe) nextCalm(w *world) (action, bool) {
	for i, state := range w.replicas {
		v := u.View(state)
		id := consensus.ReplicaID(i + 1)
		if v.dueSync > 0 {
			return action{input{verb: verbSync, number: uint64(v.dueSync)}, id}, true
		}
		if v.queued > 0 {
			return action{input{verb: verbApply, number: uint64(v.queued)}, id}, true
		}
	}
	if len(w.flight) == 0 {
		return action{}, false
	}
	m := &u.network.letters[w.flight[0]]
	if d := u.setting.Deaf; d != 0 && (m.header.To == d || m.header.From == d) {
		return action{input{verb: verbDrop, message: w.flight[0]}, 0}, true
	}
	return action{input{verb: verbDeliver, message: w.flight[0]}, 0}, true
}

func (u *universe) view(w *world, id consensus.ReplicaID) *view {
	if id == 0 || int(id) > len(w.replicas) {
		return nil
	}
	return u.View(w.replicas[id-1])
}

// input gives one replica of the world an input.
func (u *universe) input(w *world, id consensus.ReplicaID, in input) *Violation {
	before := w.replicas[id-1]
	t := u.automaton.Do(before, in)
	w.replicas[id-1], u.refused = t.After, t.Effect.refused
	if t.Effect.violation != nil {
		return t.Effect.violation
	}
	for _, m := range t.Effect.sent {
		if u.onSent != nil {
			u.onSent(m)
		}
		if !u.mustLose[u.network.letters[m].header.Kind] {
			at, _ := slices.BinarySearch(w.flight, m)
			w.flight = slices.Insert(w.flight, at, m)
		}
	}
	key := lesson{w.ledger, t.ID}
	known, ok := u.lessons[key]
	if !ok {
		next, violation := u.ledgers[w.ledger].learn(u.environment, u.View(before), u.View(t.After), t, in)
		known = learned{u.keep(next), violation}
		u.lessons[key] = known
	}
	w.ledger = known.ledger
	return known.violation
}

// do carries out an action, which changes the world, and judges what comes of it.
func (u *universe) do(w *world, a action) *Violation {
	violation := u.act(w, a)
	if violation != nil {
		return violation
	}
	return u.judgeWorld(w)
}

func (u *universe) act(w *world, a action) *Violation {
	switch a.verb {
	case verbDeliver, verbDuplicate:
		if a.verb == verbDeliver {
			w.take(a.message)
		}
		return u.deliver(w, a.message)
	case verbDrop:
		w.take(a.message)
		return u.shipped(w, a.message, false)
	case verbRestart, verbCrash:
		return u.input(w, a.node, a.input)
	}
	if v := u.view(w, a.node); v == nil || !v.up {
		return nil
	}
	return u.input(w, a.node, a.input)
}

func (w *world) take(m uint32) {
	if at, ok := slices.BinarySearch(w.flight, m); ok {
		w.flight = slices.Delete(w.flight, at, at+1)
	}
}

// deliver steps a message. Who is asked for a vote has waited for its leader in vain.
func (u *universe) deliver(w *world, number uint32) *Violation {
	m := &u.network.letters[number].header
	v := u.view(w, m.To)
	if v == nil || !v.up {
		return u.shipped(w, number, false)
	}
	if u.forgets(v, m) {
		if violation := u.input(w, m.To, input{verb: verbLeaderLost}); violation != nil {
			return violation
		}
	}
	if violation := u.input(w, m.To, input{verb: verbStep, message: number}); violation != nil {
		return violation
	}
	return u.shipped(w, number, !u.refused)
}

// forgets tells whether the receiver of the message forgets its leader first.
func (u *universe) forgets(v *view, m *consensus.Message) bool {
	return m.Class == consensus.ClassElection && v.status.Leader != 0 && v.status.Leader != v.id && v.status.Leader != m.From
}

// shipped tells the sender of a snapshot what became of it.
func (u *universe) shipped(w *world, number uint32, ok bool) *Violation {
	l := &u.network.letters[number]
	sender := u.view(w, l.header.From)
	if l.snapshot == nil || !sender.up {
		return nil
	}
	in := input{verb: verbSnapshotDone, peer: l.header.To}
	if ok {
		in.number = 1
	}
	return u.input(w, l.header.From, in)
}

// judgeWorld judges what concerns several replicas at once.
func (u *universe) judgeWorld(w *world) *Violation {
	l := u.ledgers[w.ledger]
	if u.judge(Durability) {
		for i := consensus.BootstrapIndex + 1; i <= l.last(); i++ {
			if !u.onQuorum(w, l, l.at(i)) {
				return &Violation{Invariant: Durability, What: fmt.Sprintf("entry %d, %s, is committed, but not on the disks of a quorum", i, describe(l.at(i)))}
			}
		}
	}
	if u.protocol.RaftLogs && u.judge(LogMatching) {
		for i := range w.replicas {
			for j := range i {
				a, b := u.View(w.replicas[i]), u.View(w.replicas[j])
				if at, ok := matching(a, b); !ok {
					return &Violation{Invariant: LogMatching, What: fmt.Sprintf("the logs of replicas %d and %d agree on a later entry but differ at %d", b.id, a.id, at)}
				}
			}
		}
	}
	return nil
}

// onQuorum tells whether the entry is on the disks of a quorum of a recent membership: a leader counts by the one it
// has applied.
func (u *universe) onQuorum(w *world, l *ledger, e consensus.Entry) bool {
	has := func(id consensus.ReplicaID) bool {
		v := u.view(w, id)
		if v == nil {
			return false
		}
		if v.kept >= e.Index || v.durableBase >= e.Index {
			return true
		}
		rec, ok := at(v.durable, e.Index)
		return ok && sameEntry(rec.entry, e)
	}
	for i := len(l.configs) - 1; i >= max(0, len(l.configs)-3); i-- {
		if u.protocol.enough(l.configs[i].config, has) {
			return true
		}
	}
	return false
}

// matching: where two logs agree on the term of an entry they agree on it and on all before.
func matching(a, b *view) (consensus.Index, bool) {
	agreed := false
	for i := len(a.log) - 1; i >= 0; i-- {
		rec := a.log[i]
		other, ok := at(b.log, rec.entry.Index)
		if !ok {
			continue
		}
		agreed = agreed || rec.entry.Term == other.entry.Term
		if agreed && !sameEntry(rec.entry, other.entry) {
			return rec.entry.Index, false
		}
	}
	return 0, true
}
