package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/quoratedb/quorate/proto/h2"
)

// client speaks HTTP/2 by hand.
type client struct {
	*http2.Framer
	t       *testing.T
	socket  net.Conn
	block   bytes.Buffer
	encoder *hpack.Encoder
	next    uint32
}

func dialRaw(t *testing.T, address string) *client {
	t.Helper()
	socket, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	_ = socket.SetDeadline(time.Now().Add(20 * time.Second))
	c := &client{Framer: http2.NewFramer(socket, socket), t: t, socket: socket, next: 1}
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.encoder = hpack.NewEncoder(&c.block)
	return c
}

func (c *client) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) begin(settings ...http2.Setting) {
	c.t.Helper()
	_, err := io.WriteString(c.socket, http2.ClientPreface)
	c.must(err)
	c.must(c.WriteSettings(settings...))
}

// call begins a call.
func (c *client) call(method string, more ...hpack.HeaderField) uint32 {
	c.t.Helper()
	c.block.Reset()
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: method}, {Name: ":authority", Value: "x"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, more...) {
		c.must(c.encoder.WriteField(f))
	}
	id := c.next
	c.next += 2
	c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndHeaders: true}))
	return id
}

func message(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
}

// status reads until a stream has ended, and returns what it ended with.
func (c *client) status(id uint32) string {
	c.t.Helper()
	for {
		frame, err := c.ReadFrame()
		c.must(err)
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID == id && f.StreamEnded() {
				code, text := "", ""
				for _, field := range f.Fields {
					switch field.Name {
					case "grpc-status":
						code = field.Value
					case "grpc-message":
						text = field.Value
					}
				}
				return code + " " + text
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return f.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			return fmt.Sprintf("goaway %v %s", f.ErrCode, f.DebugData())
		}
	}
}

// untilClosed reads until the server closes the connection, and returns its last words.
func (c *client) untilClosed() string {
	c.t.Helper()
	words := ""
	for {
		frame, err := c.ReadFrame()
		if f, is := frame.(*http2.GoAwayFrame); is && err == nil {
			words = fmt.Sprintf("%v %s", f.ErrCode, f.DebugData())
		}
		if err != nil {
			if timeout, is := err.(net.Error); is && timeout.Timeout() {
				c.t.Fatal("the connection is not closed")
			}
			return words
		}
	}
}

// TestHalfMessages: requests whose last byte is missing are counted in full, and do not keep others from being served.
func TestHalfMessages(t *testing.T) {
	f := start(t, nil)
	c := dialRaw(t, f.address)
	c.begin()
	const size = 2 << 20
	var ids []uint32
	for range 30 { // of 32 MiB for each connection
		id := c.call("/t/Echo")
		c.must(c.WriteData(id, false, message(make([]byte, size))[:1000]))
		ids = append(ids, id)
	}
	for _, id := range ids[15:] {
		if got := c.status(id); got != "8 etcdserver: too many requests" {
			t.Fatalf("stream %d: %s", id, got)
		}
	}
	if used := f.budget.Metrics().UsedBytes; used > 32<<20 || used < 30<<20 {
		t.Errorf("%d bytes are reserved", used)
	}
	if out, err := f.call(f.dial(), "/t/Echo", []byte("x")); err != nil || string(out) != "x" {
		t.Errorf("another client: %q, %v", out, err)
	}
	// One that is completed is served.
	rest := message(make([]byte, size))[1000:]
	for len(rest) > 0 {
		n := min(len(rest), 16<<10)
		c.must(c.WriteData(ids[0], n == len(rest), rest[:n]))
		rest = rest[n:]
	}
	go func() { _, _ = io.Copy(io.Discard, c.socket) }()
	_ = c.socket.Close()
	f.returned("after the connection")
}

