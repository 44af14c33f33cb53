package rpc

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quoratedb/quorate/proto/h2"
)

// sendParts is /t/Parts.
func (f *fixture) sendParts(c *Call) error {
	var size int
	fmt.Sscan(string(c.Request()), &size)
	c.LimitStalls = true
	const part = 100_000
	if !c.Reserve(part) {
		return status.Error(codes.ResourceExhausted, "no memory")
	}
	for sent := 0; sent < size; {
		m := h2.Message{Bytes: make([]byte, min(size-sent, part)), Rest: sent > 0}
		for i := range m.Bytes {
			m.Bytes[i] = byte(sent + i)
		}
		if sent == 0 {
			m.WholeBytes = size
		}
		sent += len(m.Bytes)
		if err := c.Send(m); errors.Is(err, ErrStalled) {
			f.gone <- err
			return status.Error(codes.ResourceExhausted, "stalled")
		} else if err != nil {
			return err
		}
	}
	return nil
}

// TestStalled: who takes nothing of an answer is cut off from it after a while, and keeps the connection.
func TestStalled(t *testing.T) {
	f := start(t, func(o *Options) { o.StallTimeout = 50 * time.Millisecond })
	conn := f.dial()
	// A stream's messages are read when the client asks for them; grpc's window for them is 64 KiB.
	s := f.stream(t.Context(), conn, "/t/Parts")
	in := []byte("10000000")
	if err := s.SendMsg(&in); err != nil {
		t.Fatal(err)
	}
	<-f.gone
	f.returned("after the call has stalled")
	var out []byte
	if err := s.RecvMsg(&out); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the client that did not read gets %d bytes, %v", len(out), err)
	}
	if _, err := f.call(conn, "/t/Echo", []byte("x")); err != nil {
		t.Error(err)
	}
}

// TestMemoryOfCalls: what a call reserves beside its request is given back when its answer was sent, and nothing is given to one that is over.
func TestMemoryOfCalls(t *testing.T) {
	f := start(t, nil)
	conn := f.dial()
	answered := make(chan error, 1)
	go func() {
		_, err := f.call(conn, "/t/Hold", []byte("x"))
		answered <- err
	}()
	held := <-f.held
	before := f.budget.Metrics().UsedBytes
	if !held.Reserve(20<<20) || held.Reserve(20<<20) || held.ReserveAmply(1) {
		t.Error("a call may have 20 MiB of 32, not 40, and not amply one more")
	}
	if held.Release(15 << 20); !held.ReserveAmply(1 << 20) {
		t.Error("there is room again")
	}
	if used := f.budget.Metrics().UsedBytes - before; used != 6<<20 {
		t.Errorf("%d bytes are reserved", used)
	}
	held.ReleaseAll()
	if used := f.budget.Metrics().UsedBytes - before; used != 0 {
		t.Errorf("%d bytes are reserved", used)
	}
	held.Reserve(1 << 20)
	held.Answer(h2.Message{})
	if err := <-answered; err != nil {
		t.Error(err)
	}
	f.returned("after the call")
	if held.Reserve(1) {
		t.Error("a call that is over gets memory")
	}
	held.Release(1)
	f.returned("after a release too many")
}

// TestDoneAfterTheEnd: whoever still has a message of a call that is over may give it back.
func TestDoneAfterTheEnd(t *testing.T) {
	f := start(t, nil)
	conn := f.dial()
	s := f.stream(t.Context(), conn, "/t/Leave")
	in, out := make([]byte, 1<<20), []byte(nil)
	if err := s.SendMsg(&in); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&out); status.Code(err) != codes.Aborted {
		t.Fatal(err)
	}
	f.returned("after the call")
	(<-f.left)()
	if _, err := f.call(conn, "/t/Echo", []byte("x")); err != nil {
		t.Fatal(err)
	}
	f.returned("after what was left")
}
