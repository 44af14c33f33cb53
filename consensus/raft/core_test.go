package raft_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/consensustest"
	"github.com/quoratedb/quorate/consensus/raft"
)

var three = consensus.Config{Voters: []consensus.ReplicaID{1, 2, 3}}

// member makes replica 1 of three at the bootstrap position.
func member(t testing.TB, config consensus.Config) (consensus.Core, *consensustest.Log) {
	t.Helper()
	log := consensustest.NewLog(consensus.BootstrapIndex, consensus.BootstrapTerm)
	core, err := raft.New(raft.Options{Replica: 1, HardState: log.HardState(), Applied: consensus.BootstrapIndex, Config: config}, log)
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

// lead makes the core leader of term 2 with the help of replica 2.
func lead(t testing.TB, core consensus.Core, log *consensustest.Log) {
	t.Helper()
	core.Campaign()
	drain(t, core, log)
	for _, kind := range []consensus.MessageKind{raft.KindPreVoteResponse, raft.KindVoteResponse} {
		step(t, core, consensus.Message{From: 2, To: 1, Kind: kind, Term: 2})
		drain(t, core, log)
	}
	step(t, core, consensus.Message{From: 2, To: 1, Kind: raft.KindAppendResponse, Term: 2, Index: 2})
	drain(t, core, log)
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

// TestSenselessMessages: what no correct replica sends is refused and changes nothing, in every role.
func TestSenselessMessages(t *testing.T) {
	entry := func(index consensus.Index, term consensus.Term, kind consensus.EntryKind, data string) consensus.Entry {
		return consensus.Entry{Index: index, Term: term, Kind: kind, Data: []byte(data)}
	}
	appended := func(entries ...consensus.Entry) consensus.Message {
		return consensus.Message{From: 2, To: 1, Kind: raft.KindAppend, Term: 2, Index: 1, LogTerm: 1, Entries: entries}
	}
	snapshot := func(meta *consensus.SnapshotMeta) consensus.Message {
		return consensus.Message{From: 2, To: 1, Kind: raft.KindSnapshot, Class: consensus.ClassSnapshot, Term: 2, Snapshot: meta}
	}
	const command, barrier, config = consensus.EntryCommand, consensus.EntryBarrier, consensus.EntryConfig
	joint := string(consensus.AppendConfig(nil, consensus.Config{Voters: []consensus.ReplicaID{1}, Outgoing: []consensus.ReplicaID{2}}))
	messages := map[string]consensus.Message{
		"empty":                      {},
		"to somebody else":           {From: 2, To: 3, Kind: raft.KindHeartbeat, Term: 2},
		"from itself":                {From: 1, To: 1, Kind: raft.KindHeartbeat, Term: 2},
		"from nobody":                {To: 1, Kind: raft.KindHeartbeat, Term: 2},
		"from the library's inside":  {From: ^consensus.ReplicaID(0), To: 1, Kind: raft.KindAppendResponse, Term: 2},
		"unknown kind":               {From: 2, To: 1, Kind: 63, Term: 2},
		"no term":                    {From: 2, To: 1, Kind: raft.KindHeartbeat},
		"the last term":              {From: 2, To: 1, Kind: raft.KindVote, Class: consensus.ClassElection, Term: ^consensus.Term(0)},
		"wrong class":                {From: 2, To: 1, Kind: raft.KindVote, Term: 2},
		"forced without a transfer":  {From: 2, To: 1, Kind: raft.KindVote, Class: consensus.ClassForced, Term: 2},
		"entry of the future":        {From: 2, To: 1, Kind: raft.KindAppend, Term: 2, Index: 1, LogTerm: 3},
		"huge index":                 {From: 2, To: 1, Kind: raft.KindAppend, Term: 2, Index: 1 << 63, LogTerm: 1},
		"commit beyond the log":      {From: 2, To: 1, Kind: raft.KindHeartbeat, Term: 2, Commit: 1000},
		"entries in a heartbeat":     {From: 2, To: 1, Kind: raft.KindHeartbeat, Term: 2, Entries: []consensus.Entry{entry(2, 2, command, "a")}},
		"entries with a gap":         appended(entry(2, 2, command, "a"), entry(4, 2, command, "b")),
		"entries not after the base": appended(entry(3, 2, command, "a")),
		"terms go down":              appended(entry(2, 2, command, "a"), entry(3, 1, command, "b")),
		"entry of a later term":      appended(entry(2, 3, command, "a")),
		"empty command":              appended(entry(2, 2, command, "")),
		"barrier with data":          appended(entry(2, 2, barrier, "a")),
		"unknown entry":              appended(entry(2, 2, 9, "a")),
		"config that is none":        appended(entry(2, 2, config, "nonsense")),
		"config without voters":      appended(entry(2, 2, config, string(consensus.AppendConfig(nil, consensus.Config{})))),
		"joint config as a target":   appended(entry(2, 2, config, joint)),
		"snapshot without meta":      snapshot(nil),
		"snapshot at nothing":        snapshot(&consensus.SnapshotMeta{Config: three}),
		"snapshot of the future":     snapshot(&consensus.SnapshotMeta{Index: 5, Term: 3, Config: three}),
		"snapshot without members":   snapshot(&consensus.SnapshotMeta{Index: 5, Term: 2}),
		"ack beyond the log":         {From: 2, To: 1, Kind: raft.KindAppendResponse, Term: 2, Index: 1000},
		"hint beyond the refusal":    {From: 2, To: 1, Kind: raft.KindAppendResponse, Term: 2, Index: 1, Hint: 2, Reject: true},
		"confirms an unasked read":   {From: 2, To: 1, Kind: raft.KindHeartbeatResponse, Term: 2, Context: 1},
		"answer of a stranger":       {From: 9, To: 1, Kind: raft.KindAppendResponse, Term: 2, Index: 1},
	}
	onlyAtLeader := map[string]bool{"ack beyond the log": true, "hint beyond the refusal": true, "confirms an unasked read": true}
	for name, m := range messages {
		for _, leader := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/leader=%v", name, leader), func(t *testing.T) {
				core, log := member(t, three)
				if leader {
					lead(t, core, log)
				}
				drain(t, core, log)
				before := fmt.Sprintf("%+v", core.Status())
				err := core.Step(m)
				if !leader && onlyAtLeader[name] {
					return // somebody else's business
				}
				if !errors.Is(err, raft.ErrInvalidMessage) {
					t.Errorf("accepted: %v", err)
				}
				if after := fmt.Sprintf("%+v", core.Status()); after != before {
					t.Errorf("it changed\n%s into\n%s", before, after)
				}
				if err := core.Check(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestSyncIsAskedFor: entries, votes and terms need a sync; a commit index does not, and its
// acknowledgement does not wait.
func TestSyncIsAskedFor(t *testing.T) {
	core, log := member(t, three)
	step(t, core, consensus.Message{From: 2, To: 1, Kind: raft.KindAppend, Term: 2, Index: 1, LogTerm: 1, Entries: []consensus.Entry{{Index: 2, Term: 2, Kind: consensus.EntryBarrier}}})
	rd := core.Ready()
	if a := rd.Append; !a.Sync || len(a.AfterSync) != 1 || a.AfterSync[0].Kind != raft.KindAppendResponse || len(rd.Messages) != 0 {
		t.Fatalf("entries: %+v", rd)
	}
	log.Write(rd.Append)
	log.Sync(1)
	core.AckAppend(rd.Append.Mark)
	step(t, core, consensus.Message{From: 2, To: 1, Kind: raft.KindAppend, Term: 2, Index: 2, LogTerm: 2, Commit: 2})
	after := core.Ready()
	if a := after.Append; a.Sync || len(a.AfterSync) != 0 || a.HardState == nil || a.HardState.Commit != 2 || !rd.Append.Mark.Less(a.Mark) {
		t.Errorf("commit notice: %+v", after)
	}
	if len(after.Messages) != 1 || after.Messages[0].Kind != raft.KindAppendResponse || after.Messages[0].Commit != 2 {
		t.Errorf("its acknowledgement: %+v", after.Messages)
	}
}

// TestOwnVoteNeedsSync: a candidate's own vote counts once it is durable, and no message waits for it.
func TestOwnVoteNeedsSync(t *testing.T) {
	core, log := member(t, three)
	core.Campaign()
	drain(t, core, log)
	step(t, core, consensus.Message{From: 2, To: 1, Kind: raft.KindPreVoteResponse, Term: 2})
	rd := core.Ready()
	for core.HasReady() && rd.Append.Empty() {
		rd = core.Ready()
	}
	if a := rd.Append; !a.Sync || a.HardState == nil || a.HardState.Vote != 1 || len(a.AfterSync) != 0 {
		t.Fatalf("%+v", a)
	}
}

func TestClasses(t *testing.T) {
	core, log := member(t, three)
	core.Campaign()
	for _, m := range drain(t, core, log) {
		if m.Kind != raft.KindPreVote || m.Class != consensus.ClassElection {
			t.Errorf("%+v", m)
		}
	}
	core, log = member(t, three)
	step(t, core, consensus.Message{From: 2, To: 1, Kind: raft.KindHeartbeat, Term: 2}) // only a leader hands over
	step(t, core, consensus.Message{From: 2, To: 1, Kind: raft.KindTimeoutNow, Term: 2})
	votes := 0
	for _, m := range drain(t, core, log) {
		if m.Kind == raft.KindVote {
			votes++
			if m.Class != consensus.ClassForced {
				t.Errorf("%+v", m)
			}
		}
	}
	if votes != 2 {
		t.Errorf("%d votes asked for", votes)
	}
}

func TestLeaseForbiddenAfterTransfer(t *testing.T) {
	core, log := member(t, three)
	lead(t, core, log)
	if core.Status().LeaseForbidden {
		t.Error("forbidden before any transfer")
	}
	if err := core.TransferLeader(2); err != nil {
		t.Fatal(err)
	}
	if err := core.Propose([][]byte{[]byte("x")}); !errors.Is(err, consensus.ErrTransferring) {
		t.Errorf("proposal during the transfer: %v", err)
	}
	for range 8 { // the transfer fails; replica 2 goes on answering
		core.Tick()
		step(t, core, consensus.Message{From: 2, To: 1, Kind: raft.KindHeartbeatResponse, Term: 2})
		drain(t, core, log)
	}
	for range 4 {
		core.Tick()
	}
	drain(t, core, log)
	if err := core.Propose([][]byte{[]byte("x")}); err != nil {
		t.Errorf("proposal after the transfer failed: %v", err)
	}
	if !core.Status().LeaseForbidden {
		t.Error("allowed again within the term: the successor may still be elected")
	}
}

func TestOverload(t *testing.T) {
	log := consensustest.NewLog(1, 1)
	core, err := raft.New(raft.Options{Replica: 1, HardState: log.HardState(), Applied: 1, Config: three, MaxUncommittedBytes: 100}, log)
	if err != nil {
		t.Fatal(err)
	}
	lead(t, core, log)
	big := []byte(strings.Repeat("x", 80))
	if err := core.Propose([][]byte{big}); err != nil {
		t.Fatal(err)
	}
	last := core.Status().Last
	if err := core.Propose([][]byte{big}); !errors.Is(err, consensus.ErrOverloaded) {
		t.Errorf("got %v", err)
	}
	drain(t, core, log)
	if got := core.Status().Last; got != last+1 {
		t.Errorf("the log ends at %d, the refused proposal is in it", got)
	}
	if err := core.Propose([][]byte{nil}); !errors.Is(err, raft.ErrInvalidProposal) {
		t.Errorf("empty proposal: %v", err)
	}
}

// TestLogFailure: when the log cannot be read the core stops, says why, and gives out nothing more.
func TestLogFailure(t *testing.T) {
	core, log := member(t, three)
	lead(t, core, log)
	if err := core.Propose([][]byte{[]byte("a"), []byte("b")}); err != nil {
		t.Fatal(err)
	}
	drain(t, core, log)
	log.ReadError = errors.New("bad sector")
	// Replica 3 starts from nothing: the leader must read its log to bring it up.
	_ = core.Step(consensus.Message{From: 3, To: 1, Kind: raft.KindAppendResponse, Term: 2, Index: 1, Hint: 1, LogTerm: 1, Reject: true})
	_ = core.Step(consensus.Message{From: 3, To: 1, Kind: raft.KindHeartbeatResponse, Term: 2})
	if core.HasReady() || len(core.Ready().Messages) != 0 {
		t.Error("a core whose log is broken gives out work")
	}
	for name, err := range map[string]error{
		"Check": core.Check(), "Propose": core.Propose([][]byte{[]byte("c")}), "Step": core.Step(consensus.Message{}), "ReadBarrier": core.ReadBarrier(1),
	} {
		if !errors.Is(err, raft.ErrFailed) || !strings.Contains(err.Error(), "bad sector") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDriverMistakes: Check reports a driver that breaks the contract.
func TestDriverMistakes(t *testing.T) {
	for name, mistake := range map[string]func(consensus.Core){
		"mark":    func(core consensus.Core) { core.AckAppend(consensus.Mark{Term: 99, Seq: 1}) },
		"applied": func(core consensus.Core) { core.AckApplied(99) },
		"compact": func(core consensus.Core) { core.Compact(99) },
	} {
		core, _ := member(t, three)
		mistake(core)
		if err := core.Check(); err == nil || !strings.Contains(err.Error(), "the driver") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	log := consensustest.NewLog(1, 1)
	for name, opts := range map[string]raft.Options{
		"no id":                     {Applied: 1, Config: three},
		"not bootstrapped":          {Replica: 1, Config: three},
		"applied beyond the log":    {Replica: 1, Applied: 2, Config: three},
		"committed beyond the log":  {Replica: 1, Applied: 1, Config: three, HardState: consensus.HardState{Term: 1, Commit: 5}},
		"invalid membership":        {Replica: 1, Applied: 1, Config: consensus.Config{Voters: []consensus.ReplicaID{2, 1}}},
		"applied without members":   {Replica: 1, Applied: 1},
		"election before heartbeat": {Replica: 1, Applied: 1, Config: three, ElectionTicks: 1, HeartbeatTicks: 1},
		"negative limit":            {Replica: 1, Applied: 1, Config: three, MaxApplyBytes: -1},
	} {
		if _, err := raft.New(opts, log); !errors.Is(err, raft.ErrInvalidOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A log reset to the state after a crash may have a hard state older than its own base.
	if _, err := raft.New(raft.Options{Replica: 1, Applied: 1, Config: three}, log); err != nil {
		t.Error(err)
	}
}

// TestIdle: an idle core costs nothing.
func TestIdle(t *testing.T) {
	core, log := member(t, three)
	drain(t, core, log)
	if n := testing.AllocsPerRun(100, func() { core.HasReady() }); n != 0 || core.HasReady() {
		t.Errorf("HasReady allocates %v times, or has work", n)
	}
}

// FuzzStep: no sequence of messages makes a core panic or breaks an invariant that is not the sender's.
func FuzzStep(f *testing.F) {
	frame := func(messages ...consensus.Message) (b []byte) {
		for i := range messages {
			encoded := consensus.AppendMessage(nil, &messages[i])
			b = append(append(b, byte(len(encoded))), encoded...)
		}
		return b
	}
	f.Add(true, frame(consensus.Message{From: 2, To: 1, Kind: raft.KindAppendResponse, Term: 2, Index: 2},
		consensus.Message{From: 3, To: 1, Kind: raft.KindHeartbeatResponse, Term: 2, Context: 1}))
	f.Add(false, frame(consensus.Message{From: 2, To: 1, Kind: raft.KindAppend, Term: 2, Index: 1, LogTerm: 1, Commit: 3, Entries: []consensus.Entry{
		{Index: 2, Term: 2, Kind: consensus.EntryBarrier}, {Index: 3, Term: 2, Kind: consensus.EntryConfig, Data: consensus.AppendConfig(nil, consensus.Config{Voters: []consensus.ReplicaID{1, 4, 5}})},
	}}, consensus.Message{From: 2, To: 1, Kind: raft.KindHeartbeat, Term: 2, Commit: 3}))
	f.Add(false, frame(consensus.Message{From: 2, To: 1, Kind: raft.KindSnapshot, Class: consensus.ClassSnapshot, Term: 4, Snapshot: &consensus.SnapshotMeta{Index: 9, Term: 3, Config: three}}))
	f.Add(false, frame(consensus.Message{From: 2, To: 1, Kind: raft.KindVote, Class: consensus.ClassElection, Term: 4, LogTerm: 3, Index: 9}, consensus.Message{From: 2, To: 1, Kind: raft.KindTimeoutNow, Term: 4}))
	f.Fuzz(func(t *testing.T, leader bool, b []byte) {
		core, log := member(t, three)
		if leader {
			lead(t, core, log)
			_ = core.ReadBarrier(1)
		}
		for len(b) > 0 {
			n := min(int(b[0]), len(b)-1)
			m, err := consensus.DecodeMessage(b[1 : 1+n])
			b = b[1+n:]
			if err != nil {
				continue
			}
			_ = core.Step(m)
			if n%3 != 0 { // sometimes several messages are stepped before the work is done
				drain(t, core, log)
			}
		}
		core.Tick()
		drain(t, core, log)
	})
}

// BenchmarkRound is one round of a leader of three: one entry of 15 KB proposed, sent, synced,
// acknowledged by both followers, committed and applied.
func BenchmarkRound(b *testing.B) {
	core, log := member(b, three)
	lead(b, core, log)
	data := [][]byte{make([]byte, 15<<10)}
	b.ReportAllocs()
	for b.Loop() {
		if err := core.Propose(data); err != nil {
			b.Fatal(err)
		}
		rd := core.Ready()
		log.Write(rd.Append)
		log.Sync(1)
		index := rd.Append.Entries[0].Index
		core.AckAppend(rd.Append.Mark)
		for _, from := range []consensus.ReplicaID{2, 3} {
			if err := core.Step(consensus.Message{From: from, To: 1, Kind: raft.KindAppendResponse, Term: 2, Index: index, Commit: index - 1}); err != nil {
				b.Fatal(err)
			}
		}
		for core.HasReady() {
			rd := core.Ready()
			if !rd.Append.Empty() {
				core.AckAppend(rd.Append.Mark)
			}
			if n := len(rd.Committed); n > 0 {
				core.AckApplied(rd.Committed[n-1].Index)
			}
		}
		if index%64 == 0 {
			log.Compact(index - 8)
		}
	}
}

func BenchmarkHasReadyIdle(b *testing.B) {
	core, log := member(b, three)
	drain(b, core, log)
	for b.Loop() {
		core.HasReady()
	}
}
