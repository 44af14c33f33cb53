package paxos_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
	"github.com/quoratedb/quorate/consensus/paxos"
)

// observer sees what all cores of a group want written, and checks what must hold between them.
type observer struct {
	values map[proposal]consensus.Entry
	broken error
}

// proposal is a slot under a ballot; there is one value for it in all the world.
type proposal struct {
	slot   consensus.Index
	ballot consensus.Term
}

func newObserver() *observer {
	return &observer{values: make(map[proposal]consensus.Entry)}
}

// observed is a core under observation.
type observed struct {
	consensus.Core
	id       consensus.ReplicaID
	observer *observer
}

func (o *observed) Ready() consensus.Ready {
	rd := o.Core.Ready()
	for _, record := range rd.Append.Entries {
		e, ballot, err := paxos.FromRecord(record)
		if err != nil {
			o.observer.breach("replica %d writes what cannot be read: %w", o.id, err)
			continue
		}
		key := proposal{e.Index, ballot}
		known, ok := o.observer.values[key]
		if ok && (known.Term != e.Term || known.Kind != e.Kind || !bytes.Equal(known.Data, e.Data)) {
			o.observer.breach("two values for slot %d under ballot %d: %q of term %d and %q of term %d", e.Index, ballot, known.Data, known.Term, e.Data, e.Term)
		}
		o.observer.values[key] = e
	}
	return rd
}

func (o *observed) Check() error {
	if o.observer.broken != nil {
		return o.observer.broken
	}
	return o.Core.Check()
}

func (o *observer) breach(format string, args ...any) {
	if o.broken == nil {
		o.broken = fmt.Errorf(format, args...)
	}
}

// fixtureWith makes a fixture for a group with the given quorums; its cores share one seeded source and one observer.
func fixtureWith(seed uint64, first, second int) consensustest.Options {
	rng := rand.New(rand.NewPCG(seed, 1))
	var seen *observer
	factory := func(m consensustest.Member) (consensus.Core, error) {
		core, err := paxos.New(paxos.Options{
			Replica: m.Replica, HardState: m.HardState, Applied: m.Applied, Config: m.Config, Rand: rng,
			ElectionTicks: m.ElectionTicks, HeartbeatTicks: m.HeartbeatTicks,
			MaxMessageBytes: m.MaxMessageBytes, MaxApplyBytes: m.MaxApplyBytes, MaxInflightMessages: m.MaxInflightMessages,
			Phase1Quorum: first, Phase2Quorum: second,
		}, m.Log)
		if err != nil {
			return nil, err
		}
		return &observed{core, m.Replica, seen}, nil
	}
	begin := func() { seen = newObserver() }
	return consensustest.Options{Factory: factory, Begin: begin, Phase2Quorum: second, Describe: describe}
}

var kindNames = [...]string{"probe?", "probe", "prepare", "promise", "accept", "accepted", "heartbeat", "heartbeat response", "learn?", "learned", "snapshot", "take over", "hand over"}

// describe prints a message for the scenarios.
func describe(m *consensus.Message) string {
	s := fmt.Sprintf("%d>%d %s", m.From, m.To, kindNames[m.Kind-paxos.KindProbe])
	s += " ballot=" + ballot(m.Term)
	for _, field := range []struct {
		name  string
		value uint64
	}{{"index", uint64(m.Index)}, {"commit", uint64(m.Commit)}, {"hint", uint64(m.Hint)}, {"context", m.Context}} {
		if field.value != 0 {
			s += fmt.Sprintf(" %s=%d", field.name, field.value)
		}
	}
	for _, record := range m.Entries {
		if e, accepted, err := paxos.FromRecord(record); err == nil {
			s += fmt.Sprintf(" %d:%q", e.Index, e.Data)
			if accepted != m.Term && accepted != 0 {
				s += "@" + ballot(accepted)
			}
		}
	}
	if m.Reject {
		s += " refused"
	}
	return s
}

func ballot(t consensus.Term) string { return fmt.Sprintf("%d.%d", t>>16, t&0xffff) }

var (
	firstSeed = flag.Uint64("first-seed", 0, "first seed of the random runs")
	seedCount = flag.Uint64("seeds", 60, "number of random runs")
	stepCount = flag.Int("steps", 3000, "events of each random run")
)

func TestRandom(t *testing.T) {
	seeds, steps := *seedCount, *stepCount
	if testing.Short() {
		seeds = 20
	}
	var total consensustest.Coverage
	for seed := *firstSeed; seed < *firstSeed+seeds; seed++ {
		coverage, err := consensustest.RunRandom(fixtureWith(seed, 0, 0), seed, steps)
		if err != nil {
			t.Fatal(err)
		}
		total.Add(coverage)
	}
	t.Logf("%+v", total)
	if n := int(seeds); n >= 10 && (total.Leaderships < n || total.Chosen < 10*n || total.Configs < n || total.Snapshots < n || total.ReadsConfirmed < n || total.ReadsFailed < n/4) {
		t.Errorf("the runs do not cover enough: %+v", total)
	}
}

