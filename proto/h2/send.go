package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// Message is an answer, or a part of one, encoded piece by piece while it is sent.
type Message struct {
	// Bytes is all of it, or its first piece.
	Bytes []byte
	// SizeBytes is that of all pieces. 0: Bytes is all.
	SizeBytes int
	// Next returns the next piece; the one before is not used any more. Together the pieces have SizeBytes. An error ends the call.
	Next func() ([]byte, error)
	// WholeBytes: this is the beginning of a message of so many bytes, of which the rest is sent later. 0: it is a whole one.
	WholeBytes int
	// Rest: this goes on with the message that was begun.
	Rest bool
	// HeldBytes is the memory that is held for it until it is sent, and not reserved yet. 0: that of Bytes.
	HeldBytes int

	reserved int64
}

// smallBytes is how much an answer may hold without being reserved for: there is room in what is reserved for its stream.
const smallBytes = 512

// hold reserves what the message holds. It is held already, so that it must fit; whoever sends looks at Stream.Full.
func (s *Stream) hold(m *Message) {
	held := m.HeldBytes
	if held == 0 {
		held = len(m.Bytes)
	}
	if held > smallBytes {
		m.reserved = int64(held)
		s.memory.memory.Force(m.reserved)
		s.memory.bytes += m.reserved
	}
}

func (m *Message) size() int {
	if m.SizeBytes == 0 {
		return len(m.Bytes)
	}
	return m.SizeBytes
}

// sending is the half of a stream that goes to the client.
type sending struct {
	sendWindow int64
	metadata   []field // sent with the headers
	begun      bool    // headers are sent
	pending    []Message
	bytes      int    // of pending that are not sent
	owed       int    // of the message that was begun and is not all in pending yet
	started    bool   // the prefix of pending[0] is in rest
	rest       []byte // of the piece that is being sent
	left       int    // of pending[0] behind rest
	status     *Status
	queued     bool // in Conn.ready
	stalled    bool // in Conn.stalled
	full       bool // EventWritable is wanted
	prefixOut  [5]byte
}

// fullBytes is how much of answers may wait in a stream before its producer should wait, too.
const fullBytes = 64 << 10

// Full tells whether so much waits to be sent that the producer should wait for EventWritable. When memory is scarce that is anything.
func (s *Stream) Full() bool {
	s.full = !s.canceled && (s.bytes > fullBytes || s.bytes > 0 && s.memory.memory.Tight())
	return s.full
}

// UnsentBytes is how much waits to be sent. Whoever waits sees by it whether the client takes anything.
func (s *Stream) UnsentBytes() int { return s.bytes + len(s.rest) }

// SetHeader adds to what is sent before the first message.
func (s *Stream) SetHeader(name, value string) { s.metadata = append(s.metadata, field{name, value}) }

// Send queues a message. Nothing happens if the client does not wait any more, or the call is over.
func (c *Conn) Send(s *Stream, m Message) {
	if s.canceled || s.over || m.Rest && m.size() == 0 {
		return
	}
	switch size := m.size(); {
	case m.Rest && size <= s.owed:
		s.owed -= size
	case !m.Rest && s.owed == 0 && (m.WholeBytes == 0 || m.WholeBytes >= size):
		s.owed = max(0, m.WholeBytes-size)
	default: // it does not fit to what the client was told
		c.abortAnswer(s, http2.ErrCodeInternal)
		return
	}
	s.hold(&m)
	s.pending = append(s.pending, m)
	s.bytes += m.size()
	c.wake(s)
}

// Finish ends the call: every call is finished once, whatever became of its stream.
func (c *Conn) Finish(s *Stream, status Status) {
	if s.over {
		return
	}
	s.over = true
	switch {
	case s.canceled:
		c.sent(s)
		return
	case s.owed > 0: // a status would come in the middle of a message
		c.abortAnswer(s, resetFor(status))
		return
	}
	s.status = &status
	c.wake(s)
}

// FinishEarly ends what the client has of a call that is not over on this side: it is told the status, and the shell that the call is canceled.
func (c *Conn) FinishEarly(s *Stream, status Status) {
	if s.canceled || s.over {
		return
	}
	if s.inMessage() { // a status would come in the middle of it
		c.abortAnswer(s, resetFor(status))
		return
	}
	if s.begun {
		c.control = c.appendTrailers(c.control, s.id, &status)
	} else {
		c.control = c.appendTrailersOnly(c.control, s.id, &status)
	}
	if !s.ended {
		c.control = appendReset(c.control, s.id, http2.ErrCodeNo)
	}
	c.abandon(s)
}

// inMessage tells whether the client has a part of a message, and waits for the rest.
func (s *Stream) inMessage() bool {
	if len(s.pending) == 0 {
		return s.owed > 0
	}
	return s.started || s.pending[0].Rest
}

// resetFor is the reset that clients understand most nearly like the status.
func resetFor(status Status) http2.ErrCode {
	if status.Code == codeResourceExhausted {
		return http2.ErrCodeEnhanceYourCalm
	}
	return http2.ErrCodeInternal
}

// drop forgets what was to be sent.
func (s *Stream) drop() {
	for i := range s.pending {
		s.Release(s.pending[i].reserved)
	}
	s.pending, s.rest, s.status, s.bytes = nil, nil, nil, 0
	if s.full {
		s.full = false
		s.conn.tell(EventWritable, s)
	}
}

