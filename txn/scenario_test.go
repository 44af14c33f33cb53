package txn

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/shard/model"
)

// The language of testdata. There are three shards: keys below h, below p, and the others. What shares evaluate to is as in their
// stores, which change only by "store".
//
//	coordinator [protocol=3pc] [anchor=] [term=] [max=] [finished=(term,number)] [older] [silent]
//	                                       older: earlier leaderships may have left something. silent: the anchor does not say that a prepare has its
//	                                       locks until "granted n="; otherwise it says so at once
//	begin owner= [deadline=seconds]        the request is in the lines below: "if KEY exists", "if KEY missing", "get KEY", "put KEY", "put! KEY"
//	                                       (the key must exist), "delete KEY KEY", and the same behind "else"; a line "delete KEY KEY" alone is a
//	                                       request by itself
//	answer KIND shard= n= [busy] [error=] [standing=] [commit=revision] [abort] [promised=(round,shard)] [accepted=(round,shard)]
//	                                       n: number of the transaction. Without more a prepare is evaluated
//	numbered n= revision= | error=         seen call= [error=]: the probe is evaluated
//	tick ms=  cancel call=  stop  older [shards=()]  live n=
//	store                                  lines: "put KEY", "delete KEY"
//	recovery shard= term= [protocol=3pc] [max=]
//	undecided [ms=]                        lines: "TERM.NUMBER since=ms [own] [commit=revision] [abort] [unnamed]"; the participants are shards 1 to 3,
//	                                       unless they are unnamed
//	answered KIND shard= n= ...            for the recovery
type script struct {
	store       *model.Store // everything, for probes
	shards      [3]*model.Store
	coordinator *Coordinator
	recovery    *Recovery
	silent      bool
	asks        []Ask
	probes      map[Call]*kv.Request
	out         strings.Builder
}

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &script{store: model.New(), probes: map[Call]*kv.Request{}}
		for i := range s.shards {
			s.shards[i] = model.New()
			s.shards[i].AnyLease = true
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			s.run(t, d)
			s.say()
			if s.coordinator != nil {
				if err := s.coordinator.Check(); err != nil {
					t.Fatalf("%s: %v", d.Pos, err)
				}
			}
			if s.out.Len() == 0 {
				return "ok\n"
			}
			return s.out.String()
		})
	})
}

