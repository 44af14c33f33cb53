package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Why a data directory was refused. The errors that OpenDataDir returns wrap
// these and say what was found and what to do.
var (
	ErrForeignDirectory = errors.New("the directory holds something else")
	ErrOtherCluster     = errors.New("the data belongs to another cluster")
	ErrOtherNode        = errors.New("the data belongs to another node")
	ErrOtherConsensus   = errors.New("the data belongs to another consensus protocol")
	ErrOtherQuorums     = errors.New("the data belongs to a cluster with other quorums")
	ErrNewerFormat      = errors.New("the data was written by a newer version")
	ErrCorruptIdentity  = errors.New("the identity file is damaged")
	ErrNoIdentity       = errors.New("the identity file is missing beside data of this program")
	ErrDirectoryInUse   = errors.New("another process uses the directory")
	ErrNotWritable      = errors.New("the directory cannot be written")
)

// DataFormat is the version of everything in a data directory. A program reads
// its own format and older ones.
//
// Format 1 had no disk ID.
const DataFormat = 2

// Names in a data directory that OpenDataDir owns.
const (
	logDirectory   = "log"
	stateDirectory = "state"
	// stagingDirectory has snapshots on their way.
	stagingDirectory = "staging"
	identityFile     = "identity.json"
	identityNewFile  = "identity.json.new" // being written; never read
	lockFile         = "LOCK"
)

// maxIdentityBytes bounds what is read of an identity file; a real one is
// below 1 KiB.
const maxIdentityBytes = 64 << 10

// Identity says whose data a directory holds. It is written before anything else, and
// again when the data is lost and the directory begins anew.
type Identity struct {
	Format  int
	Cluster kv.ClusterID
	Node    kv.NodeID
	Name    string
	// Consensus is the protocol whose log the directory holds.
	Consensus Consensus
	Quorums   Quorums
	Created   time.Time // UTC, whole seconds; for people only
	// Disk tells the data apart from everything that this node stored before: a random number that is made
	// when there is nothing else in the directory.
	Disk uint64
	// Lost: what the node stored before is known to be lost.
	Lost bool
}

// identityJSON is the file: one JSON object that people can read. Checksum is
// the CRC-32C of the compact JSON of the object with an empty checksum, so that
// reformatting the file does no harm and changing it is noticed.
type identityJSON struct {
	Format    int    `json:"format"`
	Cluster   string `json:"cluster"`
	Node      string `json:"node"`
	Name      string `json:"name"`
	Consensus string `json:"consensus"`
	Phase1    int    `json:"paxos_phase1_quorum,omitempty"` // missing: a majority
	Phase2    int    `json:"paxos_phase2_quorum,omitempty"`
	Created   string `json:"created"`
	Disk      string `json:"disk,omitempty"`
	Lost      bool   `json:"lost,omitempty"`
	Checksum  string `json:"checksum"`
}

func (f identityJSON) sum() (string, error) {
	f.Checksum = ""
	compact, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("crc32c:%08x", crc32.Checksum(compact, crc32.MakeTable(crc32.Castagnoli))), nil
}

// EncodeIdentity gives the content of the identity file.
func EncodeIdentity(identity Identity) ([]byte, error) {
	file := identityJSON{
		Format:    identity.Format,
		Cluster:   identity.Cluster.String(),
		Node:      identity.Node.String(),
		Name:      identity.Name,
		Consensus: string(identity.Consensus),
		Phase1:    identity.Quorums.Phase1,
		Phase2:    identity.Quorums.Phase2,
		Created:   identity.Created.UTC().Format(time.RFC3339),
		Lost:      identity.Lost,
	}
	if identity.Disk != 0 {
		file.Disk = fmt.Sprintf("%x", identity.Disk)
	}
	sum, err := file.sum()
	if err != nil {
		return nil, err
	}
	file.Checksum = sum
	content, err := json.MarshalIndent(file, "", "  ")
	return append(content, '\n'), err
}

// DecodeIdentity reads the content of an identity file. Its errors wrap
// ErrCorruptIdentity or ErrNewerFormat.
func DecodeIdentity(content []byte) (Identity, error) {
	// The format comes first: nothing else can be expected of a newer file.
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		return Identity{}, fmt.Errorf("%w: it is not JSON (%v)", ErrCorruptIdentity, err)
	}
	if head.Format > DataFormat {
		return Identity{}, fmt.Errorf("%w: format %d, and this version reads up to %d; start it with the version that wrote it, or a newer one", ErrNewerFormat, head.Format, DataFormat)
	}
	var file identityJSON
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return Identity{}, fmt.Errorf("%w: %v", ErrCorruptIdentity, err)
	}
	if sum, err := file.sum(); err != nil || sum != file.Checksum {
		return Identity{}, fmt.Errorf("%w: its checksum is %q, its content has %q", ErrCorruptIdentity, file.Checksum, sum)
	}
	return file.identity()
}

