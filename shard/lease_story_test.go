package shard

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
)

// Stories are scenarios of leases in a store of three shards, of which the first is the system shard: see testdata/store. A block has one command a line, and
// tells after each what became of requests and what is on its way between leaders:
//
//	N REQUEST       a client asks the leader of shard N, in the words of TestScenarios
//	round N         the leader of shard N hears answers, and evaluates what waits there
//	apply N         it applies its log, and has a round
//	deliver         the first thing that was asked of another shard comes to its leader, which evaluates it
//	mail            all questions about a transaction that are on their way come to their leaders, which log what they make of them
//	drop            it is lost: whoever asked hears that the time was over
//	return          the first answer comes back, and is heard
//	pass N DURATION time passes, step by step, at the leader of shard N
//	lose N          the leader of shard N is lost with what it has not applied; another one, which knows the log, leads
//	state           what is known of leases
type story struct {
	world  *leaseWorld
	open   []*toldRequest
	onWay  []*onTheWay // that were told
	backed []*onTheWay
}

// toldRequest is a client's, and what was told of it last.
type toldRequest struct {
	name    string
	shard   *leaseShard
	pending *pendingRequest
	last    string
}

func TestLeaseStories(t *testing.T) {
	datadriven.Walk(t, "testdata/store", func(t *testing.T, path string) {
		var s *story
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" || s == nil {
				w, err := newLeaseWorld(0)
				if err != nil {
					t.Fatal(err)
				}
				s = &story{world: w}
				for i := range w.shards {
					s.do(fmt.Sprint("apply ", i+1))
				}
			}
			text := ""
			for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
				text += line + ":" + s.do(line) + s.news() + "\n"
			}
			return text
		})
	})
}

func (s *story) shard(word string) *leaseShard {
	n, _ := strconv.Atoi(word)
	return s.world.shards[n-1]
}

// do runs a command and tells what it says itself.
func (s *story) do(line string) string {
	words, w := strings.Fields(line), s.world
	problem := func(err error) string {
		if err != nil {
			return " PROBLEM " + err.Error()
		}
		return ""
	}
	if nothing := (words[0] == "deliver" || words[0] == "drop") && len(w.asks) == 0 || words[0] == "return" && len(w.back) == 0; nothing {
		return " nothing is on its way"
	}
	switch words[0] {
	case "round":
		return problem(s.shard(words[1]).evaluate(false))
	case "apply":
		l := s.shard(words[1])
		for int(l.group.leader.AppliedIndex()) < len(l.group.log) {
			if err := l.applyOne(l.group.leader); err != nil {
				return problem(err)
			}
		}
		return problem(l.evaluate(false))
	case "deliver":
		o := w.asks[0]
		w.asks = w.asks[1:]
		w.arrive(o)
		return problem(w.shards[o.target()-1].evaluate(false))
	case "mail":
		return s.mail()
	case "drop":
		w.answer(w.asks[0], nil, kv.ErrTimeout)
		w.asks = w.asks[1:]
		return ""
	case "return":
		o := w.back[0]
		w.back = w.back[1:]
		o.from.answers = append(o.from.answers, o)
		return problem(o.from.evaluate(false))
	case "pass":
		l := s.shard(words[1])
		d, _ := time.ParseDuration(words[2])
		for range d / (100 * time.Millisecond) {
			l.group.now += 100 * time.Millisecond
			if err := l.evaluate(true); err != nil {
				return problem(err)
			}
		}
		return ""
	case "lose":
		l := s.shard(words[1])
		l.group.log = l.group.log[:l.group.leader.AppliedIndex()]
		return problem(l.lose())
	case "state":
		return s.state()
	}
	l := s.shard(words[0])
	p := &pendingRequest{request: parseRequest([]string{strings.Join(words[1:], " ")})}
	l.queue = append(l.queue, p)
	s.open = append(s.open, &toldRequest{name: strings.Join(words[1:], " "), shard: l, pending: p})
	return problem(l.evaluate(false))
}

