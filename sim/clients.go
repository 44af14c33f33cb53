package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/history"
	"github.com/quoratedb/quorate/sim/oracle"
	"github.com/quoratedb/quorate/sim/workload"
)

// client is a workload.Client: a coroutine and its connections to the nodes.
type client struct {
	w        *world
	group    *group
	number   int
	workload string
	random   *rand.Rand // the workload's
	link     *rand.Rand // of its connections
	code     *coroutine
	done     bool
	over     bool // the run ends in the middle of its life
	conns    [maxNodes + 1]clientConn
	waitID   uint64        // of what it waits for; what comes for an earlier one is late
	deadline time.Duration // of what it waits for; 0: it waits for nothing
	alarm    time.Duration // when the event happens that looks at the deadline; 0: there is none
	waitsFor string
	answer   func() // what it finds when it goes on
	// principal is whom it logs in as, and proof what it got for that; "": root, if there are users.
	principal string
	proof     kv.Credential
	streams   []*clientStream
}

// clientConn is a client's connection to a node.
type clientConn struct {
	generation uint64
	blocked    int // partitions in force
}

var _ workload.Client = (*client)(nil)

func (g *group) newClient(number int, name string, life func(workload.Client)) *client {
	return g.newPerson(number, name, func(c *client) { life(g.inhabited(oracle.Recorded(c, g.history))) })
}

// newPerson makes a client whose code knows the world.
func (g *group) newPerson(number int, name string, life func(*client)) *client {
	w := g.w
	c := &client{w: w, group: g, number: number, workload: name, random: w.source(sourceClient, number), link: w.source(sourceClientLink, number)}
	c.code = newCoroutine(func(*coroutine) { life(c) })
	w.clients = append(w.clients, c)
	w.after(time.Duration(c.link.Int64N(int64(10*time.Millisecond))), func() { c.resume() })
	return c
}

// resume lets the client's code run until it waits for the next thing.
func (c *client) resume() {
	if c.done {
		return
	}
	if _, ok := c.code.next(); !ok {
		c.done = true
		if c.code.panicked != nil {
			panic(productPanic{c.code.panicked, c.code.stack})
		}
	}
}

// wait gives way until something has called the function it returns to begin, or time is up.
func (c *client) wait(what string, timeout time.Duration, begin func(wake func(answer func()))) {
	c.waitID++
	id := c.waitID
	c.waitsFor = what
	c.answer = nil
	wake := func(answer func()) {
		if c.waitID == id && c.answer == nil && !c.done {
			c.answer = answer
			c.resume()
		}
	}
	begin(func(answer func()) {
		c.w.after(0, func() { wake(answer) })
	})
	c.deadline = c.w.now + timeout
	if c.alarm == 0 || c.alarm > c.deadline {
		c.setAlarm()
	}
	if !c.code.yield(0) {
		c.over = true
		c.answer = func() {}
	}
	c.waitID++
	c.deadline = 0
	c.answer()
}

// setAlarm plans a look at the deadline. Most waits end long before theirs, so there is one event for all of them
// instead of one for each.
func (c *client) setAlarm() {
	at := c.deadline
	c.alarm = at
	c.w.push(event{at: at, run: func() {
		if c.alarm != at {
			return // another one was set for an earlier moment
		}
		c.alarm = 0
		switch {
		case c.deadline == 0 || c.done || c.answer != nil:
		case c.deadline > c.w.now:
			c.setAlarm()
		default:
			c.answer = func() {}
			c.resume()
		}
	}})
}

// nodeNames are what clients wait for.
var nodeNames = func() (names [maxNodes + 1]string) {
	for i := range names {
		names[i] = fmt.Sprint("node ", i)
	}
	return names
}()

func (c *client) Number() int { return c.number }

func (c *client) Nodes() int { return c.w.plan.Nodes }

func (c *client) Now() time.Duration { return c.w.now }

func (c *client) Rand() *rand.Rand { return c.random }

func (c *client) Ended() bool { return c.over || c.w.ended }

func (c *client) Mark(name string) { c.w.mark(name) }

func (c *client) Fail(format string, args ...any) {
	c.group.fail(Correctness, "client %d (%s): %s", c.number, c.workload, fmt.Sprintf(format, args...))
}

