package sequencer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
)

// The language of testdata. There is one sequencer at a time, and nodes with askers. Frames are encoded, and lie in the order in which they were
// sent. After every command all cores check themselves.
//
//	sequencer epoch= applied= [limit=] [window=] [doubts=]   a new one; the one before is gone, with all frames to and from it
//	node n=                          a new process
//	target n=                        it hears that the sequencer is another one
//	lead n= shard= term= [gen=]      step-down n= shard=
//	alloc n= shard= count=           voided n= shard=
//	multi n= shards=(1,2)            forget n= ticket=
//	read n=
//	frontier n= shards=(1,2) [gen=]
//	learn n= shard=                  the first step of a Clean; "confirm n=", then "clean n= top= [open=] [prepared=]"
//	tick n= ms=
//	say n=                           what the node wants done; its frame is on its way
//	hear n= / lose n=                its oldest frame reaches the sequencer, or is lost
//	answer                           what the sequencer wants done; its frames are on their way
//	get n= / miss n=                 the oldest frame to the node reaches it, or is lost
//	talk                             all of these until nothing is left
//	take shard= count=               the leader beside the sequencer; "take-multi shards=(1,2)", "peek"
//	applied revision=                notice compact= alarms=
//	committed / refused              what became of the limit that was proposed last; hand-over / hand-over-failed
type script struct {
	sequencer *Sequencer
	proposed  kv.Revision // limit
	notice    Notice
	askers    map[kv.NodeID]*Asker
	order     []kv.NodeID
	up, down  map[kv.NodeID][]string
	instance  uint64
	learnt    map[kv.NodeID]Learnt
	confirmed map[kv.NodeID]Confirmed
	out       strings.Builder
}

