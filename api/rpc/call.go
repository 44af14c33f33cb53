package rpc

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/quoratedb/quorate/proto/h2"
)

// ErrCanceled: the client does not wait any more.
var ErrCanceled = errors.New("rpc: the client has gone")

// ErrStalled: the client takes nothing of its answer; see Call.LimitStalls.
var ErrStalled = errors.New("rpc: the client does not read its answer")

// errNoRequest: a unary call without a message.
var errNoRequest = errors.New("rpc: the call has no request")

// Call is one call of a client. Its methods are safe for concurrent use, but Receive and Send each by one goroutine at a time.
type Call struct {
	conn     *conn
	stream   *h2.Stream
	method   Method
	request  []byte
	deadline time.Time

	// Of streams.
	ctx                context.Context
	cancel             context.CancelCauseFunc
	stop               context.CancelFunc
	readable, writable chan struct{} // capacity 1
	// arrival, if set, is offered each message by the connection's goroutine. Guarded by the connection's lock, as the next three.
	arrival  func(message []byte) (taken bool)
	offering bool   // arrival has a message
	declined bool   // arrival has left messages to Receive, which has not dealt with all of them
	handed   []byte // one of these

	// Guarded by the connection's lock.
	started  bool   // Method.Unary was called
	canceled bool   // the client does not wait any more
	onCancel func() // of a unary call

	memory callMemory
	// LimitStalls ends a stream with ErrStalled when its client takes nothing of what waits for it for Options.StallTimeout. It is set before the
	// first message is sent, by who keeps something open for the client that others pay for.
	LimitStalls bool
}

// prepare makes the calls of streams that have begun. The lock is held, so that whatever comes next finds them.
func (c *conn) prepare(events []h2.Event) {
	for _, e := range events {
		if e.Kind != h2.EventOpened {
			continue
		}
		call := &Call{conn: c, stream: e.Stream, method: c.server.options.Lookup(e.Stream.Method())}
		call.memory.account = c.account
		e.Stream.OnSent = call.memory.close
		if timeout, limited := e.Stream.Timeout(); limited {
			call.deadline = time.Now().Add(timeout)
		}
		if call.method.Stream != nil {
			call.prepareStream()
		}
		e.Stream.User = call
	}
}

func (call *Call) prepareStream() {
	call.readable, call.writable = make(chan struct{}, 1), make(chan struct{}, 1)
	call.ctx, call.cancel = context.WithCancelCause(context.Background())
	call.stop = func() {}
	if !call.deadline.IsZero() {
		call.ctx, call.stop = context.WithDeadline(call.ctx, call.deadline)
	}
	call.conn.server.running.Add(1)
}

// deal does what events ask for. No lock is held.
func (c *conn) deal(events []h2.Event) {
	for _, e := range events {
		call := e.Stream.User.(*Call)
		switch e.Kind {
		case h2.EventOpened:
			if call.method.Stream != nil {
				go call.serve(call.method.Stream)
			}
		case h2.EventReadable:
			if call.method.Stream != nil {
				call.offer()
			} else {
				call.serveUnary()
			}
		case h2.EventWritable:
			signal(call.writable)
		case h2.EventCanceled:
			call.end()
		}
	}
}

