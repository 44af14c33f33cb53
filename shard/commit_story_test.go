package shard

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// Stories of transactions over three shards, whose revisions come from one counter: see testdata/commit. What is evaluated has its revisions at once, and is
// proposed; it is answered when it is applied. T is a transaction: anchor.term.number. A block has one command a line:
//
//	N REQUEST                    a client's, in the words of TestScenarios
//	N prepare T [patient] [finished=T]   for all three shards; followed by lines that start with "|":
//	  | if COMPARE               expected to hold
//	  | unless COMPARE           expected not to hold
//	  | PLACE COMMAND
//	  | release LEASE            the end of the lease's keys
//	N decide|resolve T commit R|abort    [finished=T]
//	N resolve - finished=T
//	N state T
//	N promise T ROUND
//	N accept T ROUND commit R|abort      round 0 is the coordinator's
//	apply N                      the leader applies its log, and answers; what is blocked is evaluated again
//	lose N                       what is not applied is lost, and another term begins
//	withdraw N                   what is blocked is given up
//	issue                        the next revision is issued to somebody
//	compact N REV                the store is compacted at the revision, as shard N hears
//	known N                      what is known there
//	fence N up|down              shard N is told
//	held N KEY REV               whether a read of the key as of the revision has to wait
type commitStory struct {
	last      kv.Revision
	compacted map[int]kv.Revision
	groups    []*group
	terms     []consensus.Term
	waiting   []*storyRequest
}

type storyRequest struct {
	name    string
	shard   int
	request *kv.Request
	outcome Outcome
	blocked bool
}

func newCommitStory() (*commitStory, error) {
	s := &commitStory{last: 1, compacted: map[int]kv.Revision{}, terms: make([]consensus.Term, 3)}
	for i := range 3 {
		options := testOptions(1)
		options.Shard, options.Sequenced = kv.ShardID(i+1), true
		s.groups = append(s.groups, &group{})
		s.terms[i] = 1
		if err := s.groups[i].elect(mustOpen(options), 1); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func TestCommitStories(t *testing.T) {
	datadriven.Walk(t, "testdata/commit", func(t *testing.T, path string) {
		s, err := newCommitStory()
		if err != nil {
			t.Fatal(err)
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			text := ""
			for _, lines := range statements(d.Input) {
				text += lines[0] + ":" + s.do(lines) + "\n"
				for _, g := range s.groups {
					if err := g.leader.Check(); err != nil {
						t.Fatalf("after %s: %v", lines[0], err)
					}
				}
			}
			return text
		})
	})
}

func (s *commitStory) do(lines []string) string {
	words := strings.Fields(lines[0])
	shard := func() int { n, _ := strconv.Atoi(words[1]); return n - 1 }
	revision := func(word string) kv.Revision { n, _ := strconv.Atoi(word); return kv.Revision(n) }
	switch words[0] {
	case "apply":
		return s.apply(shard())
	case "lose":
		return s.lose(shard())
	case "withdraw":
		for _, r := range s.waiting {
			if r.shard == shard() && r.blocked {
				s.groups[r.shard].leader.Withdraw(r.request)
			}
		}
		s.waiting = slices.DeleteFunc(s.waiting, func(r *storyRequest) bool { return r.shard == shard() && r.blocked })
		return " ok"
	case "issue":
		s.last++
		return fmt.Sprint(" ", s.last)
	case "compact":
		s.compacted[shard()] = revision(words[2])
		return s.batch(shard(), nil)
	case "known":
		return s.known(s.groups[shard()].leader)
	case "fence":
		told := uint64(0)
		if words[2] == "up" {
			told = 1 << kv.AlarmFence
		}
		s.groups[shard()].leader.TellAlarms(told)
		return " ok"
	case "held":
		r := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: parseSpan(words[2:3])}}
		return fmt.Sprint(" ", s.groups[shard()].leader.Held(r, revision(words[3])))
	}
	n, _ := strconv.Atoi(words[0])
	lines = slices.Clone(lines)
	lines[0] = strings.Join(words[1:], " ")
	return s.batch(n-1, &storyRequest{name: lines[0], shard: n - 1, request: s.request(n, lines)})
}

