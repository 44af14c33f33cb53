package h2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// memory is an account that refuses what is above its limit.
type memory struct{ used, limit int64 }

func (m *memory) Reserve(n int64) bool {
	if m.used+n > m.limit {
		return false
	}
	m.used += n
	return true
}

func (m *memory) Release(n int64) {
	if m.used -= n; m.used < 0 {
		panic("more is given back than was reserved")
	}
}

func (m *memory) Force(n int64) { m.used += n }

func (m *memory) Tight() bool { return m.used > m.limit/2 }

// answer is an answer in pieces.
func answer(random *rand.Rand, size int) Message {
	left := size
	m := Message{SizeBytes: size}
	m.Next = func() ([]byte, error) {
		n := min(left, 1+random.IntN(20_000))
		piece := bytes.Repeat([]byte{byte(size)}, n)
		left -= n
		return piece, nil
	}
	if size == 0 {
		return Message{}
	}
	return m
}

// send sends an answer of that size in random parts, with or without memory of its own.
func (s *shell) send(one *Stream, size int) {
	if size == 0 || s.random.IntN(2) == 0 {
		m := answer(s.random, size)
		m.HeldBytes = s.random.IntN(size + 1)
		s.conn.Send(one, m)
		return
	}
	for left := size; left > 0; {
		m := Message{Bytes: bytes.Repeat([]byte{byte(size)}, min(left, s.random.IntN(40_000)))}
		if m.Rest = left < size; !m.Rest {
			m.WholeBytes = size
		}
		s.conn.Send(one, m)
		left -= len(m.Bytes)
		if !m.Rest && len(m.Bytes) == 0 {
			s.conn.Send(one, Message{Bytes: []byte{byte(size)}, Rest: true})
			left--
		}
	}
}

// shell is a stupid shell: it answers what comes, at random times and in random ways.
type shell struct {
	random *rand.Rand
	conn   *Conn
	memory *memory
	open   []*Stream
	over   map[uint32]bool
	sent   map[uint32]bool
}

func newShell(t testing.TB, seed uint64, o Options) *shell {
	s := &shell{random: rand.New(rand.NewPCG(seed, 1)), memory: &memory{limit: 4 << 20}, over: map[uint32]bool{}, sent: map[uint32]bool{}}
	o.Memory = s.memory
	var err error
	if s.conn, err = NewConn(o); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shell) events(t testing.TB) {
	for _, e := range s.conn.Events() {
		switch e.Kind {
		case EventOpened:
			s.open = append(s.open, e.Stream)
			e.Stream.OnSent = func() {
				if s.sent[e.Stream.id] {
					t.Fatalf("stream %d is sent twice", e.Stream.id)
				}
				s.sent[e.Stream.id] = true
			}
		}
	}
}

// work does something with one of the calls.
func (s *shell) work() {
	if len(s.open) == 0 {
		return
	}
	i := s.random.IntN(len(s.open))
	one := s.open[i]
	switch s.random.IntN(4) {
	case 0:
		one.Take()
	case 1:
		if !one.Full() {
			s.send(one, s.random.IntN(100_000))
		}
	case 2:
		one.Reserve(int64(s.random.IntN(10_000)))
	default:
		s.conn.Finish(one, Status{Code: uint32(s.random.IntN(3)), Message: "because"})
		s.open = append(s.open[:i], s.open[i+1:]...)
	}
}

// end finishes all calls; then nothing is reserved any more.
func (s *shell) end(t testing.TB) {
	s.conn.Close()
	s.events(t)
	for _, one := range s.open {
		s.conn.Finish(one, Status{})
	}
	s.events(t)
	if s.memory.used != 0 || s.conn.Active() != 0 {
		t.Fatalf("%d bytes are still reserved, %d calls active", s.memory.used, s.conn.Active())
	}
}

// FuzzFrames reads frames out of arbitrary bytes. Nothing may panic, more be held than is reserved, or anything be left over.
func FuzzFrames(f *testing.F) {
	var buffer bytes.Buffer
	framer := http2.NewFramer(&buffer, nil)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/a/b"},
		{Name: ":authority", Value: "x"}, {Name: "content-type", Value: "application/grpc"}, {Name: "grpc-timeout", Value: "1S"}} {
		_ = encoder.WriteField(field)
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	_ = framer.WriteData(1, true, []byte{0, 0, 0, 0, 3, 1, 2, 3})
	_ = framer.WriteWindowUpdate(1, 1000)
	_ = framer.WriteWindowUpdate(0, 1000)
	_ = framer.WritePing(false, [8]byte{1})
	_ = framer.WriteRSTStream(1, http2.ErrCodeCancel)
	f.Add(uint64(1), buffer.Bytes())
	f.Fuzz(func(t *testing.T, seed uint64, data []byte) {
		s := newShell(t, seed, Options{MaxMessageBytes: 1 << 20, MaxStreams: 20, MaxHeaderBytes: 2000})
		reader := http2.NewFramer(nil, bytes.NewReader(data))
		reader.MaxHeaderListSize = 2000
		reader.SetMaxReadFrameSize(16 << 10)
		reader.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		var out []byte
		for now := time.Duration(0); ; now += time.Second {
			frame, err := reader.ReadFrame()
			var ofStream http2.StreamError
			switch {
			case errors.As(err, &ofStream):
				err = s.conn.StreamError(ofStream)
			case err == nil:
				err = s.conn.Frame(frame, now)
			}
			s.events(t)
			for range s.random.IntN(3) {
				s.work()
				s.events(t)
			}
			if s.random.IntN(2) == 0 {
				out = s.conn.Produce(out[:0], 4096)
				s.events(t)
			}
			if err != nil {
				break
			}
		}
		s.end(t)
	})
}

