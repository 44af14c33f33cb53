package transport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, ChannelConsensus, text("payload")), 100)
	f.Add(appendFrame(appendFrame(nil, 9, text("")), 200, text("x")), 3)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0}, 1<<20)
	f.Fuzz(func(t *testing.T, data []byte, limit int) {
		limit = max(0, min(limit, 1<<20))
		reader := bufio.NewReader(bytes.NewReader(data))
		rest := data
		for {
			ready := frameBuffered(reader)
			channel, payload, err := readFrame(reader, limit)
			if err != nil {
				if ready && !errors.Is(err, ErrMalformed) {
					t.Fatalf("a frame that was there could not be read: %v", err)
				}
				if err == io.EOF && len(rest) > 0 {
					t.Fatalf("%d bytes were taken for a clean end", len(rest))
				}
				return
			}
			if len(payload) > limit {
				t.Fatalf("%d bytes are above the limit of %d", len(payload), limit)
			}
			again := appendFrame(nil, channel, func(b []byte) []byte { return append(b, payload...) })
			if !bytes.HasPrefix(rest, again) {
				t.Fatal("the frame differs from what was read")
			}
			rest = rest[len(again):]
		}
	})
}

func FuzzHandshake(f *testing.F) {
	h := &hello{Purpose: purposeStream, MinVersion: 1, MaxVersion: 2, Cluster: 3, From: 4, To: 5, Instance: 6, Name: "n", Metadata: []byte("m"), Stream: "s", List: 7}
	a := &reply{Refusal: RefusalCluster, Version: 1, Cluster: 3, Node: 4, Instance: 5, Name: "n", Metadata: []byte{}, Text: "why", List: 8}
	f.Add(appendEnvelope(nil, h.encode()))
	f.Add(appendEnvelope(nil, a.encode()))
	f.Add(appendEnvelope(nil, (&verdict{Failed: true, Text: "no"}).encode()))
	f.Add([]byte(magic + "\xff\xff\xff\xff\x00\x00\x00\x00"))
	options := Options{Cluster: 3, Self: 5, Instance: 9, MaxFormatVersion: 4}
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := readEnvelope(bytes.NewReader(data))
		if err != nil {
			body = data // the decoders must stand anything
		}
		if h, err := decodeHello(body); err == nil {
			if again, err := decodeHello(h.encode()); err != nil || !reflect.DeepEqual(h, again) {
				t.Fatalf("%+v became %+v, %v", h, again, err)
			}
			options.judge(h, standingPeer)
			options.judgeLists(h)
		} else if !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		if a, err := decodeReply(body); err == nil {
			if again, err := decodeReply(a.encode()); err != nil || !reflect.DeepEqual(a, again) {
				t.Fatalf("%+v became %+v, %v", a, again, err)
			}
			_ = options.accepts(5, "x:1", a)
		}
		if v, err := decodeVerdict(body); err == nil {
			if again, err := decodeVerdict(v.encode()); err != nil || *v != *again {
				t.Fatalf("%+v became %+v, %v", v, again, err)
			}
		}
	})
}

func FuzzChunkReader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 7})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		content, err := io.ReadAll(&chunkReader{source: bytes.NewReader(data)})
		if len(content) > len(data) {
			t.Fatal("more came out than went in")
		}
		if err == nil && len(data) < chunkHeaderBytes {
			t.Fatal("a stream without an end was taken for whole")
		}
	})
}

// A later version may add fields at the end; an earlier one ignores them.
func TestHandshakeIgnoresNewFields(t *testing.T) {
	h := &hello{Purpose: purposeFrames, MinVersion: 1, MaxVersion: 9, Cluster: 1, From: 2, To: 3, Instance: 4, Name: "later", Metadata: []byte{}, List: 5}
	got, err := decodeHello(append(h.encode(), "something new"...))
	if err != nil || !reflect.DeepEqual(got, h) {
		t.Fatalf("got %+v, %v", got, err)
	}
	h.List = 0 // versions before send none, and so does a node whose list nobody has changed
	for n := range h.encode() {
		if _, err := decodeHello(h.encode()[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d bytes were understood", n)
		}
	}
}

func TestLongTextsAreCut(t *testing.T) {
	v, err := decodeVerdict((&verdict{Failed: true, Text: strings.Repeat("e", 100_000)}).encode())
	if err != nil || len(v.Text) != maxTextBytes {
		t.Fatalf("%d bytes, %v", len(v.Text), err)
	}
}

// sink is a peer made by hand that reads and forgets, so that what is measured is the sender.
func sink(tb testing.TB) (*Transport, *recorder) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	r := newRecorder()
	tr, err := Open(Options{
		Cluster: testCluster, Self: 1, Instance: 11, ListenAddrs: []string{"127.0.0.1:0"}, Handler: r,
		Peers: map[kv.NodeID][]string{2: {l.Addr().String()}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = readEnvelope(conn)
		_, _ = conn.Write(appendEnvelope(nil, (&reply{Version: 1, Cluster: testCluster, Node: 2}).encode()))
		buffer := make([]byte, 1<<20)
		for err == nil {
			_, err = conn.Read(buffer)
		}
		_ = conn.Close()
	}()
	tb.Cleanup(func() {
		_ = l.Close()
		_ = tr.Close()
		<-served
	})
	return tr, r
}

// A frame costs no memory on the way into the buffer and out of it.
func TestSendingDoesNotAllocate(t *testing.T) {
	tr, r := sink(t)
	r.awaitUp(t, 2, 1)
	payload := make([]byte, 300)
	encode := func(b []byte) []byte { return append(b, payload...) }
	per := testing.AllocsPerRun(1000, func() {
		tr.Append(2, ChannelConsensus, encode)
		tr.Flush()
	})
	if per > 0 {
		t.Fatalf("%v allocations for a frame", per)
	}
}

// The cost of a round for a peer: one frame, one write.
func BenchmarkAppendFlush(b *testing.B) {
	tr, r := sink(b)
	r.awaitUp(b, 2, 1)
	payload := make([]byte, 4000)
	encode := func(b []byte) []byte { return append(b, payload...) }
	b.ReportAllocs()
	for b.Loop() {
		tr.Append(2, ChannelConsensus, encode)
		tr.Flush()
	}
}

func BenchmarkAppend(b *testing.B) {
	tr, r := sink(b)
	r.awaitUp(b, 2, 1)
	payload := make([]byte, 300)
	encode := func(b []byte) []byte { return append(b, payload...) }
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		tr.Append(2, ChannelConsensus, encode)
		if n%100 == 99 {
			tr.Flush()
		}
	}
}