func (f identityJSON) identity() (Identity, error) {
	cluster, err1 := strconv.ParseUint(f.Cluster, 16, 64)
	node, err2 := strconv.ParseUint(f.Node, 16, 64)
	created, err3 := time.Parse(time.RFC3339, f.Created)
	disk, err4 := uint64(0), error(nil)
	if f.Disk != "" || f.Format > 1 {
		disk, err4 = strconv.ParseUint(f.Disk, 16, 64)
	}
	if err := errors.Join(err1, err2, err3, err4); err != nil || f.Format < 1 || node == 0 || f.Consensus == "" {
		return Identity{}, fmt.Errorf("%w: a field has no usable value (format %d, cluster %q, node %q, consensus %q, created %q)", ErrCorruptIdentity, f.Format, f.Cluster, f.Node, f.Consensus, f.Created)
	}
	return Identity{Format: f.Format, Cluster: kv.ClusterID(cluster), Node: kv.NodeID(node), Name: f.Name, Consensus: Consensus(f.Consensus),
		Quorums: Quorums{f.Phase1, f.Phase2}, Created: created.UTC(), Disk: disk, Lost: f.Lost}, nil
}

// DataDir is a data directory that this process owns until Close.
type DataDir struct {
	Path     string
	Identity Identity
	// Fresh tells that the directory was empty and got its identity just now.
	Fresh bool
	// Reason says why damaged data was set aside just now, in the directory SetAside; both are empty if none was.
	Reason, SetAside string
	lock             *os.File
}

// OpenDataDir locks the data directory that the options name, creating it when
// it is missing, and makes sure that it belongs to this node of this cluster. An
// empty directory becomes this node's.
func OpenDataDir(options Options, now time.Time) (*DataDir, error) {
	path := options.Node.DataDir
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create the data directory %s: %w: %w", path, ErrNotWritable, err)
	}
	// Look before the lock file is made: a foreign directory stays as it was.
	if err := refuseForeign(path); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	lock, err := patiently(func() (*os.File, error) { return lockDirectory(filepath.Join(path, lockFile)) })
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	dir := &DataDir{Path: path, lock: lock}
	if err := dir.identify(options, now); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory %s: %w", path, err), lock.Close())
	}
	return dir, nil
}

// Close gives the directory up.
func (d *DataDir) Close() error {
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("unlock the data directory %s: %w", d.Path, err)
	}
	return nil
}

