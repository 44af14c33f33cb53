package h2

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"golang.org/x/net/http2"
)

// Stream is one call. Its methods belong to the connection: whoever may call those of Conn may call these.
type Stream struct {
	// User is the shell's.
	User any
	// OnSent, if set, is called once, when the call is over and the last of the answer was produced or thrown away.
	OnSent func()

	conn    *Conn
	id      uint32
	method  string
	kept    []field
	timeout time.Duration // 0: none
	memory  lease

	// What comes.
	window   int64         // what the client may still send
	prefix   [5]byte       // of the message that comes
	prefixed int           // bytes of it that are there
	since    time.Duration // when that began; before the first one, when the stream did
	any      bool          // a message has come
	message  []byte        // as far as it has come
	length   int           // of the message, once its prefix is there
	messages [][]byte      // complete, and not taken
	waiting  int64         // bytes of them
	ended    bool          // the client has said its last

	// What goes.
	sending
	canceled bool // the client does not wait, or nobody could tell it anything
	over     bool // the call is
	settled  bool // both are, and nothing is reserved
}

type field struct{ name, value string }

// lease is what a stream has reserved.
type lease struct {
	memory Memory
	bytes  int64
}

// Method is the path of the call: "/service/method".
func (s *Stream) Method() string { return s.method }

// Timeout is how long the client waits, as it said at the beginning; false: as long as it takes.
func (s *Stream) Timeout() (time.Duration, bool) { return s.timeout, s.timeout != 0 }

// Header returns the first value of a header that is among Options.Keep.
func (s *Stream) Header(name string) string {
	for i := range s.kept {
		if s.kept[i].name == name {
			return s.kept[i].value
		}
	}
	return ""
}

// Reserve takes memory for the call; it is given back when the call is over and its answer has been sent. False: there is none.
func (s *Stream) Reserve(n int64) bool {
	if !s.memory.memory.Reserve(n) {
		return false
	}
	s.memory.bytes += n
	return true
}

// Release gives back a part of what was reserved. Of a stream that is over everything was: then it does nothing.
func (s *Stream) Release(n int64) {
	if s.settled {
		return
	}
	s.memory.bytes -= n
	s.memory.memory.Release(n)
}

// Take moves out the next message. Its memory stays reserved until Release. ended: there is none, and none will come.
func (s *Stream) Take() (message []byte, ok, ended bool) {
	if len(s.messages) == 0 {
		return nil, false, s.ended
	}
	message = s.messages[0]
	s.messages = slices.Delete(s.messages, 0, 1)
	s.waiting -= MessageBytes(len(message))
	s.open()
	return message, true, false
}

// Ended tells whether Take has nothing and never will.
func (s *Stream) Ended() bool { return s.ended && len(s.messages) == 0 }

// headers begins a stream, or ends what the client says on one.
func (c *Conn) headers(f *http2.MetaHeadersFrame) error {
	id := f.StreamID
	if id%2 == 0 {
		return c.fail(http2.ErrCodeProtocol, "a client's stream with an even number")
	}
	if id <= c.last {
		return c.trailers(f)
	}
	c.last = id
	s := &Stream{conn: c, id: id, window: int64(c.options.StreamWindow), memory: lease{memory: c.options.Memory}}
	s.sendWindow, s.since = c.peerStreamWindow, c.now
	switch {
	case c.leaving || c.active >= c.options.MaxStreams:
		c.control = appendReset(c.control, id, http2.ErrCodeRefusedStream)
		return nil
	case f.Truncated:
		// HTTP has a status for that, which gRPC clients take for an internal error. They understand this one.
		c.refuse(s, f, Status{Code: codeResourceExhausted, Message: fmt.Sprintf("the call's headers have more than %d bytes", c.options.MaxHeaderBytes)})
		return nil
	}
	if status, refused := s.readHeaders(f); refused {
		c.refuse(s, f, status)
		return nil
	}
	kept := int64(0)
	for i := range s.kept {
		kept += int64(len(s.kept[i].name) + len(s.kept[i].value))
	}
	if !s.Reserve(streamBytes + kept + int64(len(s.method))) {
		c.refuse(s, f, tooManyRequests)
		return nil
	}
	s.ended = f.StreamEnded()
	c.streams[id] = s
	c.active++
	c.tell(EventOpened, s)
	if s.ended {
		c.tell(EventReadable, s)
	}
	return nil
}

// trailers are a client's last words on a stream. What they say is of no interest.
func (c *Conn) trailers(f *http2.MetaHeadersFrame) error {
	if !f.StreamEnded() {
		return c.fail(http2.ErrCodeProtocol, "headers in the middle of a stream")
	}
	if s := c.streams[f.StreamID]; s != nil {
		return c.endOf(s)
	}
	return nil
}

// refuse answers a call that does not begin. It holds nothing.
func (c *Conn) refuse(s *Stream, f *http2.MetaHeadersFrame, status Status) {
	c.control = c.appendTrailersOnly(c.control, s.id, &status)
	if !f.StreamEnded() {
		c.control = appendReset(c.control, s.id, http2.ErrCodeNo)
	}
}

