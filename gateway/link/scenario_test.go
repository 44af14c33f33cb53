package link

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
)

// The language of testdata. The link is of node 1. Every command ends with Check; what is the link's no more is told.
//
//	leader n= term= [serving]   what the replica on this node says from now on; 0: unknown
//	enqueue NAME... [read] [bytes=]
//	await NAME... [revision=]   reads that share a barrier, as of a revision
//	remove NAME
//	ready                       what is to be done, until there is nothing
//	unsent                      the calls of the last frame could not be sent
//	answered id= from=
//	refused NAME by= [hint=]
//	barrier-answered id= from=
//	barrier-failed id= from=
//	lost n=
//	tick ms=
//	release
//	figures
type scenario struct {
	link   *Link
	items  map[string]*Item
	leader Leader
	now    time.Duration
	last   []*Item // that are to be sent
}

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &scenario{items: map[string]*Item{}, link: New(Options{
			Self: 1, MaxFrameBytes: 100, LeaderGrace: 250 * time.Millisecond, BarrierTimeout: time.Second,
		})}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out := s.run(t, d)
			if err := s.link.Check(); err != nil {
				t.Fatalf("%s: %v", d.Pos, err)
			}
			if out == "" {
				return "ok\n"
			}
			return out
		})
	})
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) (out string) {
	number := func(name string) (n int) {
		if d.HasArg(name) {
			d.ScanArgs(t, name, &n)
		}
		return n
	}
	node := func(name string) kv.NodeID { return kv.NodeID(number(name)) }
	id := uint64(number("id"))
	switch d.Cmd {
	case "leader":
		s.leader = Leader{Node: node("n"), Term: uint64(number("term")), Serving: d.HasArg("serving")}
	case "enqueue":
		for _, name := range s.names(d) {
			s.items[name] = &Item{Owner: name, Read: d.HasArg("read"), SizeBytes: max(1, number("bytes"))}
			s.link.Enqueue(s.items[name])
		}
	case "await":
		for _, name := range s.names(d) {
			s.items[name] = &Item{Owner: name, Read: true, Revision: kv.Revision(number("revision"))}
			s.link.Await(s.items[name])
		}
	case "remove":
		s.link.Remove(s.items[s.names(d)[0]])
	case "ready":
		return s.ready()
	case "unsent":
		s.link.Unsent(s.last)
	case "answered":
		if i := s.link.Answered(id, node("from")); i != nil {
			return owners("answered", []*Item{i})
		}
		return "nobody waits for it\n"
	case "refused":
		s.link.Refused(s.items[s.names(d)[0]], node("by"), node("hint"))
	case "barrier-answered":
		return owners("served", s.link.BarrierAnswered(id, node("from")))
	case "barrier-failed":
		s.link.BarrierFailed(id, node("from"))
	case "lost":
		return owners("outcome unknown", s.link.NodeLost(node("n")))
	case "tick":
		s.now += time.Duration(number("ms")) * time.Millisecond
		for _, gone := range s.link.Tick(s.now, s.leader) {
			out += fmt.Sprintf("node %d is awaited no longer\n", gone) + owners("outcome unknown", s.link.NodeLost(gone))
		}
	case "release":
		s.link.Release()
	case "figures":
		f := s.link.Figures()
		return fmt.Sprintf("%d queued, %d sent, %d bytes, busy %v\n", f.Queued, f.Sent, f.SizeBytes, s.link.Busy())
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	return out
}

// names are the arguments without a value that are no words of the language.
func (s *scenario) names(d *datadriven.TestData) (names []string) {
	for _, arg := range d.CmdArgs {
		if len(arg.Vals) == 0 && arg.Key != "read" {
			names = append(names, arg.Key)
		}
	}
	return names
}

func (s *scenario) ready() (out string) {
	for {
		w, ok := s.link.Ready(s.now, s.leader)
		switch {
		case !ok:
			return out
		case w.Barrier != 0 && w.Revision != 0:
			out += fmt.Sprintf("ask node %d for barrier %d as of %d\n", w.To, w.Barrier, w.Revision)
		case w.Barrier != 0:
			out += fmt.Sprintf("ask node %d for barrier %d\n", w.To, w.Barrier)
		case w.To == 1:
			out += owners("serve here", w.Calls)
		default:
			s.last = w.Calls
			out += fmt.Sprintf("send to node %d:", w.To)
			for _, i := range w.Calls {
				out += fmt.Sprintf(" %s as %d", i.Owner, i.id)
			}
			out += "\n"
		}
	}
}

func owners(what string, items []*Item) string {
	if len(items) == 0 {
		return ""
	}
	var names []string
	for _, i := range items {
		names = append(names, i.Owner.(string))
	}
	return what + ": " + strings.Join(names, " ") + "\n"
}
