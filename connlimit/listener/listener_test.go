package listener

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// port is a listener of connections within the process, so that a bubble of synctest can hold them.
type port struct {
	callers chan net.Conn
	failure atomic.Pointer[error] // of the next Accept
	closed  chan struct{}
}

func newPort() *port { return &port{callers: make(chan net.Conn, 100), closed: make(chan struct{})} }

func (p *port) Accept() (net.Conn, error) {
	if err := p.failure.Swap(nil); err != nil {
		return nil, *err
	}
	select {
	case c := <-p.callers:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *port) Close() error   { close(p.closed); return nil }
func (p *port) Addr() net.Addr { return &net.TCPAddr{} }

// dial returns the caller's end.
func (p *port) dial() net.Conn {
	here, there := net.Pipe()
	p.callers <- there
	return here
}

// ended tells whether the other end of a connection was closed.
func ended(t *testing.T, c net.Conn) bool {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

// serve accepts everything, and reads from each connection until it ends.
func serve(l net.Listener) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(io.Discard, c)
				c.Close()
				c.Close() // as servers do
			}()
		}
	}()
	return done
}

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, hello, patience = 4, 24, 5 * time.Second
		refused := 0
		l := New(Options{Limit: limit, HelloBytes: hello, HelloTimeout: patience, Refused: func(net.Addr, uint64) { refused++ }})
		p := newPort()
		done := serve(l.Wrap(p))
		expect := func(when string, want Metrics) {
			t.Helper()
			synctest.Wait()
			want.Limit = limit
			if got := l.Metrics(); got != want {
				t.Fatalf("%s: %+v, want %+v", when, got, want)
			}
		}
		speaks, half, silent := p.dial(), p.dial(), p.dial()
		synctest.Wait()
		speaks.Write(make([]byte, hello))
		half.Write(make([]byte, hello-1))
		expect("three", Metrics{Open: 3})

		// Who is silent makes room, the one who came first before the others.
		last := p.dial()
		synctest.Wait()
		last.Write(make([]byte, hello))
		newcomer := p.dial()
		expect("one more than there are places", Metrics{Open: 4, Silent: 1})
		if !ended(t, half) || ended(t, silent) || ended(t, newcomer) {
			t.Fatal("the wrong one made room")
		}

		// Who is silent for too long goes, who has spoken stays.
		time.Sleep(patience)
		expect("after a while", Metrics{Open: 2, Silent: 3})
		if !ended(t, silent) || !ended(t, newcomer) || ended(t, speaks) {
			t.Fatal("the wrong ones were closed")
		}

		// All places are held by those who have spoken: the next one is closed at once.
		for range 2 {
			c := p.dial()
			synctest.Wait()
			c.Write(make([]byte, hello))
			defer c.Close()
		}
		beyond := p.dial()
		expect("full", Metrics{Open: 4, Silent: 3, Refused: 1})
		if !ended(t, beyond) || refused != 1 {
			t.Fatalf("the one beyond the limit stays; told of %d", refused)
		}

		// A place that was given back is taken again.
		speaks.Close()
		expect("one has gone", Metrics{Open: 3, Silent: 3, Refused: 1})
		again := p.dial()
		expect("another has come", Metrics{Open: 4, Silent: 3, Refused: 1})

		// Nothing to accept with: it is told and tried again, in no hurry.
		last.Close()
		again.Close()
		expect("others have gone", Metrics{Open: 2, Silent: 3, Refused: 1})
		l.Close()
		p.Close()
		<-done
	})
}

// TestNoDescriptor: when the system has no descriptor, accepting waits, goes on, and ends when it is to end.
func TestNoDescriptor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		l := New(Options{Limit: 1, HelloBytes: 1, HelloTimeout: time.Second, AcceptFailed: func(error) { told++ }})
		p := newPort()
		failure := error(&net.OpError{Op: "accept", Err: syscall.EMFILE})
		p.failure.Store(&failure)
		began := time.Now()
		c := p.dial()
		defer c.Close()
		accepted, err := l.Wrap(p).Accept()
		if err != nil || told != 1 || time.Since(began) != acceptPause {
			t.Fatalf("accepted %v, %v, after %v; told %d times", accepted, err, time.Since(began), told)
		}
		accepted.Close()
		p.failure.Store(&failure)
		l.Close()
		if _, err := l.Wrap(p).Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("after the end: %v", err)
		}
		if _, err := (&listener{&broken{}, l}).Accept(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("another error: %v", err)
		}
	})
}

type broken struct{ net.Listener }

func (broken) Accept() (net.Conn, error) { return nil, io.ErrUnexpectedEOF }
