package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quoratedb/quorate/transport/freeport"
)

// stuckReader is whoever reads the node's log lines, and stops to: then the driver, which writes them, waits.
type stuckReader struct {
	slog.Handler
	armed atomic.Bool
	until chan struct{}
}

func (r *stuckReader) Enabled(context.Context, slog.Level) bool { return true }

func (r *stuckReader) Handle(_ context.Context, line slog.Record) error {
	if r.armed.Load() && strings.HasPrefix(line.Message, "everything on disk was read again") { // by the driver, every second
		<-r.until
	}
	return nil
}

// TestStuckDriver: probes and metrics of a node whose driver stands still are answered, and say so; so is a status.
func TestStuckDriver(t *testing.T) {
	reader := &stuckReader{Handler: slog.DiscardHandler, until: make(chan struct{})}
	s, metrics := startAlone(t, func(o *Options) {
		o.Logger = slog.New(reader)
		o.Node.ScrubInterval = time.Second
		o.Cluster.HeartbeatInterval, o.Cluster.ElectionTimeout = 20*time.Millisecond, 200*time.Millisecond
	})
	await(t, metrics+"/health", http.StatusOK, `{"health":"true"`)
	reader.armed.Store(true)
	await(t, metrics+"/health", http.StatusServiceUnavailable, "NODE STUCK:the driver has done nothing for ")
	await(t, metrics+"/health?serializable=true&exclude=NOSPACE", http.StatusServiceUnavailable, "NODE STUCK:")
	await(t, metrics+"/livez", http.StatusServiceUnavailable, "[-]serializable_read failed: the driver has done nothing for ")
	await(t, metrics+"/readyz", http.StatusServiceUnavailable, "[-]linearizable_read failed: the driver has done nothing for ")
	await(t, metrics+"/metrics", http.StatusOK, "quorate_driver_standstill_seconds ")
	if status := (localNode{s}).Status(); len(status.Errors) == 0 || !strings.Contains(status.Errors[0], "the driver has done nothing") {
		t.Errorf("the status says %q", status.Errors)
	}
	reader.armed.Store(false)
	close(reader.until)
	await(t, metrics+"/health", http.StatusOK, `{"health":"true"`)
	await(t, metrics+"/readyz?verbose", http.StatusOK, "[+]linearizable_read ok")
}

// TestShuttingDown: from the first moment on a node that is shut down answers no probe, so that nobody sends it requests; also when that takes long.
func TestShuttingDown(t *testing.T) {
	t.Parallel()
	reader := &stuckReader{Handler: slog.DiscardHandler, until: make(chan struct{})}
	s, metrics := startAlone(t, func(o *Options) {
		o.Logger = slog.New(reader)
		o.Node.ScrubInterval = time.Second
		o.Cluster.HeartbeatInterval, o.Cluster.ElectionTimeout = 20*time.Millisecond, 200*time.Millisecond
	})
	await(t, metrics+"/readyz", http.StatusOK, "ok")
	reader.armed.Store(true) // so that it cannot end
	await(t, metrics+"/livez", http.StatusServiceUnavailable, "the driver has done nothing")
	ended := make(chan error, 1)
	go func() { ended <- s.Close(context.Background()) }()
	<-s.context.Done()
	for _, url := range []string{metrics + "/livez", metrics + "/readyz", metrics + "/health", metrics + "/metrics", s.options.Node.ListenClientURLs[0].String()} {
		awaitRefusal(t, url)
	}
	select {
	case err := <-ended:
		t.Errorf("it has ended, with %v: nothing was seen of shutting down", err)
	default:
	}
	close(reader.until)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// awaitRefusal waits until nobody listens any more.
func awaitRefusal(t *testing.T, url string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		answer, err := client.Get(url)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			answer.Body.Close()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still served: %v", url, err)
		}
	}
}

// startAlone starts the only node of a cluster, and returns where its metrics are.
func startAlone(t *testing.T, change func(*Options)) (*Server, string) {
	t.Helper()
	url := func() URL {
		port, err := freeport.Get()
		if err != nil {
			t.Fatal(err)
		}
		u, err := ParseURL(fmt.Sprintf("http://127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	client, peer, metrics := url(), url(), url()
	options := Options{
		Node: NodeOptions{
			Name: "alone", DataDir: t.TempDir(), ListenClientURLs: []URL{client}, AdvertiseClientURLs: []URL{client},
			ListenPeerURLs: []URL{peer}, AdvertisePeerURLs: []URL{peer}, ListenMetricsURLs: []URL{metrics},
		},
		Cluster: ClusterOptions{Members: []Member{{Name: "alone", PeerURLs: []URL{peer}}}},
	}
	change(&options)
	s, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, metrics.String()
}

// await asks until the answer has the code and begins, or has a line that begins, with the text.
func await(t *testing.T, url string, code int, text string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	client := &http.Client{Timeout: 5 * time.Second}
	for last := ""; ; {
		answer, err := client.Get(url)
		if err != nil {
			last = err.Error()
		} else {
			body, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			if answer.StatusCode == code && strings.Contains(string(body), text) {
				return
			}
			last = fmt.Sprint(answer.StatusCode, " ", string(body))
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %s; want %d and %q", url, last, code, text)
		}
	}
}
