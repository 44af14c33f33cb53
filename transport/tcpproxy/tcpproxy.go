// Package tcpproxy is a TCP proxy for tests that can misbehave: it swallows or stalls one direction,
// delays, cuts, and refuses. Its address stays the same when its target moves.
package tcpproxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quoratedb/quorate/transport/freeport"
)

// Direction of bytes through the proxy.
type Direction int

// The directions, seen from who connects to the proxy.
const (
	ToTarget Direction = iota
	FromTarget
)

// Proxy forwards connections to a target. Its methods are safe for concurrent use.
type Proxy struct {
	address string
	done    sync.WaitGroup

	mu       sync.Mutex
	changed  *sync.Cond // something below changed
	listener net.Listener
	target   string
	closed   bool
	stalled  [2]bool // by Direction
	swallow  [2]bool
	delay    [2]time.Duration
	links    map[*link]struct{}
	accepted int
	// Pieces of data that wait for the end of a stall, and that were swallowed.
	waiting, swallowed int
}

// link is a connection and its counterpart at the target.
type link struct{ client, target net.Conn }

// New listens on a port of the loopback interface that nobody else gets while the proxy refuses.
func New(target string) (*Proxy, error) {
	address, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	p := &Proxy{address: address, target: target, links: map[*link]struct{}{}}
	p.changed = sync.NewCond(&p.mu)
	if err := p.Resume(); err != nil {
		return nil, err
	}
	return p, nil
}

// Addr is where to connect to.
func (p *Proxy) Addr() string { return p.address }

// SetTarget sends new connections elsewhere.
func (p *Proxy) SetTarget(target string) { p.update(func() { p.target = target }) }

// Stall holds back everything in a direction, and lets it go when stalled is false.
func (p *Proxy) Stall(d Direction, stalled bool) { p.update(func() { p.stalled[d] = stalled }) }

// Blackhole swallows everything in a direction. Bytes are lost, so that connections must be cut when it ends.
func (p *Proxy) Blackhole(d Direction, on bool) { p.update(func() { p.swallow[d] = on }) }

// Delay holds back each piece of data for a while.
func (p *Proxy) Delay(d Direction, delay time.Duration) { p.update(func() { p.delay[d] = delay }) }

func (p *Proxy) update(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.changed.Broadcast()
}

// Cut breaks all connections; new ones are welcome.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *Proxy) cutLocked() {
	for l := range p.links {
		_ = l.client.Close()
		_ = l.target.Close()
	}
}

// HalfClose closes all connections in one direction only: who reads there sees the end.
func (p *Proxy) HalfClose(d Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		closeWrite([]net.Conn{l.target, l.client}[d])
	}
}

// Refuse stops listening and cuts all connections, so that new ones are refused, as if the
// target's process had died.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.cutLocked()
}

// Resume listens again after Refuse.
func (p *Proxy) Resume() error {
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		return err
	}
	p.listen(listener)
	return nil
}

// Close ends everything and waits.
func (p *Proxy) Close() {
	p.update(func() { p.closed = true })
	p.Refuse()
	p.done.Wait()
}

func (p *Proxy) listen(listener net.Listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener = listener
	p.done.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.done.Go(func() { p.forward(client) })
		}
	})
}

// forward connects a client with the target until both directions have ended.
func (p *Proxy) forward(client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	p.accepted++
	address := p.target
	p.mu.Unlock()
	target, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		if tcp, ok := client.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // nearest to a refusal: a reset
		}
		return
	}
	defer target.Close()
	l := &link{client: client, target: target}
	p.mu.Lock()
	if p.closed || p.listener == nil {
		p.mu.Unlock()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pump(ToTarget, client, target) })
	both.Go(func() { p.pump(FromTarget, target, client) })
	both.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pump copies one direction. An end of input is passed on; an error ends both directions.
func (p *Proxy) pump(d Direction, from, to net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && p.gate(d) {
			if _, err := to.Write(buffer[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			closeWrite(to)
			return
		case err != nil:
			_ = to.Close()
			return
		}
	}
}

// gate waits as long as the direction is stalled or delayed, and tells whether to forward.
func (p *Proxy) gate(d Direction) bool {
	p.mu.Lock()
	delay := p.delay[d]
	p.mu.Unlock()
	if delay > 0 {
		<-time.After(delay)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting++
	p.changed.Broadcast()
	for p.stalled[d] && !p.closed {
		p.changed.Wait()
	}
	p.waiting--
	if p.swallow[d] {
		p.swallowed++
		p.changed.Broadcast()
	}
	return !p.swallow[d]
}

func closeWrite(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}
