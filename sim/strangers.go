package sim

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/workload"
)

// Nodes that hold some shards only. Clients of a shard know where it is; now and then somebody does not, and asks a node for a shard that it has no
// part of.

// inhabitant is a client to whom the nodes that hold its shard are all there are.
type inhabitant struct {
	workload.Client
	homes []int
}

// inhabited shows a client the nodes that hold the group.
func (g *group) inhabited(c workload.Client) workload.Client {
	if g.homes == nil {
		return c
	}
	return &inhabitant{c, g.homes}
}

func (c *inhabitant) Nodes() int { return len(c.homes) }

func (c *inhabitant) Do(node int, req *kv.Request, timeout time.Duration) (*kv.Response, error) {
	return c.Client.Do(c.homes[node-1], req, timeout)
}

func (c *inhabitant) List(node int, req *kv.Request, portionBytes int64, timeout time.Duration) (*kv.Response, error) {
	return c.Client.List(c.homes[node-1], req, portionBytes, timeout)
}

func (c *inhabitant) Watch(node int) (workload.WatchStream, error) {
	return c.Client.Watch(c.homes[node-1])
}

// entrance is the map of shards of a part's gateway: everything is for the part's own shard, but for what a stranger asks, who names another.
type entrance kv.ShardID

func (e entrance) Route(req *kv.Request) (kv.ShardID, error) {
	if req.Principal == "" {
		return kv.ShardID(e), nil
	}
	shard, err := strconv.ParseUint(req.Principal, 10, 32)
	return kv.ShardID(shard), err
}

// stray has somebody ask nodes for shards that they do not hold, as long as faults happen.
func (w *world) stray(random *rand.Rand) {
	w.after(time.Duration(random.Int64N(int64(200*time.Millisecond))), func() {
		n, g := w.nodes[random.IntN(len(w.nodes))], w.groups[random.IntN(len(w.groups))]
		if p := n.anyPart(); p != nil && !n.frozen() && !n.holds(g) {
			n.enter(func() { p.askFor(g) })
		}
		if !w.ended {
			w.stray(random)
		}
	})
}

// holds tells whether the process has a replica of the group.
func (n *node) holds(g *group) bool {
	p := g.of(n)
	return p != nil && p.up()
}

// door is the part whose gateway answers for the group: its own, or, if there is none, another one, which says so. nil: nobody answers.
func (n *node) door(g *group) *part {
	if n.holds(g) {
		return g.of(n)
	}
	return n.anyPart()
}

// principal names the group to the gateway of another.
func (g *group) principal() string { return strconv.FormatUint(uint64(g.id), 10) }

// anyPart is the first part whose gateway answers; nil: there is none.
func (n *node) anyPart() *part {
	for p := range n.held() {
		if p.up() {
			return p
		}
	}
	return nil
}

// askFor asks the part's gateway for another shard, which the node does not hold. It must say so by name, and at once.
func (p *part) askFor(g *group) {
	w, principal, answered := p.node.w, g.principal(), false
	req := &kv.Request{Kind: kv.KindPut, Principal: principal, Put: &kv.PutRequest{Key: []byte("stray"), Value: []byte("stray")}}
	p.gateway.Submit(&gateway.Call{Req: req, Done: func(_ *kv.Response, err error) {
		if answered = true; !errors.Is(err, kv.ErrShardNotHere) && !errors.Is(err, kv.ErrTooManyRequests) {
			g.fail(Correctness, "node %d, which does not hold the shard, answers a put: %v", p.node.id, err)
		}
	}})
	if !answered {
		g.fail(Liveness, "node %d, which does not hold the shard, does not answer a put", p.node.id)
	}
	stream, err := p.gateway.NewWatchStream(principal, kv.Credential{}, nil)
	if err != nil {
		g.fail(Crash, "node %d opens no stream of watches: %v", p.node.id, err)
		return
	}
	_, _ = stream.Create(errNoWait, watch.CreateRequest{Span: kv.Span{Start: []byte("stray")}}) // a refusal is a message of the stream
	if b, err := stream.Poll(); err != nil || b == nil || !errors.Is(b.Err, kv.ErrShardNotHere) {
		g.fail(Correctness, "node %d, which does not hold the shard, says to a watch: %+v, %v", p.node.id, b, err)
	}
	stream.Close()
	w.mark("asked for a shard that is not here")
}
