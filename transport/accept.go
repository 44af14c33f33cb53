package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/quoratedb/quorate/kv"
)

const (
	readBufferBytes = 256 << 10
	maxControlBytes = 64
	acceptPause     = 50 * time.Millisecond
)

var errTimeout = os.ErrDeadlineExceeded

// inbound is an accepted connection for frames. There is at most one per node.
type inbound struct {
	conn     net.Conn
	address  string
	instance uint64
	name     string
	done     chan struct{} // closed when nothing more is handed to the handler

	probing sync.Mutex  // held by who asks whether the process lives
	nonce   uint64      // of the last probe; guarded by probing
	answers chan uint64 // nonces that came back
}

// accept takes callers until Close.
func (t *Transport) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if t.ctx.Err() != nil {
			if err == nil {
				_ = conn.Close() // nothing was said on it
			}
			return
		}
		if err != nil {
			// Too many open files, mostly: others may be closed soon.
			if listener := t.options.Listener.AcceptFailed; listener != nil {
				listener(fmt.Errorf("transport: accepting a connection on %s: %w", l.Addr(), err))
			}
			select {
			case <-time.After(acceptPause):
			case <-t.ctx.Done():
			}
			continue
		}
		if t.track(conn) {
			t.called(conn)
			t.done.Go(func() {
				defer t.release(conn)
				defer t.greeted(conn)
				t.receive(conn)
			})
		}
	}
}

// receive is the life of an accepted connection.
func (t *Transport) receive(conn net.Conn) {
	address := conn.RemoteAddr().String()
	setDeadAfter(conn, t.options.DeadAfter)
	_ = conn.SetDeadline(time.Now().Add(t.options.HandshakeTimeout)) // fails only on a closed connection
	accepted := conn
	conn, err := t.secure(accepted)
	if err != nil {
		t.refuseInsecure(accepted, err)
		return
	}
	greeting := bufio.NewReaderSize(conn, greetingBufferBytes)
	h, err := readHello(greeting)
	if err != nil {
		// Somebody looked whether the port is open, or it is no node at all.
		if !errors.Is(err, io.EOF) {
			t.refuse(conn, &hello{}, RefusalInvalidRequest, err.Error())
		}
		return
	}
	if h.Purpose == purposeLists {
		t.asked(conn, greeting, h)
		return
	}
	if refusal, text := t.options.judge(h, t.peers.Load().standing(h.From)); refusal != RefusalNone {
		t.refuse(conn, h, refusal, text)
		return
	}
	if text := t.judgeSecurity(conn, h); text != "" {
		t.refuse(conn, h, RefusalSecurity, text)
		return
	}
	if h.Purpose == purposeStream {
		t.acceptStream(accepted, conn, greeting, h)
		return
	}
	in := &inbound{conn: conn, address: address, instance: h.Instance, name: h.Name, done: make(chan struct{}), answers: make(chan uint64, 1)}
	if refusal, text := t.admit(h.From, in); refusal != RefusalNone {
		t.refuse(conn, h, refusal, text)
		return
	}
	defer t.leave(h.From, in)
	if !t.welcome(accepted, conn, h) {
		return
	}
	if listener := t.options.Listener.Accepted; listener != nil {
		listener(h.From, address, PeerInfo{Name: h.Name, Instance: h.Instance, FormatVersion: min(h.MaxVersion, t.options.MaxFormatVersion), Metadata: h.Metadata})
	}
	if t.returned(h.From, h.Instance) {
		t.options.Handler.PeerReturned(h.From)
	}
	err = t.readFrames(h.From, in, admittedReader(greeting))
	if err != io.EOF && t.ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		if listener := t.options.Listener.ReceiveFailed; listener != nil {
			listener(h.From, address, fmt.Errorf("transport: receiving from node %s (%q) at %s: %w", h.From, h.Name, address, err))
		}
	}
}

func readHello(r io.Reader) (*hello, error) {
	body, err := readEnvelope(r)
	if err != nil {
		return nil, err
	}
	return decodeHello(body)
}

// welcome completes the handshake. The connection is no caller's any more before the other side hears of it: from then on no other caller ends it.
// conn is the one that was accepted, or TLS on it.
func (t *Transport) welcome(accepted, conn net.Conn, h *hello) bool {
	t.greeted(accepted)
	_, err := conn.Write(appendEnvelope(nil, t.options.reply(h, RefusalNone, "").encode()))
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	return err == nil // otherwise the caller is gone, and will call again if it wants to
}

