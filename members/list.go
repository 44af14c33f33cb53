package members

import (
	"cmp"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Member is a node of the cluster.
type Member struct {
	ID         kv.NodeID
	Name       string // as its node published it; empty: it never started
	PeerURLs   []string
	ClientURLs []string // likewise
	Learner    bool
	// First is the replica of the system shard that the cluster began with on the node; 0: the node was added later.
	First uint64
}

// List is all there is to know about who the members are. It is never changed once it is made, and safe for concurrent use.
type List struct {
	// Version counts the changes of who is a member, of roles, and of the addresses that members have for each other. 0: there was none.
	Version uint64
	Members []Member // ascending by ID
	// Removed are the IDs that no member may have any more, ascending: of all that were removed. There are at most MaxEver of these and of members.
	Removed []kv.NodeID
}

// MaxEver is how many members a cluster can ever have, those that were removed included.
const MaxEver = 10_000

// Member returns the member of an ID; nil: there is none.
func (l *List) Member(id kv.NodeID) *Member {
	if at, found := l.find(id); found {
		return &l.Members[at]
	}
	return nil
}

func (l *List) find(id kv.NodeID) (at int, found bool) {
	return slices.BinarySearchFunc(l.Members, id, func(m Member, id kv.NodeID) int { return cmp.Compare(m.ID, id) })
}

// WasRemoved tells whether the ID is of a member that was removed.
func (l *List) WasRemoved(id kv.NodeID) bool {
	_, found := slices.BinarySearch(l.Removed, id)
	return found
}

// Roster is what a shard needs of the list.
func (l *List) Roster() kv.Roster {
	r := kv.Roster{Version: l.Version}
	for i := range l.Members {
		seat := kv.Seat{Node: l.Members[i].ID, First: l.Members[i].First, Role: kv.SeatVoter}
		if l.Members[i].Learner {
			seat.Role = kv.SeatLearner
		}
		r.Seats = append(r.Seats, seat)
	}
	return r
}

// Records are the members as they are told to clients, by ID.
func (l *List) Records() []kv.NodeRecord {
	records := make([]kv.NodeRecord, 0, len(l.Members))
	for i := range l.Members {
		m := &l.Members[i]
		records = append(records, kv.NodeRecord{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.Learner})
	}
	return records
}

// Founded is the list that a cluster begins with: version 0. The system shard began on all of its nodes, in the order of their IDs.
func Founded(records []kv.NodeRecord) *List {
	l := &List{}
	for _, r := range records {
		l = l.Publish(&r)
	}
	return l
}

// Hears tells why a node has nothing to say about itself, or too much.
func (l *List) Hears(r *kv.NodeRecord) error {
	said := Member{Name: r.Name, PeerURLs: r.PeerURLs, ClientURLs: r.ClientURLs}
	switch {
	case l.Version != 0 && l.Member(r.ID) == nil:
		return kv.ErrMemberNotFound
	case l.Version != 0 && said.sizeBytes() > MaxMemberBytes:
		return kv.BeyondLimit("the addresses of a member", kv.ErrRequestTooLarge)
	}
	return nil
}

// Publish is the list after a node said what it is called, and where it is found. Who is a member, others decide once they have decided anything: then a node
// that is no member has nothing to say, and where members find a node is not its own word.
func (l *List) Publish(r *kv.NodeRecord) *List {
	at, found := l.find(r.ID)
	if !found && l.Version != 0 {
		return l
	}
	n := &List{Version: l.Version, Members: slices.Clone(l.Members), Removed: l.Removed}
	if l.Version != 0 {
		n.Members[at].Name, n.Members[at].ClientURLs = r.Name, r.ClientURLs
		return n
	}
	m := Member{ID: r.ID, Name: r.Name, PeerURLs: r.PeerURLs, ClientURLs: r.ClientURLs, Learner: r.Learner}
	if found {
		n.Members[at] = m
	} else {
		n.Members = slices.Insert(n.Members, at, m)
	}
	for i := range n.Members {
		n.Members[i].First = uint64(i) + 1
	}
	return n
}