func (s *script) print(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *script) run(t *testing.T, d *datadriven.TestData) {
	n := func(name string, otherwise int) int {
		if d.HasArg(name) {
			d.ScanArgs(t, name, &otherwise)
		}
		return otherwise
	}
	protocol := TwoPhase
	if d.HasArg("protocol") {
		protocol = ThreePhase
	}
	table, err := partition.New(partition.Scheme{Kind: partition.Range, Shards: 3, SplitKeys: [][]byte{[]byte("h"), []byte("p")}})
	if err != nil {
		t.Fatal(err)
	}
	switch d.Cmd {
	case "coordinator":
		o := Options{Protocol: protocol, Anchor: kv.ShardID(n("anchor", 1)), Term: uint64(n("term", 1)), Table: table, MaxTransactions: n("max", 0)}
		if d.HasArg("finished") {
			d.ScanArgs(t, "finished", &o.Finished.At.Term, &o.Finished.At.Number)
			o.Finished.At.Anchor = o.Anchor
		}
		if s.coordinator, err = NewCoordinator(o.WithDefaults()); err != nil {
			t.Fatal(err)
		}
		s.silent = d.HasArg("silent")
		if s.asks = nil; !d.HasArg("older") {
			s.coordinator.OlderFinished(nil, nil)
		}
	case "begin":
		var owner string
		d.ScanArgs(t, "owner", &owner)
		call, err := s.coordinator.Begin(owner, s.request(t, d), time.Duration(n("deadline", 60))*time.Second)
		if err != nil {
			s.print("refused: %v", err)
		} else {
			s.print("call %d", call)
		}
	case "granted":
		for _, a := range s.asks {
			if a.Request.Kind == kv.KindTxnPrepare && a.Request.Commit.ID.Number == uint64(n("n", 0)) {
				s.coordinator.Granted(a) // of others than the anchor it is not said, and changes nothing
			}
		}
	case "numbered":
		id := kv.TransactionID{Anchor: s.coordinator.options.Anchor, Term: s.coordinator.options.Term, Number: uint64(n("n", 0))}
		s.coordinator.Numbered(id, kv.Revision(n("revision", 0)), s.failure(t, d))
	case "seen":
		call := Call(n("call", 0))
		answer, err := s.store.Clone().Apply(s.probes[call])
		if d.HasArg("error") {
			err = s.failure(t, d)
		}
		s.coordinator.Seen(call, answer, err)
	case "tick":
		s.coordinator.Tick(time.Duration(n("ms", 0)) * time.Millisecond)
	case "cancel":
		s.coordinator.Cancel(Call(n("call", 0)))
	case "stop":
		s.coordinator.Stop()
	case "older":
		var shards []kv.ShardID
		var open []kv.TransactionID
		for _, a := range d.CmdArgs {
			for _, v := range a.Vals {
				if a.Key == "open" {
					id := kv.TransactionID{Anchor: s.coordinator.options.Anchor}
					_, err := fmt.Sscanf(v, "%d.%d", &id.Term, &id.Number)
					if err != nil {
						t.Fatal(err)
					}
					open = append(open, id)
				} else {
					shards = append(shards, kv.ShardID(v[0]-'0'))
				}
			}
		}
		s.coordinator.OlderFinished(shards, open)
	case "live":
		s.print("%v", s.coordinator.Live(kv.TransactionID{Anchor: s.coordinator.options.Anchor, Term: s.coordinator.options.Term, Number: uint64(n("n", 0))}))
	case "store":
		for line := range strings.Lines(d.Input) {
			t := &kv.TxnRequest{Success: []kv.Op{operation(strings.Fields(line))}}
			of := table.Overlapping(spanOf(&t.Success[0]))[0].Shard
			for _, m := range []*model.Store{s.store, s.shards[of-1]} {
				if _, err := m.Apply(&kv.Request{Kind: kv.KindTxn, Txn: t}); err != nil {
					s.print("%v", err)
				}
			}
		}
	case "recovery":
		o := RecoveryOptions{Protocol: protocol, Shard: kv.ShardID(n("shard", 1)), Term: uint64(n("term", 1)), MaxQuestions: n("max", 0)}
		if s.recovery, err = NewRecovery(o.WithDefaults()); err != nil {
			t.Fatal(err)
		}
		s.coordinator, s.asks = nil, nil
	case "undecided":
		var list []kv.UnfinishedTransaction
		for line := range strings.Lines(d.Input) {
			list = append(list, undecided(t, line))
		}
		s.recovery.Tick(time.Duration(n("ms", 0))*time.Millisecond, list)
		if told, open, ok := s.recovery.OlderFinished(); ok && len(told)+len(open) > 0 {
			text := fmt.Sprintf("older ones are finished, %v were told", told)
			for _, id := range open {
				text += fmt.Sprintf("; open is %d.%d", id.Term, id.Number)
			}
			s.print("%s", text)
		}
	case "answer", "answered":
		s.answer(t, d, n)
	default:
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
}

func undecided(t *testing.T, line string) kv.UnfinishedTransaction {
	u := kv.UnfinishedTransaction{Participants: []kv.ShardID{1, 2, 3}}
	u.ID.Anchor = 1
	words := strings.Fields(line)
	if _, err := fmt.Sscanf(words[0], "%d.%d", &u.ID.Term, &u.ID.Number); err != nil {
		t.Fatal(err)
	}
	for _, word := range words[1:] {
		n := 0
		name, value, _ := strings.Cut(word, "=")
		_, _ = fmt.Sscan(value, &n)
		switch name {
		case "since":
			u.Since = time.Duration(n) * time.Millisecond
		case "own":
			u.Own = true
		case "commit":
			u.Decision = kv.Decision{Verdict: kv.Commit, Revision: kv.Revision(n)}
		case "abort":
			u.Decision = kv.Decision{Verdict: kv.Abort}
		case "unnamed":
			u.Participants = nil
		}
	}
	return u
}

// request reads the lines of a begin.
func (s *script) request(t *testing.T, d *datadriven.TestData) *kv.Request {
	txn := &kv.TxnRequest{}
	lines := strings.Split(strings.TrimSpace(d.Input), "\n")
	for _, line := range lines {
		words := strings.Fields(line)
		to := &txn.Success
		if words[0] == "else" {
			to, words = &txn.Failure, words[1:]
		}
		if words[0] == "if" {
			c := kv.Compare{Span: kv.Span{Start: []byte(words[1])}, Target: kv.CompareVersion}
			if words[2] == "exists" {
				c.Result = kv.CompareNotEqual
			}
			txn.Compare = append(txn.Compare, c)
			continue
		}
		*to = append(*to, operation(words))
	}
	if len(lines) == 1 && txn.Success[0].DeleteRange != nil {
		return &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: txn.Success[0].DeleteRange}
	}
	return &kv.Request{Kind: kv.KindTxn, Txn: txn}
}

