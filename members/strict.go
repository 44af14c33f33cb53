package members

import "github.com/quoratedb/quorate/kv"

// Connections are what a node knows of the others.
type Connections struct {
	Self kv.NodeID
	// Up tells whether another node is connected to this one, Steady whether it has been so for some time.
	Up, Steady func(kv.NodeID) bool
}

// Strictly is etcd's --strict-reconfig-check: it tells why a change is refused because too few of those that will vote have ever started, or are connected to
// the node that is asked, to be a quorum.
func (l *List) Strictly(r *kv.MemberRequest, c Connections) error {
	voters, started := 0, 0 // as they will be
	for i := range l.Members {
		if m := &l.Members[i]; !m.Learner && (r.Action != kv.MemberRemove || m.ID != r.ID) {
			voters++
			if m.Name != "" {
				started++
			}
		}
	}
	switch m := l.Member(r.ID); {
	case r.Action == kv.MemberAdd:
		voters++
		if !r.Learner && started < quorum(voters) && (started != 1 || voters != 2) {
			return kv.ErrNotEnoughStarted
		}
		if voters != 2 && l.steady(c) < quorum(voters) {
			return kv.ErrUnhealthy
		}
	case r.Action == kv.MemberPromote:
		if started+1 < quorum(voters+1) {
			return kv.ErrNotEnoughStarted
		}
	case r.Action == kv.MemberRemove && (m == nil || !m.Learner):
		if started < quorum(voters) {
			return kv.ErrNotEnoughStarted
		}
		if r.ID != c.Self && !c.Up(r.ID) {
			return nil // it is of no use now
		}
		if l.steady(c)-1 < quorum(voters) {
			return kv.ErrUnhealthy
		}
	}
	return nil
}

func quorum(voters int) int { return voters/2 + 1 }

// steady counts those with a vote that are connected, the node that is asked among them.
func (l *List) steady(c Connections) (n int) {
	for i := range l.Members {
		if m := &l.Members[i]; !m.Learner && (m.ID == c.Self || c.Steady(m.ID)) {
			n++
		}
	}
	return n
}
