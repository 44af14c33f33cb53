package datadir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var created = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// disks are the random numbers of this test.
var disks atomic.Uint64

func optionsIn(path string) Options {
	owner := Identity{Cluster: 0xabc, Node: 0xdef, Name: "a", Protocol: Protocol{Name: "raft"}}
	return Options{Path: path, Owner: owner, Repair: true}
}

func mustOpen(t *testing.T, options Options) *Dir {
	t.Helper()
	dir, err := Open(renewed(options), created)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// renewed has a new random number.
func renewed(options Options) Options {
	options.NewDisk = disks.Add(1)
	return options
}

func mustClose(t *testing.T, dir *Dir) {
	t.Helper()
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}
}

func wantRefusal(t *testing.T, options Options, want error, texts ...string) {
	t.Helper()
	dir, err := Open(renewed(options), created)
	if err == nil {
		dir.Close()
		t.Errorf("opened; want %v", want)
		return
	}
	for _, text := range texts {
		if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v; want %v with %q", err, want, text)
		}
	}
	if !strings.Contains(err.Error(), options.Path) {
		t.Errorf("the error does not name the directory: %v", err)
	}
}

func TestDataDirLife(t *testing.T) {
	options := optionsIn(filepath.Join(t.TempDir(), "deep", "dir"))
	dir := mustOpen(t, options)
	if !dir.Fresh || dir.Identity.Node != options.Owner.Node || dir.Identity.Cluster != options.Owner.Cluster {
		t.Errorf("first start: %+v", dir)
	}
	wantRefusal(t, options, ErrInUse, "another process")
	mustClose(t, dir)

	// "existing" matters only for an empty directory.
	options.Existing = true
	dir = mustOpen(t, options)
	if dir.Fresh || !dir.Identity.Created.Equal(created.Truncate(time.Second)) {
		t.Errorf("second start: %+v", dir)
	}
	mustClose(t, dir)
	if _, err := os.Stat(filepath.Join(options.Path, identityNewFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary file is still there: %v", err)
	}
}

func TestDataDirOfOthers(t *testing.T) {
	options := optionsIn(t.TempDir())
	mustClose(t, mustOpen(t, options))

	other := options
	other.Owner.Cluster++
	wantRefusal(t, other, ErrOtherCluster, `node "a" of cluster `+options.Owner.Cluster.String())

	other = options
	other.Owner.Node, other.Owner.Name = 0x123, "b"
	wantRefusal(t, other, ErrOtherNode, `it holds node "a"`)

	other = options
	other.Owner.Name = "renamed"
	wantRefusal(t, other, ErrOtherNode, "a node keeps its name")

	other = options
	other.Owner.Protocol.Name = "paxos"
	wantRefusal(t, other, ErrOtherConsensus, "--consensus=raft")

	mustClose(t, mustOpen(t, options)) // refusals did no harm
}

// TestDataDirOfAnOlderFormat: it is refused with what to do, by a node that repairs itself, too, and is left as it is.
func TestDataDirOfAnOlderFormat(t *testing.T) {
	options := optionsIn(t.TempDir())
	dir := mustOpen(t, options)
	fillData(t, dir, "of format 2")
	identity := dir.Identity
	mustClose(t, dir)
	identity.Format = 2
	content, err := encodeIdentity(identity)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(options.Path, identityFile)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, options, ErrOlderFormat, "format 2, and this version reads 3", "start it with the version that wrote it", "etcdctl make-mirror")
	for name, want := range map[string]string{path: string(content), filepath.Join(options.Path, Log, "file"): "of format 2", filepath.Join(options.Path, State, "file"): "of format 2"} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s was touched: %q, %v", name, got, err)
		}
	}
}

// TestDataDirOfOtherQuorums: quorums are the cluster's for ever, as its protocol is.
func TestDataDirOfOtherQuorums(t *testing.T) {
	options := optionsIn(t.TempDir())
	options.Owner.Protocol = Protocol{"paxos", 2, 1}
	dir := mustOpen(t, options)
	if got := dir.Identity.Protocol.String(); got != "paxos (phase-1 quorum 2, phase-2 quorum 1)" {
		t.Errorf("the identity is of %s", got)
	}
	mustClose(t, dir)
	other := options
	other.Owner.Protocol = Protocol{Name: "paxos"}
	wantRefusal(t, other, ErrOtherQuorums, "a cluster keeps its quorums")
	other.Owner.Protocol = Protocol{"paxos", 1, 2}
	wantRefusal(t, other, ErrOtherQuorums, "created with paxos (phase-1 quorum 2, phase-2 quorum 1)")
	mustClose(t, mustOpen(t, options))
}