// data takes a piece of a request.
func (c *Conn) data(f *http2.DataFrame) error {
	if err := c.received(f.Length); err != nil {
		return err
	}
	s := c.streams[f.StreamID]
	switch {
	case s == nil && f.StreamID > c.last:
		return c.fail(http2.ErrCodeProtocol, "data on a stream that has not begun")
	case s == nil:
		return nil // it was refused or is over, and the client did not know yet
	case s.ended:
		c.abandon(s)
		c.control = appendReset(c.control, s.id, http2.ErrCodeStreamClosed)
		return nil
	}
	if s.window -= int64(f.Length); s.window < 0 {
		c.abandon(s)
		c.control = appendReset(c.control, s.id, http2.ErrCodeFlowControl)
		return nil
	}
	if status, refused := s.receive(f.Data()); refused {
		c.FinishEarly(s, status)
		return nil
	}
	if f.StreamEnded() {
		return c.endOf(s)
	}
	s.open()
	return nil
}

// endOf notes that the client has said its last.
func (c *Conn) endOf(s *Stream) error {
	if s.ended {
		return nil
	}
	s.ended = true
	if s.prefixed > 0 { // in the middle of a message
		c.FinishEarly(s, Status{Code: codeInternal, Message: "the request ends in the middle of a message"})
		return nil
	}
	c.tell(EventReadable, s)
	return nil
}

// receive takes bytes of messages. refused: the call cannot go on.
func (s *Stream) receive(data []byte) (status Status, refused bool) {
	if s.canceled {
		return Status{}, false
	}
	for len(data) > 0 {
		if s.prefixed == 0 && s.any {
			s.since = s.conn.now
		}
		if s.prefixed < len(s.prefix) {
			n := copy(s.prefix[s.prefixed:], data)
			s.prefixed += n
			data = data[n:]
			if s.prefixed < len(s.prefix) {
				return Status{}, false
			}
			if status, refused := s.begin(); refused {
				return status, true
			}
		}
		n := min(len(data), s.length-len(s.message))
		s.store(data[:n])
		data = data[n:]
		if len(s.message) == s.length {
			s.messages = append(s.messages, s.message)
			s.waiting += MessageBytes(s.length)
			s.message, s.prefixed, s.any = nil, 0, true
			s.conn.tell(EventReadable, s)
		}
	}
	return Status{}, false
}

// begin reserves room for the message whose prefix has come.
func (s *Stream) begin() (status Status, refused bool) {
	length := binary.BigEndian.Uint32(s.prefix[1:])
	switch limit := s.conn.options.MaxMessageBytes; {
	case s.prefix[0] != 0:
		return Status{Code: codeInternal, Message: "grpc: compressed flag set with identity or empty encoding"}, true
	case int64(length) > int64(limit):
		return Status{Code: codeResourceExhausted, Message: fmt.Sprintf("grpc: received message larger than max (%d vs. %d)", length, limit)}, true
	case !s.Reserve(MessageBytes(int(length))):
		return tooManyRequests, true
	}
	s.length = int(length)
	return Status{}, false
}

// EndHalf ends the calls whose request, or next message, has not come to its end within the time: nobody else may have its memory meanwhile.
func (c *Conn) EndHalf(now, within time.Duration) {
	var late []*Stream
	for _, s := range c.streams { // sorted below
		if half := s.prefixed > 0 || !s.any && !s.ended; half && now-s.since >= within {
			late = append(late, s)
		}
	}
	slices.SortFunc(late, func(a, b *Stream) int { return cmp.Compare(a.id, b.id) })
	for _, s := range late {
		c.FinishEarly(s, Status{Code: codeDeadlineExceeded, Message: fmt.Sprintf("the request did not come to its end within %v", within)})
	}
}

// MessageBytes is what is reserved for a message of that length.
func MessageBytes(length int) int64 { return int64(length) + int64(len(Stream{}.prefix)) }

// firstBytes is what is allocated of a message before more of it has come: announcing costs nothing.
const firstBytes = 16 << 10

func (s *Stream) store(data []byte) {
	switch needed := len(s.message) + len(data); {
	case s.message == nil:
		s.message = make([]byte, 0, min(s.length, max(firstBytes, needed)))
	case needed > cap(s.message):
		s.message = append(make([]byte, 0, min(s.length, max(4*cap(s.message), needed))), s.message...)
	}
	s.message = append(s.message, data...)
}

// open lets the client send more: a window's worth, less what waits to be taken, and in any case the rest of the message that it has begun, for
// which room is reserved.
func (s *Stream) open() {
	if s.ended || s.canceled {
		return
	}
	wanted := int64(s.conn.options.StreamWindow) - s.waiting
	if s.prefixed == len(s.prefix) {
		wanted = max(wanted, int64(s.length-len(s.message)))
	}
	if more := wanted - s.window; more >= int64(s.conn.options.StreamWindow)/4 || more > 0 && s.window <= 0 {
		s.conn.control = appendWindowUpdate(s.conn.control, s.id, uint32(more))
		s.window += more
	}
}

// abandon ends a stream that the client does not wait for, or that broke the rules.
func (c *Conn) abandon(s *Stream) {
	delete(c.streams, s.id)
	if s.canceled {
		return
	}
	s.canceled = true
	s.message, s.messages = nil, nil
	s.drop()
	if s.stalled {
		c.forgetStalled()
	}
	if !s.over {
		c.tell(EventCanceled, s)
		return
	}
	c.sent(s)
}

// sent is reached once for every stream: its call is over, and so is what was to be sent.
func (c *Conn) sent(s *Stream) {
	s.memory.memory.Release(s.memory.bytes)
	s.memory.bytes, s.settled = 0, true
	c.active--
	if s.OnSent != nil {
		s.OnSent()
	}
}