const (
	testPatience = 100 * time.Millisecond
	testElection = time.Second
)

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.HasPrefix(path, "testdata/fuzz") {
			return
		}
		s := &script{askers: map[kv.NodeID]*Asker{}, learnt: map[kv.NodeID]Learnt{}, confirmed: map[kv.NodeID]Confirmed{}}
		s.hush()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			s.run(t, d)
			if err := s.sequencer.Check(); err != nil {
				t.Fatalf("%s: %v", d.Pos, err)
			}
			for _, a := range s.askers {
				if err := a.Check(); err != nil {
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

func (s *script) hush() { s.up, s.down = map[kv.NodeID][]string{}, map[kv.NodeID][]string{} }

func (s *script) print(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func number(t *testing.T, d *datadriven.TestData, key string) (n uint64) {
	d.MaybeScanArgs(t, key, &n)
	return n
}

func (s *script) run(t *testing.T, d *datadriven.TestData) {
	node := kv.NodeID(number(t, d, "n"))
	switch d.Cmd {
	case "say":
		s.say(node)
	case "hear":
		s.hear(t, node)
	case "lose":
		s.up[node] = s.up[node][1:]
	case "answer":
		s.answer()
	case "get":
		s.get(t, node)
	case "miss":
		s.down[node] = s.down[node][1:]
	case "talk":
		s.talk(t)
	default:
		if a := s.askers[node]; a != nil {
			s.atNode(t, d, node, a)
		} else {
			s.atSequencer(t, d, node)
		}
	}
}

func (s *script) atNode(t *testing.T, d *datadriven.TestData, node kv.NodeID, a *Asker) {
	shard, generation := kv.ShardID(number(t, d, "shard")), Generation(number(t, d, "gen"))
	switch d.Cmd {
	case "target":
		a.Target(1)
	case "lead":
		a.Lead(shard, Leadership(number(t, d, "term")), generation)
	case "step-down":
		a.StepDown(shard)
	case "alloc":
		batch, ok := a.Alloc(shard, number(t, d, "count"), kv.Bounds{})
		s.print("batch %d %v", batch, ok)
	case "voided":
		a.Voided(shard, kv.Revision(number(t, d, "upto")))
	case "read":
		s.print("ticket %d", a.Read())
	case "frontier":
		id, _ := a.Frontier(shardList(t, d, generation))
		s.print("frontier %d", id)
	case "multi":
		ticket, ok := a.AllocMulti(shardList(t, d, generation))
		s.print("ticket %d %v", ticket, ok)
	case "forget":
		a.ForgetMulti(MultiTicket(number(t, d, "ticket")))
	case "learn":
		learnt, ok := a.Learn(shard)
		s.learnt[node] = learnt
		s.print("wanted: %v, learnt: %d %v", a.WantsClean(shard), learnt.now, ok)
	case "confirm":
		s.confirmed[node] = s.learnt[node].Confirmed()
	case "clean":
		found := Found{Prepared: int(number(t, d, "prepared")), Open: int(number(t, d, "open")), Top: kv.Revision(number(t, d, "top"))}
		s.print("clean: %v", a.Clean(s.confirmed[node], found))
	case "tick":
		a.Tick(time.Duration(number(t, d, "ms")) * time.Millisecond)
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
}

func shardList(t *testing.T, d *datadriven.TestData, generation Generation) (shards []ShardGeneration) {
	for _, arg := range d.CmdArgs {
		for i := range arg.Vals {
			if arg.Key == "shards" {
				var id uint64
				arg.Scan(t, i, &id)
				shards = append(shards, ShardGeneration{kv.ShardID(id), generation})
			}
		}
	}
	return shards
}

func (s *script) atSequencer(t *testing.T, d *datadriven.TestData, node kv.NodeID) {
	var err error
	revision := func(key string) kv.Revision { return kv.Revision(number(t, d, key)) }
	switch d.Cmd {
	case "node":
		s.instance++
		options := AskerOptions{Instance: s.instance, Patience: testPatience, ElectionTimeout: testElection}
		s.askers[node], err = NewAsker(options)
		s.order = append(s.order, node)
		s.askers[node].Target(1)
	case "sequencer":
		s.sequencer, err = New(Options{Window: number(t, d, "window"), Doubts: int(number(t, d, "doubts"))}, Epoch(number(t, d, "epoch")), revision("applied"), revision("limit"))
		s.hush()
	case "peek":
		next, room := s.sequencer.Peek()
		s.print("next %d, room %d, now %d", next, room, s.sequencer.Now())
	case "take":
		next, _ := s.sequencer.Peek()
		if err = s.sequencer.Take(kv.ShardID(number(t, d, "shard")), 0, Leadership(max(1, number(t, d, "term"))), number(t, d, "count")); err == nil {
			s.print("from %d on", next)
		}
	case "take-multi":
		var taken kv.Revision
		if taken, err = s.sequencer.TakeMulti(shardList(t, d, 0)); err == nil {
			s.print("%d", taken)
		}
	case "applied":
		s.sequencer.Applied(revision("revision"))
	case "notice":
		s.notice = Notice{revision("compact"), number(t, d, "alarms")}
	case "committed":
		err = s.sequencer.LimitCommitted(s.proposed)
	case "refused":
		s.sequencer.LimitRefused()
	case "hand-over":
		s.sequencer.HandOver()
	case "hand-over-failed":
		s.sequencer.HandOverFailed()
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	if err != nil {
		s.print("%v", err)
	}
}

func (s *script) say(node kv.NodeID) {
	a := s.askers[node]
	r := a.Ready()
	for _, n := range r.Numbers {
		s.print("%d: shard %d in term %d, batch %d: %d from %d on", node, n.Shard, n.Leadership, n.Batch, n.N, n.First)
	}
	for _, m := range r.Revisions {
		s.print("%d: transaction %d: %d", node, m.Ticket, m.Revision)
	}
	if r.Told {
		s.print("%d: now %d for tickets up to %d; compact revision %d, alarms %b", node, r.Now, r.Served, r.Compact, r.Alarms)
	}
	if f := r.Frontier; f != nil {
		s.print("%d: frontier %d: now %d:%s", node, f.ID, f.Now, frontierText(f.Shards))
	}
	if len(r.HandOver) > 0 {
		s.print("%d: hand over shards %v", node, r.HandOver)
	}
	if q := r.Frame; q != nil {
		s.up[node] = append(s.up[node], string(AppendRequest(nil, q)))
		s.print("%d -> sequencer: frame %d of session %d.%d, epoch %d%s", node, q.Counter, q.Session.Instance, q.Session.Number, q.Epoch, requestText(q))
	}
}

func requestText(q *Request) (text string) {
	for _, a := range q.Allocs {
		text += fmt.Sprintf("; alloc %d for shard %d in term %d, batch %d", a.N, a.Shard, a.Leadership, a.Batch)
	}
	for _, m := range q.Multis {
		text += fmt.Sprintf("; transaction %d writes in shards", m.Ticket)
		for _, w := range m.Writers {
			text += fmt.Sprintf(" %d", w.Shard)
		}
	}
	for _, c := range q.Cleans {
		text += fmt.Sprintf("; shard %d is clean in epoch %d by term %d as of %d, top %d", c.Shard, c.Epoch, c.Leadership, c.AsOf, c.Top)
	}
	for _, f := range q.Frontier {
		text += fmt.Sprintf("; frontier of shard %d", f.Shard)
	}
	return text
}

func frontierText(shards []ShardFrontier) (text string) {
	for _, f := range shards {
		switch {
		case f.Newer != 0:
			text += fmt.Sprintf(" shard %d has generation %d", f.Shard, f.Newer)
		case f.Clean:
			text += fmt.Sprintf(" shard %d has %d", f.Shard, f.Last)
		default:
			text += fmt.Sprintf(" shard %d is unclean", f.Shard)
		}
	}
	return text
}

func (s *script) hear(t *testing.T, node kv.NodeID) {
	q, err := DecodeRequest([]byte(s.up[node][0]))
	if err != nil {
		t.Fatal(err)
	}
	s.up[node] = s.up[node][1:]
	if err := s.sequencer.Step(node, q); err != nil {
		s.print("sequencer: %v", err)
	}
}

func (s *script) answer() {
	r := s.sequencer.Ready(s.notice)
	if r.Limit != 0 {
		s.proposed = r.Limit
		s.print("sequencer: propose limit %d", r.Limit)
	}
	if r.Transfer {
		s.print("sequencer: leadership may be transferred")
	}
	if r.Retry {
		s.print("sequencer: there is room")
	}
	for _, f := range r.Frames {
		s.down[f.To] = append(s.down[f.To], string(AppendReply(nil, f.Reply)))
		if f.Reply.Over {
			s.print("sequencer -> %d: session %d.%d is over", f.To, f.Reply.Session.Instance, f.Reply.Session.Number)
			continue
		}
		text := ""
		for _, n := range f.Reply.Numbers {
			text += fmt.Sprintf("; %d from %d on for shard %d", n.N, n.First, n.Shard)
		}
		for _, m := range f.Reply.Revisions {
			text += fmt.Sprintf("; %d for transaction %d", m.Revision, m.Ticket)
		}
		for _, doubt := range f.Reply.Doubts {
			text += fmt.Sprintf("; who has %d of shard %d?", doubt.Last, doubt.Shard)
		}
		if len(f.Reply.Frontier) > 0 {
			text += ";" + frontierText(f.Reply.Frontier)
		}
		s.print("sequencer -> %d: frame %d, heard %d, epoch %d, now %d%s", f.To, f.Reply.Counter, f.Reply.Heard, f.Reply.Epoch, f.Reply.Now, text)
	}
}

func (s *script) get(t *testing.T, node kv.NodeID) {
	r, err := DecodeReply([]byte(s.down[node][0]))
	if err != nil {
		t.Fatal(err)
	}
	s.down[node] = s.down[node][1:]
	if err := s.askers[node].Step(1, r); err != nil {
		s.print("%d: %v", node, err)
	}
}

func (s *script) talk(t *testing.T) {
	for range 100 {
		before := s.out.Len()
		for _, node := range s.order {
			s.say(node)
			for len(s.up[node]) > 0 {
				s.hear(t, node)
			}
		}
		s.answer()
		for _, node := range s.order {
			for len(s.down[node]) > 0 {
				s.get(t, node)
			}
		}
		if s.out.Len() == before {
			return
		}
	}
	t.Fatal("they never come to rest")
}
