package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/quoratedb/quorate/kv"
)

const (
	// writeChunkBytes is what a blocking write must make progress with in Options.DeadAfter.
	writeChunkBytes = 256 << 10
	// writeRecordBytes is the same with TLS, a record of which is written whole or never.
	writeRecordBytes = 16 << 10
	// retainBytes is the largest buffer that is kept for reuse.
	retainBytes = 4 << 20
)

// peer sends frames to one node. Its goroutine connects, and writes what Flush did not.
type peer struct {
	t      *Transport
	id     kv.NodeID
	random *rand.Rand // jitter; the goroutine's own
	kick   chan struct{}
	ctx    context.Context // ends when the node is no peer any more, or with the transport
	cancel context.CancelFunc
	ended  chan struct{} // closed when the goroutine has ended

	mu        sync.Mutex
	addresses []string
	// out is nil while there is no connection; then there are no bytes below.
	out *outbound
	// pending holds whole frames, none of which has begun to be sent.
	pending []byte
	// writing is what the goroutine writes now or next: it may begin inside a frame.
	// Invariant: while writing is not empty, only the goroutine touches the socket.
	writing []byte
	whole   []byte // the buffer that writing is the rest of
	spare   []byte // an empty buffer for reuse

	info      PeerInfo
	lastError string
}

// outbound is one connection for frames that this node dialled.
type outbound struct {
	*dialled
	socket *socket // nil if this kind of connection cannot write without blocking

	once   sync.Once
	broken chan struct{} // closed by fail
	reason error         // why; read only after broken is closed
}

func (o *outbound) chunkBytes() int {
	if _, ok := o.conn.(*secured); ok {
		return writeRecordBytes
	}
	return writeChunkBytes
}

// fail ends the connection; the first reason counts.
func (o *outbound) fail(reason error) {
	o.once.Do(func() {
		o.reason = reason
		close(o.broken)
		_ = o.conn.Close() // wakes its reader and writer
	})
}

func (p *peer) append(channel Channel, encode func([]byte) []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil || len(p.pending)+len(p.writing)+frameHeaderBytes > p.t.options.MaxBufferBytes {
		return false
	}
	before := len(p.pending)
	p.pending = appendFrame(p.pending, channel, encode)
	size := len(p.pending) - before - frameHeaderBytes
	if size > p.t.options.MaxFrameBytes || len(p.pending)+len(p.writing) > p.t.options.MaxBufferBytes {
		p.pending = p.pending[:before]
		if listener := p.t.options.Listener.FrameTooLarge; listener != nil && size > p.t.options.MaxFrameBytes {
			listener(p.id, channel, size)
		}
		return false
	}
	p.t.counters.framesSent.Add(1)
	p.t.counters.bytesSent.Add(int64(size + frameHeaderBytes))
	return true
}

// flush writes the buffer as far as the socket takes it, unless the goroutine is at it.
func (p *peer) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil || len(p.pending) == 0 || len(p.writing) > 0 {
		return
	}
	if p.out.socket == nil {
		p.kickWriter()
		return
	}
	p.t.counters.flushes.Add(1)
	n, err := p.out.socket.tryWrite(p.pending)
	switch {
	case err != nil:
		p.out.fail(err)
	case n == len(p.pending):
		p.pending = reusable(p.pending)
	default:
		p.t.counters.flushesPartial.Add(1)
		p.whole, p.writing = p.pending, p.pending[n:]
		p.pending, p.spare = p.spare, nil
		p.kickWriter()
	}
}

func (p *peer) kickWriter() {
	select {
	case p.kick <- struct{}{}:
	default: // it is awake, or will be
	}
}

// reusable empties a buffer, and lets go of a very large one.
func reusable(buffer []byte) []byte {
	if cap(buffer) > retainBytes {
		return nil
	}
	return buffer[:0]
}

// run connects again and again, and writes while connected.
func (p *peer) run() {
	outage := newOutage(p)
	for p.ctx.Err() == nil {
		d, err := p.t.dial(p.ctx, p.id, p.where(), purposeFrames, "")
		if err != nil {
			outage.failed(err)
			outage.pause()
			continue
		}
		since := time.Now()
		p.serve(d)
		if p.ctx.Err() != nil {
			return
		}
		outage.begin(time.Since(since) >= p.t.options.BackoffMax)
	}
}

// serve uses one connection until it breaks.
func (p *peer) serve(d *dialled) {
	o := &outbound{dialled: d, socket: newSocket(d.conn), broken: make(chan struct{})}
	defer p.t.release(d.raw)
	p.attach(o)
	p.t.counters.connects.Add(1)
	if listener := p.t.options.Listener.Connected; listener != nil {
		listener(p.id, d.address, d.info)
	}
	p.t.options.Handler.PeerUp(p.id, d.info)

	var reading sync.WaitGroup
	reading.Go(func() { p.readControl(o) })
	p.write(o)
	reading.Wait()

	dropped := p.detach(o.reason)
	p.t.counters.bytesDropped.Add(int64(dropped))
	if p.t.ctx.Err() != nil {
		return
	}
	if listener := p.t.options.Listener.Disconnected; listener != nil {
		listener(p.id, d.address, o.reason, dropped)
	}
	p.t.options.Handler.PeerDown(p.id, false)
}

func (p *peer) attach(o *outbound) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out, p.info, p.lastError = o, o.info, ""
	if !slices.Contains(p.addresses, o.address) {
		o.fail(fmt.Errorf("transport: node %s has other addresses now than %s", p.id, o.address)) // since the attempt began
	}
}