func operation(words []string) kv.Op {
	key := []byte(words[1])
	switch words[0] {
	case "put":
		return kv.Op{Put: &kv.PutRequest{Key: key, Value: []byte("v")}}
	case "put!":
		return kv.Op{Put: &kv.PutRequest{Key: key, IgnoreValue: true}}
	case "delete":
		span := kv.Span{Start: key}
		if len(words) > 2 {
			span.End = []byte(words[2])
		}
		return kv.Op{DeleteRange: &kv.DeleteRangeRequest{Span: span}}
	}
	return kv.Op{Range: &kv.RangeRequest{Span: kv.Span{Start: key}}}
}

var failures = map[string]*kv.Error{
	"timeout": kv.ErrTimeout, "unknown": kv.ErrOutcomeUnknown, "no-leader": kv.ErrNoLeader, "leader-changed": kv.ErrLeaderChanged, "not-leader": kv.ErrNotLeader,
	"too-many": kv.ErrTooManyRequests, "lease": kv.ErrLeaseNotFound, "no-space": kv.ErrNoSpace,
}

func (s *script) failure(t *testing.T, d *datadriven.TestData) error {
	if !d.HasArg("error") {
		return nil
	}
	var name string
	d.ScanArgs(t, "error", &name)
	return failures[name]
}

var kinds = map[string]kv.Kind{
	"prepare": kv.KindTxnPrepare, "decide": kv.KindTxnDecide, "accept": kv.KindTxnAccept, "promise": kv.KindTxnPromise, "resolve": kv.KindTxnResolve, "state": kv.KindTxnState,
}

var standings = []string{"unknown", "prepared", "promised", "resolved", "over"}

// answer gives the oldest question that fits its answer.
func (s *script) answer(t *testing.T, d *datadriven.TestData, n func(string, int) int) {
	kind, at := kinds[d.CmdArgs[0].Key], -1
	for i, a := range s.asks {
		b := a.Request.Commit
		if at < 0 && a.Request.Kind == kind && a.Shard == kv.ShardID(n("shard", 0)) && b.ID.Number == uint64(n("n", 0)) {
			at = i
		}
	}
	if at < 0 {
		s.print("nobody asks")
		return
	}
	ask := s.asks[at]
	s.asks = slices.Delete(s.asks, at, at+1)
	answer, err := &kv.CommitResponse{}, s.failure(t, d)
	body := ask.Request.Commit
	switch kind {
	case kv.KindTxnPrepare:
		if d.HasArg("busy") {
			answer.Busy = true
		} else if err == nil {
			answer, err = evaluate(s.shards[ask.Shard-1], body.Share)
		}
	case kv.KindTxnDecide, kv.KindTxnResolve:
		answer.Standing, answer.Decision = kv.StandingResolved, body.Decision
	case kv.KindTxnAccept:
		answer.Standing, answer.Promised, answer.Accepted, answer.Decision = kv.StandingPrepared, body.Ballot, body.Ballot, body.Decision
	case kv.KindTxnPromise:
		answer.Standing, answer.Promised = kv.StandingPrepared, body.Ballot
	}
	if err != nil {
		answer = &kv.CommitResponse{} // it is not given
	}
	if d.HasArg("standing") {
		var name string
		d.ScanArgs(t, "standing", &name)
		answer.Standing, answer.Decision = kv.Standing(slices.Index(standings, name)), kv.Decision{}
	}
	if d.HasArg("commit") {
		answer.Decision = kv.Decision{Verdict: kv.Commit, Revision: kv.Revision(n("commit", 0))}
	}
	if d.HasArg("abort") {
		answer.Decision = kv.Decision{Verdict: kv.Abort}
	}
	for name, ballot := range map[string]*kv.Ballot{"promised": &answer.Promised, "accepted": &answer.Accepted} {
		if d.HasArg(name) {
			*ballot = kv.Ballot{Term: 1}
			d.ScanArgs(t, name, &ballot.Round, &ballot.Shard)
			if ballot.Round == 0 {
				*ballot = kv.Ballot{}
			}
		}
	}
	if err != nil {
		answer = nil
	}
	if d.Cmd == "answered" {
		s.recovery.Answered(ask, answer, err)
	} else {
		s.coordinator.Answered(ask, answer, err)
	}
}

