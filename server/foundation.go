package server

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/membership"
)

// foundation is what a node knows of its cluster before it has opened its replicas: what --initial-cluster says at the first start, what the data directory
// remembers later, and what the others say to a node that is added.
type foundation struct {
	cluster  kv.ClusterID
	self     kv.NodeID
	founders []kv.NodeRecord // that the cluster began with, by ID
	added    bool            // the cluster began without this node
	removed  bool            // and this node was removed from it
	rescued  bool            // the cluster was made of what this node had
	list     *members.List   // the newest that is known
}

// founded is the foundation that --initial-cluster makes.
func (o Options) founded() *foundation {
	f := &foundation{cluster: o.Cluster.computedID(), founders: o.Cluster.records()}
	if self := o.Cluster.member(o.Node.Name); self != nil {
		f.self = self.ID(o.Cluster.Token)
	}
	f.list = members.Founded(f.founders)
	return f
}

// records describes the nodes of --initial-cluster, by ID.
func (c ClusterOptions) records() (records []kv.NodeRecord) {
	for _, member := range c.Members {
		records = append(records, kv.NodeRecord{ID: member.ID(c.Token), Name: member.Name, PeerURLs: urlStrings(member.PeerURLs)})
	}
	slices.SortFunc(records, func(a, b kv.NodeRecord) int { return cmp.Compare(a.ID, b.ID) })
	return records
}

// Recall returns options of a node whose data directory, if it has data, says what cluster it belongs to, what that began with, and what it was created with.
// --initial-cluster is not looked at then.
func (o Options) Recall() (Options, error) {
	if identity := datadir.ReadIdentity(o.Node.DataDir); identity != nil {
		kept, err := settingsOf(identity.Protocol, identity.Partition, identity.Commit)
		if err != nil {
			return o, fmt.Errorf("data directory %s: %w", o.Node.DataDir, err)
		}
		o.Cluster = o.Cluster.takeOver(kept)
	}
	known, err := datadir.ReadMembers(o.Node.DataDir)
	if err != nil || known == nil {
		return o, err
	}
	f := &foundation{cluster: known.Cluster, self: known.Node, founders: known.Founders, added: known.Added, removed: known.Removed, rescued: known.Rescued}
	if len(known.List) > 0 {
		if f.list, err = members.Decode(known.List); err != nil {
			return o, fmt.Errorf("data directory %s: what it remembers of the members of the cluster: %w", o.Node.DataDir, err)
		}
	} else {
		// A cluster that takes to TLS is told so by --initial-cluster, as long as nobody has changed the list.
		if records := o.Cluster.records(); o.Cluster.computedID() == f.cluster {
			f.founders = records
		}
		f.list = members.Founded(f.founders)
	}
	o.Cluster.recalled = f
	return o, nil
}

// foundation is what the node knows.
func (o Options) foundation() *foundation {
	if o.Cluster.recalled != nil {
		return o.Cluster.recalled
	}
	return o.founded()
}

// members is what the data directory is to remember of it.
func (f *foundation) members() *datadir.Members {
	m := &datadir.Members{Cluster: f.cluster, Node: f.self, Founders: f.founders, Added: f.added, Removed: f.removed, Rescued: f.rescued}
	if f.list.Version > 0 {
		m.List = f.list.Append(nil)
	}
	return m
}

// nodes are all that the node has to do with when it starts, itself included, ascending.
func (f *foundation) nodes() (nodes []kv.NodeID) {
	nodes = append(nodes, f.self)
	for i := range f.list.Members {
		nodes = append(nodes, f.list.Members[i].ID)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// first are the replicas that each shard began with: one on each founder, in the order of the IDs.
func (f *foundation) first() (homes []membership.Home, config consensus.Config) {
	for i, r := range f.founders {
		homes = append(homes, membership.Home{Node: r.ID, Replica: consensus.ReplicaID(i + 1)})
		config.Voters = append(config.Voters, consensus.ReplicaID(i+1))
	}
	return homes, config
}

// joined tells whether a replica here that has nothing gets all from the others, and never begins by itself: the members are others than those that the
// cluster began with, or have been.
func (f *foundation) joined() bool { return f.added || f.list.Version > 0 }

// size is how many members the cluster has.
func (f *foundation) size() int { return len(f.list.Members) }

// What a node tells others of the cluster, when they ask for the list of members: uvarint number of founders, their IDs, 8 bytes little endian each, and the
// list as package members encodes it, which has a version: behind a byte 0 stands one that nobody has changed, with version 1.

// maxFounders bounds what is believed of such an answer. There are no more nodes in a roster.
const maxFounders = 1000

func appendTold(dst []byte, founders []kv.NodeRecord, list *members.List) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(founders)))
	for _, r := range founders {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(r.ID))
	}
	if list.Version > 0 {
		return list.Append(append(dst, 1))
	}
	unchanged := *list
	unchanged.Version = 1
	return unchanged.Append(append(dst, 0))
}

func decodeTold(told []byte) (founders []kv.NodeRecord, list *members.List, err error) {
	count, n := binary.Uvarint(told)
	if n <= 0 || count == 0 || count > maxFounders || uint64(len(told)-n) < 8*count+1 {
		return nil, nil, errors.New("what a node said of the members of the cluster is cut or malformed")
	}
	told = told[n:]
	for range count {
		founders = append(founders, kv.NodeRecord{ID: kv.NodeID(binary.LittleEndian.Uint64(told))})
		told = told[8:]
	}
	if !slices.IsSortedFunc(founders, func(a, b kv.NodeRecord) int { return cmp.Compare(a.ID, b.ID) }) {
		return nil, nil, errors.New("what a node said of the founders of the cluster is not in order")
	}
	if list, err = members.Decode(told[1:]); err != nil {
		return nil, nil, err
	}
	switch told[0] {
	case 0:
		list.Version = 0
	case 1:
	default:
		return nil, nil, errors.New("what a node said of the members of the cluster is malformed")
	}
	return founders, list, nil
}

// Removed tells whether a node stopped because it is no member of the cluster any more.
func Removed(err error) bool { return errors.Is(err, errRemoved) }

var errRemoved = errors.New("this node was removed from the cluster, and has no part in it any more; to bring it back, add it as a new member (member add), and start it with an " +
	"empty data directory and --initial-cluster-state=existing")

// settle finds out what cluster the node belongs to.
func (o Options) settle(ctx context.Context) (Options, error) {
	o, err := o.Recall()
	switch {
	case err != nil:
		return o, err
	case o.Cluster.recalled != nil && o.Cluster.recalled.removed:
		return o, errRemoved
	case o.Node.ForceNewCluster:
		return o.force(ctx)
	case o.joins():
		return o.join(ctx)
	}
	return o, nil
}

// Belongs tells whether the data directory is already that of a node of a cluster, and whether that one had no vote yet when it was last told. It expects
// Recall to have been applied.
func (o Options) Belongs() (belongs, learner bool) {
	f := o.Cluster.recalled
	if f == nil || !datadir.HasIdentity(o.Node.DataDir) {
		return false, false
	}
	own := f.list.Member(f.self)
	return true, own != nil && own.Learner
}