// peer is a client that keeps to the rules, and checks that the server does.
type peer struct {
	t       *testing.T
	random  *rand.Rand
	windows map[uint32]int64 // what it allows the server; 0: on all streams
	initial int64
	got     map[uint32][]byte
	ended   map[uint32]string
	decoder *hpack.Decoder
}

// read takes the server's frames.
func (p *peer) read(out []byte) {
	p.t.Helper()
	framer := http2.NewFramer(nil, bytes.NewReader(out))
	framer.ReadMetaHeaders = p.decoder
	framer.MaxHeaderListSize = 1 << 20
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			if frame == nil && fmt.Sprint(err) == "EOF" {
				return
			}
			p.t.Fatalf("the server's frames cannot be read: %v", err)
		}
		switch f := frame.(type) {
		case *http2.DataFrame:
			n := int64(len(f.Data()))
			if p.windows[0] -= n; p.windows[0] < 0 {
				p.t.Fatal("more than the connection's window")
			}
			if p.windows[f.StreamID] -= n; p.windows[f.StreamID] < 0 {
				p.t.Fatalf("more than the window of stream %d", f.StreamID)
			}
			p.got[f.StreamID] = append(p.got[f.StreamID], f.Data()...)
		case *http2.MetaHeadersFrame:
			if p.ended[f.StreamID] != "" {
				p.t.Fatalf("stream %d goes on after its end", f.StreamID)
			}
			if f.StreamEnded() {
				for _, field := range f.Fields {
					if field.Name == "grpc-status" {
						p.ended[f.StreamID] = field.Value
					}
				}
			}
		case *http2.GoAwayFrame:
			p.t.Fatalf("the server ends the connection: %v %s", f.ErrCode, f.DebugData())
		}
	}
}

// TestAnswers: whatever windows a client gives, at whatever time, it gets all answers whole, in order, and never more than it allowed.
func TestAnswers(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 2))
		s := newShell(t, seed, Options{})
		s.memory.limit = 1 << 40
		p := &peer{t: t, random: random, windows: map[uint32]int64{0: initialWindow}, initial: random.Int64N(100_000), got: map[uint32][]byte{}, ended: map[uint32]string{},
			decoder: hpack.NewDecoder(4096, nil)}
		now := time.Duration(0)
		frames := func(write func(*http2.Framer)) {
			t.Helper()
			var buffer bytes.Buffer
			framer := http2.NewFramer(&buffer, &buffer)
			write(framer)
			framer.ReadMetaHeaders = hpack.NewDecoder(0, nil)
			for buffer.Len() > 0 {
				frame, err := framer.ReadFrame()
				if err == nil {
					err = s.conn.Frame(frame, now)
				}
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			s.events(t)
		}
		frames(func(f *http2.Framer) {
			_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(p.initial)}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 20_000})
		})
		want := map[uint32][]byte{}
		streams := uint32(1 + random.IntN(20))
		for id := uint32(1); id < 2*streams; id += 2 {
			p.windows[id] = p.initial
			frames(func(f *http2.Framer) {
				var block bytes.Buffer
				encoder := hpack.NewEncoder(&block)
				encoder.SetMaxDynamicTableSize(0)
				for _, field := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/a/b"}, {Name: "content-type", Value: "application/grpc"}} {
					_ = encoder.WriteField(field)
				}
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
			})
			one := s.open[len(s.open)-1]
			for range random.IntN(4) {
				size := random.IntN(200_000) * random.IntN(2)
				want[id] = append(binary.BigEndian.AppendUint32(append(want[id], 0), uint32(size)), bytes.Repeat([]byte{byte(size)}, size)...)
				s.send(one, size)
			}
			s.conn.Finish(one, Status{Code: id})
		}
		for round := 0; len(p.ended) < int(streams); round++ {
			if round > 100_000 {
				t.Fatalf("seed %d: %d of %d streams have ended", seed, len(p.ended), streams)
			}
			p.read(s.conn.Produce(nil, random.IntN(100_000)))
			s.events(t)
			id := uint32(random.IntN(int(streams)+1)) * 2
			if id > 0 {
				id--
			}
			if more := random.Int64N(50_000) + 1; id == 0 || p.ended[id] == "" {
				p.windows[id] += more
				frames(func(f *http2.Framer) { _ = f.WriteWindowUpdate(id, uint32(more)) })
			}
			if random.IntN(20) == 0 {
				initial := random.Int64N(100_000)
				for id := uint32(1); id < 2*streams; id += 2 {
					p.windows[id] += initial - p.initial
				}
				p.initial = initial
				frames(func(f *http2.Framer) {
					_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(initial)})
				})
			}
		}
		for id, status := range p.ended {
			if !bytes.Equal(p.got[id], want[id]) || status != fmt.Sprint(id) {
				t.Fatalf("seed %d, stream %d: %d bytes, want %d; status %s", seed, id, len(p.got[id]), len(want[id]), status)
			}
		}
		s.open = nil
		s.end(t)
	}
}

