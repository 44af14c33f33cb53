package liveness

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quoratedb/quorate/kv"
)

// The language of testdata/scenarios. All times are milliseconds on one clock that all nodes
// share; drifting clocks are the random test's business.
//
//	cluster nodes=(1,2) [suspect=ms]         start all nodes at time 0
//	advance node=1 at=100                    let time pass at a node; its messages queue up
//	deliver from=1 to=2 at=105 [only=1] [keep] hand over the queue, or only its i-th message (from 0);
//	                                         keep leaves what was delivered in the queue
//	drop from=1 to=2                         lose the queue
//	queue                                    show all queues
//	status node=1 at=100                     what the node believes
//	down / up node=1 peer=2 at=100           evidence of death, and its end
//	withdraw node=1 peer=2 at=100
//	restart node=1 at=100                    a new process
type world struct {
	options   Options
	ids       []kv.NodeID
	nodes     map[kv.NodeID]*Core
	instances uint64
	queues    map[[2]kv.NodeID][]Message
}

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		var w *world
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "cluster" {
				w = newWorld(t, d)
				return "ok\n"
			}
			out := w.run(t, d)
			for _, id := range w.ids {
				if err := w.nodes[id].Check(); err != nil {
					d.Fatalf(t, "%v", err)
				}
			}
			if out == "" {
				out = "ok\n"
			}
			return out
		})
	})
}

func newWorld(t *testing.T, d *datadriven.TestData) *world {
	w := &world{nodes: map[kv.NodeID]*Core{}, queues: map[[2]kv.NodeID][]Message{}}
	for _, arg := range d.CmdArgs {
		if arg.Key == "nodes" {
			for i := range arg.Vals {
				var id uint64
				arg.Scan(t, i, &id)
				w.ids = append(w.ids, kv.NodeID(id))
			}
		}
	}
	w.options.SuspectAfter = optional(t, d, "suspect")
	for _, id := range w.ids {
		w.start(t, id, 0)
	}
	return w
}

func (w *world) start(t *testing.T, id kv.NodeID, now time.Duration) {
	w.instances++
	options := w.options
	options.Self, options.Instance, options.Peers = id, w.instances, nil
	for _, other := range w.ids {
		if other != id {
			options.Peers = append(options.Peers, other)
		}
	}
	core, err := New(options, now)
	if err != nil {
		t.Fatal(err)
	}
	w.nodes[id] = core
}

func optional(t *testing.T, d *datadriven.TestData, key string) time.Duration {
	var value int64
	d.MaybeScanArgs(t, key, &value)
	return time.Duration(value) * time.Millisecond
}

func node(t *testing.T, d *datadriven.TestData, key string) kv.NodeID {
	var value uint64
	d.ScanArgs(t, key, &value)
	return kv.NodeID(value)
}

func (w *world) run(t *testing.T, d *datadriven.TestData) string {
	at := optional(t, d, "at")
	switch d.Cmd {
	case "advance":
		id := node(t, d, "node")
		w.nodes[id].Advance(at)
		return w.drain(id)
	case "deliver":
		return w.deliver(t, d, at)
	case "drop":
		delete(w.queues, [2]kv.NodeID{node(t, d, "from"), node(t, d, "to")})
	case "queue":
		return w.showQueues()
	case "status":
		return w.status(node(t, d, "node"), at)
	case "down":
		w.nodes[node(t, d, "node")].PeerDown(at, node(t, d, "peer"))
	case "up":
		w.nodes[node(t, d, "node")].PeerUp(at, node(t, d, "peer"))
	case "withdraw":
		return fmt.Sprintf("free at %v\n", w.nodes[node(t, d, "node")].Withdraw(at, node(t, d, "peer")))
	case "restart":
		w.start(t, node(t, d, "node"), at)
	case "forge": // a heartbeat in the name of the process that the receiver has heard last
		to, from := w.nodes[node(t, d, "to")], node(t, d, "from")
		if err := to.Receive(at, from, Message{Kind: KindHeartbeat, Instance: to.Instance(from), Seq: math.MaxUint64}); err != nil {
			t.Fatal(err)
		}
		to.Ready()
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return ""
}

func (w *world) deliver(t *testing.T, d *datadriven.TestData, at time.Duration) string {
	from, to := node(t, d, "from"), node(t, d, "to")
	only := -1
	d.MaybeScanArgs(t, "only", &only)
	link := [2]kv.NodeID{from, to}
	var left []Message
	for i, m := range w.queues[link] {
		if only >= 0 && i != only {
			left = append(left, m)
			continue
		}
		if d.HasArg("keep") {
			left = append(left, m)
		}
		// Through the codec, as in life.
		decoded, err := DecodeMessage(AppendMessage(nil, m))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.nodes[to].Receive(at, from, decoded); err != nil {
			t.Fatal(err)
		}
	}
	w.queues[link] = left
	return w.drain(to)
}

// drain queues the messages of a node and prints the rest of its work.
func (w *world) drain(id kv.NodeID) string {
	var b strings.Builder
	ready := w.nodes[id].Ready()
	for _, o := range ready.Messages {
		link := [2]kv.NodeID{id, o.To}
		w.queues[link] = append(w.queues[link], o.Message)
		fmt.Fprintf(&b, "%s->%s %s\n", id, o.To, show(o.Message))
	}
	for _, n := range ready.Lapsed {
		fmt.Fprintf(&b, "%s: node %s lapsed\n", id, n)
	}
	for _, n := range ready.Restored {
		fmt.Fprintf(&b, "%s: node %s restored\n", id, n)
	}
	return b.String()
}

func show(m Message) string {
	if m.Kind == KindHeartbeat {
		return fmt.Sprintf("heartbeat #%d of process %d", m.Seq, m.Instance)
	}
	return fmt.Sprintf("promise for #%d of process %d, epoch %d/%d", m.Seq, m.Instance, m.Epoch.Instance, m.Epoch.Number)
}

func (w *world) showQueues() string {
	var b strings.Builder
	for _, from := range w.ids {
		for _, to := range w.ids {
			for _, m := range w.queues[[2]kv.NodeID{from, to}] {
				fmt.Fprintf(&b, "%s->%s %s\n", from, to, show(m))
			}
		}
	}
	return b.String()
}

func (w *world) status(id kv.NodeID, at time.Duration) string {
	var b strings.Builder
	c := w.nodes[id]
	fmt.Fprintf(&b, "may vote: %v, next: %v\n", c.MayVote(at), c.Next())
	for _, other := range w.ids {
		if other == id {
			continue
		}
		epoch, until := c.Support(other)
		fmt.Fprintf(&b, "node %s: alive %v, bound to it %v, supported by it until %v in epoch %d/%d\n",
			other, c.Alive(other), c.Supporting(at, other, 0), until, epoch.Instance, epoch.Number)
	}
	return b.String()
}
