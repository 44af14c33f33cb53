// Package listener holds the connections of a port to a limit that package connlimit has decided. What is beyond it is accepted and closed at
// once, so that a client hears it and tries another node, rather than waiting in the kernel's queue. Connections that say nothing are
// closed after a while, and earlier when their places are needed.
package listener

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quoratedb/quorate/connlimit"
)

// Options of a Limiter. All but the functions must be set.
type Options struct {
	Limit int // connections of all listeners together
	// HelloBytes is how much a connection must have sent to count as one that has spoken; until then it has HelloTimeout.
	HelloBytes   int
	HelloTimeout time.Duration
	// Refused is told of each connection that found no place, and how many that were. It may be nil and must be quick.
	Refused func(address net.Addr, total uint64)
	// AcceptFailed is told when no connection could be accepted for lack of a descriptor or of memory; accepting goes on. It may be nil.
	AcceptFailed func(error)
}

// Limiter holds the connections of some listeners to one limit. Safe for concurrent use.
type Limiter struct {
	options Options
	began   time.Time
	closed  chan struct{}
	closing sync.Once

	mu    sync.Mutex
	gate  *connlimit.Gate[*conn]
	timer *time.Timer // nil: nobody is silent

	refused, silent atomic.Uint64
}

// Metrics are figures about a Limiter.
type Metrics struct {
	Open, Limit int
	Refused     uint64 // there was no place
	Silent      uint64 // closed because they had not said anything
}

// New returns a limiter; Close ends what it does by itself.
func New(options Options) *Limiter {
	return &Limiter{
		options: options, began: time.Now(), closed: make(chan struct{}),
		gate: connlimit.NewGate[*conn](options.Limit, options.HelloTimeout),
	}
}

// Close lets silent connections be, and has no Accept wait any more. Whoever serves the connections closes them.
func (l *Limiter) Close() {
	l.closing.Do(func() { close(l.closed) })
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
}

// Metrics returns figures.
func (l *Limiter) Metrics() Metrics {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Metrics{Open: l.gate.Held(), Limit: l.options.Limit, Refused: l.refused.Load(), Silent: l.silent.Load()}
}

// Wrap returns a listener whose connections count.
func (l *Limiter) Wrap(inner net.Listener) net.Listener { return &listener{inner, l} }

type listener struct {
	net.Listener
	limiter *Limiter
}

// acceptPause is how long nothing is accepted after the system had no descriptor for it.
const acceptPause = 50 * time.Millisecond

// Accept returns the next connection that has a place.
func (a *listener) Accept() (net.Conn, error) {
	l := a.limiter
	for {
		inner, err := a.Listener.Accept()
		switch {
		case exhausted(err):
			if l.options.AcceptFailed != nil {
				l.options.AcceptFailed(err)
			}
			select {
			case <-time.After(acceptPause):
			case <-l.closed:
				return nil, net.ErrClosed
			}
			continue
		case err != nil:
			return nil, err
		}
		if c := l.enter(inner); c != nil {
			return c, nil
		}
		inner.Close() // refused; there is nothing else that every client understands
	}
}

// exhausted tells whether accepting failed because something ran out that others give back.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// enter gives the connection a place; nil: there is none.
func (l *Limiter) enter(inner net.Conn) *conn {
	c := &conn{Conn: inner, limiter: l}
	l.mu.Lock()
	entered, out, dropped := l.gate.Enter(c, time.Since(l.began))
	if entered && l.timer == nil {
		l.timer = time.AfterFunc(l.options.HelloTimeout, l.expire)
	}
	l.mu.Unlock()
	if dropped {
		l.silent.Add(1)
		out.Conn.Close()
	}
	if !entered {
		total := l.refused.Add(1)
		if l.options.Refused != nil {
			l.options.Refused(inner.RemoteAddr(), total)
		}
		return nil
	}
	return c
}

// expire closes what was silent for too long.
func (l *Limiter) expire() {
	select {
	case <-l.closed:
		return
	default:
	}
	l.mu.Lock()
	now := time.Since(l.began)
	out, next := l.gate.Expired(now)
	if next == 0 {
		l.timer = nil
	} else {
		l.timer.Reset(next - now)
	}
	l.mu.Unlock()
	for _, c := range out {
		l.silent.Add(1)
		c.Conn.Close() // whoever reads from it finds out
	}
}

// conn is a connection that has a place.
type conn struct {
	net.Conn
	limiter *Limiter
	heard   atomic.Int64 // bytes; not counted any more once there are enough
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	enough := int64(c.limiter.options.HelloBytes)
	if n > 0 && c.heard.Load() < enough && c.heard.Add(int64(n)) >= enough {
		c.limiter.mu.Lock()
		c.limiter.gate.Spoke(c)
		c.limiter.mu.Unlock()
	}
	return n, err
}

// Close implements net.Conn. The place is free when the descriptor is.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.limiter.mu.Lock()
	c.limiter.gate.Leave(c)
	c.limiter.mu.Unlock()
	return err
}

// CloseWrite ends only one direction, where the connection can do that.
func (c *conn) CloseWrite() error {
	if half, can := c.Conn.(interface{ CloseWrite() error }); can {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
