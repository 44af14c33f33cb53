package datadir

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options say who opens a directory, and what may be done to it.
type Options struct {
	Path string
	// Owner is whose directory it has to be, or becomes if it is empty. Format, Created, Disk and Lost are set here.
	Owner Identity
	// Members is what the directory is to remember of the cluster, unless it does already. nil: nothing.
	Members *Members
	// Existing: the cluster exists. Then a node of it that has nothing has lost what it had.
	Existing bool
	// Repair: what is damaged is set aside, and the node begins anew.
	Repair bool
	// NewDisk is a random number, for a disk that begins anew.
	NewDisk uint64
}

// LostDataAdvice is where to read on; many errors of damaged data name it themselves.
const LostDataAdvice = `"A node that lost its data" in docs/operations.md`

// contents are what a directory holds.
type contents struct {
	identity   []byte // nil: there is none
	unreadable error  // why the identity could not be read, if it is damaged
	note       []byte // of damage; nil: there is none
	data       bool   // something is in log or state
}

// plan is what is to be done, in this order.
type plan struct {
	note     []byte   // of damage, to be written first; nil: none
	aside    string   // where log and state go; "": they stay
	reason   string   // why
	write    bool     // the identity has to be written
	identity Identity // whom the directory belongs to then
	fresh    bool     // it was empty
}

// decide judges what was found.
func decide(found contents, options Options, now time.Time) (plan, error) {
	want := options.Owner
	want.Format, want.Created, want.Disk, want.Lost = want.format(), now.UTC().Truncate(time.Second), options.NewDisk, options.Existing
	if found.identity == nil && found.unreadable == nil {
		return plan{identity: want, fresh: true, write: true}, nil
	}
	want.Lost = false
	identity, err := Identity{}, found.unreadable
	if err == nil {
		identity, err = decodeIdentity(found.identity)
	}
	p := plan{}
	if errors.Is(err, ErrCorruptIdentity) && options.Repair {
		// Whoever it belonged to, nothing of it is used.
		if found.note == nil {
			p.note = damageNote(err, now)
			found.note = p.note
		}
		identity, err = want, nil
	}
	if err != nil {
		return plan{}, fmt.Errorf("%s: %w", identityFile, err)
	}
	if err := identity.mustMatch(want); err != nil {
		return plan{}, err
	}
	switch {
	case found.note != nil:
		if p.aside, p.reason, err = readNote(found.note); err != nil {
			return plan{}, err
		}
		identity.Lost = true
	case found.data && identity.Format < formatOneShard:
		return plan{}, fmt.Errorf("%w: format %d, and this version reads %d to %d; start it with the version that wrote it. To go on with this one, start a new cluster "+
			"on other directories beside the old one, and copy the keys over: etcdctl make-mirror does", ErrOlderFormat, identity.Format, formatOneShard, Format)
	case found.data:
		p.write = identity.Format < identity.format() // before anything of that format is written
		identity.Format = max(identity.Format, identity.format())
		p.identity = identity
		return p, nil
	}
	// There is no data under the disk ID it has: it is being set aside, somebody deleted it, or the first start was interrupted.
	identity.Disk, identity.Format = options.NewDisk, identity.format()
	p.identity, p.write = identity, true
	return p, nil
}

// damageNote is the content of a note that the data is to be set aside.
func damageNote(reason error, now time.Time) []byte {
	text := []byte(damagedPrefix + now.UTC().Format("20060102T150405.000Z") + "\n" + reason.Error() + "\n")
	return text[:min(len(text), maxNoteBytes)]
}

// readNote tells where the note wants the data, and why.
func readNote(note []byte) (aside, reason string, err error) {
	aside, reason, _ = strings.Cut(string(note), "\n")
	if !strings.HasPrefix(aside, damagedPrefix) || aside != filepath.Base(aside) {
		return "", "", fmt.Errorf("%s does not say where the damaged data is to be moved; delete it if it is not Quorate's", damagedFile)
	}
	return aside, strings.TrimSpace(reason), nil
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
	case i.Protocol.Name != want.Protocol.Name:
		return fmt.Errorf("%w: its cluster was created with --consensus=%s, and this is --consensus=%s; a cluster keeps its protocol",
			ErrOtherConsensus, i.Protocol.Name, want.Protocol.Name)
	case i.Protocol != want.Protocol:
		return fmt.Errorf("%w: its cluster was created with %s, and this would be %s; a cluster keeps its quorums: "+
			"give --paxos-phase1-quorum and --paxos-phase2-quorum as at the first start", ErrOtherQuorums, i.Protocol, want.Protocol)
	case i.Partition != want.Partition:
		return fmt.Errorf("%w: its cluster was created with %s, and this would be %s; a cluster keeps its shards: give these flags as at the first start",
			ErrOtherPartition, described(i.Partition), described(want.Partition))
	case i.Commit != want.Commit:
		return fmt.Errorf("%w: its cluster was created with --commit-protocol=%s, and this is --commit-protocol=%s; a cluster keeps its commit protocol: "+
			"give --commit-protocol=%s", ErrOtherCommit, i.Commit, want.Commit, i.Commit)
	}
	return nil
}

func described(partition string) string {
	if partition == "" {
		return "one shard"
	}
	return partition
}

// refuseForeign accepts a directory that has an identity file and one with
// nothing in it that somebody could miss.
func refuseForeign(names []string) error {
	var foreign []string
	for _, name := range names {
		switch name {
		case identityFile:
			return nil
		case lockFile, identityNewFile, membersFile, membersFile + ".new", damagedFile + ".new", "lost+found":
			// A first start that was interrupted, or the root of a file system.
		default:
			foreign = append(foreign, name)
		}
	}
	if len(foreign) == 0 {
		return nil
	}
	if slices.Contains(foreign, "member") {
		return fmt.Errorf("%w: this is a data directory of etcd, whose files are not read here; give an empty --data-dir and copy the keys over", ErrForeign)
	}
	if i := slices.IndexFunc(foreign, ownName); i >= 0 {
		return fmt.Errorf("%w: %s holds what a node stored, and %s, which says whose it is, was deleted or not copied; put it back if there is a copy of it. Otherwise, in a cluster of "+
			"several nodes, move the content of the directory away and start with --initial-cluster-state=existing: the node gets the data from the others; see %s",
			ErrNoIdentity, foreign[i], identityFile, LostDataAdvice)
	}
	return fmt.Errorf("%w: it has %q in it and no %s; give an empty directory, or the one this node used before", ErrForeign, foreign[0], identityFile)
}

// ownName tells whether something in a data directory has a name that this program gives.
func ownName(name string) bool {
	return name == Log || name == State || name == Staging || name == damagedFile || strings.HasPrefix(name, damagedPrefix)
}
