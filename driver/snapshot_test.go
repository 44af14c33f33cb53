package driver

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/consensus/raft"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// A snapshot that does not hold what it announces is refused before anything is done with it: the sender is told, and the node goes on
// with what it has.
func TestSnapshotIsCompared(t *testing.T) {
	c := servingCluster(t, 3, false, time.Millisecond, nil)
	leader := c.leader()
	to := c.nodes[(leader.index+1)%3]
	if err := leader.replica.flushAll(); err != nil {
		t.Fatal(err)
	}
	m := leader.replica.machine
	honest := consensus.SnapshotMeta{Index: m.AppliedIndex(), Term: m.AppliedTerm(), Config: m.Config()}
	neighbour := leader.driver.opts.Engine.NewBatch()
	neighbour.Set(keys.State(2), []byte("the state of another shard"))
	if err := leader.driver.opts.Engine.Apply(neighbour); err != nil {
		t.Fatal(err)
	}
	neighbour.Close()
	files := leader.driver.opts.Files
	export := func(spans []storage.Span) []string {
		state := leader.driver.opts.Engine.NewSnapshot()
		defer state.Close()
		dir, err := files.TempDir(leader.driver.opts.StagingDir, "test-")
		if err != nil {
			t.Fatal(err)
		}
		names, err := leader.driver.opts.Engine.Export(context.Background(), state, spans, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	send := func(group consensus.GroupID, announced consensus.SnapshotMeta, names []string) error {
		var stream bytes.Buffer
		var sent int64
		message := consensus.Message{From: consensus.ReplicaID(leader.index + 1), To: consensus.ReplicaID(to.index + 1), Kind: raft.KindSnapshot,
			Class: consensus.ClassSnapshot, Term: leader.replica.core.Status().Term, Snapshot: &announced}
		if err := writeSnapshot(&stream, files, group, message, names, &sent); err != nil {
			t.Fatal(err)
		}
		return to.driver.ReceiveStream(leader.id, snapshotStream, &stream)
	}
	spans := m.StateSpans()
	later, others, early := honest, honest, honest
	later.Index += 1 << 40
	early.Term++
	others.Config = consensus.Config{Voters: []consensus.ReplicaID{1, 2}}
	for what, try := range map[string]func() error{
		"no files": func() error { return send(1, honest, nil) },
		"a part of the keys": func() error {
			return send(1, honest, export([]storage.Span{{Lower: spans[0].Lower, Upper: keys.State(1)}}))
		},
		"another shard": func() error { return send(1, honest, export(keys.Spans(2))) },
		"keys of others": func() error {
			return send(1, honest, export([]storage.Span{{Lower: spans[0].Lower, Upper: keys.Spans(2)[0].Upper}}))
		},
		"keys of the node": func() error { return send(1, honest, export([]storage.Span{{Upper: spans[0].Upper}})) },
		"another index":    func() error { return send(1, later, export(spans)) },
		"another term":     func() error { return send(1, early, export(spans)) },
		"other members":    func() error { return send(1, others, export(spans)) },
		"another group":    func() error { return send(7, honest, export(spans)) },
	} {
		before := to.driver.Metrics().MessagesRefused
		err := try()
		if err == nil {
			t.Errorf("%s: taken", what)
			continue
		}
		to.driver.Round()
		if to.driver.Metrics().MessagesRefused != before+1 || to.driver.Err() != nil || len(to.replica.staged) > 0 || !strings.Contains(err.Error(), "is refused") {
			t.Errorf("%s: %v; %d refused; %v", what, err, to.driver.Metrics().MessagesRefused-before, to.driver.Err())
		}
	}
	if err := send(1, honest, export(spans)); err != nil {
		t.Errorf("an honest one: %v", err)
	}
	c.run(time.Second, nil)
	for _, n := range c.nodes {
		if n.driver.Err() != nil {
			t.Errorf("node %d: %v", n.id, n.driver.Err())
		}
	}
	if err := to.driver.ReceiveStream(leader.id, snapshotStream, bytes.NewReader([]byte{1, 2, 3})); err == nil {
		t.Error("a torn announcement was taken")
	}
}

// unusable is a core that has nothing to say to a snapshot.
type unusable struct {
	fakeCore
	err error
}

func (c *unusable) Step(consensus.Message) error { return c.err }

// TestLateSnapshotKeepsNoFiles: what the core has no use for, or refuses, is gone with the round, though the core has no work.
func TestLateSnapshotKeepsNoFiles(t *testing.T) {
	for _, refusal := range []error{nil, raft.ErrInvalidMessage} {
		b := newBench()
		b.driven.core = &unusable{err: refusal}
		dir := filepath.Join(t.TempDir(), "in")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		m := consensus.Message{From: 2, To: 1, Class: consensus.ClassSnapshot, Snapshot: &consensus.SnapshotMeta{Index: 1, Term: 1}}
		b.step(0, 2, &groupMessage{group: 1, from: 2, message: m, staged: &stagedSnapshot{from: systemFiles{}, dir: dir, index: 1, term: 1}})
		if !b.in.dirty {
			t.Error("nobody looks whether the core wants the snapshot")
		}
		if err := b.takeReady(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || len(b.staged) > 0 {
			t.Errorf("refused with %v; the files are there: %v; %d are staged", refusal, err, len(b.staged))
		}
	}
}
