package transport

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Callers that say nothing are held in a bounded number, and do not keep a node out.
func TestSilentCallers(t *testing.T) {
	const limit, many = 8, 200
	c := newCluster(t, 2)
	var told atomic.Int64
	b := c.open(t, 2, 12, func(o *Options) {
		o.MaxCallers, o.HandshakeTimeout = limit, time.Hour
		o.Listener.CallerDropped = func(_ string, dropped int64) { told.Store(dropped) }
	})
	c.expose(t, b)
	var callers []net.Conn
	for range many {
		conn, err := net.Dial("tcp", b.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		callers = append(callers, conn)
	}
	for _, conn := range callers[:many-limit] { // those that came first are told so by the end of their connections
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF && (err == nil || !strings.Contains(err.Error(), "reset")) {
			t.Fatalf("a caller beyond the limit: %v", err)
		}
	}
	if m := b.Metrics(); m.Callers != limit || m.CallersDropped != many-limit || told.Load() != many-limit {
		t.Fatalf("%d callers are held, %d were dropped, %d told", m.Callers, m.CallersDropped, told.Load())
	}
	a := c.open(t, 1, 11)
	a.awaitUp(t, 2, 1)
	a.Append(2, ChannelRequest, text("frame"))
	a.Flush()
	b.await(t, "a frame", func() bool { return len(b.payloads(1)) == 1 })
}

// A node that was admitted does not count as a caller, whatever it is connected for.
func TestAdmittedAreNoCallers(t *testing.T) {
	_, a, b := pair(t, func(o *Options) { o.MaxCallers = 1 })
	release := make(chan struct{})
	b.stream = func(_ kv.NodeID, _ string, r io.Reader) error {
		<-release
		_, err := io.Copy(io.Discard, r)
		return err
	}
	s, err := a.OpenStream(context.Background(), 2, "s")
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		conn, err := net.Dial("tcp", b.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	close(release)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	a.Append(2, ChannelRequest, text("frame"))
	a.Flush()
	b.await(t, "a frame", func() bool { return len(b.payloads(1)) == 1 })
}

// Streams whose senders say nothing give their places back, so that a snapshot gets through.
func TestSilentStreams(t *testing.T) {
	const places = 3
	c, a, b := pair(t, func(o *Options) { o.MaxStreams, o.StreamTimeout = places, 100*time.Millisecond })
	b.stream = func(_ kv.NodeID, _ string, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	for i := range places {
		conn, answer := call(t, b, c.options(1, 11, newRecorder()), 2, purposeStream)
		defer conn.Close()
		if answer.Refusal != RefusalNone {
			t.Fatalf("refused: %s", answer.Text)
		}
		if i == 0 { // a part of a chunk is no progress
			if _, err := conn.Write([]byte{0, 1, 0}); err != nil {
				t.Fatal(err)
			}
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		s, err := a.OpenStream(context.Background(), 2, "snapshot")
		if err == nil {
			_, _ = s.Write(make([]byte, 3*maxChunkBytes))
			if err = s.Close(); err == nil { // otherwise this machine was too slow
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no place for a stream: %v", err)
		}
	}
	b.awaitEvent(t, "receive failed", "made no progress for 100ms")
}
