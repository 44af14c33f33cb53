package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/quoratedb/quorate/budget"
	"github.com/quoratedb/quorate/proto/h2"
)

// raw is a codec that hands bytes through.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (raw) Name() string                       { return "proto" }

func statusOf(err error) h2.Status {
	s := status.Convert(err)
	return h2.Status{Code: uint32(s.Code()), Message: s.Message()}
}

// fixture is a server with some methods.
type fixture struct {
	atOnce atomic.Int64 // messages of /t/Arrivals
	*Server
	t       *testing.T
	budget  *budget.Budget
	address string
	held    chan *Call    // of /t/Hold
	began   chan struct{} // a call of /t/Wait has begun
	gone    chan error    // causes of ends of /t/Wait
	left    chan func()   // what is left to be done of /t/Leave
}

func start(t *testing.T, change func(*Options)) *fixture {
	t.Helper()
	b, err := budget.New(budget.Limits{TotalBytes: 64 << 20, AccountBytes: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, held: make(chan *Call, 100), began: make(chan struct{}, 100), gone: make(chan error, 100), left: make(chan func(), 100)}
	o := Options{Budget: b, StatusOf: statusOf, Lookup: f.lookup, Wire: h2.Options{MaxMessageBytes: 4 << 20, Keep: []string{"greeting"}}}
	if change != nil {
		change(&o)
	}
	f.budget = o.Budget
	if f.Server, err = NewServer(o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- f.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		f.Stop(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
		f.returned("after the end")
	})
	return f
}

// returned waits until everything is given back, but for what connections that are open hold.
func (f *fixture) returned(when string) {
	f.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for f.budget.Metrics().UsedBytes > int64(f.Connections())*(connBytes+mostBuffer) {
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: %+v, %d connections", when, f.budget.Metrics(), f.Connections())
		}
		time.Sleep(time.Millisecond)
	}
	if m := f.budget.Metrics(); m.Mistakes > 0 {
		f.t.Errorf("%s: more was given back than was reserved: %+v", when, m)
	}
}

func (f *fixture) lookup(path string) Method {
	switch path {
	case "/t/Echo":
		return Method{Unary: func(c *Call) {
			if greeting := c.Header("greeting"); greeting != "" {
				c.SetHeader("greeted", greeting)
			}
			c.Answer(h2.Message{Bytes: c.Request()})
		}}
	case "/t/Later":
		return Method{Unary: func(c *Call) { go c.Answer(h2.Message{Bytes: c.Request()}) }}
	case "/t/Hold":
		return Method{Unary: func(c *Call) { f.held <- c }}
	case "/t/Fail":
		return Method{Unary: func(c *Call) { c.Fail(status.Error(codes.FailedPrecondition, string(c.Request()))) }}
	case "/t/Large": // the request says how large
		return Method{Unary: func(c *Call) {
			var size int
			fmt.Sscan(string(c.Request()), &size)
			left := size
			c.Answer(h2.Message{SizeBytes: size, Next: func() ([]byte, error) {
				piece := make([]byte, min(left, 100_000))
				for i := range piece {
					piece[i] = byte(size - left + i)
				}
				left -= len(piece)
				return piece, nil
			}})
		}}
	case "/t/Aside":
		return Method{Unary: func(c *Call) { c.Aside(func() { c.Answer(h2.Message{Bytes: c.Request()}) }) }}
	case "/t/Last":
		return Method{Unary: func(c *Call) {
			c.GoSending(func() error {
				c.Last(h2.Message{Bytes: c.Request()})
				return nil
			})
		}}
	case "/t/Parts": // the request says how large; what it holds at a time is reserved
		return Method{Unary: func(c *Call) { c.GoSending(func() error { return f.sendParts(c) }) }}
	case "/t/Both":
		return Method{Stream: func(c *Call) error {
			for {
				message, err := c.Receive()
				if errors.Is(err, io.EOF) {
					return status.Error(codes.Aborted, "that was all")
				}
				if err != nil {
					return err
				}
				if err := c.Send(h2.Message{Bytes: message}); err != nil {
					return err
				}
				c.Done(message)
			}
		}}
	case "/t/Arrivals": // echoes at once what begins with an a
		return Method{Stream: func(c *Call) error {
			c.Arrivals(func(message []byte) bool {
				if message[0] != 'a' {
					return false
				}
				f.atOnce.Add(1)
				c.TrySend(h2.Message{Bytes: message})
				return true
			})
			for {
				message, err := c.Receive()
				if errors.Is(err, io.EOF) {
					return status.Error(codes.Aborted, "that was all")
				}
				if err != nil {
					return err
				}
				if err := c.Send(h2.Message{Bytes: message}); err != nil {
					return err
				}
				c.Done(message)
			}
		}}
	case "/t/Leave": // what was received is given back when the call is over: somebody else still had it
		return Method{Stream: func(c *Call) error {
			message, err := c.Receive()
			if err != nil {
				return err
			}
			f.left <- func() { c.Done(message) }
			return status.Error(codes.Aborted, "left")
		}}
	case "/t/Wait":
		return Method{Stream: func(c *Call) error {
			f.began <- struct{}{}
			<-c.Context().Done()
			f.gone <- context.Cause(c.Context())
			return context.Cause(c.Context())
		}}
	}
	return Method{Unary: func(c *Call) { c.Fail(status.Errorf(codes.Unimplemented, "%s is not known", path)) }}
}

