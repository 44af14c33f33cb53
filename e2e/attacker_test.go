package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// attacker is one connection of a client that speaks HTTP/2 by hand. It says what it wants to say as fast as the server lets it, and takes
// nothing of what it is sent: it reads frames, so that it hears how calls end, and never opens a window.
type attacker struct {
	framer *http2.Framer
	socket net.Conn
	done   chan struct{} // closed when reading has ended

	write   sync.Mutex // one frame at a time; with it go block, encoder and next
	block   bytes.Buffer
	encoder *hpack.Encoder
	next    uint32

	mu            sync.Mutex
	changed       *sync.Cond
	window        int64 // what may be sent on all streams together
	initialWindow int64 // of a stream that begins
	calls         map[uint32]*attackerCall
	ended         map[string]int // calls by what they ended with
	slowest       time.Duration  // from the last that was said on a call to its refusal
	heard         time.Time      // when the last frame came
	failed        error
}

// attackerCall is a call that is not over.
type attackerCall struct {
	said      time.Time // when something of it was sent the last time
	window    int64
	answering bool // headers have come
}

// dialAttacker connects; the connection ends with the test at the latest.
func dialAttacker(t *testing.T, address string) *attacker {
	t.Helper()
	socket := try(net.DialTimeout("tcp", address, 5*time.Second))(t)
	a := &attacker{
		framer: http2.NewFramer(socket, socket), socket: socket, done: make(chan struct{}), next: 1,
		window: 65_535, initialWindow: 65_535, calls: map[uint32]*attackerCall{}, ended: map[string]int{}, heard: time.Now(),
	}
	a.changed = sync.NewCond(&a.mu)
	a.encoder = hpack.NewEncoder(&a.block)
	a.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	a.framer.SetReuseFrames()
	_ = socket.SetDeadline(time.Now().Add(2 * attackTime))
	try(io.WriteString(socket, http2.ClientPreface))(t)
	must(t, a.framer.WriteSettings())
	go a.read()
	t.Cleanup(a.close)
	return a
}

func (a *attacker) close() {
	_ = a.socket.Close()
	<-a.done
}

// read listens until the connection ends.
func (a *attacker) read() {
	defer close(a.done)
	for {
		frame, err := a.framer.ReadFrame()
		a.mu.Lock()
		if err != nil {
			a.failed = err
		} else {
			a.hear(frame)
		}
		a.changed.Broadcast()
		a.mu.Unlock()
		if err != nil {
			return
		}
		if f, is := frame.(*http2.SettingsFrame); is && !f.IsAck() {
			a.write.Lock()
			_ = a.framer.WriteSettingsAck() // what fails here fails again where it matters
			a.write.Unlock()
		}
	}
}

func (a *attacker) hear(frame http2.Frame) {
	a.heard = time.Now()
	call := a.calls[frame.Header().StreamID]
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if size, ok := f.Value(http2.SettingInitialWindowSize); ok {
			for _, call := range a.calls {
				call.window += int64(size) - a.initialWindow
			}
			a.initialWindow = int64(size)
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			a.window += int64(f.Increment)
		} else if call != nil {
			call.window += int64(f.Increment)
		}
	case *http2.MetaHeadersFrame:
		if call != nil {
			call.answering = true
			if f.StreamEnded() {
				a.over(f.StreamID, statusOf(f))
			}
		}
	case *http2.RSTStreamFrame:
		a.over(f.StreamID, f.ErrCode.String())
	case *http2.GoAwayFrame:
		a.ended[fmt.Sprintf("connection: %v %s", f.ErrCode, f.DebugData())]++
	}
}

// over notes the end of a call; the first one counts.
func (a *attacker) over(id uint32, with string) {
	call := a.calls[id]
	if call == nil {
		return
	}
	delete(a.calls, id)
	a.ended[with]++
	if with != "0" {
		a.slowest = max(a.slowest, time.Since(call.said))
	}
}

// statusOf is the code and the text of a call's end.
func statusOf(f *http2.MetaHeadersFrame) string {
	status, text := "none", ""
	for _, field := range f.Fields {
		switch field.Name {
		case "grpc-status":
			status = field.Value
		case "grpc-message":
			text = " " + field.Value
		}
	}
	return status + text
}

// begin begins a call.
func (a *attacker) begin(method string, more ...hpack.HeaderField) (id uint32, err error) {
	a.write.Lock()
	defer a.write.Unlock()
	a.block.Reset()
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: method}, {Name: ":authority", Value: "x"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, more...) {
		if err := a.encoder.WriteField(f); err != nil {
			return 0, err
		}
	}
	id = a.next
	a.next += 2
	a.mu.Lock()
	a.calls[id] = &attackerCall{said: time.Now(), window: a.initialWindow}
	a.mu.Unlock()
	return id, a.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.block.Bytes(), EndHeaders: true})
}

// errCallOver: the server has ended the call while the client was speaking.
var errCallOver = errors.New("the call is over")

// send sends bytes on a call, as the windows allow.
func (a *attacker) send(id uint32, data []byte, end bool) error {
	for {
		n, err := a.take(id, len(data))
		if err != nil {
			return err
		}
		last := n == len(data)
		a.write.Lock()
		err = a.framer.WriteData(id, end && last, data[:n])
		a.write.Unlock()
		if err != nil || last {
			return err
		}
		data = data[n:]
	}
}

// take waits until some of n bytes may be sent on a call.
func (a *attacker) take(id uint32, n int) (int, error) {
	const frameBytes = 16 << 10
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		call := a.calls[id]
		switch {
		case a.failed != nil:
			return 0, a.failed
		case call == nil:
			return 0, errCallOver
		case min(call.window, a.window) > 0:
			n := min(int64(n), call.window, a.window, frameBytes)
			call.said = time.Now()
			call.window -= n
			a.window -= n
			return int(n), nil
		}
		a.changed.Wait() // the socket's deadline ends it
	}
}

// message is a message of gRPC's.
func message(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
}

// unary makes so many calls with the same request, all at once. It returns when all has been said, or cut short.
func (a *attacker) unary(calls int, method string, request []byte) error {
	return a.together(calls, method, func(id uint32) error { return a.send(id, message(request), true) })
}

// together begins calls, and speaks on all of them at once. It returns the first error that is not the end of a call.
func (a *attacker) together(calls int, method string, speak func(id uint32) error) error {
	var first error
	var once sync.Once
	var all sync.WaitGroup
	for range calls {
		id, err := a.begin(method)
		if err != nil {
			return err
		}
		all.Go(func() {
			if err := speak(id); err != nil && !errors.Is(err, errCallOver) {
				once.Do(func() { first = err })
			}
		})
	}
	all.Wait()
	return first
}

// hears tells how many calls have got no answer, not even its beginning, and how many are not over; and when the server last said something.
func (a *attacker) hears() (unanswered, open int, heard time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, call := range a.calls {
		if !call.answering {
			unanswered++
		}
	}
	return unanswered, len(a.calls), a.heard
}