// signal wakes whoever waits; nil: nobody ever does.
func signal(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

func (call *Call) serve(work func(*Call) error) {
	defer call.conn.server.running.Done()
	defer call.stop()
	defer call.cancel(nil)
	call.finish(work(call))
}

// serveUnary starts a unary call when its request is there.
func (call *Call) serveUnary() {
	c := call.conn
	c.mu.Lock()
	var ok, ended bool
	if !call.started && !call.canceled {
		if call.request, ok, ended = call.stream.Take(); ok || ended {
			call.started = true
		}
	}
	c.mu.Unlock()
	switch {
	case ok:
		call.method.Unary(call)
	case ended:
		call.Fail(errNoRequest)
	}
}

// Arrivals has a function called with each message where it arrives: in the goroutine that reads the connection, so that it must not wait, and what it
// sends is written together with what else came at the same time. What it does not take is for Receive, and so is all that comes until Receive
// is called again and finds nothing.
func (call *Call) Arrivals(take func(message []byte) (taken bool)) {
	c := call.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	call.arrival, call.declined = take, true // there may be messages already
}

// offer gives a message that has come to who waits for it.
func (call *Call) offer() {
	c := call.conn
	c.mu.Lock()
	var message []byte
	ok := false
	if call.arrival != nil && !call.declined && !call.canceled {
		message, ok, _ = call.stream.Take()
		call.offering = ok
	}
	c.mu.Unlock()
	if !ok {
		signal(call.readable)
		return
	}
	taken := call.arrival(message)
	c.mu.Lock()
	call.offering = false
	if taken {
		call.stream.Release(h2.MessageBytes(len(message)))
	} else {
		call.handed, call.declined = message, true
	}
	wake := !taken || call.stream.Ended()
	c.mu.Unlock()
	if wake {
		signal(call.readable)
	}
}

// next takes a message for Receive. The lock is held.
func (call *Call) next() (message []byte, ok, ended bool) {
	if call.handed != nil {
		message, call.handed = call.handed, nil
		return message, true, false
	}
	if call.arrival != nil && !call.declined {
		return nil, false, call.stream.Ended() && !call.offering // what is there is about to be offered
	}
	message, ok, ended = call.stream.Take()
	call.declined = ok
	return message, ok, ended
}

// end tells the call that the client does not wait any more.
func (call *Call) end() {
	c := call.conn
	c.mu.Lock()
	call.canceled = true
	onCancel, idle := call.onCancel, call.method.Stream == nil && !call.started
	cancel := call.cancel
	call.onCancel = nil
	c.mu.Unlock()
	switch {
	case idle:
		call.Fail(ErrCanceled) // nobody else will
	case cancel != nil:
		cancel(ErrCanceled)
	case onCancel != nil:
		onCancel()
	}
}

// Method is the path of the call.
func (call *Call) Method() string { return call.stream.Method() }

// PeerName is the common name of the certificate that the client has shown, if that was judged; otherwise "".
func (call *Call) PeerName() string { return call.conn.peer }

// Address is that of the client.
func (call *Call) Address() string { return call.conn.socket.RemoteAddr().String() }

// Header is the first value of a header that is among h2.Options.Keep.
func (call *Call) Header(name string) string { return call.stream.Header(name) }

// Deadline is when the client does not wait any more; zero: it waits as long as it takes.
func (call *Call) Deadline() time.Time { return call.deadline }

// Request is the message of a unary call. It belongs to the call's server.
func (call *Call) Request() []byte { return call.request }

// OnCancel has a function called when the client does not wait any more, perhaps at once. For unary calls.
func (call *Call) OnCancel(do func()) {
	c := call.conn
	c.mu.Lock()
	canceled := call.canceled
	if !canceled {
		call.onCancel = do
	}
	c.mu.Unlock()
	if canceled {
		do()
	}
}

// Hurried tells whether the next request of this connection is there already. Whoever could work for this one alone should then rather
// collect them.
func (call *Call) Hurried() bool { return call.conn.reader.buffered() > 0 }

// SetHeader adds to what is sent before the answer.
func (call *Call) SetHeader(name, value string) {
	c := call.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	call.stream.SetHeader(name, value)
}

// Go does work for a unary call in a goroutine of its own, for which Server.Stop waits. Only Method.Unary may call it.
func (call *Call) Go(work func()) { call.conn.server.running.Go(work) }

// Aside does work for a unary call in a goroutine of its own, whoever calls it: whose time is too dear for it. If the client has gone, the call ends
// instead.
func (call *Call) Aside(work func()) {
	c := call.conn
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.server.running.Add(1) // the connection is not over, so nobody waits for the last one yet
	}
	c.mu.Unlock()
	if closed {
		call.Fail(ErrCanceled)
		return
	}
	go func() {
		defer c.server.running.Done()
		work()
	}()
}

// GoSending is Go for a unary call whose answer is sent in parts (h2.Message.WholeBytes): work may use what is for streams, but Receive. Its error
// is what the client is told; without one everything must have been sent.
func (call *Call) GoSending(work func() error) {
	c := call.conn
	c.mu.Lock()
	call.prepareStream()
	canceled := call.canceled
	c.mu.Unlock()
	if canceled {
		call.cancel(ErrCanceled)
	}
	go call.serve(func(*Call) error { return work() })
}