// foundBySeeds are runs that once went wrong, with what was wrong.
var foundBySeeds = map[uint64]string{
	100714: "after a crash between installing a snapshot and resetting the log, records below it were told as decided",
	10591:  "a leader that proposed a found change of learners again forgot the values it had found behind it",
}

func TestRandomRegressions(t *testing.T) {
	for seed, what := range foundBySeeds {
		if _, err := consensustest.RunRandom(fixtureWith(seed, 0, 0), seed, 3000); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestRandomFlexible: quorums of different sizes for electing and deciding.
func TestRandomFlexible(t *testing.T) {
	for _, group := range []struct{ replicas, first, second int }{{5, 4, 2}, {5, 2, 4}, {3, 3, 1}, {3, 1, 3}, {4, 2, 3}} {
		seeds := max(1, *seedCount/5)
		if testing.Short() {
			seeds = 4
		}
		var total consensustest.Coverage
		for seed := *firstSeed; seed < *firstSeed+seeds; seed++ {
			fixture := fixtureWith(seed, group.first, group.second)
			fixture.Replicas = group.replicas
			coverage, err := consensustest.RunRandom(fixture, seed, 3000)
			if err != nil {
				t.Fatalf("%+v: %v", group, err)
			}
			total.Add(coverage)
		}
		t.Logf("%+v: %+v", group, total)
		if total.Leaderships == 0 || total.Chosen == 0 {
			t.Errorf("%+v: the runs do not cover enough: %+v", group, total)
		}
	}
}

// sabotage is a core that breaks the protocol in what it says or hears.
type sabotage struct {
	consensus.Core
	heard, said func(*consensus.Message)
	early       bool // answers leave before the sync
	credulous   bool // believes to lead whenever it is asked
	reads       []consensus.ReadState
}

func (s *sabotage) ReadBarrier(id consensus.ReadID) error {
	status := s.Core.Status()
	if !s.credulous || status.BarrierIndex == 0 || status.Commit < status.BarrierIndex {
		return s.Core.ReadBarrier(id)
	}
	s.reads = append(s.reads, consensus.ReadState{ID: id, Index: status.Commit})
	return nil
}

func (s *sabotage) HasReady() bool { return len(s.reads) > 0 || s.Core.HasReady() }

func (s *sabotage) Step(m consensus.Message) error {
	if s.heard != nil {
		s.heard(&m)
	}
	return s.Core.Step(m)
}

func (s *sabotage) Ready() consensus.Ready {
	rd := s.Core.Ready()
	rd.Reads = append(rd.Reads, s.reads...)
	s.reads = nil
	for _, list := range [][]consensus.Message{rd.Messages, rd.Append.AfterSync} {
		for i := range list {
			if s.said != nil {
				s.said(&list[i])
			}
		}
	}
	if s.early {
		rd.Messages = append(rd.Messages, rd.Append.AfterSync...)
		rd.Append.AfterSync = nil
	}
	return rd
}

// TestRandomFindsSabotage: the random runs notice when a protocol rule is broken.
func TestRandomFindsSabotage(t *testing.T) {
	kind := func(kind consensus.MessageKind, f func(*consensus.Message)) func(*consensus.Message) {
		return func(m *consensus.Message) {
			if m.Kind == kind {
				f(m)
			}
		}
	}
	for name, broken := range map[string]sabotage{
		"answers leave before the sync":                      {early: true},
		"a slot that was decided and trimmed is proposed in": {heard: kind(paxos.KindPromise, func(m *consensus.Message) { m.Commit = 0 })},
		"a promise leaves out what was accepted":             {said: kind(paxos.KindPromise, func(m *consensus.Message) { m.Entries = nil })},
		"the decided mark runs ahead":                        {said: kind(paxos.KindHeartbeat, func(m *consensus.Message) { m.Commit++ })},
		"reads are confirmed without asking anybody":         {credulous: true},
		"learned values come in the wrong slots": {said: kind(paxos.KindLearned, func(m *consensus.Message) {
			for i := range m.Entries {
				m.Entries[i].Index--
			}
			m.Index--
		})},
		"a refusal counts as an acknowledgement": {said: kind(paxos.KindAccepted, func(m *consensus.Message) { m.Reject = false; m.Index = max(m.Index, 3) })},
		"a snapshot claims to reach further":     {heard: kind(paxos.KindSnapshot, func(m *consensus.Message) { m.Snapshot.Index++ })},
	} {
		err, seed := error(nil), uint64(0)
		for ; err == nil && seed < 1000; seed++ {
			fixture := fixtureWith(seed, 0, 0)
			sound := fixture.Factory
			fixture.Factory = func(m consensustest.Member) (consensus.Core, error) {
				core, err := sound(m)
				if err != nil {
					return nil, err
				}
				s := broken
				s.Core = core
				return &s, nil
			}
			_, err = consensustest.RunRandom(fixture, seed, 3000)
		}
		if err == nil {
			t.Errorf("%s: not noticed in %d runs", name, seed)
			continue
		}
		t.Logf("%s: run %d: %.150v", name, seed-1, err)
	}
}
