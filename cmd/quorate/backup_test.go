package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/quoratedb/quorate/etcdsnap"
	"github.com/quoratedb/quorate/kv"
)

// stoppedNode is the data directory of a node that has a few keys, and is not running.
func stoppedNode(t *testing.T, keys ...string) string {
	t.Helper()
	dir := t.TempDir()
	w, err := etcdsnap.Create(filepath.Join(dir, "s"), etcdsnap.MaxBytes)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range keys {
		rev := kv.Revision(2 + i)
		err = errors.Join(err, w.Put(&etcdsnap.Version{KeyValue: kv.KeyValue{Key: []byte(key), Value: []byte("v"), CreateRevision: rev, ModRevision: rev, Version: 1}}))
	}
	snapshot, err1 := os.Create(filepath.Join(dir, "snapshot"))
	err = errors.Join(err, err1, w.Finish(0), w.Send(4096, func(piece []byte, _ int64) error {
		_, err := snapshot.Write(piece)
		return err
	}), w.Close(), snapshot.Close())
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	if _, stderr, code := invoke(t, nil, "", "restore", "--from-etcd-snapshot", snapshot.Name(), "--data-dir", data, "--initial-shards=3", "--initial-partition=hash"); code != exitOK {
		t.Fatal(stderr)
	}
	return data
}

// ageFiles are files with an identity and its recipient.
func ageFiles(t *testing.T) (identity, recipient string) {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	dir := t.TempDir()
	identity, recipient = filepath.Join(dir, "identity"), filepath.Join(dir, "recipients")
	err = errors.Join(err, os.WriteFile(identity, []byte(key.String()+"\n"), 0o600), os.WriteFile(recipient, []byte(key.Recipient().String()+"\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return identity, recipient
}

// TestBackupCommands goes through the commands with a stopped node: what they refuse, and what they say then.
func TestBackupCommands(t *testing.T) {
	data := stoppedNode(t, "a", "b", "c")
	target := filepath.Join(t.TempDir(), "backups")
	identity, recipients := ageFiles(t)
	stranger, _ := ageFiles(t)
	expect := func(code int, text string, arguments ...string) string {
		t.Helper()
		stdout, stderr, got := invoke(t, nil, "", arguments...)
		if got != code || !strings.Contains(stdout+stderr, text) {
			t.Errorf("quorate %s: exit %d, %s%s\nwant exit %d and %q", strings.Join(arguments, " "), got, stdout, stderr, code, text)
		}
		return stdout
	}
	cold := []string{"backup", "create", target, "--cold", "--data-dir", data, "--recipients", recipients}
	expect(exitUsage, "go together", "backup", "create", target, "--cold")
	expect(exitUsage, "with --cold", "backup", "create", target, "--incomplete")
	expect(exitFailed, "there is no identity.json", "backup", "create", target, "--cold", "--data-dir", t.TempDir())
	expect(exitFailed, "make a full one first", append(cold, "--incremental")...)
	var made backupJSON
	if err := json.Unmarshal([]byte(expect(exitOK, `"kind":"full"`, append(cold, "--output", "json")...)), &made); err != nil || made.Revision != 4 || made.Versions != 3 || !made.Encrypted {
		t.Errorf("%+v, %v", made, err)
	}
	expect(exitOK, "incremental", append(cold, "--incremental")...)
	expect(exitUsage, "full, always or never", append(cold, "--hash=sometimes")...)
	expect(exitOK, "carries no hash", "backup", "verify", target, "--identity", identity, "--deep", "--scratch-dir", t.TempDir())
	expect(exitOK, `"restored":["`, "backup", "verify", target, "--identity", identity, "--deep", "--output", "json")
	expect(exitOK, "the same 3 keys", "backup", "diff", target, made.ID, "latest", "--identity", identity)
	expect(exitOK, `{"keys":[],"summary":{`, "backup", "diff", target, made.ID, "latest", "--identity", identity, "--output", "json", "--prefix", "a")

	// Keys that are missing, and wrong.
	expect(exitOK, made.ID, "backup", "list", target)
	expect(exitFailed, "--identity", "backup", "verify", target)
	expect(exitFailed, "no identity opens it", "backup", "verify", target, "--identity", stranger)
	expect(exitOK, "all is as it was written", "backup", "verify", target, "--identity", identity)
	into := filepath.Join(t.TempDir(), "restored")
	expect(exitFailed, "no identity opens it", "restore", target, "--data-dir", into, "--identity", stranger)
	expect(exitOK, "3 versions of keys", "restore", target, "--data-dir", into, "--identity", identity)
	if left, err := filepath.Glob(into + "*"); err != nil || !slices.Equal(left, []string{into}) {
		t.Errorf("there is %q, %v", left, err)
	}
	keys, err := filepath.Glob(filepath.Join(target, "keys", "*"))
	if err != nil || len(keys) == 0 {
		t.Fatalf("the keys are %q, %v", keys, err)
	}
	if err := os.Remove(keys[0]); err != nil {
		t.Fatal(err)
	}
	expect(exitFailed, "missing", "backup", "verify", target, "--identity", identity)

	// A clock that was wrong: nothing was backed up by that time, and what is covered is said.
	expect(exitFailed, "not covered", "restore", target, "--data-dir", into+"2", "--identity", identity, "--at-time", "1999-01-01 00:00:00")
	// What somebody may be at work on is not removed.
	expect(exitUsage, "1h0m0s or more", "backup", "prune", target, "--keep=1", "--unfinished=10m")
}