func TestTimeouts(t *testing.T) {
	for text, want := range map[string]time.Duration{"1S": time.Second, "99999999H": 1<<63 - 1, "5m": 5 * time.Millisecond, "7u": 7 * time.Microsecond,
		"9n": 9, "2M": 2 * time.Minute, "1H": time.Hour, "0S": 0} {
		if got, err := parseTimeout(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "S", "1", "-1S", "123456789S", "1x", "+1S", " 1S"} {
		if got, err := parseTimeout(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Memory: &memory{}, StreamWindow: 100}, {Memory: &memory{}, MaxMessageBytes: -1}, {Memory: &memory{}, ConnectionWindow: 20 << 10}} {
		if _, err := NewConn(o); err == nil {
			t.Errorf("%+v are accepted", o)
		}
	}
}

// TestParts: parts that are not what the client was told end the call with a reset, and so does an end in the middle of a message.
func TestParts(t *testing.T) {
	begin := func() (*shell, *Stream) {
		s := newShell(t, 1, Options{})
		open(t, s, 1)
		return s, s.open[0]
	}
	for name, c := range map[string]struct {
		parts []Message
		code  uint32 // of the end
		reset http2.ErrCode
	}{
		"more than announced":      {[]Message{{Bytes: []byte("ab"), WholeBytes: 3}, {Bytes: []byte("cd"), Rest: true}}, 0, http2.ErrCodeInternal},
		"a rest of nothing":        {[]Message{{Bytes: []byte("ab")}, {Bytes: []byte("c"), Rest: true}}, 0, http2.ErrCodeInternal},
		"another one in between":   {[]Message{{Bytes: []byte("ab"), WholeBytes: 3}, {Bytes: []byte("c")}}, 0, http2.ErrCodeInternal},
		"an end in the middle":     {[]Message{{Bytes: []byte("ab"), WholeBytes: 3}}, codeInternal, http2.ErrCodeInternal},
		"no memory in the middle":  {[]Message{{Bytes: []byte("ab"), WholeBytes: 3}}, codeResourceExhausted, http2.ErrCodeEnhanceYourCalm},
		"less than it begins with": {[]Message{{Bytes: []byte("ab"), WholeBytes: 1}}, 0, http2.ErrCodeInternal},
	} {
		s, one := begin()
		for _, m := range c.parts {
			s.conn.Send(one, m)
		}
		s.conn.Finish(one, Status{Code: c.code})
		s.open = nil
		reader := http2.NewFramer(nil, bytes.NewReader(s.conn.Produce(nil, 1<<20)))
		reset := http2.ErrCode(0)
		for {
			frame, err := reader.ReadFrame()
			if err != nil {
				break
			}
			if f, is := frame.(*http2.RSTStreamFrame); is {
				reset = f.ErrCode
			}
		}
		if reset != c.reset {
			t.Errorf("%s: reset %v, want %v", name, reset, c.reset)
		}
		s.end(t)
	}
}

// TestHeld: what an answer holds is reserved until it is sent, and when memory is scarce a producer waits for each one.
func TestHeld(t *testing.T) {
	s := newShell(t, 1, Options{})
	s.memory.limit = 100_000
	open(t, s, 1)
	one, before := s.open[0], s.memory.used
	s.conn.Send(one, Message{Bytes: make([]byte, smallBytes)})
	if s.memory.used != before || one.Full() {
		t.Errorf("a small answer holds %d bytes", s.memory.used-before)
	}
	s.conn.Send(one, Message{Bytes: make([]byte, 60_000)})
	if held := s.memory.used - before; held != 60_000 || !one.Full() {
		t.Errorf("%d bytes are held, full: %v", held, one.Full())
	}
	s.conn.Produce(nil, 1<<20)
	if one.Full() || s.memory.used != before {
		t.Errorf("everything is sent, %d bytes are held", s.memory.used-before)
	}
	s.conn.Send(one, Message{SizeBytes: 60_000, HeldBytes: 5_000, Next: func() ([]byte, error) { return nil, nil }})
	if held := s.memory.used - before; held != 5_000 || one.Full() {
		t.Errorf("%d bytes are held, full: %v", held, one.Full())
	}
	s.end(t)
}

// open begins a stream whose client has nothing more to say.
func open(t *testing.T, s *shell, id uint32) {
	t.Helper()
	var buffer, block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/a/b"}, {Name: "content-type", Value: "application/grpc"}} {
		_ = encoder.WriteField(field)
	}
	framer := http2.NewFramer(&buffer, &buffer)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
	for buffer.Len() > 0 {
		frame, err := framer.ReadFrame()
		if err == nil {
			err = s.conn.Frame(frame, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.events(t)
}
