package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/storage"
)

// TestStateWithoutLogIsRefused: a node whose log is gone must not start as if it had never voted.
func TestStateWithoutLogIsRefused(t *testing.T) {
	options := freshOptions(t)
	start := func() (*Server, error) { return Start(t.Context(), options) }
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("not ready")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(options.Node.DataDir, "log")
	if err := os.Rename(log, log+".away"); err != nil {
		t.Fatal(err)
	}
	// The only node of a cluster has nobody to get its data from: everything stays as it is.
	if _, err := start(); !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "has state but no log") || !strings.Contains(err.Error(), "no other replica has a good copy") {
		t.Fatalf("started without a log: %v", err)
	}
	if err := os.Rename(log+".away", log); err != nil {
		t.Fatal(err)
	}
	if s, err = start(); err != nil {
		t.Fatalf("with the log back: %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// freshOptions are of a cluster of one that listens on any free ports.
func freshOptions(t *testing.T) Options {
	t.Helper()
	listen := []URL{{Host: "127.0.0.1"}}
	return Options{Node: NodeOptions{
		Name: "n1", DataDir: filepath.Join(t.TempDir(), "n1"), ListenClientURLs: listen, ListenPeerURLs: listen,
	}}
}
