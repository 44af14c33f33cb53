package datadir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Why a data directory was refused. The errors that Open returns wrap these and say what was found and what to do.
var (
	ErrForeign         = errors.New("the directory holds something else")
	ErrOtherCluster    = errors.New("the data belongs to another cluster")
	ErrOtherNode       = errors.New("the data belongs to another node")
	ErrOtherConsensus  = errors.New("the data belongs to another consensus protocol")
	ErrOtherQuorums    = errors.New("the data belongs to a cluster with other quorums")
	ErrOtherPartition  = errors.New("the data belongs to a cluster with other shards")
	ErrOtherCommit     = errors.New("the data belongs to a cluster with another commit protocol")
	ErrNewerFormat     = errors.New("the data was written by a newer version")
	ErrOlderFormat     = errors.New("the data was written by an older version")
	ErrCorruptIdentity = errors.New("the identity file is damaged")
	ErrNoIdentity      = errors.New("the identity file is missing beside data of this program")
	ErrInUse           = errors.New("another process uses the directory")
	ErrNotWritable     = errors.New("the directory cannot be written")
)

// Format is the version of everything in a data directory. A program reads identities of its own format and older ones, and data of its own only.
//
// Format 1 had no disk ID. Up to format 2 keys in the state said nothing of shards. Format 4 was that of a directory with several shards, and knew no
// transactions over them: as format 5 has them in its log and state, a directory of format 4 becomes one of format 5 when it is opened. A directory of a
// cluster with one shard is written as before, so that versions before can read it.
const Format = 5

const (
	formatOneShard  = 3 // the oldest one whose data can be read
	formatNoCommit  = 4
	commitOfFormat4 = "2pc" // which clusters go on with that were created before there was a choice
)

// Names of the folders that others open.
const (
	Log     = "log"
	State   = "state"
	Staging = "staging" // snapshots on their way
)

const (
	identityFile    = "identity.json"
	identityNewFile = "identity.json.new" // being written; never read
	lockFile        = "LOCK"
)

// maxIdentityBytes bounds what is read of an identity file; a real one is
// below 1 KiB.
const maxIdentityBytes = 64 << 10

// Protocol is a consensus protocol, with the sizes of its quorums; 0 stands for a majority.
type Protocol struct {
	Name           string
	Phase1, Phase2 int
}

// String names the protocol with its quorums, unless they are majorities. Nodes compare these texts.
func (p Protocol) String() string {
	if p.Phase1 == 0 && p.Phase2 == 0 {
		return p.Name
	}
	size := func(n int) string {
		if n == 0 {
			return "majority"
		}
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s (phase-1 quorum %s, phase-2 quorum %s)", p.Name, size(p.Phase1), size(p.Phase2))
}

// ParseProtocol reads what String wrote.
func ParseProtocol(text string) (p Protocol, err error) {
	name, quorums, several := strings.Cut(text, " (")
	p.Name = name
	if several {
		first, second, _ := strings.Cut(strings.TrimSuffix(quorums, ")"), ", ")
		size := func(text, what string) (n int) {
			number, found := strings.CutPrefix(text, what+" quorum ")
			if number != "majority" && err == nil {
				if n, err = strconv.Atoi(number); err == nil && (n < 1 || !found) {
					err = errors.New("it is no size of a quorum")
				}
			}
			return n
		}
		p.Phase1, p.Phase2 = size(first, "phase-1"), size(second, "phase-2")
	}
	if err == nil && p.String() != text || name == "" {
		err = errors.New("it is written otherwise")
	}
	if err != nil {
		return Protocol{}, fmt.Errorf("%q is no consensus protocol: %w", text, err)
	}
	return p, nil
}

// Identity says whose data a directory holds. It is written before anything else, and
// again when the data is lost and the directory begins anew.
type Identity struct {
	Format  int
	Cluster kv.ClusterID
	Node    kv.NodeID
	Name    string
	// Protocol is whose log the directory holds.
	Protocol Protocol
	// Partition says which shards there are, as partition.Scheme.Flags does; empty: one.
	Partition string
	// Commit names the commit protocol of transactions over several shards; empty: there is one shard.
	Commit  string
	Created time.Time // UTC, whole seconds; for people only
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
	Partition string `json:"partition,omitempty"` // missing: one shard
	Commit    string `json:"commit_protocol,omitempty"`
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

// format is the one that an identity is written in.
func (i Identity) format() int {
	if i.Partition == "" {
		return formatOneShard
	}
	return Format
}

// encodeIdentity gives the content of the identity file.
func encodeIdentity(identity Identity) ([]byte, error) {
	file := identityJSON{
		Format:    identity.Format,
		Cluster:   identity.Cluster.String(),
		Node:      identity.Node.String(),
		Name:      identity.Name,
		Consensus: identity.Protocol.Name,
		Phase1:    identity.Protocol.Phase1,
		Phase2:    identity.Protocol.Phase2,
		Partition: identity.Partition,
		Commit:    identity.Commit,
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

// decodeIdentity reads the content of an identity file. Its errors wrap
// ErrCorruptIdentity or ErrNewerFormat.
func decodeIdentity(content []byte) (Identity, error) {
	// The format comes first: nothing else can be expected of a newer file.
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		return Identity{}, fmt.Errorf("%w: it is not JSON (%v)", ErrCorruptIdentity, err)
	}
	if head.Format > Format {
		return Identity{}, fmt.Errorf("%w: format %d, and this version reads up to %d; start it with the version that wrote it, or a newer one", ErrNewerFormat, head.Format, Format)
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
	if f.Format == formatNoCommit && f.Partition != "" && f.Commit == "" {
		f.Commit = commitOfFormat4
	}
	err := errors.Join(err1, err2, err3, err4)
	if err != nil || f.Format < 1 || node == 0 || f.Consensus == "" || f.Partition != "" && f.Format <= formatOneShard || (f.Partition == "") != (f.Commit == "") {
		return Identity{}, fmt.Errorf("%w: a field has no usable value (format %d, cluster %q, node %q, consensus %q, created %q, partition %q, commit protocol %q)",
			ErrCorruptIdentity, f.Format, f.Cluster, f.Node, f.Consensus, f.Created, f.Partition, f.Commit)
	}
	return Identity{Format: f.Format, Cluster: kv.ClusterID(cluster), Node: kv.NodeID(node), Name: f.Name,
		Protocol: Protocol{Name: f.Consensus, Phase1: f.Phase1, Phase2: f.Phase2}, Partition: f.Partition, Commit: f.Commit, Created: created.UTC(),
		Disk: disk, Lost: f.Lost}, nil
}