// Answer ends a unary call with its answer.
func (call *Call) Answer(m h2.Message) {
	c := call.conn
	c.mu.Lock()
	call.onCancel = nil
	c.core.Send(call.stream, m)
	c.core.Finish(call.stream, h2.Status{})
	c.mu.Unlock()
	c.flush(false)
}

// Fail ends a unary call with an error.
func (call *Call) Fail(err error) { call.finish(err) }

func (call *Call) finish(err error) {
	status := h2.Status{}
	if err != nil {
		status = call.conn.server.options.StatusOf(err)
	}
	c := call.conn
	c.mu.Lock()
	call.onCancel = nil
	c.core.Finish(call.stream, status)
	c.mu.Unlock()
	c.flush(false)
}

// Context of a stream ends with it, and when the client has gone, with ErrCanceled as its cause.
func (call *Call) Context() context.Context { return call.ctx }

// Receive waits for the next message of a stream; io.EOF: the client has said its last.
func (call *Call) Receive() ([]byte, error) {
	c := call.conn
	for {
		c.mu.Lock()
		message, ok, ended := call.next()
		c.mu.Unlock()
		if ok {
			c.flush(false) // the client may send more now
			return message, nil
		}
		if err := context.Cause(call.ctx); err != nil {
			return nil, err
		}
		if ended {
			return nil, io.EOF
		}
		select {
		case <-call.readable:
		case <-call.ctx.Done():
		}
	}
}

// Done gives the memory of a message that was received back.
func (call *Call) Done(message []byte) {
	c := call.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	call.stream.Release(h2.MessageBytes(len(message)))
}

// Send sends a message of a stream, and waits while too much is queued.
func (call *Call) Send(m h2.Message) error {
	err := call.Queue(m)
	call.Flush()
	return err
}

// Last queues the last message of a stream, and does not wait for room: who returns now needs nothing any more.
func (call *Call) Last(m h2.Message) {
	c := call.conn
	c.mu.Lock()
	c.core.Send(call.stream, m)
	c.mu.Unlock()
}

// Flush sends what is queued.
func (call *Call) Flush() { call.conn.flush(false) }

// TrySend queues a message of a stream, and does not wait. It tells whether too much is queued now; then EventWritable is for Queue to wait for.
func (call *Call) TrySend(m h2.Message) (full bool) {
	c := call.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.Send(call.stream, m)
	return call.stream.Full()
}

// Queue has a message of a stream sent with the next Flush, and waits while too much is queued.
func (call *Call) Queue(m h2.Message) error { return call.HandOver(m, func() {}) }

// HandOver is Queue for a message that was made of something that is reserved for: when the message is counted, and before anything is waited for,
// counted is called, which may give that back.
func (call *Call) HandOver(m h2.Message, counted func()) error {
	c := call.conn
	c.mu.Lock()
	c.core.Send(call.stream, m)
	full := call.stream.Full()
	c.mu.Unlock()
	counted()
	if full {
		c.flush(false)
		if err := call.waitForRoom(); err != nil {
			return err
		}
	}
	return context.Cause(call.ctx)
}

// waitForRoom waits until not too much is queued.
func (call *Call) waitForRoom() error {
	c := call.conn
	var stalled <-chan time.Time
	if call.LimitStalls {
		ticker := time.NewTicker(c.server.options.StallTimeout)
		defer ticker.Stop()
		stalled = ticker.C
	}
	for before := -1; ; {
		looked := false
		select {
		case <-call.writable:
		case <-call.ctx.Done():
		case <-stalled:
			looked = true
		}
		if err := context.Cause(call.ctx); err != nil {
			return err
		}
		c.mu.Lock()
		full, unsent := call.stream.Full(), call.stream.UnsentBytes()
		c.mu.Unlock()
		switch {
		case !full:
			return nil
		case looked && unsent == before:
			return ErrStalled
		case looked:
			before = unsent
		}
	}
}
