// Package listener does the handshakes of TLS on a port: Accept returns connections whose handshake is done, so that nobody behind it spends anything on
// strangers. Until then a caller is held in little memory, for a bounded time, and there is a bounded number of them: one more ends the one
// that has waited longest. Whoever greets at once is in within a round trip or two, however many others stand around.
package listener

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxCallers bounds the handshakes at a time, where there is room for more.
	maxCallers = 128
	// helloTimeout bounds a handshake.
	helloTimeout = 5 * time.Second
	// maxHelloBytes is what a caller may send before its handshake is done: a long chain of certificates takes a tenth of it.
	maxHelloBytes = 64 << 10
	// heldBytes is about what TLS holds in memory for a connection: a record each way, its buffers, the certificates of the other side.
	heldBytes = 40 << 10
	// partingTime is for the other side to read why it was refused.
	partingTime = time.Second
)

// Options of a listener. The functions must be quick; they may be nil.
type Options struct {
	Config *tls.Config
	// Callers bounds the handshakes at a time; no more than maxCallers, and at least 1.
	Callers int
	// Failed is told why a handshake failed. plain: the caller spoke something else than TLS.
	Failed func(address net.Addr, plain bool, err error)
	// Dropped is told who was cut off because others came, and how many that were.
	Dropped func(address net.Addr, total int64)
}

// errTooLong: a caller sends more than a handshake takes.
var errTooLong = errors.New("tls: the caller sent more than 64 KiB before its handshake was done")

// plainAnswer is for callers that speak HTTP without TLS, in a version that all of their libraries understand.
const plainAnswer = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: 102\r\n\r\n" +
	"This port speaks TLS. Use https:// and give the authority's certificate (quorate, etcdctl: --cacert).\n"

// Listener is a net.Listener for connections with TLS.
type Listener struct {
	net.Listener
	options Options
	timeout time.Duration // of a handshake

	begin   sync.Once
	results chan result
	closed  chan struct{}
	closing sync.Once
	running sync.WaitGroup

	mu      sync.Mutex
	callers []*wire // the one that has waited longest first
	dropped int64
}

type result struct {
	conn net.Conn
	err  error
}

// Wrap returns a listener over one for plain connections. It begins to take them with the first Accept.
func Wrap(inner net.Listener, options Options) *Listener {
	options.Callers = max(min(options.Callers, maxCallers), 1)
	return &Listener{Listener: inner, options: options, timeout: helloTimeout, results: make(chan result), closed: make(chan struct{})}
}

// Accept returns the next connection whose handshake is done.
func (l *Listener) Accept() (net.Conn, error) {
	l.begin.Do(func() { l.running.Go(l.take) })
	select {
	case r := <-l.results:
		return r.conn, r.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends accepting and all handshakes under way, and waits for their end.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	l.closing.Do(func() { close(l.closed) })
	l.begin.Do(func() {}) // it does not begin any more
	l.mu.Lock()
	for _, w := range l.callers {
		_ = w.Conn.Close() // whoever waits for it finds out
	}
	l.mu.Unlock()
	l.running.Wait()
	return err
}

// take takes callers until the listener is closed.
func (l *Listener) take() {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			if !l.hand(result{err: err}) || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		w := &wire{Conn: inner}
		w.left.Store(maxHelloBytes)
		if !l.enter(w) {
			_ = inner.Close() // nothing was said on it
			return
		}
		l.running.Go(func() { l.greet(w) })
	}
}

// hand gives a result to Accept. False: nobody takes it any more.
func (l *Listener) hand(r result) bool {
	select {
	case l.results <- r:
		return true
	case <-l.closed:
		return false
	}
}

// enter makes room for a caller. False: the listener is closed.
func (l *Listener) enter(w *wire) bool {
	l.mu.Lock()
	select {
	case <-l.closed:
		l.mu.Unlock()
		return false
	default:
	}
	l.callers = append(l.callers, w)
	var longest *wire
	if len(l.callers) > l.options.Callers {
		longest = l.callers[0]
		l.callers = slices.Delete(l.callers, 0, 1)
		l.dropped++
	}
	dropped := l.dropped
	l.mu.Unlock()
	if longest != nil {
		if l.options.Dropped != nil {
			l.options.Dropped(longest.RemoteAddr(), dropped)
		}
		longest.dropped.Store(true)
		_ = longest.Conn.Close() // its goroutine finds out
	}
	return true
}

func (l *Listener) leave(w *wire) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.callers, w); i >= 0 {
		l.callers = slices.Delete(l.callers, i, i+1)
	}
}

// greet is a caller's handshake. It stays a caller until somebody has taken its connection.
func (l *Listener) greet(w *wire) {
	defer l.leave(w)
	_ = w.SetDeadline(time.Now().Add(l.timeout)) // fails only on a closed connection
	secure := tls.Server(w, l.options.Config)
	err := secure.Handshake()
	if err == nil {
		w.left.Store(unlimited)
		err = w.SetDeadline(time.Time{})
	}
	if err == nil {
		if !l.hand(result{conn: &conn{Conn: secure, wire: w}}) {
			_ = w.Close() // the listener is closed
		}
		return
	}
	l.refuse(w, err)
}

// refuse tells both sides why a handshake failed.
func (l *Listener) refuse(w *wire, err error) {
	defer w.Close()
	var header tls.RecordHeaderError
	plain := errors.As(err, &header) && header.Conn != nil
	switch {
	case plain:
		_, _ = io.WriteString(w, plainAnswer) // if it does not arrive, there is nobody to be told
	case errors.Is(err, io.EOF) || w.dropped.Load():
		return // somebody looked whether the port is open, or was told already
	}
	select {
	case <-l.closed:
		return
	default:
	}
	if l.options.Failed != nil {
		l.options.Failed(w.RemoteAddr(), plain, err)
	}
	hangUp(w)
}

// hangUp closes for writing and reads until the other side has closed, too: a close with unread input would reset the connection, and might destroy our
// last words. What comes is bounded.
func hangUp(w *wire) {
	if half, can := w.Conn.(interface{ CloseWrite() error }); can {
		_ = half.CloseWrite() // as good as we can
	}
	_ = w.SetDeadline(time.Now().Add(partingTime)) // fails only on a closed connection
	_, _ = io.CopyN(io.Discard, w.Conn, maxHelloBytes)
}

// unlimited is wire.left of a connection whose handshake is done.
const unlimited = -1

// wire is a plain connection on which a bounded number of bytes may come at first.
type wire struct {
	net.Conn
	left    atomic.Int64
	dropped atomic.Bool // another caller has its place
}

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	left := w.left.Load()
	if left == unlimited {
		return w.Conn.Read(p)
	}
	if left == 0 {
		return 0, errTooLong
	}
	n, err := w.Conn.Read(p[:min(int64(len(p)), left)])
	w.left.Store(left - int64(n))
	return n, err
}

// conn is a connection whose handshake is done. CloseWrite tells the other side that nothing more comes.
type conn struct {
	*tls.Conn
	wire *wire
}

// Close ends the connection at once. tls.Conn would wait until the other side takes a last word; what is above it has last words of its own.
func (c *conn) Close() error { return c.wire.Close() }

// HeldBytes is about how much memory the connection takes.
func (c *conn) HeldBytes() int64 { return heldBytes }
