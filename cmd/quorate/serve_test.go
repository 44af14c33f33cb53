package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quoratedb/quorate/server"
	"github.com/quoratedb/quorate/storage"
)

// fakeNode is a server whose life the test controls.
type fakeNode struct {
	ready  chan struct{}
	failed chan error
	closed chan struct{}
	hang   bool // Close does not heed its context
	once   sync.Once
}

func newFakeNode() *fakeNode {
	return &fakeNode{ready: make(chan struct{}), failed: make(chan error, 1), closed: make(chan struct{})}
}

func (n *fakeNode) Ready() <-chan struct{} { return n.ready }
func (n *fakeNode) Err() <-chan error      { return n.failed }
func (n *fakeNode) Close(context.Context) error {
	n.once.Do(func() { close(n.closed) })
	if n.hang {
		select {}
	}
	return nil
}

// signalBuffer tells when a text has been written.
type signalBuffer struct {
	mu      sync.Mutex
	buffer  bytes.Buffer
	awaited string
	seen    chan struct{}
}

func (b *signalBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.buffer.Write(p)
	if b.awaited != "" && strings.Contains(b.buffer.String(), b.awaited) {
		close(b.seen)
		b.awaited = ""
	}
	return n, err
}

func (b *signalBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

type served struct {
	cancel context.CancelFunc
	log    *signalBuffer
	code   chan int
}

func startServe(t *testing.T, awaited string, start func(context.Context, server.Options) (node, error), asEtcd bool, arguments ...string) *served {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &served{cancel: cancel, log: &signalBuffer{awaited: awaited, seen: make(chan struct{})}, code: make(chan int, 1)}
	a := &app{stdin: strings.NewReader(""), stdout: s.log, stderr: s.log, start: start, asEtcd: asEtcd}
	go func() { s.code <- a.run(ctx, arguments) }()
	return s
}

func (s *served) await(t *testing.T) {
	t.Helper()
	select {
	case <-s.log.seen:
	case <-time.After(20 * time.Second):
		t.Fatalf("did not come; the log is:\n%s", s.log)
	}
}

func (s *served) end(t *testing.T) int {
	t.Helper()
	select {
	case code := <-s.code:
		return code
	case <-time.After(20 * time.Second):
		t.Fatalf("serve does not end; the log is:\n%s", s.log)
		return -1
	}
}

func TestServeLife(t *testing.T) {
	n := newFakeNode()
	var got server.Options
	start := func(_ context.Context, o server.Options) (node, error) { got = o; return n, nil }
	s := startServe(t, "ready to serve client requests", start, true, "--name", "x", "--max-wals=7")
	close(n.ready)
	s.await(t)
	s.cancel()
	if code := s.end(t); code != 0 {
		t.Errorf("exit %d", code)
	}
	<-n.closed
	if got.Node.DataDir != "x.etcd" || got.Logger == nil {
		t.Errorf("options: %+v", got.Node)
	}
	if !strings.Contains(s.log.String(), "--max-wals has no meaning here") || strings.Count(s.log.String(), "ready to serve") != 1 {
		t.Errorf("log:\n%s", s.log)
	}
}

func TestServeFailures(t *testing.T) {
	refuse := func(context.Context, server.Options) (node, error) { return nil, errors.New("port in use") }
	s := startServe(t, "", refuse, false, "serve")
	if code := s.end(t); code != exitFailed || !strings.Contains(s.log.String(), "start node default: port in use") {
		t.Errorf("refused start: exit %d\n%s", code, s.log)
	}

	n := newFakeNode()
	s = startServe(t, "", func(context.Context, server.Options) (node, error) { return n, nil }, false, "serve", "--log-level=error")
	n.failed <- errors.New("fsync failed")
	if code := s.end(t); code != exitFailed || s.log.String() != "quorate: node default stopped by itself: fsync failed\n" {
		t.Errorf("failed node: exit %d\n%s", code, s.log)
	}
	<-n.closed
}

// TestServeRepairs: a node whose data is damaged is started again, once, if there are others to get the data from and nobody
// forbids it.
func TestServeRepairs(t *testing.T) {
	const members = "--initial-cluster=default=http://localhost:2380,b=http://localhost:2381"
	for _, c := range []struct {
		arguments []string
		starts    int
	}{
		{[]string{"serve"}, 1},
		{[]string{"serve", members, "--auto-repair=false"}, 1},
		{[]string{"serve", members}, 2},
	} {
		starts := 0
		s := startServe(t, "", func(context.Context, server.Options) (node, error) {
			starts++
			n := newFakeNode()
			n.failed <- fmt.Errorf("segment 7: %w", storage.ErrCorrupt)
			return n, nil
		}, false, c.arguments...)
		if code := s.end(t); code != exitFailed || starts != c.starts || !strings.Contains(s.log.String(), "segment 7") {
			t.Errorf("%v: started %d times, exit %d\n%s", c.arguments, starts, code, s.log)
		}
	}
}

func TestServeInterruptedStart(t *testing.T) {
	entered := make(chan struct{})
	start := func(ctx context.Context, _ server.Options) (node, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s := startServe(t, "", start, false, "serve", "--log-format", "json")
	<-entered
	s.cancel()
	if code := s.end(t); code != 0 || !strings.Contains(s.log.String(), `"msg":"interrupted while starting"`) {
		t.Errorf("exit %d\n%s", code, s.log)
	}
}

// TestCloseThatHangs: a node that ignores its deadline does not keep the process.
func TestCloseThatHangs(t *testing.T) {
	n := newFakeNode()
	n.hang = true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := closeNode(ctx, n); err == nil || !strings.Contains(err.Error(), "did not end in time") {
		t.Errorf("got %v", err)
	}
}

func TestServeHelpAndVersion(t *testing.T) {
	flag, _, _ := invoke(t, nil, "", "serve", "--help")
	topic, _, code := invoke(t, nil, "", "help", "serve")
	if code != exitOK || topic != flag || !strings.Contains(topic, "--data-dir") {
		t.Errorf("help serve: exit %d\n%s", code, topic)
	}
	for _, c := range []struct {
		arguments []string
		asEtcd    bool
		want      string
	}{
		{[]string{"serve", "--help"}, false, "--initial-cluster-token"},
		{[]string{"-h"}, true, "--initial-cluster-token"},
		{[]string{"--version"}, true, "etcd Version: " + server.EtcdVersion + "\n"},
		{[]string{"version"}, false, "Quorate Version: " + server.Version + "\n"},
	} {
		var out bytes.Buffer
		a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &out, asEtcd: c.asEtcd}
		if code := a.run(t.Context(), c.arguments); code != 0 || !strings.Contains(out.String(), c.want) {
			t.Errorf("%v: exit %d\n%s", c.arguments, code, out.String())
		}
	}
}

func TestStartedAsEtcd(t *testing.T) {
	for program, want := range map[string]bool{"/usr/bin/etcd": true, "etcd": true, "etcd.exe": true, "./quorate": false, "etcdctl": false} {
		if startedAsEtcd(program) != want {
			t.Errorf("%s: want %v", program, want)
		}
	}
}

func TestServeCompletion(t *testing.T) {
	names, _ := completeServeFlags(nil, nil, "")
	if !strings.Contains(strings.Join(names, "\n"), "--data-dir=") {
		t.Errorf("got %q", names)
	}
}
