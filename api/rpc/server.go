package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/quoratedb/quorate/budget"
	"github.com/quoratedb/quorate/proto/h2"
)

// Method says how the calls of a method are served: exactly one of the two is set.
type Method struct {
	// Unary is called when the request is complete, on the goroutine that reads the connection: it must not wait for anything. The call is
	// answered by Call.Answer or Call.Fail, from any goroutine.
	Unary func(*Call)
	// Stream is called in a goroutine of its own when the call begins. Its error is what the client is told.
	Stream func(*Call) error
}

// Options of a Server.
type Options struct {
	// Lookup finds a method by its path, "/service/method". For one that is not known it returns what answers with an error.
	Lookup func(path string) Method
	// StatusOf turns an error into what the client is told.
	StatusOf func(error) h2.Status
	// NotHTTP2 takes a connection that begins otherwise, with what was read of it, before it is closed. Nil: it is only closed.
	NotHTTP2 func(socket net.Conn, first []byte)
	// Budget has an account for each connection.
	Budget *budget.Budget
	// Wire is what proto/h2 needs to know; Memory is filled in.
	Wire h2.Options
	// PrefaceTimeout bounds the time until a client has begun to speak HTTP/2. Default 10 s.
	PrefaceTimeout time.Duration
	// WriteTimeout is how long a client may take nothing of what is written to it. Default 1 min.
	WriteTimeout time.Duration
	// MessageTimeout is how long a message of a client may be on its way. Default 2 min.
	MessageTimeout time.Duration
	// StallTimeout is how long the client of a call with LimitStalls may take nothing of what waits for it. Default 1 min.
	StallTimeout time.Duration
	// A client from which nothing has come for PingInterval is asked whether it lives, and cut off PingTimeout later. Defaults 2 h and 20 s.
	PingInterval, PingTimeout time.Duration
}

// WithDefaults returns a copy with defaults for what is not set.
func (o Options) WithDefaults() Options {
	o.Wire = o.Wire.WithDefaults()
	o.PrefaceTimeout = cmp.Or(o.PrefaceTimeout, 10*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, time.Minute)
	o.MessageTimeout = cmp.Or(o.MessageTimeout, 2*time.Minute)
	o.StallTimeout = cmp.Or(o.StallTimeout, time.Minute)
	o.PingInterval = cmp.Or(o.PingInterval, 2*time.Hour)
	o.PingTimeout = cmp.Or(o.PingTimeout, 20*time.Second)
	return o
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case o.Lookup == nil || o.StatusOf == nil || o.Budget == nil:
		return errors.New("rpc: Options.Lookup, StatusOf or Budget is missing")
	case o.PrefaceTimeout < 0 || o.WriteTimeout < 0 || o.StallTimeout < 0 || o.MessageTimeout < 0 || o.PingInterval < 0 || o.PingTimeout < 0:
		return errors.New("rpc: a duration is negative")
	}
	return nil
}

// ErrStopped: the server does not serve any more.
var ErrStopped = errors.New("rpc: the server is stopped")

// errNotHTTP2: the client speaks something else.
var errNotHTTP2 = errors.New("rpc: the client does not speak HTTP/2")

// errNoMemory: there is no room for another connection.
var errNoMemory = errors.New("rpc: no memory is left for another connection")

// Server serves connections. Safe for concurrent use.
type Server struct {
	options Options
	began   time.Time

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	stopping  bool
	stop      chan struct{}
	running   sync.WaitGroup // goroutines of connections and calls, and the one that looks for silent clients
}

// NewServer returns a server.
func NewServer(options Options) (*Server, error) {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	s := &Server{options: options, began: time.Now(), listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{}, stop: make(chan struct{})}
	s.running.Go(s.lookForSilent)
	return s, nil
}

// now is the time of a monotonic clock.
func (s *Server) now() time.Duration { return time.Since(s.began) }

// Serve takes the connections of a listener until Stop, and closes the listener. It may be called for several.
func (s *Server) Serve(listener net.Listener) error {
	defer listener.Close()
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return ErrStopped
	}
	s.listeners[listener] = struct{}{}
	s.mu.Unlock()
	pause := time.Duration(0)
	for {
		socket, err := listener.Accept()
		switch {
		case err == nil:
			pause = 0
			s.Take(socket)
		case s.stopped():
			return nil
		case isTemporary(err):
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-s.stop:
			}
		default:
			return fmt.Errorf("rpc: accept connections on %s: %w", listener.Addr(), err)
		}
	}
}

// isTemporary tells whether accepting may work again: there are no descriptors left for the moment, for example.
func isTemporary(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

func (s *Server) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// Take serves one connection, or closes it if there is no memory for it; the budget counts that.
func (s *Server) Take(socket net.Conn) {
	c, err := newConn(s, socket)
	if err == nil {
		s.mu.Lock()
		if s.stopping {
			err = ErrStopped
		} else {
			s.conns[c] = struct{}{}
			s.running.Go(c.serve)
		}
		s.mu.Unlock()
		if err != nil {
			c.free()
		}
	}
	if err != nil {
		_ = socket.Close()
	}
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// Connections is how many there are.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Stop takes no new connection and no new call, waits for the calls that run until the context ends, cuts them off then, and returns when all
// goroutines of the server have ended.
func (s *Server) Stop(ctx context.Context) {
	s.mu.Lock()
	first := !s.stopping
	s.stopping = true
	for l := range s.listeners {
		_ = l.Close()
	}
	s.mu.Unlock()
	if first {
		close(s.stop)
	}
	for _, c := range s.all() {
		c.leave("the server is stopping")
	}
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		for _, c := range s.all() {
			c.close()
		}
		<-ended
	}
}

// lookForSilent asks clients that say nothing whether they live, and cuts off those that do not answer.
func (s *Server) lookForSilent() {
	ticker := time.NewTicker(max(min(s.options.PingInterval, s.options.PingTimeout, s.options.MessageTimeout)/4, 10*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
		}
		now := s.now()
		for _, c := range s.all() {
			c.lookIfSilent(now)
		}
	}
}
