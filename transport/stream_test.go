package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

func TestStreamArrivesWhole(t *testing.T) {
	for _, size := range []int{0, 1, maxChunkBytes - 1, maxChunkBytes, maxChunkBytes + 1, 5_000_000} {
		_, a, b := pair(t)
		sent := make([]byte, size)
		random := rand.New(rand.NewSource(int64(size)))
		random.Read(sent)
		var got []byte
		b.stream = func(from kv.NodeID, name string, r io.Reader) (err error) {
			if from != 1 || name != "snapshot 7" {
				t.Errorf("stream %q from node %s", name, from)
			}
			got, err = io.ReadAll(r)
			return err
		}
		s, err := a.OpenStream(context.Background(), 2, "snapshot 7")
		if err != nil {
			t.Fatal(err)
		}
		for rest := sent; len(rest) > 0; {
			n := min(1+random.Intn(100_000), len(rest))
			if _, err := s.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes arrived of %d, or others", len(got), len(sent))
		}
		if err := s.Close(); !errors.Is(err, errStreamEnded) {
			t.Fatalf("closed twice: %v", err)
		}
		_ = a.Close()
		_ = b.Close()
	}
}

// The receiver's reason comes back, at the end and in the middle.
func TestStreamRejected(t *testing.T) {
	_, a, b := pair(t)
	for name, readAll := range map[string]bool{"at the end": true, "in the middle": false} {
		b.stream = func(_ kv.NodeID, _ string, r io.Reader) error {
			if readAll {
				if _, err := io.Copy(io.Discard, r); err != nil {
					return err
				}
			}
			return errors.New("no space left on the device")
		}
		s, err := a.OpenStream(context.Background(), 2, name)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, 1<<20)
		for i := 0; i < 1<<10 && err == nil && (!readAll || i < 3); i++ {
			_, err = s.Write(data)
		}
		if err == nil {
			err = s.Close()
		} else {
			s.end()
		}
		if !errors.Is(err, ErrStreamRejected) || !strings.Contains(err.Error(), "no space left on the device") {
			t.Fatalf("%s: got %v", name, err)
		}
	}
}

// A handler that forgets the end does not make the sender believe that all is well.
func TestStreamLeftover(t *testing.T) {
	_, a, b := pair(t)
	b.stream = func(_ kv.NodeID, _ string, r io.Reader) error {
		_, err := io.ReadFull(r, make([]byte, 3))
		return err
	}
	s, err := a.OpenStream(context.Background(), 2, "s")
	if err != nil {
		t.Fatal(err)
	}
	defer s.end()
	if _, err := s.Write([]byte("four")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); !errors.Is(err, ErrStreamRejected) {
		t.Fatalf("got %v", err)
	}
}

// A stream that breaks is no stream that ends.
func TestStreamBrokenOff(t *testing.T) {
	_, a, b := pair(t)
	result := make(chan error, 1)
	b.stream = func(_ kv.NodeID, _ string, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		result <- err
		return err
	}
	s, err := a.OpenStream(context.Background(), 2, "s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(make([]byte, 2*maxChunkBytes)); err != nil {
		t.Fatal(err)
	}
	s.end()
	if err := <-result; err == nil {
		t.Fatal("the receiver saw an end")
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, errStreamEnded) {
		t.Fatalf("write after abort: %v", err)
	}

	// Cut by the network.
	s, err = a.OpenStream(context.Background(), 2, "s")
	if err != nil {
		t.Fatal(err)
	}
	defer s.end()
	b.proxy.Cut()
	if err := <-result; !errors.Is(err, io.ErrUnexpectedEOF) && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("the receiver saw %v", err)
	}
	if err := s.Close(); err == nil || errors.Is(err, ErrStreamRejected) {
		t.Fatalf("got %v", err)
	}
}

// The end of the context wakes a writer that waits for a receiver who does not read.
func TestStreamCanceled(t *testing.T) {
	_, a, b := pair(t)
	release := make(chan struct{})
	entered := make(chan struct{})
	b.stream = func(_ kv.NodeID, _ string, r io.Reader) error {
		close(entered)
		<-release
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := a.OpenStream(ctx, 2, "s")
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	blocked := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = s.Write(make([]byte, 1<<20))
		}
		blocked <- err
	}()
	cancel()
	if err := <-blocked; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	s.end()
	close(release)
	if _, err := a.OpenStream(ctx, 2, "s"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if _, err := a.OpenStream(context.Background(), 9, "s"); !errors.Is(err, ErrUnknownNode) {
		t.Fatalf("got %v", err)
	}
}

func TestTooManyStreams(t *testing.T) {
	_, a, b := pair(t, func(o *Options) { o.MaxStreams = 1 })
	release := make(chan struct{})
	b.stream = func(_ kv.NodeID, _ string, r io.Reader) error {
		<-release
		_, err := io.Copy(io.Discard, r)
		return err
	}
	first, err := a.OpenStream(context.Background(), 2, "first")
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.OpenStream(context.Background(), 2, "second")
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Refusal != RefusalBusy {
		t.Fatalf("got %v", err)
	}
	close(release)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
}

// A stalled stream does not disturb frames.
func TestStreamDoesNotDelayFrames(t *testing.T) {
	_, a, b := pair(t)
	release := make(chan struct{})
	b.stream = func(_ kv.NodeID, _ string, r io.Reader) error {
		<-release
		_, err := io.Copy(io.Discard, r)
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := a.OpenStream(ctx, 2, "s")
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			if _, err := s.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}()
	a.Append(2, ChannelRequest, text("swift"))
	a.Flush()
	b.await(t, "the frame", func() bool { return len(b.payloads(1)) == 1 })
	cancel()
	<-stopped
	s.end()
	close(release)
}
