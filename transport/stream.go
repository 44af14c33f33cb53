package transport

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// A stream is a sequence of chunks, the last one empty, and then the receiver's verdict in an envelope:
//
//	length  4 bytes, little endian, at most 256 KiB
//	crc     4 bytes, little endian: CRC-32C of the data
//	data
const (
	chunkHeaderBytes = 8
	maxChunkBytes    = 256 << 10
)

// Stream sends something large to one node. It is for one goroutine.
type Stream struct {
	t      *Transport
	to     kv.NodeID
	d      *dialled
	ctx    context.Context
	stop   func() bool // detaches from ctx
	buffer []byte      // a chunk in the making, header first
	err    error       // the first failure; final
}

// OpenStream connects to the node for one stream. The context bounds its whole life: when
// it ends, the stream fails. The stream must be ended with Close or Abort.
func (t *Transport) OpenStream(ctx context.Context, to kv.NodeID, name string) (*Stream, error) {
	p := t.peers.Load().byID[to]
	if p == nil {
		return nil, fmt.Errorf("%w: cannot open a stream to node %s", ErrUnknownNode, to)
	}
	if len(name) > maxNameBytes {
		return nil, fmt.Errorf("transport: the name of a stream has %d bytes, at most %d are possible", len(name), maxNameBytes)
	}
	d, err := t.dial(ctx, to, p.where(), purposeStream, name)
	if err != nil {
		return nil, fmt.Errorf("transport: opening stream %q: %w", name, err)
	}
	t.counters.streamsSent.Add(1)
	s := &Stream{t: t, to: to, d: d, ctx: ctx, buffer: make([]byte, chunkHeaderBytes, chunkHeaderBytes+maxChunkBytes)}
	s.stop = context.AfterFunc(ctx, func() { _ = d.conn.Close() }) // wakes whoever reads or writes
	return s, nil
}

// Write sends data. It blocks while the receiver is slower. When the receiver has given up, its reason is
// the error (ErrStreamRejected).
func (s *Stream) Write(data []byte) (int, error) {
	written := 0
	for len(data) > 0 && s.err == nil {
		room := chunkHeaderBytes + maxChunkBytes - len(s.buffer)
		n := min(room, len(data))
		s.buffer = append(s.buffer, data[:n]...)
		if n == room {
			s.sendChunk()
		}
		written += n
		data = data[n:]
	}
	return written, s.err
}

// sendChunk sends what is buffered; an empty chunk ends the stream.
func (s *Stream) sendChunk() {
	data := s.buffer[chunkHeaderBytes:]
	binary.LittleEndian.PutUint32(s.buffer, uint32(len(data)))
	binary.LittleEndian.PutUint32(s.buffer[4:], crc32.Checksum(data, castagnoli))
	_, err := s.d.conn.Write(s.buffer)
	s.buffer = s.buffer[:chunkHeaderBytes]
	if err != nil {
		s.fail(err)
	}
}

// fail notes a failed write. Its cause may be that the receiver gave up, and said why.
func (s *Stream) fail(err error) {
	_ = s.d.conn.SetReadDeadline(time.Now().Add(s.t.options.IdentityProbe)) // fails only on a closed connection
	if v, verdictErr := s.readVerdict(); verdictErr == nil && v.Failed {
		s.err = fmt.Errorf("%w: node %s: %s", ErrStreamRejected, s.to, v.Text)
		return
	}
	s.err = s.broken(err)
}

func (s *Stream) broken(err error) error {
	switch {
	case s.t.ctx.Err() != nil:
		err = ErrClosed
	case s.ctx.Err() != nil:
		err = s.ctx.Err()
	}
	return fmt.Errorf("transport: stream to node %s at %s: %w", s.to, s.d.address, err)
}

func (s *Stream) readVerdict() (*verdict, error) {
	body, err := readEnvelope(s.d.reader)
	if err != nil {
		return nil, err
	}
	return decodeVerdict(body)
}

// Close ends the stream and waits for the receiver's verdict: nil means that the receiver has
// taken all of it and says that it is safe.
func (s *Stream) Close() error {
	defer s.end()
	if s.err == nil && len(s.buffer) > chunkHeaderBytes {
		s.sendChunk()
	}
	if s.err == nil {
		s.sendChunk()
	}
	if s.err != nil {
		return s.err
	}
	v, err := s.readVerdict()
	switch {
	case err != nil:
		s.err = s.broken(err)
	case v.Failed:
		s.err = fmt.Errorf("%w: node %s: %s", ErrStreamRejected, s.to, v.Text)
	default:
		s.err = errStreamEnded
		return nil
	}
	return s.err
}