func (s *commitStory) request(n int, lines []string) *kv.Request {
	words := strings.Fields(lines[0])
	kinds := map[string]kv.Kind{"prepare": kv.KindTxnPrepare, "decide": kv.KindTxnDecide, "resolve": kv.KindTxnResolve, "state": kv.KindTxnState,
		"promise": kv.KindTxnPromise, "accept": kv.KindTxnAccept}
	kind, found := kinds[words[0]]
	if !found {
		return parseRequest(lines)
	}
	c := &kv.CommitRequest{ID: parseID(words[1]), Shard: kv.ShardID(n)}
	for i, word := range words {
		if of, isFinished := strings.CutPrefix(word, "finished="); isFinished {
			c.Finished = parseFinished(of)
		}
		switch word {
		case "patient":
			c.Patient = true
		case "abort":
			c.Decision.Verdict = kv.Abort
		case "commit":
			at, _ := strconv.Atoi(words[i+1])
			c.Decision = kv.Decision{Verdict: kv.Commit, Revision: kv.Revision(at)}
		}
	}
	switch kind {
	case kv.KindTxnPromise, kv.KindTxnAccept:
		if round, _ := strconv.Atoi(words[2]); round > 0 {
			c.Ballot = kv.Ballot{Round: uint64(round), Shard: 2, Term: 1}
		}
		c.Participants = []kv.ShardID{1, 2, 3}
	case kv.KindTxnPrepare:
		c.Participants, c.Share = []kv.ShardID{1, 2, 3}, parseShare(lines[1:])
	}
	return &kv.Request{Kind: kind, Commit: c}
}

func parseID(word string) (id kv.TransactionID) {
	if parts := strings.Split(word, "."); len(parts) == 3 {
		anchor, _ := strconv.Atoi(parts[0])
		term, _ := strconv.Atoi(parts[1])
		number, _ := strconv.Atoi(parts[2])
		id = kv.TransactionID{Anchor: kv.ShardID(anchor), Term: uint64(term), Number: uint64(number)}
	}
	return id
}

// parseFinished reads an ID, and behind "but:" those that are open, with commas between.
func parseFinished(word string) (f kv.Finished) {
	at, open, some := strings.Cut(word, "but:")
	f.At = parseID(at)
	if some {
		for _, id := range strings.Split(open, ",") {
			f.Open = append(f.Open, parseID(id))
		}
	}
	return f
}

func parseShare(lines []string) *kv.Share {
	share := &kv.Share{}
	for _, line := range lines {
		words := strings.Fields(line)
		if words[0] == "release" {
			lease, _ := strconv.Atoi(words[1])
			share.Release = &kv.LeaseBinding{Lease: kv.LeaseID(lease), Incarnation: 1}
			continue
		}
		if words[0] == "if" || words[0] == "unless" {
			share.Compares = append(share.Compares, kv.Expectation{Compare: parseCompare(words[1:]), Holds: words[0] == "if"})
			continue
		}
		place, _ := strconv.Atoi(words[0])
		share.Ops = append(share.Ops, kv.PlacedOp{Place: uint32(place), Op: parseOp(words[1:])})
	}
	return share
}

// batch evaluates a request, and what is blocked, and proposes it.
func (s *commitStory) batch(n int, asked *storyRequest) string {
	g := s.groups[n]
	if err := g.leader.Begin(kv.Present{Revision: s.last, Compacted: s.compacted[n]}, true); err != nil {
		return " PROBLEM " + err.Error()
	}
	text := ""
	evaluate := func(r *storyRequest) {
		out := g.leader.Evaluate(r.request)
		switch r.outcome, r.blocked = out, out.Blocked; {
		case out.Fatal != nil:
			text += " PROBLEM " + out.Fatal.Error()
		case out.Blocked && r == asked:
			text += " is blocked"
		case out.Unnumbered:
			text += " is to be evaluated again"
		case out.Awaits != 0:
			text += fmt.Sprint(" waits for lease ", out.Awaits)
		case !out.Blocked && r != asked:
			text += "\n  " + r.name + ": is blocked no more"
		}
	}
	if asked != nil {
		evaluate(asked)
		s.waiting = append(s.waiting, asked)
	}
	for _, r := range s.waiting {
		if r.shard == n && r.blocked && r != asked {
			evaluate(r)
		}
	}
	first := s.last + 1
	s.last += kv.Revision(g.leader.Unnumbered())
	if err := g.leader.Number(first, 0); err != nil {
		return text + " PROBLEM " + err.Error()
	}
	g.propose()
	return text + s.answers(n)
}