// say prints what is to be done.
func (s *script) say() {
	if s.coordinator != nil {
		r := s.coordinator.Ready()
		for len(r.Asks) > 0 { // the anchor has its locks at once
			s.asked(r.Asks)
			for _, a := range r.Asks {
				if a.Request.Kind == kv.KindTxnPrepare && !s.silent {
					s.coordinator.Granted(a)
				}
			}
			r.Asks = s.coordinator.Ready().Asks
		}
		for _, n := range r.Numbers {
			s.print("number %d for %v", n.ID.Number, n.Writers)
		}
		for _, read := range r.Reads {
			s.probes[read.Call] = read.Request
			s.print("probe of call %d", read.Call)
		}
		for _, done := range r.Done {
			switch {
			case done.Err != nil:
				s.print("%v: %s", done.Owner, messageOf(done.Err))
			case done.Response.Txn != nil:
				s.print("%v: done at %d, compares hold: %v, %d operations", done.Owner, done.Response.Revision, done.Response.Txn.Succeeded, len(done.Response.Txn.Responses))
			default:
				s.print("%v: done at %d, %d deleted", done.Owner, done.Response.Revision, done.Response.DeleteRange.Deleted)
			}
		}
	}
	if s.recovery != nil {
		s.asked(s.recovery.Ready())
	}
}

func messageOf(err error) string {
	var e *kv.Error
	if errors.As(err, &e) {
		return e.Error()
	}
	return err.Error()
}

func (s *script) asked(asks []Ask) {
	for _, a := range asks {
		b, name := a.Request.Commit, ""
		for text, kind := range kinds {
			if kind == a.Request.Kind {
				name = text
			}
		}
		text := fmt.Sprintf("-> %d: %s %d.%d", a.Shard, name, b.ID.Term, b.ID.Number)
		if b.ID.Number == 0 {
			text = fmt.Sprintf("-> %d: notice", a.Shard)
		}
		if b.Share != nil {
			text += fmt.Sprintf(", %d compares, %d operations", len(b.Share.Compares), len(b.Share.Ops))
		}
		if b.Patient {
			text += ", patient"
		}
		switch b.Decision.Verdict {
		case kv.Commit:
			text += fmt.Sprintf(" COMMIT at %d", b.Decision.Revision)
		case kv.Abort:
			text += " ABORT"
		}
		if b.Ballot.Round > 0 {
			text += fmt.Sprintf(", ballot %d of shard %d", b.Ballot.Round, b.Ballot.Shard)
		}
		if at := b.Finished.At; at.Number > 0 {
			text += fmt.Sprintf(", finished below %d.%d", at.Term, at.Number)
			for i, id := range b.Finished.Open {
				text += fmt.Sprintf("%s %d.%d", [...]string{" but for", ","}[min(i, 1)], id.Term, id.Number)
			}
		}
		s.print("%s", text)
		s.asks = append(s.asks, a)
	}
}