// TestDataDirBeforeTransactions: a directory of several shards from before there were transactions over them is taken over, before anything is written that
// the version which wrote it could not read. Its cluster goes on with two-phase commit.
func TestDataDirBeforeTransactions(t *testing.T) {
	options := optionsIn(t.TempDir())
	options.Owner.Partition = "--initial-shards=2 --initial-partition=hash"
	before := options.Owner
	before.Format, before.Created, before.Disk = formatNoCommit, created, 7
	if err := writeIdentity(options.Path, before); err != nil {
		t.Fatal(err)
	}
	fillData(t, &Dir{Path: options.Path}, "good")
	options.Owner.Commit = "3pc"
	wantRefusal(t, options, ErrOtherCommit, "created with --commit-protocol=2pc")
	options.Owner.Commit = "2pc"
	dir := mustOpen(t, options)
	if dir.Identity.Disk != 7 || dir.Identity.Format != Format || dir.Fresh {
		t.Errorf("it is opened as %+v", dir.Identity)
	}
	mustClose(t, dir)
	content, err := os.ReadFile(filepath.Join(options.Path, identityFile))
	if err != nil || !strings.Contains(string(content), fmt.Sprintf(`"format": %d`, Format)) || !strings.Contains(string(content), `"commit_protocol": "2pc"`) {
		t.Errorf("on disk is %s, %v", content, err)
	}
	mustClose(t, mustOpen(t, options))
}

// TestDataDirOfOtherShards: shards are the cluster's for ever. A directory with one is what earlier versions wrote, and read.
func TestDataDirOfOtherShards(t *testing.T) {
	const eight = "--initial-shards=8 --initial-partition=hash"
	options := optionsIn(t.TempDir())
	options.Owner.Partition, options.Owner.Commit = eight, "2pc"
	dir := mustOpen(t, options)
	if dir.Identity.Partition != eight || dir.Identity.Format != Format {
		t.Errorf("the identity is %+v", dir.Identity)
	}
	fillData(t, dir, "good")
	mustClose(t, dir)
	other := options
	other.Owner.Partition = "--initial-shards=9 --initial-partition=hash"
	wantRefusal(t, other, ErrOtherPartition, "created with "+eight+",", "this would be --initial-shards=9", "give these flags as at the first start")
	other.Owner.Partition, other.Owner.Commit = "", ""
	wantRefusal(t, other, ErrOtherPartition, "created with "+eight+",", "this would be one shard")
	other = options
	other.Owner.Commit = "3pc"
	wantRefusal(t, other, ErrOtherCommit, "created with --commit-protocol=2pc, and this is --commit-protocol=3pc", "give --commit-protocol=2pc")
	mustClose(t, mustOpen(t, options))

	one := optionsIn(t.TempDir())
	dir = mustOpen(t, one)
	fillData(t, dir, "good")
	mustClose(t, dir)
	content, err := os.ReadFile(filepath.Join(one.Path, identityFile))
	if err != nil || !strings.Contains(string(content), `"format": 3`) || strings.Contains(string(content), "partition") {
		t.Errorf("a directory with one shard is not as before: %s, %v", content, err)
	}
	other = one
	other.Owner.Partition, other.Owner.Commit = eight, "2pc"
	wantRefusal(t, other, ErrOtherPartition, "created with one shard, and this would be "+eight)
	mustClose(t, mustOpen(t, one))
}

