package backup

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Manifest says what a backup consists of.
type Manifest struct {
	ID      string       `json:"id"`
	Cluster kv.ClusterID `json:"cluster_id,string"`
	// Parent is the backup whose versions this one goes on from, and ParentSum the checksum of its manifest; empty: this one is full.
	Parent    string `json:"parent,omitempty"`
	ParentSum string `json:"parent_sha256,omitempty"`
	// Revision is what the store had when the backup was made, at the time Taken by the clock of the node that it was read from.
	Revision kv.Revision `json:"revision"`
	Taken    time.Time   `json:"taken"`
	// HistoryFrom is where the history begins: this and each later revision, up to Revision, can be restored. Of an incremental backup it is the parent's
	// Revision.
	HistoryFrom kv.Revision `json:"history_from_revision"`
	// Cold: it was read from the directory of a stopped node.
	Cold bool `json:"cold,omitempty"`
	// Source says how the cluster was divided, for people.
	Source string `json:"source,omitempty"`
	// Writer is the version of Quorate that wrote it, and the two times are when, by the clock of whoever wrote it.
	Writer   string    `json:"writer,omitempty"`
	Began    time.Time `json:"began"`
	Finished time.Time `json:"finished,omitzero"`
	// Changed is when it was last noted what is written, by the same clock. A finished backup has none.
	Changed time.Time `json:"changed,omitzero"`
	// Keys are of the data files, which are encrypted if there are any. The last is that of the manifest.
	Keys []string `json:"keys,omitempty"`
	// Shards are by number; their files by what they have.
	Shards []ShardFiles `json:"shards"`
	// Leases are the files with the leases.
	Leases     []File `json:"leases,omitempty"`
	LeaseCount int64  `json:"lease_count"`
	// Users are the files with users and roles, and UserRows how many rows they have. A manifest with some is of format 2.
	Users    []File `json:"users,omitempty"`
	UserRows int64  `json:"user_rows,omitempty"`
	// Times are the files that say when the store had which revisions: from Parent on, of an incremental backup. Backups of before that have none.
	Times  []File `json:"times,omitempty"`
	Digest Digest `json:"digest"`
	// StateHash is what the cluster said of itself; nil: it was not asked, or a version of Quorate before this field has written the backup.
	StateHash *StateHash `json:"state_hash,omitempty"`
}

// ShardFiles are the data files of a shard.
type ShardFiles struct {
	Shard kv.ShardID `json:"shard"`
	Files []File     `json:"files,omitempty"`
	// Whole: there is nothing more to come.
	Whole bool `json:"whole,omitempty"`
}

// File is a data file, as the target has it.
type File struct {
	Name   string   `json:"name"`
	Bytes  int64    `json:"bytes"`
	SHA256 string   `json:"sha256"`
	Digest Digest   `json:"digest"`
	First  Position `json:"first"` // of its versions
	Last   Position `json:"last"`
}

// Position is a place in the history of a shard.
type Position struct {
	Revision kv.Revision `json:"revision"`
	Sub      uint32      `json:"sub"`
}

func positionOf(at mvcc.Locator) Position     { return Position{Revision: at.Rev, Sub: at.Sub} }
func (p Position) locator() mvcc.Locator      { return mvcc.Locator{Rev: p.Revision, Sub: p.Sub} }
func (m *Manifest) incremental() bool         { return m.Parent != "" }
func (m *Manifest) covers(r kv.Revision) bool { return m.HistoryFrom <= r && r <= m.Revision }

// Kind is "full" or "incremental".
func (m *Manifest) Kind() string {
	if m.incremental() {
		return "incremental"
	}
	return "full"
}

// StoredBytes is what the data files take at the target.
func (m *Manifest) StoredBytes() (bytes int64) {
	for _, f := range m.files() {
		bytes += f.Bytes
	}
	return bytes
}

func (m *Manifest) files() (all []File) {
	for _, s := range m.Shards {
		all = append(all, s.Files...)
	}
	all = append(all, m.Leases...)
	all = append(all, m.Users...)
	return append(all, m.Times...)
}

// format implements formatted.
func (m *Manifest) format() int {
	if len(m.Users) > 0 {
		return formatWithUsers
	}
	return documentFormat
}

// check tells whether what the manifest says fits together. What it says of the files is compared with them by who reads them.
func (m *Manifest) check() error {
	var digest Digest
	switch {
	case m.ID == "" || m.Revision < 1 || m.HistoryFrom < 0 || m.HistoryFrom > m.Revision || (m.Parent == "") != (m.ParentSum == ""):
		return damagedf("the manifest contradicts itself")
	case m.Parent == m.ID:
		return damagedf("it is its own parent")
	case m.StateHash != nil && (m.StateHash.Revision < 1 || m.StateHash.Revision > m.Revision || m.StateHash.Compacted < 0 || m.StateHash.Compacted > m.StateHash.Revision):
		return damagedf("the manifest has the hash of a revision that it does not have")
	}
	for i, s := range m.Shards {
		if i > 0 && m.Shards[i-1].Shard >= s.Shard {
			return damagedf("the manifest has shard %d twice, or in a wrong place", s.Shard)
		}
		if !s.Whole {
			return damagedf("shard %d is not complete", s.Shard)
		}
		for j, f := range s.Files {
			first, last := f.First.locator(), f.Last.locator()
			if last.Less(first) || j > 0 && !s.Files[j-1].Last.locator().Less(first) || last.Rev > m.Revision || m.incremental() && first.Rev <= m.HistoryFrom {
				return damagedf("%s has versions from %d to %d, which is not in its place", f.Name, first.Rev, last.Rev)
			}
			digest.Include(f.Digest)
		}
	}
	if digest != m.Digest {
		return damagedf("the files have other versions than the backup")
	}
	for _, name := range m.Keys {
		if !validName(name) {
			return damagedf("the manifest has a key that cannot be: %q", name)
		}
	}
	for _, f := range m.files() {
		if f.Bytes < 0 || len(f.SHA256) != 64 || !validName(f.Name) {
			return damagedf("the manifest has a file that cannot be: %q", f.Name)
		}
	}
	return nil
}

// validName tells whether a file is within the target, whatever that is.
func validName(name string) bool {
	for i, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case (c == '.' || c == '/') && i > 0 && name[i-1] != '.' && name[i-1] != '/':
		default:
			return false
		}
	}
	return name != ""
}

// newID is that of a backup at a revision: different from others that begin at the same time.
func newID(now time.Time, revision kv.Revision, random uint32) string {
	return fmt.Sprintf("%s-r%d-%08x", now.UTC().Format("20060102T150405.000Z"), revision, random)
}

// revisionOf is the revision that an ID has, which also that of a damaged manifest tells.
func revisionOf(id string) kv.Revision {
	_, rest, _ := strings.Cut(id, "-r")
	number, _, _ := strings.Cut(rest, "-")
	n, _ := strconv.ParseInt(number, 10, 64) // what is no ID of ours comes first
	return kv.Revision(n)
}