// answers tells what may be answered.
func (s *commitStory) answers(n int) (text string) {
	m := s.groups[n].leader
	s.waiting = slices.DeleteFunc(s.waiting, func(r *storyRequest) bool {
		if r.shard != n || r.blocked || m.lead.appliedSeq() < r.outcome.WaitFor {
			return false
		}
		text += "\n  " + r.name + ": "
		if r.outcome.Response != nil && r.outcome.Response.Commit != nil {
			text += commitText(r.outcome.Response.Commit)
		} else if r.outcome.Response != nil || r.outcome.Err != nil {
			text += answerText(r.outcome.Response, r.outcome.Err)
		}
		return true
	})
	return text
}

func commitText(c *kv.CommitResponse) string {
	text := [...]string{"unknown", "prepared", "promised", "resolved", "over"}[c.Standing]
	if c.Busy {
		text = "busy"
	}
	if c.Met != nil {
		text = fmt.Sprint("not met: ", c.Met)
	}
	if c.Writes {
		text += ", writes"
	}
	for i := range c.Results {
		text += "\n    " + strings.ReplaceAll(describe(c.Results[i]), fmt.Sprint(int64(kv.Unnumbered)), "unnumbered")
	}
	if c.Promised != (kv.Ballot{}) {
		text += fmt.Sprintf(", promised %d", c.Promised.Round)
	}
	if c.Decision.Verdict != kv.Undecided {
		text += fmt.Sprintf(", %s in round %d", decisionText(c.Decision), c.Accepted.Round)
	}
	return text
}

func decisionText(d kv.Decision) string {
	switch d.Verdict {
	case kv.Commit:
		return fmt.Sprint("commit at ", d.Revision)
	case kv.Abort:
		return "abort"
	}
	return "undecided"
}

func (s *commitStory) apply(n int) (text string) {
	g := s.groups[n]
	for int(g.leader.AppliedIndex()) < len(g.log) {
		done, err := g.leader.apply(g.log[g.leader.AppliedIndex()])
		if err != nil {
			return " PROBLEM " + err.Error()
		}
		for _, e := range done.Resolved {
			text += fmt.Sprintf(" %s@%d place %d", e.Key, e.At.Rev, e.At.Place())
		}
		for _, e := range done.Effects {
			text += fmt.Sprintf(" %s@%d", e.Key, e.At.Rev)
		}
	}
	text += fmt.Sprintf(" closed at %d", g.leader.Closed()) + s.answers(n)
	return text + s.batch(n, nil)
}

func (s *commitStory) lose(n int) string {
	g := s.groups[n]
	g.log = g.log[:g.leader.AppliedIndex()]
	g.leader.Follow()
	s.waiting = slices.DeleteFunc(s.waiting, func(r *storyRequest) bool { return r.shard == n })
	s.terms[n]++
	if err := g.elect(g.leader, s.terms[n]); err != nil {
		return " PROBLEM " + err.Error()
	}
	return fmt.Sprint(" term ", s.terms[n])
}

func (s *commitStory) known(r *replica) string {
	text := fmt.Sprintf(" revision %d, closed at %d", r.applied.Revision, r.Closed())
	if r.applied.Compacted > 0 {
		text += fmt.Sprintf(", compacted at %d", r.applied.Compacted)
	}
	r.transactions.each(func(known *record) bool {
		text += fmt.Sprintf("\n  %d.%d.%d: %s", known.id.Anchor, known.id.Term, known.id.Number, commitText(known.answer()))
		if known.holds() {
			text += fmt.Sprint(", stamp ", known.stamp)
		}
		return true
	})
	for _, anchor := range []kv.ShardID{1, 2, 3} {
		if finished := r.Finished(anchor); finished.At.Number != 0 {
			text += fmt.Sprintf("\n  before %d.%d.%d all are over", finished.At.Anchor, finished.At.Term, finished.At.Number)
			for i, id := range finished.Open {
				text += fmt.Sprintf("%s %d.%d.%d", [...]string{", but for", " and"}[min(i, 1)], id.Anchor, id.Term, id.Number)
			}
		}
	}
	for _, u := range r.Undecided() {
		text += fmt.Sprintf("\n  to be looked at: %d.%d.%d %s", u.ID.Anchor, u.ID.Term, u.ID.Number, decisionText(u.Decision))
	}
	return text
}
