package cluster

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"

	"github.com/quoratedb/quorate/transport/freeport"
)

// Sieve stands in front of the peer addresses of all nodes. It lets everything pass but what the replicas of chosen shards say to each other about their logs: so
// such a shard loses its quorum, and its nodes, with their other shards, are well. Requests to its leader arrive, and nothing that it logs is ever committed.
type Sieve struct {
	done sync.WaitGroup

	mu        sync.Mutex
	lost      map[uint64]bool
	dropped   int
	closed    bool
	listeners []net.Listener
	open      map[net.Conn]struct{}
}

// NewSieve lets everything pass. Its PeerAddress belongs into Options.
func NewSieve() *Sieve { return &Sieve{lost: map[uint64]bool{}, open: map[net.Conn]struct{}{}} }

// Lose takes the quorum of a shard, Return gives it back.
func (s *Sieve) Lose(shard uint64)   { s.set(shard, true) }
func (s *Sieve) Return(shard uint64) { s.set(shard, false) }

func (s *Sieve) set(shard uint64, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost[shard] = lost
}

// Dropped is how many messages were kept back so far.
func (s *Sieve) Dropped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// PeerAddress makes an address that leads to a node.
func (s *Sieve) PeerAddress(_ int, listen string) (string, error) {
	address, err := freeport.Address()
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("listen in front of %s: %w", listen, err)
	}
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	s.done.Go(func() {
		for {
			caller, err := l.Accept()
			if err != nil {
				return
			}
			s.done.Go(func() { s.forward(caller, listen) })
		}
	})
	return address, nil
}

// Close ends all connections, and waits.
func (s *Sieve) Close() {
	s.mu.Lock()
	s.closed = true
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.done.Wait()
}

// track tells whether the connection may go on; Close ends it.
func (s *Sieve) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return false
	}
	s.open[c] = struct{}{}
	return true
}

func (s *Sieve) release(c net.Conn) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

func (s *Sieve) forward(caller net.Conn, to string) {
	if !s.track(caller) {
		return
	}
	defer s.release(caller)
	node, err := net.Dial("tcp", to)
	if err != nil || !s.track(node) {
		return
	}
	defer s.release(node)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(caller, node) // how it ended, both sides see for themselves
		_ = caller.Close()
	})
	_ = s.pass(node, caller)
	_ = node.Close()
	back.Wait()
}

// What of the peers' protocol a sieve has to know; see docs/protocols/peer.md.
const (
	envelopeBytes    = 16 // before the body of a greeting
	purposeFrames    = 1
	frameHeaderBytes = 9
	largestFrame     = 48 << 20
	channelConsensus = 1
	channelMarked    = 7
)

// pass forwards what a caller says: its greeting, and then frames, if it came for that.
func (s *Sieve) pass(to io.Writer, caller io.Reader) error {
	from := bufio.NewReaderSize(caller, 64<<10)
	head, err := from.Peek(envelopeBytes + 1)
	if err != nil {
		return err
	}
	purpose := head[envelopeBytes]
	if _, err := io.CopyN(to, from, envelopeBytes+int64(binary.LittleEndian.Uint32(head[8:]))); err != nil {
		return err
	}
	if purpose != purposeFrames {
		_, err := io.Copy(to, from)
		return err
	}
	for header := [frameHeaderBytes]byte{}; ; {
		if _, err := io.ReadFull(from, header[:]); err != nil {
			return err
		}
		length := binary.LittleEndian.Uint32(header[:])
		if length > largestFrame {
			return fmt.Errorf("a frame of %d bytes", length)
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(from, payload); err != nil {
			return err
		}
		if fields := map[byte]int{channelConsensus: 3, channelMarked: 4}[header[4]]; fields > 0 {
			if payload, err = s.sift(payload, fields); err != nil {
				return err
			}
		}
		if _, err := to.Write(frame(header[4], payload)); err != nil {
			return err
		}
	}
}

func frame(channel byte, payload []byte) []byte {
	f := append(make([]byte, frameHeaderBytes, frameHeaderBytes+len(payload)), payload...)
	binary.LittleEndian.PutUint32(f, uint32(len(payload)))
	f[4] = channel
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(f[5:], crc32.Update(crc32.Checksum(f[:5], table), table, payload))
	return f
}

// sift takes the messages of lost shards out of a frame, which begins with a number of fields.
func (s *Sieve) sift(payload []byte, fields int) ([]byte, error) {
	at := 0
	next := func() uint64 {
		v, n := binary.Uvarint(payload[at:])
		if n <= 0 {
			at = len(payload) + 1
			return 0
		}
		at += n
		return v
	}
	for range fields {
		if next(); at > len(payload) {
			return nil, io.ErrUnexpectedEOF
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := payload[:at:at]
	for at < len(payload) {
		from, shard := at, uint64(0)
		for i := range 3 { // shard, flags, length
			v := next()
			if i == 0 {
				shard = v
			}
			if at > len(payload) {
				return nil, io.ErrUnexpectedEOF
			}
			if i == 2 {
				if v > uint64(len(payload)-at) {
					return nil, io.ErrUnexpectedEOF
				}
				at += int(v)
			}
		}
		if s.lost[shard] {
			s.dropped++
			continue
		}
		kept = append(kept, payload[from:at]...)
	}
	return kept, nil
}
