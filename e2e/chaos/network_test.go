package chaos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quoratedb/quorate/transport/freeport"
	"github.com/quoratedb/quorate/transport/tcpproxy"
)

// network stands between the nodes. Every node is dialled by the others at a front of its own; the front reads
// from the greeting who calls, and sends the connection over the proxy of that link. So each direction between two
// nodes can be disturbed by itself.
type network struct {
	fronts []*front
	links  [][]*tcpproxy.Proxy // [from][to], nil on the diagonal
	lossy  []*tcpproxy.Proxy   // swallowed bytes since the last heal
}

// front is the advertised address of a node.
type front struct {
	network *network
	to      int
	address string
	number  func(id uint64) int // of the node with the ID; -1: unknown
	done    sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener
	open     map[net.Conn]struct{}
}

// callerOffset is where the greeting names the caller: after the envelope (magic 8, length 4, crc 4), purpose 1,
// versions 2+2 and cluster 8. See docs/protocols/peer.md.
const (
	callerOffset  = 16 + 1 + 4 + 8
	greetingBytes = callerOffset + 8
)

// newNetwork makes the links to nodes that listen at the given addresses.
func newNetwork(targets []string, number func(id uint64) int) (*network, error) {
	n := &network{links: make([][]*tcpproxy.Proxy, len(targets))}
	for from := range targets {
		n.links[from] = make([]*tcpproxy.Proxy, len(targets))
		for to, target := range targets {
			if from == to {
				continue
			}
			p, err := tcpproxy.New(target)
			if err != nil {
				return nil, err
			}
			n.links[from][to] = p
		}
	}
	for to := range targets {
		address, err := freeport.Address()
		if err != nil {
			return nil, err
		}
		f := &front{network: n, to: to, number: number, address: address, open: map[net.Conn]struct{}{}}
		if err := f.listen(); err != nil {
			return nil, err
		}
		n.fronts = append(n.fronts, f)
	}
	return n, nil
}

func (n *network) close() {
	for _, f := range n.fronts {
		f.refuse()
		f.done.Wait()
	}
	n.each(func(_, _ int, p *tcpproxy.Proxy) { p.Close() })
}

// each calls fn for every link.
func (n *network) each(fn func(from, to int, p *tcpproxy.Proxy)) {
	for from := range n.links {
		for to, p := range n.links[from] {
			if p != nil {
				fn(from, to, p)
			}
		}
	}
}

// cut stops everything that one node sends to another: what is held back arrives later, what is swallowed never.
func (n *network) cut(from, to int, swallow bool) {
	// What the callee says on the connection are only probes; frames take the other link.
	p := n.links[from][to]
	if swallow {
		p.Blackhole(tcpproxy.ToTarget, true)
		n.lossy = append(n.lossy, p)
		return
	}
	p.Stall(tcpproxy.ToTarget, true)
}

// slow delays everything between two nodes.
func (n *network) slow(from, to int, delay time.Duration) {
	n.links[from][to].Delay(tcpproxy.ToTarget, delay)
}

// heal removes every disturbance. Connections that lost bytes are cut.
func (n *network) heal() {
	n.each(func(_, _ int, p *tcpproxy.Proxy) {
		for _, d := range []tcpproxy.Direction{tcpproxy.ToTarget, tcpproxy.FromTarget} {
			p.Delay(d, 0)
			p.Blackhole(d, false)
			p.Stall(d, false)
		}
	})
	for _, p := range n.lossy {
		p.Cut()
	}
	n.lossy = nil
}

// listen makes the node reachable.
func (f *front) listen() error {
	l, err := net.Listen("tcp", f.address)
	if err != nil {
		return fmt.Errorf("listen in front of node %d: %w", f.to, err)
	}
	f.mu.Lock()
	f.listener = l
	f.mu.Unlock()
	f.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.done.Go(func() { f.forward(c) })
		}
	})
	return nil
}

// refuse makes the node's address refuse connections, as if its process had died.
func (f *front) refuse() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listener != nil {
		f.listener.Close()
		f.listener = nil
	}
	for c := range f.open {
		c.Close()
	}
}

func (f *front) track(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listener == nil {
		c.Close()
		return false
	}
	f.open[c] = struct{}{}
	return true
}

func (f *front) release(c net.Conn) {
	c.Close()
	f.mu.Lock()
	delete(f.open, c)
	f.mu.Unlock()
}

// forward sends a connection over its link.
func (f *front) forward(caller net.Conn) {
	if !f.track(caller) {
		return
	}
	defer f.release(caller)
	greeting := make([]byte, greetingBytes)
	if _, err := io.ReadFull(caller, greeting); err != nil {
		return
	}
	id := binary.LittleEndian.Uint64(greeting[callerOffset:])
	from := f.number(id)
	if id == 0 { // it asks who the members are, and does not know yet who it is: any link is its
		from = (f.to + 1) % len(f.network.fronts)
	}
	if from < 0 || f.network.links[from][f.to] == nil {
		return
	}
	link, err := net.Dial("tcp", f.network.links[from][f.to].Addr())
	if err != nil || !f.track(link) {
		return
	}
	defer f.release(link)
	if _, err := link.Write(greeting); err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, err := io.Copy(caller, link)
		closeAfter(caller, err)
	})
	_, err = io.Copy(link, caller)
	closeAfter(link, err)
	back.Wait()
}

// closeAfter passes the end of a stream on: an orderly one in one direction, a break in both.
func closeAfter(c net.Conn, err error) {
	if tcp, ok := c.(*net.TCPConn); ok && (err == nil || errors.Is(err, io.EOF)) {
		tcp.CloseWrite()
		return
	}
	c.Close()
}
