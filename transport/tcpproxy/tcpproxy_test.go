package tcpproxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that returns each line.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func say(t *testing.T, conn net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	got, err := r.ReadString('\n')
	if err != nil || got != want+"\n" {
		t.Fatalf("heard %q, %v where %q was said", got, err, want)
	}
}

func TestMisbehaviour(t *testing.T) {
	p, err := New(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	dial := func() (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, bufio.NewReader(conn)
	}

	conn, reader := dial()
	say(t, conn, "hello")
	hear(t, reader, "hello")

	p.Blackhole(ToTarget, true)
	say(t, conn, "lost")
	// The hole must not be closed before the proxy has read the line.
	p.await(func() bool { return p.swallowed > 0 })
	p.Blackhole(ToTarget, false)
	say(t, conn, "kept")
	hear(t, reader, "kept")

	p.Stall(FromTarget, true)
	say(t, conn, "late")
	p.await(func() bool { return p.waiting > 0 })
	p.Stall(FromTarget, false)
	hear(t, reader, "late")

	p.HalfClose(FromTarget)
	if _, err := reader.ReadByte(); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v after a half-close", err)
	}

	conn, reader = dial()
	say(t, conn, "again")
	hear(t, reader, "again")
	p.Cut()
	if _, err := reader.ReadByte(); err == nil {
		t.Fatal("the connection was not cut")
	}
	conn, reader = dial()
	say(t, conn, "still open for others")
	hear(t, reader, "still open for others")

	p.Refuse()
	if _, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("got %v where a refusal is due", err)
	}
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
	p.SetTarget(echo(t))
	conn, reader = dial()
	say(t, conn, "moved")
	hear(t, reader, "moved")
	if p.Accepted() != 4 {
		t.Fatalf("%d connections were counted", p.Accepted())
	}
}

// await waits for a condition on the counters.
func (p *Proxy) await(condition func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !condition() {
		p.changed.Wait()
	}
}

// Accepted counts the connections so far.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}
