package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Transport talks to all peers of a node. Its methods are safe for concurrent use.
type Transport struct {
	options   Options
	listeners []net.Listener
	peers     atomic.Pointer[table]

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   sync.WaitGroup // all goroutines

	mu      sync.Mutex
	conns   map[net.Conn]struct{}  // all that are open, for Close
	inbound map[kv.NodeID]*inbound // accepted for frames, one per node
	heard   map[kv.NodeID]uint64   // the process that connected last, for frames
	streams int                    // being received
	callers []net.Conn             // accepted, and not greeted yet; the one that has waited longest first
	// ending has, of peers that are none any more, what is closed when nothing goes on with them.
	ending map[kv.NodeID]chan struct{}

	counters counters
}

// counters are Metrics in the making.
type counters struct {
	framesSent, bytesSent, framesReceived, bytesReceived atomic.Int64
	framesRefused, bytesDropped, flushes, flushesPartial atomic.Int64
	connects, streamsSent, streamsReceived               atomic.Int64
	callersDropped                                       atomic.Int64
}

// Metrics counts since Open.
type Metrics struct {
	FramesSent, BytesSent         int64 // appended; the bytes include headers
	FramesReceived, BytesReceived int64
	// FramesRefused: Append returned false. BytesDropped were in a buffer when its connection broke.
	FramesRefused, BytesDropped int64
	// Flushes are writes by Flush, FlushesPartial those that the socket did not take as a whole.
	Flushes, FlushesPartial      int64
	Connects                     int64
	StreamsSent, StreamsReceived int64
	// Callers have not greeted yet; CallersDropped were too many.
	Callers        int
	CallersDropped int64
	Peers          []PeerStatus
}

// PeerStatus is a picture of one peer.
type PeerStatus struct {
	Node        kv.NodeID
	Connected   bool
	Info        PeerInfo // of the last connection
	BufferBytes int
	// LastError says why the node is not connected.
	LastError string
}

// Open listens, and starts to connect to all peers.
func Open(options Options) (*Transport, error) {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	t := &Transport{
		options: options,
		conns:   map[net.Conn]struct{}{},
		inbound: map[kv.NodeID]*inbound{},
		heard:   map[kv.NodeID]uint64{},
		ending:  map[kv.NodeID]chan struct{}{},
	}
	t.peers.Store(&table{})
	t.ctx, t.cancel = context.WithCancel(context.Background())
	if err := t.listen(); err != nil {
		t.cancel()
		return nil, err
	}
	if err := t.SetPeers(options.Peers, options.Removed); err != nil {
		return nil, err
	}
	for _, l := range t.listeners {
		t.done.Go(func() { t.accept(l) })
	}
	return t, nil
}

func (t *Transport) listen() error {
	config := net.ListenConfig{KeepAliveConfig: t.keepAlive()}
	for _, address := range t.options.ListenAddrs {
		l, err := config.Listen(t.ctx, "tcp", address)
		if err != nil {
			for _, l := range t.listeners {
				_ = l.Close() // nothing was done with it yet
			}
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("transport: the address %s for other nodes is in use: another process listens there, perhaps this node itself, started twice; stop it or choose another with --listen-peer-urls: %w", address, err)
			}
			return fmt.Errorf("transport: cannot listen for other nodes on %s (--listen-peer-urls): %w", address, err)
		}
		t.listeners = append(t.listeners, l)
	}
	return nil
}

// keepAlive finds connections whose other side vanished without a word.
func (t *Transport) keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{
		Enable: true, Idle: max(time.Second, t.options.DeadAfter/2),
		Interval: max(time.Second, t.options.DeadAfter/4), Count: 2,
	}
}

// Append puts a frame into the buffer of a peer; Flush or Kick send it. encode appends the payload
// to what it gets; it must be quick and not call the transport. False means that the frame will
// certainly not be sent: the peer is unknown or not connected, its buffer is full, or the frame
// too large.
func (t *Transport) Append(to kv.NodeID, channel Channel, encode func([]byte) []byte) bool {
	p := t.peers.Load().byID[to]
	if p == nil || !p.append(channel, encode) {
		t.counters.framesRefused.Add(1)
		return false
	}
	return true
}

// Flush writes what all buffers hold, with one write per peer that does not block.
func (t *Transport) Flush() {
	for _, p := range t.peers.Load().ordered {
		p.flush()
	}
}

// Kick lets the peer's own goroutine write its buffer. It costs less than a write and takes effect
// a little later; many calls make one write.
func (t *Transport) Kick(to kv.NodeID) {
	if p := t.peers.Load().byID[to]; p != nil {
		p.kickWriter()
	}
}

// Metrics returns the counters and a picture of each peer.
func (t *Transport) Metrics() Metrics {
	c := &t.counters
	m := Metrics{
		FramesSent: c.framesSent.Load(), BytesSent: c.bytesSent.Load(),
		FramesReceived: c.framesReceived.Load(), BytesReceived: c.bytesReceived.Load(),
		FramesRefused: c.framesRefused.Load(), BytesDropped: c.bytesDropped.Load(),
		Flushes: c.flushes.Load(), FlushesPartial: c.flushesPartial.Load(), Connects: c.connects.Load(),
		StreamsSent: c.streamsSent.Load(), StreamsReceived: c.streamsReceived.Load(), CallersDropped: c.callersDropped.Load(),
	}
	t.mu.Lock()
	m.Callers = len(t.callers)
	t.mu.Unlock()
	for _, p := range t.peers.Load().ordered {
		m.Peers = append(m.Peers, p.status())
	}
	return m
}

// Close ends all connections and waits for all goroutines; afterwards the handler
// is not called any more. It must not be called from the handler.
func (t *Transport) Close() error {
	t.cancel()
	for _, l := range t.listeners {
		_ = l.Close() // accepting ends; there is nothing to lose
	}
	t.mu.Lock()
	for conn := range t.conns {
		_ = conn.Close() // frames may be lost whenever a connection ends
	}
	t.mu.Unlock()
	t.done.Wait()
	return nil
}

// track remembers an open connection for Close. False: the transport is closed, and conn now is too.
func (t *Transport) track(conn net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		_ = conn.Close() // it was never used
		return false
	}
	t.conns[conn] = struct{}{}
	return true
}

// release closes a connection and forgets it.
func (t *Transport) release(conn net.Conn) {
	_ = conn.Close() // whatever was to be said about it was said by a read or write
	t.mu.Lock()
	delete(t.conns, conn)
	t.mu.Unlock()
}
