package transport

import (
	"bufio"
	"net"
	"slices"
)

// Whoever reaches the port can connect, and say nothing. Until it has greeted, a caller is held in little memory, for a bounded time
// (Options.HandshakeTimeout), and there is a bounded number of them (Options.MaxCallers): one more ends the one that has waited longest. A node
// greets at once, so it is in within a round trip, however many others stand around.

// greetingBufferBytes is the read buffer of a caller; one that was admitted gets readBufferBytes.
const greetingBufferBytes = 1 << 10

// called makes room for a caller.
func (t *Transport) called(conn net.Conn) {
	t.mu.Lock()
	t.callers = append(t.callers, conn)
	var longest net.Conn
	if len(t.callers) > t.options.MaxCallers {
		longest = t.callers[0]
		t.callers = slices.Delete(t.callers, 0, 1)
	}
	t.mu.Unlock()
	if longest == nil {
		return
	}
	// It is counted before its end can be seen.
	dropped := t.counters.callersDropped.Add(1)
	if listener := t.options.Listener.CallerDropped; listener != nil {
		listener(longest.RemoteAddr().String(), dropped)
	}
	_ = longest.Close() // its goroutine finds out
}

// greeted takes a connection from among the callers: it was admitted, or has ended.
func (t *Transport) greeted(conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.callers, conn); i >= 0 {
		t.callers = slices.Delete(t.callers, i, i+1)
	}
}

// admittedReader is what an admitted connection is read through; what has arrived already is not lost.
func admittedReader(greeting *bufio.Reader) *bufio.Reader {
	return bufio.NewReaderSize(greeting, readBufferBytes)
}