// detach drops everything that belonged to the broken connection.
func (p *peer) detach(reason error) (droppedBytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	droppedBytes = len(p.pending) + len(p.writing)
	p.out, p.lastError = nil, reason.Error()
	p.pending, p.writing, p.whole, p.spare = nil, nil, nil, nil
	return droppedBytes
}

// write writes whenever it is kicked, until the connection breaks.
func (p *peer) write(o *outbound) {
	for {
		select {
		case <-p.kick:
		case <-o.broken:
			return
		case <-p.ctx.Done():
			o.fail(p.over())
			return
		}
		for buffer := p.take(false); len(buffer) > 0; buffer = p.take(true) {
			if err := p.writeAll(o, buffer); err != nil {
				o.fail(fmt.Errorf("transport: writing to node %s at %s: %w", p.id, o.address, err))
				return
			}
		}
	}
}

// over is why nothing goes on with the node any more.
func (p *peer) over() error {
	if p.t.ctx.Err() != nil {
		return ErrClosed
	}
	return fmt.Errorf("%w: this node has nothing to do with node %s any more", ErrUnknownNode, p.id)
}

// take gives the goroutine the next bytes to write. done: it has written what it had before. Empty
// means that there is nothing, and that the socket is Flush's again.
func (p *peer) take(done bool) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done {
		p.spare, p.whole, p.writing = reusable(p.whole), nil, nil
	}
	if len(p.writing) == 0 && len(p.pending) > 0 {
		p.whole, p.writing = p.pending, p.pending
		p.pending, p.spare = p.spare, nil
	}
	return p.writing
}

// writeAll blocks, but not for longer than DeadAfter without progress.
func (p *peer) writeAll(o *outbound, buffer []byte) error {
	if o.socket != nil {
		n, err := o.socket.tryWrite(buffer)
		if err != nil || n == len(buffer) {
			return err
		}
		buffer = buffer[n:]
	}
	for len(buffer) > 0 {
		if err := o.conn.SetWriteDeadline(time.Now().Add(p.t.options.DeadAfter)); err != nil {
			return err
		}
		n, err := o.conn.Write(buffer[:min(len(buffer), o.chunkBytes())])
		if err != nil && (n == 0 || !errors.Is(err, errTimeout)) {
			return err
		}
		buffer = buffer[n:]
	}
	return o.conn.SetWriteDeadline(time.Time{})
}

// readControl reads what the other side says on our connection: probes, which are answered, and
// its end.
func (p *peer) readControl(o *outbound) {
	for {
		channel, payload, err := readFrame(o.reader, maxControlBytes)
		if err != nil {
			o.fail(fmt.Errorf("transport: connection to node %s at %s: %w", p.id, o.address, err))
			return
		}
		if channel != channelControl {
			o.fail(fmt.Errorf("%w: node %s sent a frame on channel %d where only probes are expected", ErrMalformed, p.id, channel))
			return
		}
		p.mu.Lock()
		if p.out == o && len(p.pending) < p.t.options.MaxBufferBytes+1<<10 { // a little beyond what frames may use
			p.pending = appendFrame(p.pending, channelControl, func(b []byte) []byte { return append(b, payload...) })
		}
		p.mu.Unlock()
		p.kickWriter()
	}
}

func (p *peer) status() PeerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PeerStatus{
		Node: p.id, Connected: p.out != nil, Info: p.info,
		BufferBytes: len(p.pending) + len(p.writing), LastError: p.lastError,
	}
}

// outage is the time without a connection, from the first moment on.
type outage struct {
	p        *peer
	backoff  time.Duration // before the next attempt
	refused  bool          // PeerDown(refused) was called
	reported string        // the last reason that was reported
}

func newOutage(p *peer) *outage {
	return &outage{p: p, backoff: p.t.options.BackoffMin}
}

// begin starts a new outage after a connection. After one that did not last, the next attempt
// waits, so that two nodes that disagree do not spin.
func (o *outage) begin(lasted bool) {
	o.refused, o.reported = false, ""
	if lasted {
		o.backoff = o.p.t.options.BackoffMin
		return
	}
	o.pause()
}

// failed takes note of an attempt that failed and tells others what is new about it.
func (o *outage) failed(err error) {
	if o.p.ctx.Err() != nil {
		return
	}
	o.p.mu.Lock()
	o.p.lastError = err.Error()
	o.p.mu.Unlock()
	if errors.Is(err, syscall.ECONNREFUSED) && !o.refused {
		o.refused = true
		o.p.t.options.Handler.PeerDown(o.p.id, true)
	}
	var refused *RefusedError
	isRefused := errors.As(err, &refused)
	if isRefused {
		o.backoff = o.p.t.options.BackoffMax // only an operator can change that
	}
	reason := reasonOf(err)
	if reason == o.reported {
		return
	}
	o.reported = reason
	listener := &o.p.t.options.Listener
	switch {
	case isRefused && listener.RefusedBy != nil:
		listener.RefusedBy(refused)
	case !isRefused && listener.DialFailed != nil:
		listener.DialFailed(o.p.id, err)
	}
}

// reasonOf is what is the same in repeated failures: port numbers of sockets are not.
func reasonOf(err error) string {
	var operation *net.OpError
	if errors.As(err, &operation) {
		return operation.Op + ": " + operation.Err.Error()
	}
	return err.Error()
}

// pause waits for the backoff, give or take a quarter, and doubles it.
func (o *outage) pause() {
	jitter := time.Duration((o.p.random.Float64() - 0.5) / 2 * float64(o.backoff))
	timer := time.NewTimer(o.backoff + jitter)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-o.p.ctx.Done():
	}
	o.backoff = min(2*o.backoff, o.p.t.options.BackoffMax)
}
