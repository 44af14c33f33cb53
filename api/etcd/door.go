package etcd

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// door is where a connection stands until gRPC has shaken hands with it. It knows those that stand there, because gRPC
// waits for them when it stops, even for one that never says anything; and it answers those that speak HTTP/1, which
// gRPC would close without a word.
type door struct {
	notice   string        // for people who came with HTTP/1
	answers  chan struct{} // holds one for each answer being given
	patience time.Duration // for one answer

	mu      sync.Mutex
	waiting map[*visitor]struct{}
	shut    bool
}

// Bounds of what HTTP/1 costs: connections at a time, of which each holds two buffers of 4 KiB; bytes and time of one.
const (
	maxAnswers       = 32
	maxRequestHead   = 16 << 10
	maxRequestIgnore = 1 << 20 // of a body, so that the answer is not lost in a reset of the connection
	answerPatience   = 5 * time.Second
)

func newDoor(metricsURLs []string) *door {
	return &door{notice: httpNotice(metricsURLs), answers: make(chan struct{}, maxAnswers), patience: answerPatience, waiting: map[*visitor]struct{}{}}
}

// httpNotice says what the port is, and where what was looked for may be.
func httpNotice(metricsURLs []string) string {
	elsewhere := "nowhere on this node: start it with --listen-metrics-urls to have them"
	if len(metricsURLs) > 0 {
		elsewhere = "at " + strings.Join(metricsURLs, ", ")
	}
	return "This is the client port of a Quorate node. Clients speak gRPC here (HTTP/2): etcdctl, quorate, or a client library of etcd's.\n" +
		"/health and /metrics are " + elsewhere + ".\n" +
		"The JSON gateway (/v3/...) is not there.\n"
}

// visitor is a connection that came through the door.
type visitor struct {
	net.Conn
	door *door
	seen []byte // was read to find out what the connection speaks; is read again first
}

func (v *visitor) Read(p []byte) (int, error) {
	if len(v.seen) == 0 {
		return v.Conn.Read(p)
	}
	n := copy(p, v.seen)
	v.seen = v.seen[n:]
	return n, nil
}

// SetDeadline lets the visitor in: gRPC takes the deadline of the handshake away when it is over.
func (v *visitor) SetDeadline(t time.Time) error {
	if t.IsZero() {
		v.door.leave(v)
	}
	return v.Conn.SetDeadline(t)
}

func (v *visitor) Close() error {
	v.door.leave(v)
	return v.Conn.Close()
}

func (d *door) leave(v *visitor) {
	d.mu.Lock()
	delete(d.waiting, v)
	d.mu.Unlock()
}

// doorListener gives visitors.
type doorListener struct {
	net.Listener
	door *door
}

func (l doorListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	v := &visitor{Conn: conn, door: l.door}
	l.door.mu.Lock()
	defer l.door.mu.Unlock()
	if l.door.shut {
		conn.Close() // gRPC finds out
	} else {
		l.door.waiting[v] = struct{}{}
	}
	return v, nil
}

// close turns away who stands at the door, now and later.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = true
	for v := range d.waiting {
		v.Conn.Close() // what waits for it goes on with an error, and leaves
	}
}

// doorCredentials are none, with a look at the first bytes where TLS would shake hands: before gRPC writes anything.
type doorCredentials struct {
	credentials.TransportCredentials
	door *door
}

func (d *door) credentials() credentials.TransportCredentials {
	return doorCredentials{insecure.NewCredentials(), d}
}

// ServerHandshake has the deadline that gRPC gives to a handshake.
func (c doorCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	v, isVisitor := conn.(*visitor)
	if !isVisitor {
		return c.TransportCredentials.ServerHandshake(conn)
	}
	first := make([]byte, 4)
	if _, err := io.ReadFull(v.Conn, first); err != nil {
		return nil, nil, io.EOF // somebody only looked whether the port is open
	}
	v.seen = first
	if isHTTP1(string(first)) {
		c.door.answer(v)
		v.Close()
		return nil, nil, credentials.ErrConnDispatched
	}
	return c.TransportCredentials.ServerHandshake(v)
}

// Clone implements credentials.TransportCredentials.
func (c doorCredentials) Clone() credentials.TransportCredentials {
	return doorCredentials{c.TransportCredentials.Clone(), c.door}
}

// isHTTP1 goes by the method; HTTP/2 begins with "PRI ".
func isHTTP1(first string) bool {
	switch first {
	case "GET ", "HEAD", "POST", "PUT ", "DELE", "OPTI", "PATC", "TRAC", "CONN":
		return true
	}
	return false
}

// answer reads the head of a request and gives the notice, whatever was asked.
func (d *door) answer(v *visitor) {
	select {
	case d.answers <- struct{}{}:
		defer func() { <-d.answers }()
	default:
		return
	}
	v.Conn.SetDeadline(time.Now().Add(d.patience))
	request, err := http.ReadRequest(bufio.NewReader(io.LimitReader(v, maxRequestHead)))
	if err != nil {
		request = nil // the notice says more than what is wrong with a request that is refused anyway
	}
	response := http.Response{
		// This status is for a server that does not speak the request's version; its text is to say what it does speak.
		StatusCode: http.StatusHTTPVersionNotSupported, ProtoMajor: 1, ProtoMinor: 1, Request: request, Close: true,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		ContentLength: int64(len(d.notice)), Body: io.NopCloser(strings.NewReader(d.notice)),
	}
	var text bytes.Buffer
	if response.Write(&text) != nil {
		return
	}
	if _, err := v.Conn.Write(text.Bytes()); err != nil {
		return
	}
	if half, can := v.Conn.(interface{ CloseWrite() error }); can && half.CloseWrite() == nil {
		// A connection that is closed with unread bytes is reset, and the client may not see the answer.
		io.CopyN(io.Discard, v.Conn, maxRequestIgnore)
	}
}
