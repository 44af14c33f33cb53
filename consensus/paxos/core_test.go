package paxos_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
	"github.com/quoratedb/quorate/consensus/paxos"
)

var three = consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3}}

func options(config consensus.Config, log *consensustest.Log) paxos.Options {
	return paxos.Options{
		Replica: 1, HardState: log.HardState(), Applied: consensus.BootstrapIndex, Config: config, Rand: rand.New(rand.NewPCG(1, 1)),
	}
}

// member makes replica 1 at the bootstrap position.
func member(t testing.TB, config consensus.Config) (consensus.Core, *consensustest.Log) {
	t.Helper()
	log := consensustest.NewLog(consensus.BootstrapIndex, consensus.BootstrapTerm)
	core, err := paxos.New(options(config, log), log)
	if err != nil {
		t.Fatal(err)
	}
	return core, log
}

// drain does all the work of the core, with everything synced and applied, and returns the messages.
func drain(t testing.TB, core consensus.Core, log *consensustest.Log) (messages []consensus.Message) {
	t.Helper()
	for core.HasReady() {
		rd := core.Ready()
		messages = append(messages, rd.Messages...)
		if !rd.Append.Empty() {
			log.Write(rd.Append)
			log.Sync(1)
			core.AckAppend(rd.Append.Mark)
			messages = append(messages, rd.Append.AfterSync...)
		}
		if n := len(rd.Committed); n > 0 {
			core.AckApplied(rd.Committed[n-1].Index)
		}
		if err := core.Check(); err != nil {
			t.Fatal(err)
		}
	}
	return messages
}

const ballot11 = consensus.Term(1<<16 | 1)

// lead makes the core leader under ballot 1.1 with the help of replica 2.
func lead(t testing.TB, core consensus.Core, log *consensustest.Log) {
	t.Helper()
	core.Campaign()
	drain(t, core, log)
	for _, m := range []consensus.Message{
		{Kind: paxos.KindProbeResponse, Term: ballot11, LogTerm: 1, Context: 1, Commit: 1},
		{Kind: paxos.KindPromise, Term: ballot11, Index: 1, Commit: 1, Hint: 1},
		{Kind: paxos.KindAccepted, Term: ballot11, Index: 2, Hint: 2, Commit: 1},
	} {
		m.From, m.To = 2, 1
		step(t, core, m)
		drain(t, core, log)
	}
	if s := core.Status(); s.Role != consensus.RoleLeader || s.Commit != 2 || s.BarrierIndex != 2 {
		t.Fatalf("not leading: %+v", s)
	}
}

func step(t testing.TB, core consensus.Core, m consensus.Message) {
	t.Helper()
	if err := core.Step(m); err != nil {
		t.Fatal(err)
	}
}

// TestSenselessMessages: what no correct replica sends is refused and changes nothing.
func TestSenselessMessages(t *testing.T) {
	const ballot22 = consensus.Term(2<<16 | 2)
	entry := func(index consensus.Index, term consensus.Term, kind consensus.EntryKind, data string) consensus.Entry {
		return consensus.Entry{Index: index, Term: term, Kind: kind, Data: []byte(data)}
	}
	accept := func(entries ...consensus.Entry) consensus.Message {
		return consensus.Message{Kind: paxos.KindAccept, Term: ballot22, Entries: entries}
	}
	two := string(consensus.AppendConfig(nil, consensus.Config{Voters: []consensus.ReplicaID{1, 2}, Outgoing: three.Voters}))
	for name, m := range map[string]consensus.Message{
		"unknown kind":         {Kind: 63, Term: ballot22},
		"for another":          {Kind: paxos.KindHeartbeat, Term: ballot22, To: 3},
		"from itself":          {Kind: paxos.KindHeartbeat, Term: ballot22, From: 1},
		"no ballot":            {Kind: paxos.KindHeartbeat},
		"foreign ballot":       {Kind: paxos.KindHeartbeat, Term: 2<<16 | 3},
		"enormous index":       {Kind: paxos.KindLearn, Term: ballot22, Index: 1 << 63},
		"wrong class":          {Kind: paxos.KindHeartbeat, Term: ballot22, Class: consensus.ClassForced},
		"heartbeat with entry": {Kind: paxos.KindHeartbeat, Term: ballot22, Entries: []consensus.Entry{entry(2, 1, 0, "x")}},
		"snapshot without":     {Kind: paxos.KindSnapshot, Term: ballot22, Class: consensus.ClassSnapshot},
		"snapshot of nobody":   {Kind: paxos.KindSnapshot, Term: ballot22, Class: consensus.ClassSnapshot, Snapshot: &consensus.SnapshotMeta{Index: 5, Term: 1}},
		"falling slots":        accept(entry(3, ballot22, 0, "x"), entry(2, ballot22, 0, "y")),
		"slot 0":               accept(entry(0, ballot22, 0, "x")),
		"later term":           accept(entry(2, ballot22+1<<16, 0, "x")),
		"no term":              accept(entry(2, 0, 0, "x")),
		"empty command":        accept(entry(2, ballot22, 0, "")),
		"full barrier":         accept(entry(2, ballot22, consensus.EntryBarrier, "x")),
		"unknown entry":        accept(entry(2, ballot22, 7, "x")),
		"accept as record":     accept(entry(2, 1, 1<<7, "\xff\x01x")),
		"broken config":        accept(entry(2, ballot22, consensus.EntryConfig, "x")),
		"joint config":         accept(entry(2, ballot22, consensus.EntryConfig, two)),
		"record without":       {Kind: paxos.KindLearned, Term: ballot22, Index: 1, Commit: 9, Entries: []consensus.Entry{entry(2, 1, 1<<7, "")}},
		"learned with gap":     {Kind: paxos.KindLearned, Term: ballot22, Index: 1, Commit: 9, Entries: []consensus.Entry{entry(3, 1, 0, "x")}},
		"learned undecided":    {Kind: paxos.KindLearned, Term: ballot22, Index: 1, Commit: 1, Entries: []consensus.Entry{entry(2, 1, 0, "x")}},
		"unknown purpose":      {Kind: paxos.KindPrepare, Term: ballot22, Context: 9},
		"acknowledges future":  {Kind: paxos.KindAccepted, Term: ballot11, Index: 99},
		"answers no heartbeat": {Kind: paxos.KindHeartbeatResponse, Term: ballot11, Context: 99},
	} {
		core, log := member(t, three)
		lead(t, core, log)
		before := core.Status()
		if m.From == 0 {
			m.From = 2
		}
		if m.To == 0 {
			m.To = 1
		}
		if err := core.Step(m); !errors.Is(err, paxos.ErrInvalidMessage) {
			t.Errorf("%s: error %v", name, err)
		}
		if after := core.Status(); after.Term != before.Term || after.Last != before.Last || core.HasReady() {
			t.Errorf("%s: it changed something: %+v", name, after)
		}
	}
}

