package rpc

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/quoratedb/quorate/budget"
	"github.com/quoratedb/quorate/proto/h2"
)

const (
	// connBytes is reserved for a connection: its buffer and that of its framer, a goroutine, tables. It is reserved in two parts, each of which is small
	// (budget.SmallBytes), so that a newcomer is served when there is no memory left for anything large.
	connBytes = 24 << 10
	// writeBytes is about how much is written at once, if there is memory for it; else leastBuffer.
	writeBytes = 64 << 10
	// maxOwed is how much a client may make us owe it without taking any of it; see h2.Conn.Owed.
	maxOwed = 16 << 10
	// headerTableBytes is that of HTTP/2 for the headers that come; the same for those that go.
	headerTableBytes = 4096
)

// conn is one connection.
type conn struct {
	server  *Server
	socket  net.Conn
	account *budget.Account
	peer    string // the common name of the certificate that the client has shown, if that was judged
	layer   int64  // reserved for what is between us and the socket, besides connBytes
	reader  reader
	heard   atomic.Int64 // when something came last, by Server.now

	mu       sync.Mutex
	core     *h2.Conn
	reading  bool // the reader deals with what has come, and writes when it has
	writing  bool // somebody writes
	progress *sync.Cond
	pinged   time.Duration // when; 0: since something came, not
	greeted  bool          // the client speaks HTTP/2; before, nothing is said to it
	closed   bool
}

func newConn(s *Server, socket net.Conn) (*conn, error) {
	c := &conn{server: s, socket: socket, account: s.options.Budget.NewAccount()}
	for part := range int64(2) {
		if !c.account.Reserve(connBytes / 2) {
			c.account.Release(part * connBytes / 2)
			return nil, errNoMemory
		}
	}
	if layer, is := socket.(interface{ HeldBytes() int64 }); is && !c.reserveLayer(layer.HeldBytes()) {
		c.account.Release(connBytes + c.layer)
		return nil, errNoMemory
	}
	c.peer = commonName(socket)
	c.progress = sync.NewCond(&c.mu)
	c.reader = reader{socket: socket, account: c.account, pause: c.pause, buffer: make([]byte, leastBuffer)}
	wire := s.options.Wire
	wire.Memory = c.account
	core, err := h2.NewConn(wire)
	if err != nil {
		c.free()
		return nil, err
	}
	c.core = core
	c.heard.Store(int64(s.now()))
	return c, nil
}

// commonName is that of a certificate with a chain to an authority that is trusted for clients.
func commonName(socket net.Conn) string {
	secured, is := socket.(interface{ ConnectionState() tls.ConnectionState })
	if !is {
		return ""
	}
	for _, chain := range secured.ConnectionState().VerifiedChains {
		if len(chain) > 0 {
			return chain[0].Subject.CommonName
		}
	}
	return ""
}

// reserveLayer reserves memory for TLS, in parts that are small, too.
func (c *conn) reserveLayer(n int64) bool {
	for c.layer < n {
		part := min(n-c.layer, connBytes/2)
		if !c.account.Reserve(part) {
			return false
		}
		c.layer += part
	}
	return true
}

// free gives back what the connection itself holds. Its calls give back what is theirs.
func (c *conn) free() {
	c.account.Release(connBytes + c.layer)
	if n := len(c.reader.buffer); n > leastBuffer {
		c.account.Release(int64(n - leastBuffer))
	}
}

// serve is the life of the connection.
func (c *conn) serve() {
	defer c.free()
	defer c.server.forget(c)
	defer c.close()
	if c.greet() != nil {
		return
	}
	c.mu.Lock()
	c.greeted = true
	c.mu.Unlock()
	framer := http2.NewFramer(nil, &c.reader)
	framer.SetReuseFrames()
	framer.SetMaxReadFrameSize(16 << 10)
	framer.MaxHeaderListSize = c.server.options.Wire.MaxHeaderBytes
	framer.ReadMetaHeaders = hpack.NewDecoder(headerTableBytes, nil)
	for first := true; ; first = false {
		frame, err := framer.ReadFrame()
		now := c.server.now()
		c.heard.Store(int64(now))
		if first && err == nil {
			_ = c.socket.SetReadDeadline(time.Time{})
		}
		if !c.take(frame, err, now) {
			return
		}
	}
}

// greet reads the words by which a client begins.
func (c *conn) greet() error {
	_ = c.socket.SetReadDeadline(time.Now().Add(c.server.options.PrefaceTimeout))
	preface := []byte(http2.ClientPreface)
	read := make([]byte, 0, len(preface))
	for len(read) < len(preface) {
		n, err := c.reader.Read(read[len(read):cap(read)])
		if err != nil {
			return err
		}
		if read = read[:len(read)+n]; !bytes.HasPrefix(preface, read) {
			if answer := c.server.options.NotHTTP2; answer != nil {
				answer(c.socket, append(read, c.reader.buffer[c.reader.from:c.reader.to]...))
			}
			return errNotHTTP2
		}
	}
	return nil
}

