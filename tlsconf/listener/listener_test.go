package listener

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/tlsconf"
)

// callers is how many there may be in these tests.
const callers = 16

// port is a listener that echoes what comes on its connections.
type port struct {
	*Listener
	client   *tls.Config
	failures chan string
	dropped  chan int64
}

func newPort(t *testing.T, timeout time.Duration) *port {
	t.Helper()
	authority, err := tlsconf.NewAuthority("ca", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := authority.Issue(tlsconf.Request{Hosts: []string{"127.0.0.1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &port{client: &tls.Config{ServerName: "127.0.0.1", RootCAs: x509.NewCertPool()}, failures: make(chan string, 10_000), dropped: make(chan int64, 10_000)}
	p.client.RootCAs.AppendCertsFromPEM(authority.PEM())
	p.Listener = Wrap(inner, Options{
		Config:  &tls.Config{Certificates: []tls.Certificate{pair}},
		Callers: callers,
		Failed:  func(_ net.Addr, plain bool, err error) { p.failures <- err.Error() },
		Dropped: func(_ net.Addr, total int64) { p.dropped <- total },
	})
	p.timeout = timeout
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := p.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() {
		p.Close()
		<-served
	})
	return p
}

// echo tells whether a client with TLS is served.
func (p *port) echo(t *testing.T) {
	t.Helper()
	c, err := tls.Dial("tcp", p.Addr().String(), p.client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := bytes.Repeat([]byte("x"), 3*maxHelloBytes) // the bound is that of a handshake only
	go c.Write(want)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatal(err)
	}
}

func (p *port) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestPlainTextIsAnswered: a client without TLS reads what is wrong, and so does the operator.
func TestPlainTextIsAnswered(t *testing.T) {
	p := newPort(t, helloTimeout)
	for _, first := range []string{"GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
		c := p.dial(t)
		if _, err := io.WriteString(c, first); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if err != nil || !strings.Contains(string(answer), "400 Bad Request") || !strings.Contains(string(answer), "This port speaks TLS") {
			t.Errorf("%q: %q, %v", first, answer, err)
		}
		if _, body, _ := strings.Cut(string(answer), "\r\n\r\n"); len(body) != 102 {
			t.Errorf("the body has %d bytes", len(body))
		}
		c.Close()
		if failure := <-p.failures; !strings.Contains(failure, "does not look like a TLS handshake") {
			t.Errorf("failure: %s", failure)
		}
	}
	p.echo(t)
}

// TestCallersAreBounded: those who say nothing cut each other off, and a client is served beside any number of them.
func TestCallersAreBounded(t *testing.T) {
	p := newPort(t, helloTimeout)
	for range 3 * callers {
		p.dial(t)
	}
	for range 2 * callers {
		<-p.dropped
	}
	p.echo(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.callers) > callers {
		t.Errorf("%d callers", len(p.callers))
	}
}

// TestSlowCallersEnd: a handshake has a bounded time, however slowly it goes on.
func TestSlowCallersEnd(t *testing.T) {
	p := newPort(t, 100*time.Millisecond)
	c := p.dial(t)
	if _, err := c.Write([]byte{0x16, 3, 1, 0xff}); err != nil {
		t.Fatal(err)
	}
	if failure := <-p.failures; !strings.Contains(failure, "timeout") {
		t.Errorf("failure: %s", failure)
	}
	p.echo(t)
}

// TestHostileHandshakes: whatever a caller sends, it costs bounded memory, and others are served.
func TestHostileHandshakes(t *testing.T) {
	p := newPort(t, helloTimeout)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		c := p.dial(t)
		noise := make([]byte, random.IntN(4<<10)+1)
		for j := range noise {
			noise[j] = byte(random.Uint32())
		}
		if i%2 == 0 { // one that looks like a handshake
			copy(noise, []byte{0x16, 3, 1, byte(random.IntN(0x40)), 0, 1, byte(random.IntN(2)), 0, 0})
		}
		_, _ = c.Write(noise)
		c.Close()
	}
	// A greeting that never ends: small records of one large handshake message.
	w := &wire{Conn: &endless{}}
	w.left.Store(maxHelloBytes)
	err := tls.Server(w, p.options.Config).Handshake()
	if read := w.Conn.(*endless).read; err == nil || read > maxHelloBytes {
		t.Errorf("%d bytes were read: %v", read, err)
	}
	if _, err := io.Copy(io.Discard, w); w.Conn.(*endless).read != maxHelloBytes || !errors.Is(err, errTooLong) {
		t.Errorf("%d bytes in all, %v", w.Conn.(*endless).read, err)
	}
	p.echo(t)
}

// endless sends a client's greeting of 16 MiB in records of 32 bytes.
type endless struct {
	net.Conn
	read int
	rest []byte
}

func (e *endless) Read(b []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = append([]byte{0x16, 3, 1, 0, 32}, make([]byte, 32)...)
		if e.read == 0 {
			copy(e.rest[5:], []byte{1, 0, 0xff, 0xff})
		}
	}
	n := copy(b, e.rest)
	e.rest = e.rest[n:]
	e.read += n
	return n, nil
}

func (e *endless) Write(b []byte) (int, error) { return len(b), nil }

// TestCloseEndsCallers: Close waits for nobody's handshake.
func TestCloseEndsCallers(t *testing.T) {
	p := newPort(t, time.Hour)
	c := p.dial(t)
	if _, err := c.Write([]byte{0x16}); err != nil {
		t.Fatal(err)
	}
	p.echo(t) // came later, so the silent one was accepted
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
	if _, err := p.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepting: %v", err)
	}
}