func (s *Stream) end() {
	s.stop()
	s.t.release(s.d.raw)
	if s.err == nil {
		s.err = errStreamEnded
	}
}

var errStreamEnded = errors.New("transport: the stream has ended")

// acceptStream hands a stream to the handler and its verdict to the sender.
func (t *Transport) acceptStream(accepted, conn net.Conn, greeting *bufio.Reader, h *hello) {
	if refusal, text := t.beginStream(h); refusal != RefusalNone {
		t.refuse(conn, h, refusal, text)
		return
	}
	defer t.endStream()
	if !t.welcome(accepted, conn, h) {
		return
	}
	t.counters.streamsReceived.Add(1)
	chunks := &chunkReader{source: admittedReader(greeting), patience: func() {
		_ = conn.SetReadDeadline(time.Now().Add(t.options.StreamTimeout)) // fails only on a closed connection
	}}
	err := t.options.Handler.ReceiveStream(h.From, h.Stream, chunks)
	if err == nil {
		err = chunks.expectEnd()
	}
	if errors.Is(chunks.err, errTimeout) {
		err = fmt.Errorf("the sender made no progress for %v: %w", t.options.StreamTimeout, err)
	}
	if t.ctx.Err() != nil {
		return
	}
	v := verdict{}
	if err != nil {
		v = verdict{Failed: true, Text: err.Error()}
		if listener := t.options.Listener.ReceiveFailed; listener != nil {
			listener(h.From, conn.RemoteAddr().String(), fmt.Errorf("transport: receiving stream %q from node %s: %w", h.Stream, h.From, err))
		}
	}
	_ = conn.SetWriteDeadline(time.Now().Add(t.options.HandshakeTimeout)) // fails only on a closed connection
	_, _ = conn.Write(appendEnvelope(nil, v.encode()))                    // a sender that is gone takes the stream for failed
	hangUp(conn, t.options.HandshakeTimeout)
}

// beginStream takes one of the places for streams.
func (t *Transport) beginStream(h *hello) (Refusal, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in := t.inbound[h.From]; in != nil && in.instance != h.Instance {
		return RefusalDuplicate, fmt.Sprintf("node %s is connected from %s with another process than the one that opens stream %q", h.From, in.address, h.Stream)
	}
	if t.streams >= t.options.MaxStreams {
		return RefusalBusy, fmt.Sprintf("node %s receives %d streams already, the most it takes at a time; try again", t.options.Self, t.streams)
	}
	t.streams++
	return RefusalNone, ""
}

func (t *Transport) endStream() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streams--
}

// chunkReader is the content of a stream. It returns io.EOF only after the empty chunk.
type chunkReader struct {
	source io.Reader
	// patience, if set, is called before each chunk: from then on its sender has a bounded time for it. Without that, a few senders that
	// say nothing would keep all places for streams.
	patience func()
	buffer   []byte // reused
	rest     []byte // of the current chunk
	err      error  // final
}

func (c *chunkReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.rest) == 0 && c.err == nil {
		c.err = c.next()
	}
	if len(c.rest) == 0 {
		return 0, c.err
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// next reads a chunk.
func (c *chunkReader) next() error {
	if c.patience != nil {
		c.patience()
	}
	var header [chunkHeaderBytes]byte
	if _, err := io.ReadFull(c.source, header[:]); err != nil {
		return unexpected(err)
	}
	length := binary.LittleEndian.Uint32(header[:])
	if length > maxChunkBytes {
		return fmt.Errorf("%w: a chunk of %d bytes is above the limit of %d", ErrMalformed, length, maxChunkBytes)
	}
	if c.buffer == nil {
		c.buffer = make([]byte, maxChunkBytes)
	}
	data := c.buffer[:length]
	if _, err := io.ReadFull(c.source, data); err != nil {
		return unexpected(err)
	}
	if crc32.Checksum(data, castagnoli) != binary.LittleEndian.Uint32(header[4:]) {
		return fmt.Errorf("%w: the checksum of a chunk of %d bytes is wrong", ErrMalformed, length)
	}
	if length == 0 {
		return io.EOF
	}
	c.rest = data
	return nil
}

// expectEnd fails unless everything was read.
func (c *chunkReader) expectEnd() error {
	left, err := io.Copy(io.Discard, c)
	if err == nil && left > 0 {
		err = fmt.Errorf("%w: %d bytes were left over at the end", ErrMalformed, left)
	}
	return err
}

// unexpected: an end of the connection is not the end of the stream.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