func TestOptions(t *testing.T) {
	five := consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3, 4, 5}}
	for name, c := range map[string]struct {
		config consensus.Config
		change func(*paxos.Options)
		want   string
	}{
		"quorums that do not meet": {five, func(o *paxos.Options) { o.Phase1Quorum, o.Phase2Quorum = 3, 2 }, "must be at least 6"},
		"too large a quorum":       {three, func(o *paxos.Options) { o.Phase1Quorum = 4 }, "only 3 voters"},
		"half a quorum":            {consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3, 4}}, func(o *paxos.Options) { o.Phase2Quorum = 1 }, "need not meet"},
		"id of more than 16 bits":  {three, func(o *paxos.Options) { o.Replica = 1 << 16 }, "is not a replica id"},
		"no randomness":            {three, func(o *paxos.Options) { o.Rand = nil }, "randomness"},
		"short election timeout":   {three, func(o *paxos.Options) { o.ElectionTicks = 1 }, "must be longer"},
		"lost entries":             {three, func(o *paxos.Options) { o.HardState.Commit = 7 }, "entries are lost"},
		"no membership":            {consensus.Config{}, func(*paxos.Options) {}, "there is no membership"},
	} {
		log := consensustest.NewLog(consensus.BootstrapIndex, consensus.BootstrapTerm)
		o := options(c.config, log)
		c.change(&o)
		if _, err := paxos.New(o, log); !errors.Is(err, paxos.ErrInvalidOptions) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestStaleTransfer: a leader's permission to be deposed ends with its leadership. Its successor in a transfer may come late, with a higher
// ballot than that of another leader elected meanwhile, who may hold a lease.
func TestStaleTransfer(t *testing.T) {
	const first, second, late = consensus.Term(1<<16 | 2), consensus.Term(2<<16 | 2), consensus.Term(2<<16 | 3)
	for name, c := range map[string]struct {
		orderer consensus.Term
		want    bool
	}{"of the leader that is followed": {second, true}, "of one before": {first, false}, "of nobody": {0, false}} {
		core, log := member(t, three)
		step(t, core, consensus.Message{From: 2, To: 1, Kind: paxos.KindHeartbeat, Term: second, Commit: 1, Context: 1})
		drain(t, core, log)
		step(t, core, consensus.Message{From: 3, To: 1, Kind: paxos.KindPrepare, Term: late, LogTerm: c.orderer, Context: 1, Index: 1, Class: consensus.ClassForced})
		drain(t, core, log)
		if got := core.Status().Term == late; got != c.want {
			t.Errorf("a transfer %s: promised %v", name, got)
		}
	}
}

// TestLeases: no lease during a transfer or a change of voters, and as many voters for it as every phase-1 quorum meets.
func TestLeases(t *testing.T) {
	core, log := member(t, three)
	lead(t, core, log)
	if s := core.Status(); s.LeaseForbidden || s.LeaseVoters != 2 {
		t.Errorf("from the start: %+v", s)
	}
	if err := core.ProposeConfig(consensus.Config{Voters: []consensus.ReplicaID{1, 2}}); err != nil {
		t.Fatal(err)
	}
	if !core.Status().LeaseForbidden {
		t.Error("allowed while the voters change")
	}
	drain(t, core, log)
	step(t, core, consensus.Message{From: 2, To: 1, Kind: paxos.KindAccepted, Term: ballot11, Index: 3, Hint: 3, Commit: 2})
	drain(t, core, log)
	if s := core.Status(); s.LeaseForbidden || len(s.Config.Voters) != 2 {
		t.Errorf("after the change: %+v", s)
	}
	if err := core.TransferLeader(2); err != nil || !core.Status().LeaseForbidden {
		t.Errorf("allowed during a transfer (%v)", err)
	}
}

// TestBrokenLog: a log that cannot be read stops the replica, and nothing made up leaves it.
func TestBrokenLog(t *testing.T) {
	core, log := member(t, three)
	lead(t, core, log)
	broken := errors.New("the disk is on fire")
	log.ReadError = broken
	step2 := core.Step(consensus.Message{From: 3, To: 1, Kind: paxos.KindLearn, Term: ballot11, Index: 1})
	if !errors.Is(step2, broken) || !errors.Is(step2, paxos.ErrFailed) || !errors.Is(core.Check(), broken) {
		t.Errorf("errors %v, %v", step2, core.Check())
	}
	if core.HasReady() || !errors.Is(core.Propose([][]byte{{1}}), paxos.ErrFailed) {
		t.Error("it goes on")
	}
}

// TestOverload: a leader takes in no more than it is allowed to, and one proposal always.
func TestOverload(t *testing.T) {
	log := consensustest.NewLog(consensus.BootstrapIndex, consensus.BootstrapTerm)
	o := options(three, log)
	o.MaxUncommittedBytes = 100
	core, err := paxos.New(o, log)
	if err != nil {
		t.Fatal(err)
	}
	lead(t, core, log)
	if err := core.Propose([][]byte{make([]byte, 500)}); err != nil {
		t.Fatal(err)
	}
	if err := core.Propose([][]byte{{1}}); !errors.Is(err, consensus.ErrOverloaded) {
		t.Errorf("error %v", err)
	}
	drain(t, core, log)
	step(t, core, consensus.Message{From: 2, To: 1, Kind: paxos.KindAccepted, Term: ballot11, Index: 3, Hint: 3})
	drain(t, core, log)
	if err := core.Propose([][]byte{{1}}); err != nil {
		t.Errorf("after it was applied: %v", err)
	}
}

// FuzzStep: whatever arrives, the core does not panic, and does not fail either as long as its log is whole.
func FuzzStep(f *testing.F) {
	meta := &consensus.SnapshotMeta{Index: 9, Term: 3, Config: three}
	for kind := paxos.KindProbe; kind <= paxos.KindHandOver; kind++ {
		m := consensus.Message{From: 2, To: 1, Kind: kind, Term: 2<<16 | 2, Index: 1, Commit: 3, Hint: 2, Context: 1,
			Entries: []consensus.Entry{{Index: 2, Term: 2<<16 | 2, Data: []byte("x")}, {Index: 4, Term: 1, Kind: 1<<7 | consensus.EntryBarrier, Data: []byte{0x82, 0x80, 8}}}}
		if kind == paxos.KindSnapshot {
			m.Snapshot, m.Entries, m.Class = meta, nil, consensus.ClassSnapshot
		}
		one := consensus.AppendMessage(nil, &m)
		m.Entries = nil
		f.Add(append([]byte{byte(len(one))}, one...), uint8(kind))
		two := consensus.AppendMessage(nil, &m)
		f.Add(append(append([]byte{byte(len(one))}, one...), append([]byte{byte(len(two))}, two...)...), uint8(kind))
	}
	f.Fuzz(func(t *testing.T, data []byte, role uint8) {
		core, log := member(t, three)
		if role%3 > 0 {
			lead(t, core, log)
		}
		if role%3 > 1 {
			_ = core.ProposeConfig(consensus.Config{Voters: []consensus.ReplicaID{1, 2}, Learners: []consensus.ReplicaID{3}})
			_ = core.ReadBarrier(1)
		}
		for len(data) > 1 {
			n := min(int(data[0]), len(data)-1)
			m, err := consensus.DecodeMessage(data[1 : 1+n])
			data = data[1+n:]
			if err != nil {
				core.Tick()
				core.Campaign()
				continue
			}
			m.To = 1
			_ = core.Step(m)
			core.Status()
			for range 20 {
				if !core.HasReady() {
					break
				}
				rd := core.Ready()
				if !rd.Append.Empty() {
					log.Write(rd.Append)
					log.Sync(1)
					core.AckAppend(rd.Append.Mark)
				}
				if k := len(rd.Committed); k > 0 {
					core.AckApplied(rd.Committed[k-1].Index)
				}
			}
			if err := core.Check(); errors.Is(err, paxos.ErrFailed) {
				t.Fatal(err)
			}
		}
	})
}