// TestHalfMessagesEnd: what does not come to its end in time does not keep its memory. What has come, and streams between messages, have time.
func TestHalfMessagesEnd(t *testing.T) {
	f := start(t, func(o *Options) { o.MessageTimeout = time.Second })
	conn := f.dial()
	stream := f.stream(t.Context(), conn, "/t/Both")
	in, out := []byte("first"), []byte(nil)
	if err := errors.Join(stream.SendMsg(&in), stream.RecvMsg(&out)); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := f.call(conn, "/t/Hold", in)
		waits <- err
	}()
	held := <-f.held
	c := dialRaw(t, f.address)
	c.begin()
	half, nothing, second := c.call("/t/Echo"), c.call("/t/Echo"), c.call("/t/Both")
	c.must(c.WriteData(half, false, message(make([]byte, 1<<20))[:1000]))
	c.must(c.WriteData(second, false, append(message([]byte("whole")), message([]byte("half"))[:7]...)))
	for _, id := range []uint32{half, nothing, second} {
		if got := c.status(id); got != "4 the request did not come to its end within 1s" {
			t.Errorf("stream %d: %s", id, got)
		}
	}
	held.Answer(h2.Message{Bytes: in})
	if err := <-waits; err != nil {
		t.Errorf("a call whose request had come: %v", err)
	}
	if err := errors.Join(stream.SendMsg(&in), stream.RecvMsg(&out)); err != nil {
		t.Errorf("a stream between messages: %v", err)
	}
}

// TestHeaders: what headers may be is bounded, and nothing of what is not of interest is kept.
func TestHeaders(t *testing.T) {
	f := start(t, nil)
	c := dialRaw(t, f.address)
	c.begin()
	large := hpack.HeaderField{Name: "large-bin", Value: strings.Repeat("A", 4000)}
	for range 250 {
		var more []hpack.HeaderField
		for range 15 {
			more = append(more, large)
		}
		c.call("/t/Echo", more...)
	}
	used := f.budget.Metrics().UsedBytes
	if used > 2<<20 {
		t.Errorf("%d bytes are held", used)
	}
	id := c.call("/t/Echo", large, large, large, large, large, large, large, large, large, large, large, large, large, large, large, large, large)
	if got := c.status(id); !strings.HasPrefix(got, "8 the call's headers have more than 65536 bytes") {
		t.Error(got)
	}
}

// TestRefusals: calls that are none get an answer.
func TestRefusals(t *testing.T) {
	f := start(t, nil)
	c := dialRaw(t, f.address)
	c.begin()
	for want, field := range map[string]hpack.HeaderField{
		`12 grpc: Decompressor is not installed for grpc-encoding "gzip"`:                           {Name: "grpc-encoding", Value: "gzip"},
		`13 malformed grpc-timeout: "5": want one to eight digits and a unit`:                       {Name: "grpc-timeout", Value: "5"},
		`13 malformed grpc-timeout: "5x": the unit must be one of H, M, S, m, u, n`:                 {Name: "grpc-timeout", Value: "5x"},
		`13 this port speaks gRPC: the content type of a call is application/grpc, not "text/html"`: {Name: "content-type", Value: "text/html"},
	} {
		if got := c.status(c.call("/t/Echo", field)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	id := c.call("/t/Echo")
	c.must(c.WriteData(id, false, []byte{1, 0, 0, 0, 0}))
	if got := c.status(id); got != "13 grpc: compressed flag set with identity or empty encoding" {
		t.Error(got)
	}
	id = c.call("/t/Echo")
	c.must(c.WriteData(id, true, []byte{0, 0, 0, 0, 9, 1}))
	if got := c.status(id); got != "13 the request ends in the middle of a message" {
		t.Error(got)
	}
	id = c.call("/t/Echo")
	c.must(c.WriteData(id, true, nil))
	if got := c.status(id); got != "2 rpc: the call has no request" {
		t.Error(got)
	}
	f.returned("after the refusals")
}

// TestRules: who breaks the rules of HTTP/2 is told so and cut off, or loses the stream.
func TestRules(t *testing.T) {
	for _, test := range []struct {
		name, want string
		do         func(c *client)
	}{
		{"no settings", "PROTOCOL_ERROR the first frame is not SETTINGS", func(c *client) {
			_, err := io.WriteString(c.socket, http2.ClientPreface)
			c.must(err)
			c.must(c.WritePing(false, [8]byte{}))
		}},
		{"HTTP/1.1", "", func(c *client) {
			_, err := io.WriteString(c.socket, "GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: somebody\r\n\r\n")
			c.must(err)
		}},
		{"nothing at all", "", func(*client) {}},
		{"an even stream", "PROTOCOL_ERROR a client's stream with an even number", func(c *client) {
			c.begin()
			c.next = 2
			c.call("/t/Echo")
		}},
		{"data without a stream", "PROTOCOL_ERROR data on a stream that has not begun", func(c *client) {
			c.begin()
			c.must(c.WriteData(7, false, []byte{1}))
		}},
		{"a window without a stream", "PROTOCOL_ERROR a window for a stream that has not begun", func(c *client) {
			c.begin()
			c.must(c.WriteWindowUpdate(9, 1))
		}},
		{"a reset without a stream", "PROTOCOL_ERROR a reset of a stream that has not begun", func(c *client) {
			c.begin()
			c.must(c.WriteRSTStream(9, http2.ErrCodeCancel))
		}},
		{"too large a window", "FLOW_CONTROL_ERROR the connection's window is too large", func(c *client) {
			c.begin()
			c.must(c.WriteWindowUpdate(0, 1<<31-1))
		}},
		{"too large a frame", "FRAME_SIZE_ERROR a frame is too large", func(c *client) {
			c.begin()
			c.must(c.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 20<<10)))
		}},
		{"a broken header block", "COMPRESSION_ERROR a frame breaks the rules", func(c *client) {
			c.begin()
			c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true}))
		}},
		{"too many pings", "ENHANCE_YOUR_CALM too_many_pings", func(c *client) {
			c.begin()
			for range 5 {
				c.must(c.WritePing(false, [8]byte{}))
			}
		}},
		{"a push", "PROTOCOL_ERROR a client must not push", func(c *client) {
			c.begin()
			c.must(c.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: []byte{0x82}, EndHeaders: true}))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := start(t, func(o *Options) { o.PrefaceTimeout = 100 * time.Millisecond })
			c := dialRaw(t, f.address)
			test.do(c)
			if got := c.untilClosed(); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// TestStreamRules: on one stream.
