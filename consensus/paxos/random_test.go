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

var kindNames = [...]string{"probe?", "probe", "prepare", "promise", "accept", "accepted", "heartbeat", "heartbeat response", "learn?", "learned", "snapshot", "take over"}

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
)

func TestRandom(t *testing.T) {
	seeds, steps := *seedCount, 3000
	if testing.Short() {
		seeds = 10
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
	if n := int(seeds); total.Leaderships < n || total.Chosen < 10*n || total.Configs < n || total.Snapshots < n || total.ReadsConfirmed < n || total.ReadsFailed < n/4 {
		t.Errorf("the runs do not cover enough: %+v", total)
	}
}
