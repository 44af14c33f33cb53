package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/sim/workload"
)

// errNoWait is a context that never waits: what would block is refused.
var errNoWait = func() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("sim: nothing waits here"))
	return ctx
}()

// serverStream is a client's stream of watches at its node.
type serverStream struct {
	stream *watch.Stream
	client *clientStream
	window int  // batches that may be under way
	failed bool // whoever serves it ends it at the first error, and asks no more
}

// clientStream is the client's end of it.
type clientStream struct {
	c      *client
	node   *node
	part   *part // the node's
	life   uint64
	server *serverStream
	inbox  []watch.Batch
	broken bool
	closed bool
	notify func(func()) // wakes the client, if it waits in Next
	last   time.Duration
	shown  func(*watch.Batch) // is told what the node hands out; nil: nobody is
	toNode time.Duration
	unread []func(*watch.Stream) error // what has reached the node, which has no room for it yet
}

var _ workload.WatchStream = (*clientStream)(nil)

const watchWindow = 4

func (c *client) Watch(node int) (workload.WatchStream, error) {
	if c.over {
		return nil, workload.ErrEnded
	}
	n := c.w.reached(node, byClient(c.number))
	s := &clientStream{c: c, node: n, part: n.parts[c.group.index], broken: true}
	err := workload.ErrClientTimeout
	c.wait(fmt.Sprint("a stream at node ", node), 2*time.Second, func(wake func(func())) {
		c.w.after(c.latency(), func() {
			if c.conns[node].blocked > 0 {
				return
			}
			if !n.holds(c.group) || c.w.now < n.frozenUntil {
				wake(func() { err = workload.ErrConnection })
				return
			}
			opened := s.open()
			c.w.after(c.latency(), func() { wake(func() { err = opened }) })
		})
	})
	if c.over {
		return nil, workload.ErrEnded
	}
	if err != nil {
		return nil, err
	}
	c.streams = append(c.streams, s)
	return s, nil
}

// open makes the stream at the node.
func (s *clientStream) open() (err error) {
	err = workload.ErrConnection
	s.node.enter(func() {
		var stream *watch.Stream
		principal, proof := s.c.who()
		if stream, err = s.part.gateway.NewWatchStream(principal, proof, s.node.streamMemory()); err == nil {
			s.life, s.broken = s.node.life, false
			s.server = &serverStream{stream: stream, client: s, window: watchWindow}
			s.part.streams = append(s.part.streams, s.server)
		}
	})
	return err
}

// tell sends something to the node, in order.
func (s *clientStream) tell(do func(*watch.Stream) error) {
	if s.broken || s.closed || s.c.over {
		return
	}
	w := s.c.w
	s.toNode = max(s.toNode, w.now+s.c.latency())
	s.deliver(s.toNode, func() {
		if s.unread = append(s.unread, do); len(s.unread) == 1 {
			s.read()
		}
	})
}

func (s *clientStream) deliver(at time.Duration, do func()) {
	w := s.c.w
	w.push(event{at: at, node: s.node, life: s.life, run: func() {
		switch {
		case s.broken:
		case s.c.conns[s.node.number()].blocked > 0:
			s.breakNow() // nothing gets lost in the middle of a stream
		default:
			do()
			s.part.pollStreams()
		}
	}})
}

// read has the node take what has reached it. While it has no room for more answers, it reads no more requests.
func (s *clientStream) read() {
	for len(s.unread) > 0 && !s.broken {
		switch err := s.unread[0](s.server.stream); {
		case errors.Is(err, errNoWait.Err()):
			s.c.w.push(event{at: s.c.w.now + time.Millisecond, node: s.node, life: s.life, run: func() {
				s.read()
				s.part.pollStreams()
			}})
			return
		case err != nil:
			s.breakSoon()
		}
		s.unread = s.unread[1:]
	}
}

func (s *clientStream) Create(r watch.CreateRequest) {
	s.tell(func(stream *watch.Stream) error {
		_, err := stream.Create(errNoWait, r)
		return err
	})
}

func (s *clientStream) Cancel(id watch.ID) {
	s.tell(func(stream *watch.Stream) error { return stream.Cancel(errNoWait, id) })
}

func (s *clientStream) Progress() {
	s.tell(func(stream *watch.Stream) error { return stream.RequestProgress(errNoWait) })
}

// pollStreams sends what the streams there have, as far as their clients' windows allow.
func (f *front) pollStreams() {
	n := f.node
	for _, s := range f.streams {
		for s.window > 0 && !s.failed && !s.client.broken {
			batch, err := s.stream.Poll()
			if err != nil {
				if damaged(err) && n.damage.why == "" {
					f.group.fail(Correctness, "node %d ends a stream of watches: %v", n.id, err)
				}
				s.failed = true
				s.client.breakSoon()
				break
			}
			if batch == nil {
				break
			}
			n.effect()
			s.window--
			s.client.send(*batch)
		}
	}
}

// send lets a batch travel to the client, in order.
func (s *clientStream) send(b watch.Batch) {
	w := s.c.w
	if s.shown != nil {
		s.shown(&b)
	}
	w.happened(traceBatch, s.node.number(), uint64(b.Kind)<<32|uint64(len(b.Events)), uint64(b.Revision))
	s.last = max(s.last, w.now+s.c.latency())
	w.push(event{at: s.last, run: func() {
		if s.broken || s.closed || s.c.conns[s.node.number()].blocked > 0 {
			s.breakNow()
			return
		}
		s.inbox = append(s.inbox, b)
		s.wake()
	}})
}

func (s *clientStream) wake() {
	if s.notify != nil {
		notify := s.notify
		s.notify = nil
		notify(func() {})
	}
}

// breakSoon ends the stream from the node's side.
func (s *clientStream) breakSoon() {
	s.c.w.after(time.Millisecond, s.breakNow)
}

func (s *clientStream) breakNow() {
	if s.broken {
		return
	}
	s.broken = true
	s.release()
	s.wake()
}

// release frees the node's end, if the process still lives.
func (s *clientStream) release() {
	n, p := s.node, s.part
	if !n.up || n.life != s.life {
		return
	}
	for i, other := range p.streams {
		if other == s.server {
			p.streams = append(p.streams[:i:i], p.streams[i+1:]...)
			break
		}
	}
	s.c.w.push(event{at: s.c.w.now, node: n, life: s.life, run: s.server.stream.Close})
}

func (s *clientStream) Next(timeout time.Duration) (watch.Batch, error) {
	if s.c.over {
		return watch.Batch{}, workload.ErrEnded
	}
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	if len(s.inbox) == 0 && !s.broken && !s.closed {
		s.c.wait(fmt.Sprint("a watch at node ", s.node.id), timeout, func(wake func(func())) { s.notify = wake })
		s.notify = nil
	}
	switch {
	case s.c.over:
		return watch.Batch{}, workload.ErrEnded
	case len(s.inbox) > 0:
		b := s.inbox[0]
		s.inbox = s.inbox[1:]
		if !s.broken {
			s.deliver(s.c.w.now+s.c.latency(), func() { s.server.window++ })
		}
		return b, nil
	case s.broken || s.closed:
		return watch.Batch{}, workload.ErrConnection
	}
	return watch.Batch{}, workload.ErrClientTimeout
}

func (s *clientStream) Close() {
	if s.closed {
		return
	}
	s.closed = true
	if !s.broken {
		s.broken = true
		s.release()
	}
	for i, other := range s.c.streams {
		if other == s {
			s.c.streams = append(s.c.streams[:i:i], s.c.streams[i+1:]...)
			break
		}
	}
}