func (d *DataDir) identify(options Options, now time.Time) error {
	want := Identity{
		Format:    DataFormat,
		Cluster:   options.Cluster.ID(),
		Node:      options.NodeID(),
		Name:      options.Node.Name,
		Consensus: options.Cluster.Consensus,
		Quorums:   options.Cluster.Quorums,
		Created:   now.UTC().Truncate(time.Second),
		Disk:      randomID(),
	}
	content, err := readBounded(filepath.Join(d.Path, identityFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// In an existing cluster a node of it that has nothing has lost what it had.
		want.Lost = options.Node.InitialClusterState == ClusterExisting
		d.Identity, d.Fresh = want, true
		if err := writeIdentity(d.Path, want); err != nil {
			return err
		}
		// The directory's own entry must survive a power loss too.
		return syncDirectory(filepath.Dir(filepath.Clean(d.Path)))
	case err != nil && !errors.Is(err, ErrCorruptIdentity):
		return fmt.Errorf("read %s: %w", identityFile, err)
	}
	found := Identity{}
	if err == nil {
		found, err = DecodeIdentity(content)
	}
	if errors.Is(err, ErrCorruptIdentity) && options.repairs() {
		// Whoever it belonged to, nothing of it is used.
		if err := d.noteDamage(err, now); err != nil {
			return err
		}
		found, err = want, nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", identityFile, err)
	}
	d.Identity = found
	if err := found.mustMatch(want); err != nil {
		return err
	}
	if d.Reason, d.SetAside, err = d.setAside(found); err != nil || d.Reason != "" {
		return err
	}
	return d.renewDisk()
}

// renewDisk gives the directory a new disk ID if there is no data under the one it has: somebody deleted it, or the first
// start was interrupted. Data of the first format gets its ID now.
func (d *DataDir) renewDisk() error {
	data := false
	for _, name := range []string{logDirectory, stateDirectory} {
		entries, err := os.ReadDir(filepath.Join(d.Path, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("list %s: %w", name, err)
		}
		data = data || len(entries) > 0
	}
	if data && d.Identity.Disk != 0 {
		return nil
	}
	d.Identity.Disk, d.Identity.Format = randomID(), DataFormat
	return writeIdentity(d.Path, d.Identity)
}

// mustMatch compares what a directory says with what the options say.
func (i Identity) mustMatch(want Identity) error {
	switch {
	case i.Cluster != want.Cluster:
		return fmt.Errorf("%w: it holds node %q of cluster %s, and --initial-cluster with --initial-cluster-token make cluster %s; "+
			"give both as at the first start, or another --data-dir", ErrOtherCluster, i.Name, i.Cluster, want.Cluster)
	case i.Node != want.Node:
		return fmt.Errorf("%w: it holds node %q (%s), and this is node %q (%s); start %q on it, or give another --data-dir",
			ErrOtherNode, i.Name, i.Node, want.Name, want.Node, i.Name)
	case i.Name != want.Name:
		// Same addresses, other name: the node was renamed in --initial-cluster.
		return fmt.Errorf("%w: it was started as --name=%s and is now --name=%s; a node keeps its name", ErrOtherNode, i.Name, want.Name)
	case i.Consensus != want.Consensus:
		return fmt.Errorf("%w: its cluster was created with --consensus=%s, and this is --consensus=%s; a cluster keeps its protocol",
			ErrOtherConsensus, i.Consensus, want.Consensus)
	case i.Quorums != want.Quorums:
		return fmt.Errorf("%w: its cluster was created with %s, and this would be %s; a cluster keeps its quorums: give %s and %s as at the first start",
			ErrOtherQuorums, i.Protocol(), want.Protocol(), flagPhase1, flagPhase2)
	}
	return nil
}

// refuseForeign accepts a directory that has an identity file and one with
// nothing in it that somebody could miss.
func refuseForeign(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("list it: %w", err)
	}
	var foreign []string
	for _, entry := range entries {
		switch entry.Name() {
		case identityFile:
			return nil
		case lockFile, identityNewFile, damagedFile + ".new", "lost+found":
			// A first start that was interrupted, or the root of a file system.
		default:
			foreign = append(foreign, entry.Name())
		}
	}
	if len(foreign) == 0 {
		return nil
	}
	if slices.Contains(foreign, "member") {
		return fmt.Errorf("%w: this is a data directory of etcd, whose files are not read here; give an empty --data-dir and copy the keys over", ErrForeignDirectory)
	}
	if i := slices.IndexFunc(foreign, ownName); i >= 0 {
		return fmt.Errorf("%w: %s holds what a node stored, and %s, which says whose it is, was deleted or not copied; put it back if there is a copy of it. Otherwise, in a cluster of "+
			"several nodes, move the content of the directory away and start with --initial-cluster-state=%s: the node gets the data from the others; see %s",
			ErrNoIdentity, foreign[i], identityFile, ClusterExisting, lostDataAdvice)
	}
	return fmt.Errorf("%w: it has %q in it and no %s; give an empty directory, or the one this node used before", ErrForeignDirectory, foreign[0], identityFile)
}

// ownName tells whether something in a data directory has a name that this program gives.
func ownName(name string) bool {
	return name == logDirectory || name == stateDirectory || name == stagingDirectory || name == damagedFile || strings.HasPrefix(name, damagedPrefix)
}

// writeIdentity makes the identity durable before it becomes visible: a crash
// leaves either no identity file or a whole one.
func writeIdentity(directory string, identity Identity) error {
	content, err := EncodeIdentity(identity)
	if err != nil {
		return fmt.Errorf("encode %s: %w", identityFile, err)
	}
	temporary := filepath.Join(directory, identityNewFile)
	if err := writeSynced(temporary, content); err != nil {
		return fmt.Errorf("%w: %w", ErrNotWritable, err)
	}
	if err := os.Rename(temporary, filepath.Join(directory, identityFile)); err != nil {
		return fmt.Errorf("%w: %w", ErrNotWritable, err)
	}
	return syncDirectory(directory)
}

func writeSynced(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s to sync it: %w", path, err)
	}
	if err := errors.Join(directory.Sync(), directory.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxIdentityBytes+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxIdentityBytes {
		return nil, fmt.Errorf("%w: it is larger than %d bytes", ErrCorruptIdentity, maxIdentityBytes)
	}
	return content, nil
}