func TestDataDirForeign(t *testing.T) {
	empty := optionsIn(t.TempDir())
	empty.Existing = true
	existing := mustOpen(t, empty)
	if !existing.Fresh || !existing.Identity.Lost {
		t.Errorf("a node of an existing cluster, with nothing: %+v", existing.Identity)
	}
	mustClose(t, existing)

	etcd := optionsIn(t.TempDir())
	if err := os.MkdirAll(filepath.Join(etcd.Path, "member", "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, etcd, ErrForeign, "data directory of etcd")
	if entries, err := os.ReadDir(etcd.Path); err != nil || len(entries) != 1 {
		t.Errorf("a foreign directory was touched: %v, %v", entries, err)
	}

	home := optionsIn(t.TempDir())
	if err := os.WriteFile(filepath.Join(home.Path, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, home, ErrForeign, "thesis.tex")

	// Data of ours, and the file that says whose it is was deleted.
	nameless := optionsIn(t.TempDir())
	dir := mustOpen(t, nameless)
	fillData(t, dir, "good")
	mustClose(t, dir)
	if err := os.Remove(filepath.Join(nameless.Path, identityFile)); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, nameless, ErrNoIdentity, "put it back if there is a copy of it", "--initial-cluster-state=existing", "gets the data", "A node that lost its data")
	if !exists(t, nameless.Path, Log, "file") || exists(t, nameless.Path, identityFile) {
		t.Error("a directory without its identity file was touched")
	}

	file := optionsIn(filepath.Join(home.Path, "thesis.tex"))
	wantRefusal(t, file, ErrNotWritable, "create the data directory")

	// What a first start leaves behind when it is killed before the rename.
	interrupted := optionsIn(t.TempDir())
	for _, name := range []string{lockFile, identityNewFile} {
		if err := os.WriteFile(filepath.Join(interrupted.Path, name), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(interrupted.Path, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	dir = mustOpen(t, interrupted)
	if !dir.Fresh {
		t.Error("an interrupted first start does not count as fresh")
	}
	mustClose(t, dir)
}

func TestDataDirNotWritable(t *testing.T) {
	options := optionsIn(t.TempDir())
	// A directory in the lock file's place fails for root too.
	if err := os.Mkdir(filepath.Join(options.Path, lockFile), 0o700); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, options, ErrNotWritable, lockFile)
}

// TestEveryCorruption changes and cuts the identity file at every byte: it is
// refused or means the same.
func TestEveryCorruption(t *testing.T) {
	want := Identity{Format: Format, Cluster: 0xabc, Node: 0xdef, Name: "n1", Protocol: Protocol{"paxos", 4, 2}, Partition: "--initial-shards=2", Commit: "3pc",
		Created: created.Truncate(time.Second), Disk: 0x123, Lost: true}
	content, err := encodeIdentity(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeIdentity(content); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	tried := 0
	try := func(damaged []byte) {
		tried++
		got, err := decodeIdentity(damaged)
		switch {
		case err == nil && got != want:
			t.Errorf("%q was read as %+v", damaged, got)
		case err != nil && !errors.Is(err, ErrCorruptIdentity) && !errors.Is(err, ErrNewerFormat):
			t.Errorf("%q: %v", damaged, err)
		}
	}
	for i := range content {
		try(content[:i])
		for bit := range 8 {
			damaged := bytes.Clone(content)
			damaged[i] ^= 1 << bit
			try(damaged)
		}
	}
	try(append(bytes.Clone(content), content...))
	try(append(bytes.Clone(content), 0))
	if tried < 9*len(content) {
		t.Errorf("tried only %d", tried)
	}
}

func TestIdentityFileOnDisk(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		want    error
		text    string
	}{
		"empty":        {"", ErrCorruptIdentity, "not JSON"},
		"other format": {`{"format": 6, "shape": "unknown"}`, ErrNewerFormat, "newer version"},
		"huge":         {strings.Repeat(" ", maxIdentityBytes+1), ErrCorruptIdentity, "larger than"},
		"no checksum":  {`{"format":1,"cluster":"1","node":"1","name":"a","created":"2026-01-02T03:04:05Z"}`, ErrCorruptIdentity, "checksum"},
	} {
		t.Run(name, func(t *testing.T) {
			options := optionsIn(t.TempDir())
			if err := os.WriteFile(filepath.Join(options.Path, identityFile), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			options.Repair = false
			wantRefusal(t, options, c.want, c.text)
		})
	}
}

// TestReformattedIdentity: people may look at the file with tools that rewrite it.
func TestReformattedIdentity(t *testing.T) {
	content, err := encodeIdentity(Identity{Format: 1, Cluster: 1, Node: 2, Name: "ä", Protocol: Protocol{Name: "raft"}, Created: created})
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, content); err != nil {
		t.Fatal(err)
	}
	if got, err := decodeIdentity(compact.Bytes()); err != nil || got.Name != "ä" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzDecodeIdentity(f *testing.F) {
	content, err := encodeIdentity(Identity{Format: 1, Cluster: 1, Node: 2, Name: "a", Protocol: Protocol{Name: "raft"}, Created: created})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add([]byte(`{"format":9}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		identity, err := decodeIdentity(content)
		if err != nil {
			if !errors.Is(err, ErrCorruptIdentity) && !errors.Is(err, ErrNewerFormat) {
				t.Fatalf("unclassified: %v", err)
			}
			return
		}
		again, err := encodeIdentity(identity)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := decodeIdentity(again); err != nil || second != identity {
			t.Fatalf("%+v reads back as %+v, %v", identity, second, err)
		}
	})
}