// refuse tells both sides why.
func (t *Transport) refuse(conn net.Conn, h *hello, refusal Refusal, text string) {
	if listener := t.options.Listener.Refused; listener != nil && t.ctx.Err() == nil {
		listener(&RefusedError{Node: h.From, Address: conn.RemoteAddr().String(), Refusal: refusal, Text: text})
	}
	_, _ = conn.Write(appendEnvelope(nil, t.options.reply(h, refusal, text).encode())) // if it does not arrive, there is nobody to be told
	hangUp(conn, t.options.IdentityProbe)
}

// hangUp closes for writing and reads until the other side has closed too: a close with unread
// input would reset the connection and might destroy our last words.
func hangUp(conn net.Conn, patience time.Duration) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // as good as we can
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience)) // fails only on a closed connection
	_, _ = io.Copy(io.Discard, conn)
}

// admit makes in the node's connection. The same process may replace its connection at any time. Another
// one may only when the process that is connected does not live any more.
func (t *Transport) admit(node kv.NodeID, in *inbound) (Refusal, string) {
	for {
		old, enrolled := t.enroll(node, in)
		switch {
		case enrolled:
			return RefusalNone, ""
		case old == nil:
			return RefusalUnknownNode, fmt.Sprintf("node %s has nothing to do with node %s any more", t.options.Self, node)
		}
		if old.instance != in.instance && old.alive(t.options.IdentityProbe) {
			return RefusalDuplicate, fmt.Sprintf("another live process, connected from %s under the name %q, has the node id %s of the caller, named %q at %s; "+
				"two nodes were started with one name or with copies of one data directory: stop one of them", old.address, old.name, node, in.name, in.address)
		}
		_ = old.conn.Close() // its process is dead, or replaces it
		timer := time.NewTimer(t.options.HandshakeTimeout / 2)
		select {
		case <-old.done: // frames of two connections are never handled at the same time
			timer.Stop()
		case <-timer.C:
			return RefusalBusy, fmt.Sprintf("node %s still handles what came on an earlier connection; try again", t.options.Self)
		}
	}
}

// enroll registers in unless another connection of the node is there, which it returns, or the node is no peer any more.
func (t *Transport) enroll(node kv.NodeID, in *inbound) (old *inbound, enrolled bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.inbound[node]; old != nil || t.peers.Load().byID[node] == nil {
		return old, false
	}
	t.inbound[node] = in
	return nil, true
}

// returned tells whether the process that has connected had been connected before.
func (t *Transport) returned(node kv.NodeID, instance uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.heard[node]
	t.heard[node] = instance
	return before == instance
}

func (t *Transport) leave(node kv.NodeID, in *inbound) {
	t.mu.Lock()
	delete(t.inbound, node)
	t.mu.Unlock()
	close(in.done)
}

// alive asks the process at the other end for a sign of life.
func (in *inbound) alive(patience time.Duration) bool {
	in.probing.Lock()
	defer in.probing.Unlock()
	in.nonce++
	deadline := time.Now().Add(patience)
	_ = in.conn.SetWriteDeadline(deadline) // fails only on a closed connection
	probe := appendFrame(nil, channelControl, func(b []byte) []byte { return binary.LittleEndian.AppendUint64(b, in.nonce) })
	if _, err := in.conn.Write(probe); err != nil {
		return false
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case nonce := <-in.answers:
			if nonce == in.nonce {
				return true
			}
		case <-in.done:
			return false
		case <-timer.C:
			return false
		}
	}
}

// answered takes the answer to a probe.
func (in *inbound) answered(payload []byte) {
	if len(payload) != 8 {
		return
	}
	select {
	case in.answers <- binary.LittleEndian.Uint64(payload):
	default: // nobody asked
	}
}

// readFrames hands frames to the handler until the connection ends.
func (t *Transport) readFrames(node kv.NodeID, in *inbound, reader *bufio.Reader) error {
	for {
		channel, payload, err := readFrame(reader, t.options.MaxFrameBytes)
		if err != nil {
			return err
		}
		if channel == channelControl {
			in.answered(payload)
		} else {
			t.counters.framesReceived.Add(1)
			t.counters.bytesReceived.Add(int64(len(payload) + frameHeaderBytes))
			t.options.Handler.Receive(node, channel, payload)
		}
		if !frameBuffered(reader) {
			t.options.Handler.ReceiveDone(node)
		}
	}
}
