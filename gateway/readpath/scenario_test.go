package readpath

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
)

// The language of testdata. Every command ends with Check; what is the path's no more is told.
//
//	here shard= revision= [serving]     what the replica of a shard on this node says from now on
//	ask NAME... shards=(...)            reads that have to learn the present
//	ready                               what is to be done, until there is nothing
//	learned id= now= [compacted=] [last=(...)] [unclean=(...)]  the answer: the last revision of each shard of the question, and which shards are not clean
//	failed id=                          nothing is known
//	next NAME shard=                    how a read goes on that has learned; if it is to arrive, it waits
//	arrived shard= until=               the replica has come to the revision that it has here
//	gone shard=
//	remove NAME
//	tick ms=
type scenario struct {
	path  *Path
	reads map[string]*Read
	here  map[kv.ShardID]Local
	now   time.Duration
}

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, file string) {
		s := &scenario{path: New(Options{Patience: time.Second}), reads: map[string]*Read{}, here: map[kv.ShardID]Local{}}
		datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
			out := s.run(t, d)
			if err := s.path.Check(); err != nil {
				t.Fatalf("%s: %v", d.Pos, err)
			}
			if out == "" {
				return "ok\n"
			}
			return out
		})
	})
}

func numbers(t *testing.T, d *datadriven.TestData, name string) (list []int) {
	for _, arg := range d.CmdArgs {
		if arg.Key == name {
			for i := range arg.Vals {
				var n int
				arg.Scan(t, i, &n)
				list = append(list, n)
			}
		}
	}
	return list
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	number := func(name string) (n int) {
		if d.HasArg(name) {
			d.ScanArgs(t, name, &n)
		}
		return n
	}
	id, shard, now := uint64(number("id")), kv.ShardID(number("shard")), kv.Revision(number("now"))
	switch d.Cmd {
	case "here":
		s.here[shard] = Local{Revision: kv.Revision(number("revision")), Serving: d.HasArg("serving")}
	case "ask":
		for _, name := range names(d) {
			if s.reads[name] == nil {
				s.reads[name] = &Read{Owner: name}
				for _, n := range numbers(t, d, "shards") {
					s.reads[name].Shards = append(s.reads[name].Shards, kv.ShardID(n))
				}
			}
			s.path.Ask(s.reads[name])
		}
	case "ready":
		return s.ready()
	case "learned":
		present := kv.Present{Revision: now, Compacted: kv.Revision(number("compacted"))}
		for _, last := range numbers(t, d, "last") {
			present.Shards = append(present.Shards, kv.ShardProgress{Last: kv.Revision(last), Clean: true})
		}
		for _, i := range numbers(t, d, "unclean") {
			present.Shards[i].Clean = false
		}
		out := ""
		for _, r := range s.path.Learned(id, present) {
			out += fmt.Sprintf("%s reads as of %d, compacted %d", r.Owner, r.At.Revision, r.At.Compacted)
			for i, told := range r.At.Shards {
				out += fmt.Sprintf("; shard %d has %d, clean %v", r.Shards[i], told.Last, told.Clean)
			}
			out += "\n"
		}
		return out
	case "failed":
		s.path.Failed(id)
	case "next":
		r := s.reads[names(d)[0]]
		told := kv.ShardProgress{}
		for i := range r.Shards {
			if r.Shards[i] == shard {
				told = r.At.Shards[i]
			}
		}
		step := Next(r.At.Revision, told, s.here[shard])
		if step == Arrive {
			s.path.Await(r, shard, told.Last, s.now)
		}
		return map[Step]string{Complete: "complete", Look: "look", Arrive: "arrive", Settle: "settle"}[step] + "\n"
	case "arrived":
		return owners("complete", s.path.Arrived(shard, kv.Revision(number("until")), s.here[shard].Revision))
	case "gone":
		return owners("in vain", s.path.Gone(shard))
	case "remove":
		s.path.Remove(s.reads[names(d)[0]])
	case "tick":
		s.now += time.Duration(number("ms")) * time.Millisecond
		return owners("settle", s.path.Tick(s.now))
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	return ""
}

func (s *scenario) ready() (out string) {
	for {
		w, ok := s.path.Ready()
		switch {
		case !ok:
			return out
		case w.Question != 0:
			out += fmt.Sprintf("ask question %d about shards %v\n", w.Question, w.Shards)
		default:
			out += fmt.Sprintf("wait until shard %d has come to %d\n", w.Shard, w.Until)
		}
	}
}

// names are the arguments without a value.
func names(d *datadriven.TestData) (names []string) {
	for _, arg := range d.CmdArgs {
		if len(arg.Vals) == 0 {
			names = append(names, arg.Key)
		}
	}
	return names
}

func owners(what string, reads []*Read) string {
	if len(reads) == 0 {
		return ""
	}
	var names []string
	for _, r := range reads {
		names = append(names, r.Owner.(string))
	}
	return what + ": " + strings.Join(names, " ") + "\n"
}
