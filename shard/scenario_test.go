package shard

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// Scenarios are texts: see testdata. A block holds one command a line; requests are applied at once, unless the
// block is "inflight", where they are only evaluated. Commands:
//
//	put KEY VALUE [lease=N] [prev] [keep-value] [keep-lease]
//	get KEY [END] [rev=N] [limit=N] [count] [keys]
//	del KEY [END] [prev]
//	txn                     followed by lines that start with "|", nested transactions with one more "|":
//	  | if KEY[..END] version|create|mod|value|lease =|>|<|!= X
//	  | then COMMAND
//	  | else COMMAND
//	grant ID TTL, revoke ID, keepalive ID, ttl ID [keys], leases, compact REV,
//	alarm get|raise|clear NODE nospace|corrupt|unknown, node ID NAME, nodes
//
// and, about the log:
//
//	propose                 what was evaluated becomes an entry
//	apply                   everything in the log, on the leader
//	wait DURATION           and tick
//	pass DURATION           without a tick
//	renew ID                a keep-alive that the leader may answer without the log
//	elect                   the same replica leads the next term
//	lose N                  the last N entries, which are not applied, disappear
//	hole N                  entry N becomes a barrier of the next term
//	state
type scenario struct {
	group group
	term  consensus.Term
}

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.HasPrefix(path, "testdata/store/") || strings.HasPrefix(path, "testdata/commit/") {
			return // see TestLeaseStories and TestCommitStories
		}
		s := &scenario{term: 1}
		if err := s.group.elect(mustOpen(testOptions(1)), 1); err != nil {
			t.Fatal(err)
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			text := ""
			for _, lines := range statements(d.Input) {
				text += lines[0] + " -> " + s.run(lines, d.Cmd == "inflight") + "\n"
				if err := s.group.leader.Check(); err != nil {
					t.Fatal(err)
				}
			}
			return text
		})
	})
}

// statements groups each command with the lines of its transaction.
func statements(input string) (list [][]string) {
	for _, line := range strings.Split(strings.TrimSpace(input), "\n") {
		line = strings.TrimSpace(line)
		if rest, nested := strings.CutPrefix(line, "|"); nested {
			last := &list[len(list)-1]
			*last = append(*last, strings.TrimSpace(rest))
		} else {
			list = append(list, []string{line})
		}
	}
	return list
}

func (s *scenario) run(lines []string, inFlight bool) string {
	words := strings.Fields(lines[0])
	g := &s.group
	switch words[0] {
	case "propose":
		return fmt.Sprint("proposal ", g.propose())
	case "apply":
		return s.apply()
	case "wait":
		d, _ := time.ParseDuration(words[1])
		g.now += d
		if err := g.leader.Tick(g.now); err != nil {
			return err.Error()
		}
		if !inFlight {
			g.propose()
			return s.apply()
		}
		return "ok"
	case "pass":
		d, _ := time.ParseDuration(words[1])
		g.now += d
		g.leader.lead.advance(g.now, g.leader.options.MaxClockStep)
		return "ok"
	case "renew":
		answer, renewed := g.leader.Renew(parseRequest([]string{"keepalive " + words[1]}).LeaseKeepAlive, g.now)
		if !renewed {
			return "the log must do it"
		}
		return answerText(answer, nil)
	case "elect":
		g.leader.Follow()
		s.term++
		if err := g.elect(g.leader, s.term); err != nil {
			return err.Error()
		}
		return fmt.Sprint("term ", s.term)
	case "lose":
		n, _ := strconv.Atoi(words[1])
		g.leader.Follow()
		g.log = g.log[:len(g.log)-n]
		return fmt.Sprint("last entry ", len(g.log))
	case "hole":
		n, _ := strconv.Atoi(words[1])
		g.leader.Follow()
		g.log[n-1] = consensus.Entry{Index: consensus.Index(n), Term: s.term + 1, Kind: consensus.EntryBarrier}
		return "ok"
	case "state":
		a := g.leader.applied
		return fmt.Sprintf("index %d chain %d/%d revision %d compacted %d clock %dms, in flight %d", a.Index, a.ChainTerm, a.ChainSeq, a.Revision, a.Compacted, a.LeaseClock, g.leader.Metrics().InFlightEffects)
	}
	return s.request(lines, inFlight)
}

func (s *scenario) apply() string {
	text := ""
	for m := s.group.leader; int(m.AppliedIndex()) < len(s.group.log); {
		done, err := m.apply(s.group.log[m.AppliedIndex()])
		if err != nil {
			return err.Error()
		}
		text += fmt.Sprintf(" [%d rev %d", done.Index, done.Revision)
		if done.Void {
			text += " void"
		}
		for _, e := range done.Effects {
			sign := "+"
			if e.Version == 0 {
				sign = "-"
			}
			text += fmt.Sprintf(" %s%s@%d.%d", sign, e.Key, e.At.Rev, e.At.Sub)
		}
		text += "]"
	}
	return "applied" + text
}

func (s *scenario) request(lines []string, inFlight bool) string {
	r := parseRequest(lines)
	if err := Validate(r, Limits{MaxTxnOps: 8}); err != nil {
		return "invalid: " + err.Error()
	}
	if inFlight {
		out := s.group.leader.Evaluate(r)
		return fmt.Sprintf("%s, wait for %d", answerText(out.Response, out.Err), out.WaitFor)
	}
	return answerText(s.group.do(r))
}

