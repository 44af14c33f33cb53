package etcd

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
)

// TestHTTP1: whoever comes with HTTP/1 hears what the port is, and where the rest is.
func TestHTTP1(t *testing.T) {
	with := start(t, func(o *Options) { o.MetricsURLs = []string{"http://10.0.0.1:2381"} })
	without := start(t)
	for _, c := range []struct{ method, address, body, want string }{
		{"GET", with.address, "", "/health and /metrics are at http://10.0.0.1:2381."},
		{"GET", without.address, "", "start it with --listen-metrics-urls"},
		{"POST", without.address, strings.Repeat("x", 300<<10), "Clients speak gRPC here"},
		{"DELETE", without.address, "", "Clients speak gRPC here"},
		{"HEAD", without.address, "", ""},
	} {
		request := must[*http.Request](t)(http.NewRequestWithContext(with.ctx, c.method, "http://"+c.address+"/health", strings.NewReader(c.body)))
		response := must[*http.Response](t)((&http.Transport{DisableKeepAlives: true}).RoundTrip(request))
		body := string(must[[]byte](t)(io.ReadAll(response.Body)))
		response.Body.Close()
		if response.StatusCode != http.StatusHTTPVersionNotSupported || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/plain") ||
			!strings.Contains(body, c.want) || (c.want == "") != (body == "") {
			t.Errorf("%s: %s, %v\n%s", c.method, response.Status, response.Header, body)
		}
	}
	// gRPC goes on beside it.
	must[*grpc_health_v1.HealthCheckResponse](t)(grpc_health_v1.NewHealthClient(with.client().ActiveConnection()).Check(with.ctx, &grpc_health_v1.HealthCheckRequest{}))
}

// TestHTTP1Bounds: one that sends a head without end, or stops in it, is cut off; beyond so many at a time nobody is answered.
func TestHTTP1Bounds(t *testing.T) {
	endless := start(t).dial()
	head := []byte("GET / HTTP/1.1\r\n")
	for line := []byte("X: " + strings.Repeat("y", 1000) + "\r\n"); ; head = line {
		// In the end nobody reads any more.
		if _, err := endless.Write(head); err != nil {
			break
		}
	}

	w := start(t)
	w.server.door.patience = time.Hour // that it ends is seen below
	for range maxAnswers {
		w.write(w.dial(), "GET / HT")
	}
	w.until("all answers are taken", func() bool { return len(w.server.door.answers) == maxAnswers })
	beyond := w.dial()
	w.write(beyond, "GET / HTTP/1.1\r\n\r\n")
	if got, _ := io.ReadAll(beyond); len(got) > 0 {
		t.Errorf("one too many was answered: %q", got)
	}
	must[*grpc_health_v1.HealthCheckResponse](t)(grpc_health_v1.NewHealthClient(w.client().ActiveConnection()).Check(w.ctx, &grpc_health_v1.HealthCheckRequest{}))

	slow := start(t)
	slow.server.door.patience = 50 * time.Millisecond
	half := slow.dial()
	slow.write(half, "GET / HTTP/1.1\r\nHost: x\r\n")
	if _, err := io.ReadAll(half); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("half a head: %v", err)
	}
}

// TestStopAtTheDoor: connections that say nothing, or not enough, do not hold up the end.
func TestStopAtTheDoor(t *testing.T) {
	w := start(t)
	for _, said := range []string{"", "PRI ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n"} {
		w.write(w.dial(), said)
	}
	client := w.client()
	if _, err := client.Put(w.ctx, "a", "1"); err != nil {
		t.Fatal(err)
	}
	w.until("all are there", func() bool { return w.server.rpc.Connections() >= 5 })
	client.Close()
	w.server.Stop(w.ctx)
	if w.ctx.Err() != nil {
		t.Error("the server did not stop by itself")
	}
}

// TestTLSAtThePort: a client with TLS still learns that there is none.
func TestTLSAtThePort(t *testing.T) {
	w := start(t)
	err := tls.Client(w.dial(), &tls.Config{InsecureSkipVerify: true}).HandshakeContext(w.ctx)
	if err == nil || !strings.Contains(err.Error(), "first record does not look like a TLS handshake") {
		t.Errorf("got %v", err)
	}
}

// dial is a bare connection, with the deadline of the test.
func (w *world) dial() net.Conn {
	w.Helper()
	conn := must[net.Conn](w)(net.Dial("tcp", w.address))
	w.Cleanup(func() { conn.Close() })
	deadline, _ := w.ctx.Deadline()
	conn.SetDeadline(deadline)
	return conn
}

func (w *world) write(conn net.Conn, text string) {
	w.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		w.Fatal(err)
	}
}

func (w *world) until(what string, condition func() bool) {
	w.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-w.ctx.Done():
			w.Fatalf("never: %s", what)
		}
	}
}