// mail delivers what is on its way, and tells what that was.
func (s *story) mail() (text string) {
	w := s.world
	var to []string
	for range len(w.mail) {
		id, kind := w.mail[0].shard, w.mail[0].request.Kind
		text += fmt.Sprintf(" %s at shard %d;", map[kv.Kind]string{
			kv.KindTxnPrepare: "prepare", kv.KindTxnDecide: "decide", kv.KindTxnResolve: "resolve", kv.KindTxnState: "state",
		}[kind], id)
		w.deliverMail(0, false)
		to = append(to, fmt.Sprint("apply ", id))
	}
	for _, command := range to {
		text += s.do("round"+command[len("apply"):]) + s.do(command)
	}
	return text + s.do("round 1")
}

// news tells what changed.
func (s *story) news() (text string) {
	s.open = slices.DeleteFunc(s.open, func(r *toldRequest) bool {
		now, over := s.stands(r)
		if now != r.last {
			text += fmt.Sprintf("\n  %s: %s", r.name, now)
		}
		r.last = now
		return over
	})
	for _, o := range s.world.asks {
		if !slices.Contains(s.onWay, o) {
			text += fmt.Sprintf("\n  shard %d asks shard %d: %s", o.from.group.leader.Shard(), o.target(), askText(o.ask.Request))
		}
	}
	for _, o := range s.world.back {
		if !slices.Contains(s.backed, o) {
			text += fmt.Sprintf("\n  answer to shard %d, %s: %s", o.from.group.leader.Shard(), askText(o.ask.Request), answered(o))
		}
	}
	s.onWay, s.backed = slices.Clone(s.world.asks), slices.Clone(s.world.back)
	return text
}

func answered(o *onTheWay) string {
	if o.err != nil {
		return o.err.Error()
	}
	return "done"
}

func (o *onTheWay) target() kv.ShardID {
	if o.ask.Request.Kind == kv.KindLeaseRelease {
		return o.ask.Request.LeaseBinding.Shard
	}
	return kv.SystemShard
}

func askText(r *kv.Request) string {
	b := r.LeaseBinding
	if r.Kind == kv.KindLeaseAttach {
		return fmt.Sprintf("attach lease %d to shard %d", b.Lease, b.Shard)
	}
	if r.Kind == kv.KindLeaseEnd {
		return fmt.Sprintf("end lease %d, incarnation %d, in shards %d", b.Lease, b.Incarnation, b.Shards)
	}
	return fmt.Sprintf("release lease %d, incarnation %d", b.Lease, b.Incarnation)
}

// stands tells where a request is. over: it was answered, or lost.
func (s *story) stands(r *toldRequest) (text string, over bool) {
	l, p := r.shard, r.pending
	for id, list := range l.waiting {
		if slices.Contains(list, p) {
			return fmt.Sprintf("waits for lease %d", id), false
		}
	}
	switch {
	case p.lost:
		return "lost with the leader", true
	case slices.Contains(l.queue, p):
		return "is to be evaluated again", false
	case slices.Contains(l.decided, p):
		return "in flight", false
	}
	return answerText(p.out.Response, p.out.Err), true
}

// state tells what the leaders know of leases, as applied.
func (s *story) state() (text string) {
	system := s.world.shards[0].group.leader
	for id := kv.LeaseID(1); id < 10; id++ {
		if l := system.leases.byID[id]; l != nil {
			text += fmt.Sprintf("\n  lease %d: registered %d, ending %v", id, l.shards, l.ending)
		}
		for _, other := range s.world.shards {
			m := other.group.leader
			keys, err := m.attached(id, "", 0, nil)
			if err != nil {
				return " PROBLEM " + err.Error()
			}
			if noted := m.leases.notes[id]; noted != 0 || len(keys) > 0 {
				text += fmt.Sprintf("\n  shard %d: note %d of lease %d, keys %q", m.Shard(), noted, id, keys)
			}
		}
	}
	if text == "" {
		return " nothing"
	}
	return text
}