func (c *client) Sleep(d time.Duration) error {
	if c.over {
		return workload.ErrEnded
	}
	c.wait("a moment", max(d, 1), func(func(func())) {})
	if c.over {
		return workload.ErrEnded
	}
	return nil
}

// latency is how long a message between the client and a node takes.
func (c *client) latency() time.Duration {
	return 20*time.Microsecond + time.Duration(c.link.Int64N(int64(500*time.Microsecond)))
}

func (c *client) Do(number int, req *kv.Request, timeout time.Duration) (*kv.Response, error) {
	return c.ask(number, req, timeout, asked)
}

// asked is a serving: the gateway answers.
func asked(p *part, req *kv.Request, done func(*kv.Response, error)) {
	p.gateway.Submit(&gateway.Call{Req: req, Done: done})
}

func (c *client) List(number int, req *kv.Request, portionBytes int64, timeout time.Duration) (*kv.Response, error) {
	return c.ask(number, req, timeout, func(p *part, req *kv.Request, done func(*kv.Response, error)) {
		p.answerSlowly(req, portionBytes, done)
	})
}

// who is as whom the client asks, and by what proof, in a run with users.
func (c *client) who() (principal string, proof kv.Credential) {
	if c.w.plan.Users && c.principal == "" {
		return auth.Root, kv.Credential{}
	}
	return c.principal, c.proof
}

// serving is how a node is asked for its part of a group.
type serving func(p *part, req *kv.Request, done func(*kv.Response, error))

func (c *client) ask(node int, req *kv.Request, timeout time.Duration, serve serving) (*kv.Response, error) {
	if c.over {
		return nil, workload.ErrEnded
	}
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	req = copyRequest(req)
	began := c.w.now
	resp, process, refused, err := c.exchange(node, req, timeout, serve)
	c.record(node, req, resp, err, began, process, refused)
	return resp, err
}

// exchange is ask for what the history of the clients has no place for. process is that of the node that answered; 0: it is not known. refused: the request never
// reached a node.
func (c *client) exchange(node int, req *kv.Request, timeout time.Duration, serve serving) (resp *kv.Response, process int, refused bool, err error) {
	err = workload.ErrClientTimeout
	if c.w.reading() {
		c.w.line("client %d -> node %d: %s", c.number, node, describeRequest(req))
	}
	c.w.happened(traceRequest, node, uint64(c.number), uint64(req.Kind))
	c.wait(nodeNames[node], timeout, func(wake func(func())) {
		c.send(node, req, serve, func(r *kv.Response, e error, life int, unsent bool) {
			wake(func() { resp, err, process, refused = r, e, life, unsent })
		})
	})
	if c.over {
		err = workload.ErrEnded
	}
	return resp, process, refused, err
}

