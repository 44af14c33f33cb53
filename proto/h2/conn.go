package h2

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	maxWindow     = math.MaxInt32 // of HTTP/2
	initialWindow = 65_535        // before anybody says otherwise
	// streamBytes is reserved for each stream, besides its headers: its state here and in the shell.
	streamBytes = 2 << 10
)

// Conn is a connection. Not safe for concurrent use.
type Conn struct {
	options Options
	streams map[uint32]*Stream // as the client sees them: those it may still send for
	last    uint32             // the highest stream that the client has begun
	active  uint32             // streams whose call is not over
	leaving bool               // no more streams are taken
	now     time.Duration      // when the last frame came
	failed  error

	// What the client may send.
	window  int64  // on all streams together
	unacked uint32 // received, and not yet given back to it

	// What may be sent to it.
	sendWindow       int64 // on all streams together
	peerStreamWindow int64 // of a stream that begins
	maxFrame         int
	ready            []*Stream // with something to send, in turn; see Stream.queued
	stalled          []*Stream // wait for the connection's window
	dead             int       // of them, do not any more
	control          []byte    // frames that go first
	block            bytes.Buffer
	encoder          *hpack.Encoder
	pings            pings
	events           []Event
	awaitingSettings bool // the client's first frame must be SETTINGS
}

// Event is something that the shell has to deal with.
type Event struct {
	Kind   EventKind
	Stream *Stream
}

// EventKind says what has happened.
type EventKind uint8

// The events. A stream has one EventOpened, then any number of EventReadable, and EventCanceled at most once, at any time.
const (
	EventOpened   EventKind = iota + 1
	EventReadable           // a message is complete, or the client has said its last
	EventWritable           // so much has been sent that there is room again; see Stream.Full
	EventCanceled           // the client does not wait any more
)

// NewConn returns a connection whose first output are its settings.
func NewConn(options Options) (*Conn, error) {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	c := &Conn{
		options: options, streams: map[uint32]*Stream{}, awaitingSettings: true,
		window: int64(options.ConnectionWindow), sendWindow: initialWindow, peerStreamWindow: initialWindow, maxFrame: 16 << 10,
	}
	c.encoder = hpack.NewEncoder(&c.block)
	settings := []http2.Setting{
		{ID: http2.SettingMaxConcurrentStreams, Val: options.MaxStreams},
		{ID: http2.SettingMaxHeaderListSize, Val: options.MaxHeaderBytes},
		{ID: http2.SettingInitialWindowSize, Val: options.StreamWindow},
	}
	c.control = appendSettings(c.control, settings)
	if more := options.ConnectionWindow; more > initialWindow {
		c.control = appendWindowUpdate(c.control, 0, more-initialWindow)
	}
	return c, nil
}

// Events moves out what has happened.
func (c *Conn) Events() []Event {
	events := c.events
	c.events = nil
	return events
}

func (c *Conn) tell(kind EventKind, s *Stream) { c.events = append(c.events, Event{kind, s}) }

// Active is the number of calls that are not over.
func (c *Conn) Active() int { return int(c.active) }

// Frame takes a frame. After an error the connection is over: what Produce has (a GOAWAY that says why) is written, and then it is closed. now is a
// monotonic clock of any origin.
func (c *Conn) Frame(frame http2.Frame, now time.Duration) error {
	if c.failed != nil {
		return c.failed
	}
	c.now = now
	if _, settings := frame.(*http2.SettingsFrame); c.awaitingSettings && !settings {
		return c.fail(http2.ErrCodeProtocol, "the first frame is not SETTINGS")
	}
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		return c.headers(f)
	case *http2.DataFrame:
		return c.data(f)
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.WindowUpdateFrame:
		return c.windowUpdate(f)
	case *http2.RSTStreamFrame:
		return c.reset(f)
	case *http2.PingFrame:
		return c.ping(f, now)
	case *http2.PushPromiseFrame:
		return c.fail(http2.ErrCodeProtocol, "a client must not push")
	}
	return nil // PRIORITY, GOAWAY, and what is not known
}

// StreamError takes an error of the framer that concerns one stream.
func (c *Conn) StreamError(e http2.StreamError) error {
	if e.StreamID > c.last {
		c.last = e.StreamID
	}
	if s := c.streams[e.StreamID]; s != nil {
		c.abandon(s)
	}
	c.control = appendReset(c.control, e.StreamID, e.Code)
	return c.failed
}

// Fail ends the connection for a reason that lies outside: the framer could not go on.
func (c *Conn) Fail(code http2.ErrCode, reason string) error { return c.fail(code, reason) }

