package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/etcdsnap"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/lsm"
)

// snapshotOf writes a snapshot of a few keys; the leases are of the keys "a" and "b".
func snapshotOf(t *testing.T, leaseA, leaseB kv.LeaseID) string {
	t.Helper()
	w, err := etcdsnap.Create(filepath.Join(t.TempDir(), "s"), etcdsnap.MaxBytes)
	if err != nil {
		t.Fatal(err)
	}
	err = w.PutLease(kv.Lease{ID: 7, TTLSeconds: 100})
	for i, key := range []string{"a", "b", "c", "a"} {
		rev := kv.Revision(2 + i)
		v := etcdsnap.Version{KeyValue: kv.KeyValue{Key: []byte(key), Value: []byte{byte(i)}, CreateRevision: rev, ModRevision: rev, Version: 1}}
		switch i {
		case 1:
			v.Lease = leaseB
		case 3:
			v.CreateRevision, v.Version, v.Lease = 2, 2, leaseA
		}
		err = errors.Join(err, w.Put(&v))
	}
	content := new(bytes.Buffer)
	err = errors.Join(err, w.Finish(0), w.Send(4096, func(piece []byte, _ int64) error { content.Write(piece); return nil }), w.Close())
	path := filepath.Join(t.TempDir(), "snapshot")
	if err = errors.Join(err, os.WriteFile(path, content.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

func restoreOptions(t *testing.T, shards int) Options {
	o := Options{Node: NodeOptions{DataDir: filepath.Join(t.TempDir(), "data")}}
	o.Cluster.Partition.Shards = shards
	return o.WithDefaults()
}

// loggingIn is a copy of a snapshot, without a hash, in which users have to log in; the row of the user root is given.
func loggingIn(t *testing.T, path, root string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	path = filepath.Join(t.TempDir(), "copy")
	if err = errors.Join(err, os.WriteFile(path, content[:len(content)-etcdsnap.HashSize], 0o600)); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.Bucket([]byte("auth")).Put([]byte("authEnabled"), []byte{1}), tx.Bucket([]byte("authUsers")).Put([]byte("root"), []byte(root)))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRestoreRefuses also makes sure that nothing is left behind.
func TestRestoreRefuses(t *testing.T) {
	good := snapshotOf(t, 7, 7)
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	file := func(content []byte) RestoreOptions {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return RestoreOptions{Snapshot: path}
	}
	skipping := func(r RestoreOptions) RestoreOptions { r.SkipHashCheck = true; return r }
	damaged := bytes.Clone(content)
	damaged[len(damaged)/2] ^= 1
	full, behind, gone := restoreOptions(t, 1), restoreOptions(t, 1), restoreOptions(t, 8)
	err = errors.Join(os.Mkdir(full.Node.DataDir, 0o700), os.WriteFile(filepath.Join(full.Node.DataDir, "x"), nil, 0o600),
		os.Mkdir(behind.Node.DataDir+".restoring", 0o700))
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for want, c := range map[string]struct {
		options Options
		restore RestoreOptions
	}{
		"is not empty":             {full, RestoreOptions{Snapshot: good}},
		"another restore has left": {behind, RestoreOptions{Snapshot: good}},
		"no such file":             {restoreOptions(t, 1), RestoreOptions{Snapshot: good + "x"}},
		"not a snapshot of etcd":   {restoreOptions(t, 1), RestoreOptions{Snapshot: os.Args[0], SkipHashCheck: true}},
		"does not begin as a file": {restoreOptions(t, 1), file([]byte("{}"))},
		"its hash is not that":     {restoreOptions(t, 1), file(damaged)},
		"--skip-hash-check takes":  {restoreOptions(t, 1), file(content[:len(content)-etcdsnap.HashSize])},
		"it was cut off":           {restoreOptions(t, 1), skipping(file(content[:len(content)/2]))},
		"--drop-auth restores it":  {restoreOptions(t, 1), skipping(RestoreOptions{Snapshot: loggingIn(t, good, "x")})},
		context.Canceled.Error():   {gone, RestoreOptions{Snapshot: good}},
	} {
		ctx := t.Context()
		if c.options.Node.DataDir == gone.Node.DataDir {
			ctx = over
		}
		_, err := Restore(ctx, c.options, c.restore)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want one that says %q", err, want)
		}
		if _, err := os.Stat(c.options.Node.DataDir + ".restoring"); !errors.Is(err, os.ErrNotExist) && c.options.Node.DataDir != behind.Node.DataDir {
			t.Errorf("%q left something behind: %v", want, err)
		}
		if _, err := os.Stat(c.options.Node.DataDir); !errors.Is(err, os.ErrNotExist) && c.options.Node.DataDir != full.Node.DataDir {
			t.Errorf("%q made a data directory: %v", want, err)
		}
	}
	with := RestoreOptions{Snapshot: loggingIn(t, good, "\n\x04root"), SkipHashCheck: true}
	r, err := Restore(t.Context(), restoreOptions(t, 1), with)
	if err != nil || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "1 users and 0 roles; users have to log in") {
		t.Errorf("with users: %+v, %v", r, err)
	}
	with.DropAuth = true
	dropped, err := Restore(t.Context(), restoreOptions(t, 1), with)
	if err != nil || len(dropped.Notes) != 1 || !strings.Contains(dropped.Notes[0], "1 users and 0 roles are left out") || dropped.Token == r.Token {
		t.Errorf("without users: %+v, %v", dropped, err)
	}
	state, _, err := auth.Import([]auth.User{{Name: "root", Hash: []byte("h")}}, nil, 1, true)
	if err != nil || len(secretOf(state, 5)) < kv.MinAuthSecret || !bytes.Equal(secretOf(state, 5), secretOf(state, 5)) || bytes.Equal(secretOf(state, 5), secretOf(state, 6)) {
		t.Errorf("the secret is %x, or %x, %v", secretOf(state, 5), secretOf(state, 6), err)
	}
	with.Snapshot = loggingIn(t, good, "x")
	if _, err := Restore(t.Context(), restoreOptions(t, 1), with); err != nil {
		t.Errorf("without users that make no sense: %v", err)
	}
}

// largeSnapshot takes a while to restore.
func largeSnapshot(t *testing.T) string {
	t.Helper()
	w, err := etcdsnap.Create(filepath.Join(t.TempDir(), "s"), etcdsnap.MaxBytes)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		rev := kv.Revision(2 + i)
		v := etcdsnap.Version{KeyValue: kv.KeyValue{Key: fmt.Appendf(nil, "key%d", i), Value: make([]byte, 200), CreateRevision: rev, ModRevision: rev, Version: 1}}
		err = errors.Join(err, w.Put(&v))
	}
	path := filepath.Join(t.TempDir(), "snapshot")
	file, createErr := os.Create(path)
	write := func(piece []byte, _ int64) error { _, err := file.Write(piece); return err }
	err = errors.Join(err, createErr, w.Finish(0), w.Send(1<<20, write), w.Close(), file.Close())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRestoreKilled kills the process that restores, further and further on. There is no data directory then, or the whole one. What is beside it is in
// nobody's way once it is removed, which the next restore asks for.
func TestRestoreKilled(t *testing.T) {
	const asked = "QUORATE_TEST_RESTORE"
	if arguments := strings.Split(os.Getenv(asked), "\n"); len(arguments) == 2 {
		o := restoreOptions(t, 8)
		o.Node.DataDir = arguments[1]
		if _, err := Restore(context.Background(), o, RestoreOptions{Snapshot: arguments[0]}); err != nil {
			t.Fatal(err)
		}
		return
	}
	path, killed := largeSnapshot(t), 0
	whole := ""
	for _, sign := range []string{"", "state/0*.sst", "log"} {
		o := restoreOptions(t, 8)
		child := exec.Command(os.Args[0], "-test.run=^TestRestoreKilled$")
		child.Env = append(os.Environ(), asked+"="+path+"\n"+o.Node.DataDir)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { child.Wait(); close(ended) }() // how it ends is seen below
		for waiting := true; waiting; {
			found, _ := filepath.Glob(filepath.Join(o.Node.DataDir+".restoring", sign)) // the pattern is right
			select {
			case <-ended:
				waiting = false
			default:
				if waiting = len(found) == 0; waiting {
					time.Sleep(time.Millisecond)
				}
			}
		}
		child.Process.Kill()
		<-ended
		r := RestoreOptions{Snapshot: path}
		if _, err := os.Stat(o.Node.DataDir); errors.Is(err, fs.ErrNotExist) {
			killed++
			if _, err := Restore(t.Context(), o, r); err == nil || !strings.Contains(err.Error(), "remove it") {
				t.Errorf("with %s beside it: %v", sign, err)
			}
			if err := os.RemoveAll(o.Node.DataDir + ".restoring"); err != nil {
				t.Fatal(err)
			}
			if killed > 1 {
				continue
			}
			if _, err := Restore(t.Context(), o, r); err != nil {
				t.Fatal(err)
			}
		}
		if got := restoredState(t, o); whole == "" {
			whole = got
		} else if got != whole {
			t.Errorf("killed at %q: the state is %s, and %s otherwise", sign, got, whole)
		}
	}
	if killed < 2 {
		t.Errorf("%d restores were killed in the middle", killed)
	}
}

// restoredState sums up all rows of a state that was restored, which do not depend on where and when that was.
func restoredState(t *testing.T, o Options) string {
	t.Helper()
	engine, err := lsm.Open(lsm.Options{Dir: filepath.Join(o.Node.DataDir, datadir.State)})
	if err != nil {
		t.Fatal(err)
	}
	rows, sum := 0, sha256.New()
	it := engine.NewIterator([]byte{0}, []byte{0xff, 0xff})
	for ok := it.First(); ok; ok = it.Next() {
		fmt.Fprintf(sum, "%q%q", it.Key(), it.Value())
		rows++
	}
	if err := errors.Join(it.Error(), it.Close(), engine.Close()); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d rows %x", rows, sum.Sum(nil)[:8])
}

// TestRestored: what was made of a snapshot is in the answer, and a bump ends the history.
func TestRestored(t *testing.T) {
	options := restoreOptions(t, 1)
	r := RestoreOptions{Snapshot: snapshotOf(t, 7, 9)}
	restored, err := Restore(context.Background(), options, r)
	if err != nil || restored.Revision != 5 || restored.Compacted != 0 || restored.Versions != 4 || restored.Leases != 2 || len(restored.Notes) != 1 {
		t.Errorf("%+v, %v", restored, err)
	}
	r.BumpRevision = 100
	bumped, err := Restore(context.Background(), restoreOptions(t, 64), r)
	if err != nil || bumped.Revision != 105 || bumped.Compacted != 105 || bumped.Token == restored.Token || bumped.Cluster == restored.Cluster {
		t.Errorf("%+v, %v", bumped, err)
	}
}