// wake puts a stream among those that have something to send.
func (c *Conn) wake(s *Stream) {
	if s.queued || s.stalled || s.canceled || len(s.pending) == 0 && s.status == nil {
		return
	}
	if len(s.pending) > 0 && s.begun && s.sendWindow <= 0 {
		return // a window update wakes it
	}
	s.queued = true
	c.ready = append(c.ready, s)
}

// Owed is how many bytes of frames wait that are no answers: who does not take them must not make the connection owe more.
func (c *Conn) Owed() int { return len(c.control) }

// HasOutput tells whether Produce has something.
func (c *Conn) HasOutput() bool { return len(c.control) > 0 || len(c.ready) > 0 }

// Produce appends frames to be written, until there are none, or about limit bytes more.
func (c *Conn) Produce(out []byte, limit int) []byte {
	out = append(out, c.control...)
	if c.control = c.control[:0]; cap(c.control) > 64<<10 {
		c.control = nil
	}
	for limit += len(out); len(c.ready) > 0 && len(out) < limit; {
		s := c.ready[0]
		c.ready[0] = nil
		if c.ready = c.ready[1:]; len(c.ready) == 0 {
			c.ready = nil
		}
		if s.queued = false; !s.canceled {
			out = c.produce(out, s)
		}
	}
	return out
}

// produce appends what may go now of one stream, or so much that others get their turn.
func (c *Conn) produce(out []byte, s *Stream) []byte {
	c.pings.forgive()
	if !s.begun && len(s.pending) > 0 {
		out = c.appendHeaders(out, s.id, s.metadata)
		s.begun = true
	}
	if len(s.pending) > 0 {
		var err error
		if out, err = c.appendData(out, s); err != nil {
			c.abortAnswer(s, http2.ErrCodeInternal)
			return out
		}
		if len(s.pending) > 0 {
			c.wait(s)
			return out
		}
	}
	c.writable(s)
	if s.status == nil {
		return out
	}
	if s.begun {
		out = c.appendTrailers(out, s.id, s.status)
	} else {
		out = c.appendTrailersOnly(out, s.id, s.status)
	}
	if !s.ended {
		out = appendReset(out, s.id, http2.ErrCodeNo)
	}
	delete(c.streams, s.id)
	s.canceled = true // nothing more can be said
	s.message, s.messages = nil, nil
	s.drop()
	c.sent(s)
	return out
}

// wait puts a stream with data where the next window, or its next turn, finds it.
func (c *Conn) wait(s *Stream) {
	c.writable(s)
	if c.sendWindow <= 0 && s.sendWindow > 0 {
		s.stalled = true
		c.stalled = append(c.stalled, s)
		return
	}
	c.wake(s)
}

func (c *Conn) writable(s *Stream) {
	if s.full && (s.bytes == 0 || s.bytes <= fullBytes/2 && !s.memory.memory.Tight()) {
		s.full = false
		c.tell(EventWritable, s)
	}
}

// abortAnswer ends a stream whose message does not come to its end: the client gets a reset, for it waits for the rest of it.
func (c *Conn) abortAnswer(s *Stream, code http2.ErrCode) {
	c.control = appendReset(c.control, s.id, code)
	c.abandon(s)
}

// appendData appends one frame of data, filled from the prefix and as many pieces of messages as fit.
func (c *Conn) appendData(out []byte, s *Stream) ([]byte, error) {
	room := min(int64(c.maxFrame), c.sendWindow, s.sendWindow)
	if room <= 0 {
		return out, nil
	}
	head := len(out)
	out = append(out, 0, 0, 0, byte(http2.FrameData), 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(out[head+5:], s.id)
	length := int64(0)
	for length < room && len(s.pending) > 0 {
		if err := s.fill(); err != nil {
			return out[:head], err
		}
		n := min(room-length, int64(len(s.rest)))
		out = append(out, s.rest[:n]...)
		s.rest = s.rest[n:]
		length += n
		if len(s.rest) == 0 {
			s.done()
		}
	}
	out[head], out[head+1], out[head+2] = byte(length>>16), byte(length>>8), byte(length)
	c.sendWindow -= length
	s.sendWindow -= length
	return out, nil
}

// fill sees to it that rest has bytes of the message at the head.
func (s *Stream) fill() error {
	m := &s.pending[0]
	switch {
	case len(s.rest) > 0:
		return nil
	case !s.started:
		s.started, s.left = true, m.size()
		if !m.Rest {
			binary.BigEndian.PutUint32(s.prefixOut[1:], uint32(max(s.left, m.WholeBytes))) // not compressed
			s.rest = s.prefixOut[:]
			return nil
		}
	}
	piece := m.Bytes
	if m.Bytes == nil && m.Next != nil {
		var err error
		if piece, err = m.Next(); err != nil {
			return err
		}
	}
	m.Bytes = nil
	if len(piece) == 0 || len(piece) > s.left {
		return errPieces
	}
	s.left -= len(piece)
	s.bytes -= len(piece)
	s.rest = piece
	return nil
}

// done goes on to the next message if the one at the head is sent.
func (s *Stream) done() {
	if s.left > 0 {
		return
	}
	s.Release(s.pending[0].reserved)
	s.pending[0] = Message{}
	s.pending = s.pending[1:]
	s.started, s.rest = false, nil
}
