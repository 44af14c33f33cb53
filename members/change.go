package members

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Bounds of a list.
const (
	// MaxMembers is how many members there can be at a time. A roster has room for more (shard.MaxSeats), as those that leave have a seat for a while.
	MaxMembers = 64
	// MaxMemberBytes is how large what is known of a member can become by a change: its name and its URLs.
	MaxMemberBytes = 2 << 10
)

// Evaluate says what a request makes of the list; the list itself: it asks for what is already so. Its refusals, and their order, are etcd's. Whether the cluster
// is fit for the change, others decide before, by the list of r.Version.
func (l *List) Evaluate(r *kv.MemberRequest) (*List, error) {
	at, found := l.find(r.ID)
	switch {
	case r.Version != l.Version:
		return nil, kv.ErrMembersChanged
	case l.WasRemoved(r.ID):
		return nil, kv.ErrMemberNotFound
	case r.Action == kv.MemberAdd && found:
		return nil, kv.ErrMemberExists
	case r.Action != kv.MemberAdd && !found:
		return nil, kv.ErrMemberNotFound
	}
	switch r.Action {
	case kv.MemberAdd:
		return l.add(at, r)
	case kv.MemberRemove:
		return l.remove(at)
	case kv.MemberUpdate:
		return l.update(at, r)
	case kv.MemberPromote:
		if !l.Members[at].Learner {
			return nil, kv.ErrMemberNotLearner
		}
		n := l.next()
		n.Members[at].Learner = false
		return n, nil
	}
	return nil, fmt.Errorf("unknown change %d of the list of members: %w", r.Action, kv.ErrInvalidRequest)
}

// next is a list that has yet to change.
func (l *List) next() *List {
	return &List{Version: l.Version + 1, Members: slices.Clone(l.Members), Removed: l.Removed}
}

func (l *List) add(at int, r *kv.MemberRequest) (*List, error) {
	added := Member{ID: r.ID, PeerURLs: r.PeerURLs, Learner: r.Learner}
	switch {
	case r.ID == 0 || len(r.PeerURLs) == 0:
		return nil, fmt.Errorf("a member without an ID or an address is added: %w", kv.ErrInvalidRequest)
	case l.taken(r.PeerURLs, 0):
		return nil, kv.ErrPeerURLExists
	case r.Learner && l.learners() >= r.MaxLearners:
		return nil, kv.ErrTooManyLearners
	case len(l.Members) >= MaxMembers:
		return nil, kv.BeyondLimit("members of a cluster", kv.ErrRequestTooLarge)
	case len(l.Members)+len(l.Removed) >= MaxEver:
		return nil, kv.BeyondLimit("members that a cluster ever had", kv.ErrRequestTooLarge)
	case added.sizeBytes() > MaxMemberBytes:
		return nil, kv.BeyondLimit("the addresses of a member", kv.ErrRequestTooLarge)
	}
	n := l.next()
	n.Members = slices.Insert(n.Members, at, added)
	return n, nil
}

func (l *List) remove(at int) (*List, error) {
	gone := &l.Members[at]
	if !gone.Learner && len(l.Members)-l.learners() == 1 {
		return nil, kv.ErrNotEnoughStarted // nobody would have a vote
	}
	n := l.next()
	n.Members = slices.Delete(n.Members, at, at+1)
	place, _ := slices.BinarySearch(l.Removed, gone.ID)
	n.Removed = slices.Insert(slices.Clone(l.Removed), place, gone.ID)
	return n, nil
}

func (l *List) update(at int, r *kv.MemberRequest) (*List, error) {
	changed := l.Members[at]
	changed.PeerURLs = r.PeerURLs
	switch {
	case len(r.PeerURLs) == 0:
		return nil, fmt.Errorf("a member is to have no address: %w", kv.ErrInvalidRequest)
	case l.taken(r.PeerURLs, r.ID):
		return nil, kv.ErrPeerURLExists
	case changed.sizeBytes() > MaxMemberBytes:
		return nil, kv.BeyondLimit("the addresses of a member", kv.ErrRequestTooLarge)
	case slices.Equal(r.PeerURLs, l.Members[at].PeerURLs):
		return l, nil
	}
	n := l.next()
	n.Members[at] = changed
	return n, nil
}

// taken tells whether one of the URLs is of a member, but for one.
func (l *List) taken(urls []string, but kv.NodeID) bool {
	return slices.ContainsFunc(l.Members, func(m Member) bool {
		return m.ID != but && slices.ContainsFunc(m.PeerURLs, func(u string) bool { return slices.Contains(urls, u) })
	})
}

func (l *List) learners() (n int) {
	for i := range l.Members {
		if l.Members[i].Learner {
			n++
		}
	}
	return n
}

func (m *Member) sizeBytes() int {
	n := len(m.Name)
	for _, urls := range [2][]string{m.PeerURLs, m.ClientURLs} {
		for _, u := range urls {
			n += len(u) + 1
		}
	}
	return n
}