// take deals with a frame, or with why there is none. false: the connection is over.
func (c *conn) take(frame http2.Frame, err error, now time.Duration) bool {
	c.mu.Lock()
	c.reading = true
	c.pinged = 0
	over := c.handle(frame, err, now)
	events := c.core.Events()
	c.prepare(events)
	c.mu.Unlock()
	c.deal(events)
	if !over {
		return true
	}
	c.pause() // the last words
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing && !c.closed {
		c.progress.Wait()
	}
	return false
}

// pause is called when everything that has come is dealt with: what there is to say is written together. It waits while the client
// makes us owe it more than it takes.
func (c *conn) pause() {
	c.mu.Lock()
	c.reading = false
	c.mu.Unlock()
	c.flush(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.core.Owed() > maxOwed && !c.closed { // if flush has not written, somebody else does
		c.progress.Wait()
	}
}

// handle gives the core what was read. The lock is held. over: nothing more comes.
func (c *conn) handle(frame http2.Frame, err error, now time.Duration) (over bool) {
	var ofStream http2.StreamError
	var ofConnection http2.ConnectionError
	switch {
	case err == nil:
		return c.core.Frame(frame, now) != nil
	case errors.As(err, &ofStream):
		return c.core.StreamError(ofStream) != nil
	case errors.As(err, &ofConnection):
		_ = c.core.Fail(http2.ErrCode(ofConnection), "a frame breaks the rules")
	case errors.Is(err, http2.ErrFrameTooLarge):
		_ = c.core.Fail(http2.ErrCodeFrameSize, "a frame is too large")
	}
	return true
}

// flush writes what there is to write, here or, if the caller has no time for that, in a goroutine. Nothing is done if somebody is at it.
func (c *conn) flush(here bool) {
	c.mu.Lock()
	if c.writing || c.reading || c.closed || !c.greeted || !c.core.HasOutput() {
		c.mu.Unlock()
		return
	}
	c.writing = true
	if !here {
		c.server.running.Add(1) // the connection is not over, so nobody waits for the last one yet
	}
	c.mu.Unlock()
	if here {
		c.write()
		return
	}
	go func() {
		defer c.server.running.Done()
		c.write()
	}()
}

var writeBuffers = sync.Pool{New: func() any { return new([]byte) }}

// write writes until there is nothing left.
func (c *conn) write() {
	buffer := writeBuffers.Get().(*[]byte)
	out := (*buffer)[:0]
	limit := leastBuffer
	for c.produce(&out, limit) {
		if len(out) >= limit && limit < writeBytes && c.account.Reserve(writeBytes) {
			limit = writeBytes
		}
		_ = c.socket.SetWriteDeadline(time.Now().Add(c.server.options.WriteTimeout))
		if _, err := c.socket.Write(out); err != nil {
			c.close()
		}
	}
	if limit == writeBytes {
		c.account.Release(writeBytes)
	}
	if cap(out) <= 2*writeBytes {
		*buffer = out
		writeBuffers.Put(buffer)
	}
}

// produce fills out with what is to be written. False: there is nothing, and the caller does not write any more.
func (c *conn) produce(out *[]byte, limit int) bool {
	c.mu.Lock()
	*out = c.core.Produce((*out)[:0], limit)
	c.writing = len(*out) > 0 && !c.closed
	writing := c.writing
	over := !writing && c.core.Leaving() && c.core.Active() == 0
	events := c.core.Events()
	c.progress.Broadcast()
	c.mu.Unlock()
	c.deal(events)
	if over {
		c.hangUp()
	}
	return writing
}

// hangUp ends a connection in good order: the client sees the end when it has read everything, and then closes it, too.
func (c *conn) hangUp() {
	half, can := c.socket.(interface{ CloseWrite() error })
	if !can || half.CloseWrite() != nil {
		c.close()
		return
	}
	_ = c.socket.SetReadDeadline(time.Now().Add(time.Second))
}

// close ends the connection. It may be called again.
func (c *conn) close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	c.core.Close()
	events := c.core.Events()
	c.progress.Broadcast()
	c.mu.Unlock()
	_ = c.socket.Close()
	c.deal(events)
}

// leave has the client go elsewhere; the connection is closed when its calls are over.
func (c *conn) leave(reason string) {
	c.mu.Lock()
	c.core.Leave(reason)
	greeted := c.greeted
	c.mu.Unlock()
	if !greeted {
		c.close() // nothing is lost
	}
	c.flush(false)
}

// lookIfSilent asks a client that is silent whether it lives, or ends the connection if it was asked long enough ago. Calls that are silent in the
// middle of a request end.
func (c *conn) lookIfSilent(now time.Duration) {
	heard := time.Duration(c.heard.Load())
	c.mu.Lock()
	ask := now-heard >= c.server.options.PingInterval && c.pinged == 0 && !c.closed
	dead := c.pinged != 0 && now-c.pinged >= c.server.options.PingTimeout
	if ask {
		c.pinged = now
		c.core.Ping()
	}
	c.core.EndHalf(now, c.server.options.MessageTimeout)
	events := c.core.Events()
	c.mu.Unlock()
	c.deal(events)
	if dead {
		c.close()
	}
	c.flush(false)
}
