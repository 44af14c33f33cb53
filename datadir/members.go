package datadir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/quoratedb/quorate/kv"
)

// ErrCorruptMembers: the file that says what cluster the node belongs to, and what that began with, is damaged.
var ErrCorruptMembers = errors.New("the file of members is damaged")

const (
	membersFile = "members.json"
	// maxMembersBytes bounds what is read of it.
	maxMembersBytes = 1 << 20
)

// Members is what a node remembers of the cluster that it belongs to, beside its replicas: it needs it before it has opened them, or has any.
//
// Versions before the list of members could change neither write the file nor look at it: what a cluster begins with was what --initial-cluster said at
// each start. The first start that finds none takes it from there.
type Members struct {
	Cluster kv.ClusterID
	Node    kv.NodeID
	// Founders are the nodes that the cluster began with, by ID.
	Founders []kv.NodeRecord
	// Added: the cluster began without this node.
	Added bool
	// Removed: this node was removed from the cluster, and has no part in it any more.
	Removed bool
	// Rescued: the cluster was made of what this node had of another one, most of whose nodes were lost.
	Rescued bool
	// List is the newest list of members that the node knows, as package members encodes it; empty: nobody has changed what the cluster began with.
	List []byte
}

// membersJSON is the file. Checksum is as that of the identity.
type membersJSON struct {
	Cluster  string        `json:"cluster"`
	Node     string        `json:"node"`
	Founders []founderJSON `json:"founders"`
	Added    bool          `json:"added,omitempty"`
	Removed  bool          `json:"removed,omitempty"`
	Rescued  bool          `json:"rescued,omitempty"`
	List     []byte        `json:"list,omitempty"`
	Checksum string        `json:"checksum"`
}

type founderJSON struct {
	Node     string   `json:"node"`
	Name     string   `json:"name"`
	PeerURLs []string `json:"peer_urls"`
}

func (f membersJSON) sum() (string, error) {
	f.Checksum = ""
	compact, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("crc32c:%08x", crc32.Checksum(compact, crc32.MakeTable(crc32.Castagnoli))), nil
}

func encodeMembers(m *Members) ([]byte, error) {
	file := membersJSON{Cluster: m.Cluster.String(), Node: m.Node.String(), Founders: []founderJSON{}, Added: m.Added, Removed: m.Removed, Rescued: m.Rescued, List: m.List}
	for _, r := range m.Founders {
		file.Founders = append(file.Founders, founderJSON{r.ID.String(), r.Name, r.PeerURLs})
	}
	var err error
	if file.Checksum, err = file.sum(); err != nil {
		return nil, err
	}
	content, err := json.MarshalIndent(file, "", "  ")
	return append(content, '\n'), err
}

// decodeMembers reads the content of the file. Its errors wrap ErrCorruptMembers.
func decodeMembers(content []byte) (*Members, error) {
	var file membersJSON
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorruptMembers, err)
	}
	if sum, err := file.sum(); err != nil || sum != file.Checksum {
		return nil, fmt.Errorf("%w: its checksum is %q, its content has %q", ErrCorruptMembers, file.Checksum, sum)
	}
	m := &Members{Added: file.Added, Removed: file.Removed, Rescued: file.Rescued, List: file.List}
	cluster, err1 := strconv.ParseUint(file.Cluster, 16, 64)
	node, err2 := strconv.ParseUint(file.Node, 16, 64)
	err := errors.Join(err1, err2)
	m.Cluster, m.Node = kv.ClusterID(cluster), kv.NodeID(node)
	for _, f := range file.Founders {
		id, err3 := strconv.ParseUint(f.Node, 16, 64)
		err = errors.Join(err, err3)
		m.Founders = append(m.Founders, kv.NodeRecord{ID: kv.NodeID(id), Name: f.Name, PeerURLs: f.PeerURLs})
	}
	if err != nil || cluster == 0 || node == 0 || len(m.Founders) == 0 {
		return nil, fmt.Errorf("%w: a field has no usable value (cluster %q, node %q, %d founders)", ErrCorruptMembers, file.Cluster, file.Node, len(file.Founders))
	}
	return m, nil
}

// ReadMembers returns what a data directory remembers of its cluster, without locking it; nil: nothing, or there is no such directory.
func ReadMembers(path string) (*Members, error) {
	content, err := readBounded(filepath.Join(path, membersFile), maxMembersBytes, ErrCorruptMembers)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err == nil:
		var m *Members
		if m, err = decodeMembers(content); err == nil {
			return m, nil
		}
	}
	if errors.Is(err, ErrCorruptMembers) {
		return nil, fmt.Errorf("data directory %s: %s: %w; if the cluster began with this node, delete the file and start with --initial-cluster as at the first start; "+
			"otherwise remove the node from the cluster, and add it anew with an empty directory", path, membersFile, err)
	}
	return nil, fmt.Errorf("data directory %s: read %s: %w", path, membersFile, err)
}

// HasIdentity tells whether a data directory is somebody's, or was before what says so was damaged. It does not lock it.
func HasIdentity(path string) bool {
	_, err := os.Stat(filepath.Join(path, identityFile))
	return err == nil
}

// ReadIdentity returns whose data a directory holds, without locking it; nil: nobody's, or it cannot be read. Whoever opens the directory says why.
func ReadIdentity(path string) *Identity {
	content, err := readBounded(filepath.Join(path, identityFile), maxIdentityBytes, ErrCorruptIdentity)
	if err != nil {
		return nil
	}
	identity, err := decodeIdentity(content)
	if err != nil {
		return nil
	}
	return &identity
}

// WriteMembers has the directory remember this from now on. It is durable when the call returns.
func (d *Dir) WriteMembers(m *Members) error {
	content, err := encodeMembers(m)
	if err == nil && len(content) > maxMembersBytes {
		err = fmt.Errorf("%d bytes are above the limit of %d", len(content), maxMembersBytes)
	}
	if err != nil {
		return fmt.Errorf("encode %s: %w", membersFile, err)
	}
	path := filepath.Join(d.Path, membersFile)
	if err := writeSynced(path+".new", content); err != nil {
		return fmt.Errorf("write %s: %w: %w", membersFile, ErrNotWritable, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write %s: %w: %w", membersFile, ErrNotWritable, err)
	}
	return SyncDirectory(d.Path)
}

// rememberMembers writes what the cluster began with, unless the directory knows. One that is nobody's knows nothing that counts: a first start was interrupted.
func (d *Dir) rememberMembers(m *Members) error {
	if m == nil {
		return nil
	}
	if d.Fresh {
		return d.WriteMembers(m)
	}
	if _, err := os.Stat(filepath.Join(d.Path, membersFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.WriteMembers(m)
}