func (f *fixture) dial() *grpc.ClientConn {
	f.t.Helper()
	conn, err := grpc.NewClient(f.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (f *fixture) call(conn *grpc.ClientConn, method string, in []byte, options ...grpc.CallOption) ([]byte, error) {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "greeting", "hello"), 20*time.Second)
	defer cancel()
	var out []byte
	err := conn.Invoke(ctx, method, &in, &out, options...)
	return out, err
}

func TestUnary(t *testing.T) {
	f := start(t, nil)
	conn := f.dial()
	for _, method := range []string{"/t/Echo", "/t/Later", "/t/Aside", "/t/Last"} {
		for _, size := range []int{0, 1, 5, 1000, 16379, 16384, 70_000, 1 << 20, 4 << 20} {
			in := bytes.Repeat([]byte{7}, size)
			var header metadata.MD
			out, err := f.call(conn, method, in, grpc.Header(&header))
			if err != nil || !bytes.Equal(in, out) {
				t.Fatalf("%s of %d bytes: %d bytes, %v", method, size, len(out), err)
			}
			if greeted := header.Get("greeted"); method == "/t/Echo" && (len(greeted) != 1 || greeted[0] != "hello") {
				t.Errorf("the header is %v", header)
			}
		}
	}
	for text, want := range map[string]string{"plain": "plain", "50 % of Ünïcödé\n": "50 % of Ünïcödé\n", "\xff": "\uFFFD"} {
		_, err := f.call(conn, "/t/Fail", []byte(text))
		if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := f.call(conn, "/t/Nothing", nil); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	_, err := f.call(conn, "/t/Echo", make([]byte, 4<<20+1))
	if s := status.Convert(err); s.Code() != codes.ResourceExhausted || s.Message() != "grpc: received message larger than max (4194305 vs. 4194304)" {
		t.Error(err)
	}
	f.returned("after the calls")
}

func TestManyAtOnce(t *testing.T) {
	f := start(t, nil)
	var wait sync.WaitGroup
	for range 4 {
		conn := f.dial()
		for client := range uint64(32) {
			wait.Go(func() {
				random := rand.New(rand.NewPCG(client, 1))
				for range 50 {
					in := make([]byte, random.IntN(3000))
					for i := range in {
						in[i] = byte(random.Uint32())
					}
					method := []string{"/t/Echo", "/t/Later", "/t/Aside", "/t/Last", "/t/Aside", "/t/Last"}[random.IntN(4)]
					if out, err := f.call(conn, method, in); err != nil || !bytes.Equal(in, out) {
						t.Errorf("%s: %d bytes for %d: %v", method, len(out), len(in), err)
						return
					}
				}
			})
		}
	}
	wait.Wait()
	f.returned("after the calls")
}

// TestLargeAnswer: an answer of any size is encoded while it is sent, and others get their turn meanwhile.
func TestLargeAnswer(t *testing.T) { testLargeAnswer(t, "/t/Large") }

// TestParts: so is one whose parts are made while it is sent. It holds no more than some parts.
func TestParts(t *testing.T) { testLargeAnswer(t, "/t/Parts") }

func testLargeAnswer(t *testing.T, method string) {
	f := start(t, nil)
	conn := f.dial()
	const size = 100<<20 + 3
	done := make(chan error, 1)
	go func() {
		out, err := f.call(conn, method, []byte(fmt.Sprint(size)))
		for i := range out {
			if out[i] != byte(i) {
				err = fmt.Errorf("byte %d is %d", i, out[i])
				break
			}
		}
		if err == nil && len(out) != size {
			err = fmt.Errorf("%d bytes", len(out))
		}
		done <- err
	}()
	for others := 0; ; others++ {
		select {
		case err := <-done:
			if err != nil || others == 0 {
				t.Errorf("%d other calls; %v", others, err)
			}
			return
		default:
		}
		if _, err := f.call(conn, "/t/Echo", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if used := f.budget.Metrics().UsedBytes; used > 1<<20 {
			t.Fatalf("%d bytes are held", used)
		}
	}
}

func (f *fixture) stream(ctx context.Context, conn *grpc.ClientConn, method string) grpc.ClientStream {
	f.t.Helper()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func TestStream(t *testing.T) {
	f := start(t, nil)
	s := f.stream(t.Context(), f.dial(), "/t/Both")
	sent := make(chan error, 1)
	const count = 3000
	go func() {
		for i := range count {
			in := bytes.Repeat([]byte{byte(i)}, i*3)
			if err := s.SendMsg(&in); err != nil {
				sent <- err
				return
			}
		}
		sent <- s.CloseSend()
	}()
	for i := range count {
		var out []byte
		if err := s.RecvMsg(&out); err != nil || !bytes.Equal(out, bytes.Repeat([]byte{byte(i)}, i*3)) {
			t.Fatalf("message %d: %d bytes, %v", i, len(out), err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	var out []byte
	if err := s.RecvMsg(&out); status.Code(err) != codes.Aborted || status.Convert(err).Message() != "that was all" {
		t.Fatal(err)
	}
	f.returned("after the stream")
}

// TestArrivals: some messages are dealt with where they arrive, the others by who waits for them; none overtakes another.
func TestArrivals(t *testing.T) {
	f := start(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stream := f.stream(ctx, f.dial(), "/t/Arrivals")
	random := rand.New(rand.NewPCG(1, 1))
	sent, received := 0, 0
	send := func() {
		t.Helper()
		in := fmt.Appendf(nil, "%c%d", "aaab"[random.IntN(4)], sent)
		sent++
		if err := stream.SendMsg(&in); err != nil {
			t.Fatal(err)
		}
	}
	receive := func() {
		t.Helper()
		var out []byte
		if err := stream.RecvMsg(&out); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint(received); string(out[1:]) != want {
			t.Fatalf("message %s came as number %s", out, want)
		}
		received++
	}
	for f.atOnce.Load() < 100 { // the context ends this
		for range 1 + random.IntN(20) {
			send()
		}
		for received < sent {
			receive()
		}
	}
	if f.atOnce.Load() == int64(sent) {
		t.Error("nothing was left to who waits")
	}
	send()
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	receive()
	var out []byte
	if err := stream.RecvMsg(&out); status.Code(err) != codes.Aborted {
		t.Fatalf("at the end: %v", err)
	}
}

// TestUnreadStream: who does not read its answers does not make the server hold more than a window of them.
func TestUnreadStream(t *testing.T) {
	f := start(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := f.stream(ctx, f.dial(), "/t/Both")
	var sent int
	stuck := make(chan struct{})
	go func() {
		defer close(stuck)
		for in := make([]byte, 10_000); sent < 1<<26 && s.SendMsg(&in) == nil; sent += len(in) {
		}
	}()
	select {
	case <-stuck:
		t.Errorf("%d bytes were taken", sent)
	case <-time.After(300 * time.Millisecond): // a bound on how long we look, nothing waits for it
	}
	if used := f.budget.Metrics().UsedBytes; used > 1<<20 {
		t.Errorf("%d bytes are held", used)
	}
	cancel()
	<-stuck
	f.returned("after the stream")
}

func TestCancel(t *testing.T) {
	f := start(t, nil)
	conn := f.dial()
	ctx, cancel := context.WithCancel(t.Context())
	s := f.stream(ctx, conn, "/t/Wait")
	if err := s.SendMsg(new([]byte)); err != nil {
		t.Fatal(err)
	}
	unary := make(chan error, 1)
	go func() {
		var out []byte
		unary <- conn.Invoke(ctx, "/t/Hold", &[]byte{1}, &out)
	}()
	held := <-f.held
	told := make(chan struct{})
	held.OnCancel(func() { close(told) })
	cancel()
	<-told
	if err := <-unary; status.Code(err) != codes.Canceled {
		t.Error(err)
	}
	if err := <-f.gone; !errors.Is(err, ErrCanceled) {
		t.Error(err)
	}
	if f.budget.Metrics().UsedBytes < connBytes+1 {
		t.Error("the memory of a call that is not over was given back")
	}
	held.Answer(h2.Message{Bytes: []byte("too late")})
	again := false
	held.OnCancel(func() { again = true })
	if !again {
		t.Error("who asks afterwards is not told")
	}
	f.returned("after the calls")

	// The server ends a stream at the client's deadline by itself.
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	f.stream(ctx, conn, "/t/Wait")
	if err := <-f.gone; !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrCanceled) {
		t.Error(err)
	}
}

// TestStop: calls that run are answered, those that come find out at once.
func TestStop(t *testing.T) {
	f := start(t, nil)
	conn := f.dial()
	answered := make(chan error, 1)
	go func() {
		out, err := f.call(conn, "/t/Hold", []byte("held"))
		if err == nil && string(out) != "held" {
			err = fmt.Errorf("the answer is %q", out)
		}
		answered <- err
	}()
	held := <-f.held
	stopped := make(chan struct{})
	go func() {
		f.Stop(t.Context())
		close(stopped)
	}()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := f.call(conn, "/t/Echo", []byte("x")); err != nil {
			if status.Code(err) != codes.Unavailable {
				t.Errorf("a new call ends with %v", err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("new calls are still taken")
		}
	}
	select {
	case <-stopped:
		t.Error("the server has stopped with a call that is not answered")
	default:
	}
	held.Answer(h2.Message{Bytes: held.Request()})
	if err := <-answered; err != nil {
		t.Error(err)
	}
	<-stopped
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Serve(l); !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
}

// TestStopCutsOff: calls that do not end are cut off when the time is over.
func TestStopCutsOff(t *testing.T) {
	f := start(t, nil)
	s := f.stream(t.Context(), f.dial(), "/t/Wait")
	<-f.began
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	f.Stop(ctx)
	if err := s.RecvMsg(new([]byte)); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	if !strings.Contains(fmt.Sprint(<-f.gone), "gone") {
		t.Error("the stream was not told")
	}
}

// TestSilentClients: a client that does not answer whether it lives is cut off, one that does is not.
func TestSilentClients(t *testing.T) {
	f := start(t, func(o *Options) { o.PingInterval, o.PingTimeout = 40*time.Millisecond, 40*time.Millisecond })
	lives := f.stream(t.Context(), f.dial(), "/t/Wait")
	dead := dialRaw(t, f.address)
	dead.begin()
	dead.untilClosed()
	if err := lives.SendMsg(new([]byte)); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(10 * time.Second); f.Connections() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", f.Connections())
		}
	}
}