func TestStreamRules(t *testing.T) {
	f := start(t, nil)
	c := dialRaw(t, f.address)
	c.begin()
	id := c.call("/t/Wait")
	for range 5 { // 80 KiB of messages that nobody takes
		c.must(c.WriteData(id, false, bytes.Repeat(message(nil), 3276)))
	}
	if got := c.status(id); got != "FLOW_CONTROL_ERROR" {
		t.Error(got)
	}
	id = c.call("/t/Hold")
	c.must(c.WriteData(id, true, message([]byte("x"))))
	held := <-f.held
	c.must(c.WriteData(id, false, []byte("y")))
	if got := c.status(id); got != "STREAM_CLOSED" {
		t.Error(got)
	}
	id = c.call("/t/Hold")
	c.must(c.WriteData(id, true, message([]byte("x"))))
	c.must(c.WriteWindowUpdate(id, 1<<31-1))
	if got := c.status(id); got != "FLOW_CONTROL_ERROR" {
		t.Error(got)
	}
	(<-f.held).Fail(ErrCanceled)
	held.Fail(ErrCanceled) // a call has to end, whatever became of its stream
}

// TestOwing: a client that asks for answers of the protocol and takes none of them is not read from any more.
func TestOwing(t *testing.T) {
	f := start(t, func(o *Options) { o.WriteTimeout = 500 * time.Millisecond })
	c := dialRaw(t, f.address)
	c.begin()
	_ = c.socket.(*net.TCPConn).SetReadBuffer(4 << 10)
	sent := 0
	for ; sent < 1<<28; sent += 9 * 100 {
		if _, err := c.socket.Write(bytes.Repeat([]byte{0, 0, 0, byte(http2.FrameSettings), 0, 0, 0, 0, 0}, 100)); err != nil {
			break // cut off
		}
	}
	if sent >= 1<<28 {
		t.Error("it is served for ever")
	}
}

// TestManyStreams: how many calls one connection has is bounded, those that it gave up included.
func TestManyStreams(t *testing.T) {
	f := start(t, func(o *Options) { o.Wire.MaxStreams = 10 })
	c := dialRaw(t, f.address)
	c.begin()
	var held []*Call
	for range 10 {
		id := c.call("/t/Hold")
		c.must(c.WriteData(id, true, message([]byte("x"))))
		held = append(held, <-f.held)
		c.must(c.WriteRSTStream(id, http2.ErrCodeCancel))
	}
	if got := c.status(c.call("/t/Echo")); got != "REFUSED_STREAM" {
		t.Error(got)
	}
	for _, call := range held {
		call.Answer(h2.Message{Bytes: []byte("y")})
	}
	id := c.call("/t/Echo")
	c.must(c.WriteData(id, true, message([]byte("x"))))
	if got := c.status(id); got != "0 " {
		t.Error(got)
	}
}