// copyRequest makes a read that the client does not share: it may change its own for the next one. A write that is asked for
// again must be the same request, by which the oracle knows it.
func copyRequest(r *kv.Request) *kv.Request {
	if r.Kind != kv.KindRange {
		return r
	}
	return &kv.Request{Kind: r.Kind, Principal: r.Principal, Range: copyOf(r.Range)}
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// send lets a request travel to a node and its answer back. answer is called at most once.
func (c *client) send(node int, req *kv.Request, serve serving, answer func(resp *kv.Response, err error, life int, unsent bool)) {
	conn := &c.conns[node]
	generation := conn.generation
	n := c.w.reached(node, byClient(c.number))
	c.w.after(c.latency(), func() { c.arrive(n, conn, generation, req, serve, answer) })
}

func (c *client) arrive(n *node, conn *clientConn, generation uint64, req *kv.Request, serve serving, answer func(*kv.Response, error, int, bool)) {
	w := c.w
	switch {
	case conn.generation != generation:
		answer(nil, workload.ErrConnection, 0, true)
		return
	case conn.blocked > 0:
		return // the client will give up waiting
	case !n.up:
		w.after(c.latency(), func() { answer(nil, workload.ErrConnection, 0, true) })
		return
	case n.frozen():
		n.whenAwake(func() { c.arrive(n, conn, generation, req, serve, answer) })
		return
	}
	p := n.door(c.group)
	if p == nil {
		w.after(c.latency(), func() { answer(nil, workload.ErrConnection, 0, true) })
		return
	}
	if p.group != c.group {
		named := *req
		named.Principal = c.group.principal()
		req = &named
	}
	if w.plan.Users {
		named := *req
		named.Principal, named.Credential = c.who()
		req = &named
	}
	life := n.life
	lost := &pendingAnswer{conn: conn, generation: generation, lose: func() { answer(nil, workload.ErrConnection, 0, false) }}
	if len(w.pending[n.index]) >= 64 {
		w.trimPending(n)
	}
	w.pending[n.index] = append(w.pending[n.index], lost)
	n.enter(func() {
		if c.poor(req) {
			w.mark("request without memory")
			req = copyOf(req)
			req.Memory = noMemory{}
		}
		serve(p, req, func(resp *kv.Response, err error) {
			n.effect()
			if !n.up || n.life != life {
				return
			}
			if lost.answered {
				w.fail(Crash, "node %d answered a request of client %d twice", n.id, c.number)
			}
			lost.answered = true
			n.checkKnown(req, resp)
			w.happened(traceResponse, n.number(), uint64(c.number), responseRevision(resp))
			if err != nil && kv.CodeOf(err) == 0 {
				w.fail(Crash, "node %d answered client %d with an error that is none of the store's: %v", n.id, c.number, err)
			}
			if (errors.Is(err, kv.ErrTimeout) || errors.Is(err, kv.ErrLeaderChanged)) && w.plan.harmless() {
				w.fail(Liveness, "node %d gave up a request of client %d, though nothing but connections broke: %s", n.id, c.number, describeRequest(req))
			}
			w.after(c.latency(), func() {
				switch {
				case conn.generation != generation:
					answer(nil, workload.ErrConnection, 0, false)
				case conn.blocked == 0:
					answer(resp, err, int(life), false)
				}
			})
		})
	})
	if lost.answered && req.Kind == kv.KindRange && !req.Range.Serializable && n.holds(c.group) && c.group.of(n).replica.LeaseValid() {
		w.mark("read under the lease")
	}
}

// pendingAnswer is a request that a node has and has not answered.
type pendingAnswer struct {
	conn       *clientConn
	generation uint64
	answered   bool
	lose       func()
}

// clientsLose breaks the clients' connections to a node that is gone.
func (w *world) clientsLose(n *node) {
	pending := w.pending[n.index]
	w.pending[n.index] = nil
	for _, p := range pending {
		if !p.answered {
			w.after(time.Duration(w.gone.Int64N(int64(20*time.Millisecond))), p.lose)
		}
	}
	for p := range n.held() {
		for _, s := range p.streams {
			s.client.breakSoon()
		}
	}
}

// trimPending forgets what is answered.
func (w *world) trimPending(n *node) {
	kept := w.pending[n.index][:0]
	for _, p := range w.pending[n.index] {
		if !p.answered {
			kept = append(kept, p)
		}
	}
	clear(w.pending[n.index][len(kept):])
	w.pending[n.index] = kept
}

// breakConn breaks a client's connection to a node: whatever is under way is lost.
func (c *client) breakConn(node int) {
	conn := &c.conns[node]
	conn.generation++
	for _, n := range c.w.processes() {
		if n.number() != node {
			continue
		}
		for _, p := range c.w.pending[n.index] {
			if p.conn == conn && !p.answered {
				p.lose()
			}
		}
	}
	for _, s := range c.streams {
		if s.node.number() == node {
			s.breakNow()
		}
	}
}

func responseRevision(r *kv.Response) uint64 {
	if r == nil {
		return 0
	}
	return uint64(r.Revision)
}

// record adds the operation to the history.
func (c *client) record(node int, req *kv.Request, resp *kv.Response, err error, began time.Duration, process int, unsent bool) {
	o := history.Operation{Client: c.number, Node: node, Process: process, Request: req, Response: resp, Outcome: history.OutcomeOf(err), Err: err, Invoke: began, Return: c.w.now}
	if unsent && err != nil {
		o.Outcome = history.Refused
	}
	name := [...]string{history.Acknowledged: "acknowledged", history.Refused: "refused", history.Unknown: "unknown"}[o.Outcome]
	if c.w.reading() {
		c.w.line("client %d <- node %d: %s: %s", c.number, node, describeRequest(req), describeAnswer(resp, err))
	}
	c.w.outcomes[name]++
	c.group.history.Operations = append(c.group.history.Operations, o)
}