func (c *Conn) fail(code http2.ErrCode, reason string) error {
	if c.failed == nil {
		c.failed = fmt.Errorf("h2: %s (%v)", reason, code)
		c.control = appendGoAway(c.control, c.last, code, reason)
		c.Close()
	}
	return c.failed
}

// Close ends all streams: the connection is gone, or will be. Their calls are canceled.
func (c *Conn) Close() {
	if c.failed == nil {
		c.failed = errClosed
	}
	for _, s := range c.inOrder() {
		c.abandon(s)
	}
}

// inOrder returns the streams in the order in which they began.
func (c *Conn) inOrder() []*Stream {
	return slices.SortedFunc(maps.Values(c.streams), func(a, b *Stream) int { return cmp.Compare(a.id, b.id) })
}

// Leave tells the client to go elsewhere with new calls. Those that run go on.
func (c *Conn) Leave(reason string) {
	if !c.leaving && c.failed == nil {
		c.leaving = true
		c.control = appendGoAway(c.control, c.last, http2.ErrCodeNo, reason)
	}
}

// Leaving tells whether the connection may be closed as soon as no call is active and everything has been sent.
func (c *Conn) Leaving() bool { return c.leaving }

func (c *Conn) settings(f *http2.SettingsFrame) error {
	c.awaitingSettings = false
	if f.IsAck() {
		return nil
	}
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return c.fail(http2.ErrCodeProtocol, fmt.Sprintf("setting %v", s))
		}
		switch s.ID {
		case http2.SettingHeaderTableSize:
			c.encoder.SetMaxDynamicTableSize(min(s.Val, 4096))
		case http2.SettingMaxFrameSize:
			c.maxFrame = int(min(s.Val, 64<<10))
		case http2.SettingInitialWindowSize:
			return c.resizeWindows(int64(s.Val))
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.control = appendSettingsAck(c.control)
	return nil
}

// resizeWindows applies the client's new window to the streams that are open, too: RFC 9113, 6.9.2.
func (c *Conn) resizeWindows(window int64) error {
	delta := window - c.peerStreamWindow
	c.peerStreamWindow = window
	for _, s := range c.inOrder() {
		if s.sendWindow += delta; s.sendWindow > maxWindow {
			return c.fail(http2.ErrCodeFlowControl, "a stream's window is too large")
		}
		c.wake(s)
	}
	return nil
}

func (c *Conn) windowUpdate(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		if c.sendWindow += int64(f.Increment); c.sendWindow > maxWindow {
			return c.fail(http2.ErrCodeFlowControl, "the connection's window is too large")
		}
		for _, s := range c.stalled {
			s.stalled = false
			c.wake(s)
		}
		c.stalled, c.dead = nil, 0
		return nil
	}
	s := c.streams[f.StreamID]
	switch {
	case s == nil && f.StreamID > c.last:
		return c.fail(http2.ErrCodeProtocol, "a window for a stream that has not begun")
	case s == nil:
		return nil
	}
	if s.sendWindow += int64(f.Increment); s.sendWindow > maxWindow {
		c.abandon(s)
		c.control = appendReset(c.control, s.id, http2.ErrCodeFlowControl)
		return nil
	}
	c.wake(s)
	return nil
}

// forgetStalled notes that a stalled stream is abandoned. The list is cleaned when half of it is dead.
func (c *Conn) forgetStalled() {
	if c.dead++; 2*c.dead > len(c.stalled) {
		c.stalled = slices.DeleteFunc(c.stalled, func(s *Stream) bool { return s.canceled })
		c.dead = 0
	}
}

func (c *Conn) reset(f *http2.RSTStreamFrame) error {
	if s := c.streams[f.StreamID]; s != nil {
		c.abandon(s)
		return nil
	}
	if f.StreamID > c.last {
		return c.fail(http2.ErrCodeProtocol, "a reset of a stream that has not begun")
	}
	return nil
}

// received gives a piece of the connection's window back, for bytes that are stored elsewhere by now, or dropped.
func (c *Conn) received(n uint32) error {
	if c.window -= int64(n); c.window < 0 {
		return c.fail(http2.ErrCodeFlowControl, "more was sent than the connection's window allows")
	}
	if c.unacked += n; c.unacked >= c.options.ConnectionWindow/4 {
		c.control = appendWindowUpdate(c.control, 0, c.unacked)
		c.window += int64(c.unacked)
		c.unacked = 0
	}
	return nil
}