func answerText(r *kv.Response, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	r.Kind = 0
	return describe(r)
}

func parseRequest(lines []string) *kv.Request {
	words := strings.Fields(lines[0])
	number := func(i int) int64 { n, _ := strconv.ParseInt(words[i], 10, 64); return n }
	switch words[0] {
	case "grant":
		return &kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: kv.LeaseID(number(1)), TTLSeconds: number(2)}}
	case "revoke":
		return &kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: kv.LeaseID(number(1))}}
	case "keepalive":
		return &kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: kv.LeaseID(number(1))}}
	case "ttl":
		return &kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: kv.LeaseID(number(1)), Keys: len(words) > 2}}
	case "leases":
		return &kv.Request{Kind: kv.KindLeaseLeases}
	case "nodes":
		return &kv.Request{Kind: kv.KindMemberList, MemberList: &kv.MemberListRequest{Linearizable: true}}
	case "node":
		return &kv.Request{Kind: kv.KindPublishNode, PublishNode: &kv.NodeRecord{ID: kv.NodeID(number(1)), Name: words[2]}}
	case "compact":
		return &kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: kv.Revision(number(1))}}
	case "alarm":
		a := &kv.AlarmRequest{Action: map[string]kv.AlarmAction{"get": kv.AlarmGet, "raise": kv.AlarmActivate, "clear": kv.AlarmDeactivate}[words[1]]}
		a.Alarm = kv.Alarm{Node: kv.NodeID(number(2)), Type: map[string]kv.AlarmType{"nospace": kv.AlarmNoSpace, "corrupt": kv.AlarmCorrupt, "fence": kv.AlarmFence, "unknown": 77}[words[3]]}
		return &kv.Request{Kind: kv.KindAlarm, Alarm: a}
	case "txn":
		return &kv.Request{Kind: kv.KindTxn, Txn: parseTxn(lines[1:])}
	}
	o := parseOp(words)
	switch {
	case o.Put != nil:
		return &kv.Request{Kind: kv.KindPut, Put: o.Put}
	case o.Range != nil:
		return &kv.Request{Kind: kv.KindRange, Range: o.Range}
	case o.DeleteRange != nil:
		return &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: o.DeleteRange}
	}
	panic("unknown command: " + lines[0])
}

func parseTxn(lines []string) *kv.TxnRequest {
	t := &kv.TxnRequest{}
	for _, group := range statements(strings.Join(lines, "\n")) {
		words := strings.Fields(group[0])
		if words[0] == "if" {
			t.Compare = append(t.Compare, parseCompare(words[1:]))
			continue
		}
		var o kv.Op
		if len(words) > 1 && words[1] == "txn" {
			o.Txn = parseTxn(group[1:])
		} else if len(words) > 1 {
			o = parseOp(words[1:])
		}
		if words[0] == "then" {
			t.Success = append(t.Success, o)
		} else {
			t.Failure = append(t.Failure, o)
		}
	}
	return t
}

func parseCompare(words []string) kv.Compare {
	start, end, _ := strings.Cut(words[0], "..")
	c := kv.Compare{Span: parseSpan([]string{start, end})}
	c.Target = map[string]kv.CompareTarget{"version": kv.CompareVersion, "create": kv.CompareCreate, "mod": kv.CompareMod, "value": kv.CompareValue, "lease": kv.CompareLease}[words[1]]
	c.Result = map[string]kv.CompareResult{"=": kv.CompareEqual, ">": kv.CompareGreater, "<": kv.CompareLess, "!=": kv.CompareNotEqual}[words[2]]
	if c.Target == kv.CompareValue {
		c.Value = []byte(words[3])
	} else {
		c.Integer, _ = strconv.ParseInt(words[3], 10, 64)
	}
	return c
}

// parseSpan reads START [END]; the end "*" means every key from the start on.
func parseSpan(words []string) kv.Span {
	span := kv.Span{Start: []byte(words[0])}
	if len(words) > 1 && words[1] == "*" {
		span.End = []byte{0}
	} else if len(words) > 1 && words[1] != "" {
		span.End = []byte(words[1])
	}
	return span
}

func parseOp(words []string) (o kv.Op) {
	var plain []string
	flags := map[string]bool{}
	values := map[string]int64{}
	for _, w := range words[1:] {
		name, value, isValue := strings.Cut(w, "=")
		switch {
		case isValue:
			values[name], _ = strconv.ParseInt(value, 10, 64)
		case w == "prev" || w == "keep-value" || w == "keep-lease" || w == "count" || w == "keys":
			flags[w] = true
		case w == `""`:
			plain = append(plain, "")
		default:
			plain = append(plain, w)
		}
	}
	switch words[0] {
	case "put":
		o.Put = &kv.PutRequest{Key: []byte(plain[0]), Lease: kv.LeaseID(values["lease"]), PrevKV: flags["prev"], IgnoreValue: flags["keep-value"], IgnoreLease: flags["keep-lease"]}
		if len(plain) > 1 {
			o.Put.Value = []byte(plain[1])
		}
	case "get":
		o.Range = &kv.RangeRequest{Span: parseSpan(plain), Revision: kv.Revision(values["rev"]), Limit: values["limit"], CountOnly: flags["count"], KeysOnly: flags["keys"]}
	case "del":
		o.DeleteRange = &kv.DeleteRangeRequest{Span: parseSpan(plain), PrevKV: flags["prev"]}
	}
	return o
}
