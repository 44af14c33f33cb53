package replica

import (
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// membership is what the plan for the next change of a group's membership depends on.
type membership struct {
	self   consensus.ReplicaID // the leader
	config consensus.Config    // in force
	wanted []consensus.ReplicaID
	// replicas is what the leader knows of the others.
	replicas []consensus.Replication
	// settledAt: everything that a replica which is not wanted may have acknowledged lies at or below this index.
	settledAt consensus.Index
}

// next plans the next step from the membership in force to the wanted one: all wanted replicas are voters, and nobody
// else is. It is a function of what is replicated and of who answers, so that any leader goes on where the one
// before stopped. One step at a time:
//
//   - a learner that is not wanted goes;
//   - a wanted replica that is no member becomes a learner, and gets the data;
//   - a learner that has the data takes the place of a voter that is not wanted.
//
// The last step waits until the voters that answer are a majority both before and after it, and until the learner has
// everything that the one it replaces may have acknowledged: then an entry that was on a majority still is.
func (m *membership) next() (target consensus.Config, change bool) {
	if m.config.Joint() {
		return target, false
	}
	target = m.config.Clone()
	for _, id := range m.config.Learners {
		if !slices.Contains(m.wanted, id) {
			target.Learners = without(target.Learners, id)
			return target, true
		}
	}
	for _, id := range m.wanted {
		if !m.config.Contains(id) {
			target.Learners = with(target.Learners, id)
			return target, true
		}
	}
	for _, id := range m.config.Learners {
		if !m.caughtUp(id) {
			continue
		}
		target.Learners, target.Voters = without(target.Learners, id), with(target.Voters, id)
		for _, old := range m.config.Voters {
			if !slices.Contains(m.wanted, old) {
				target.Voters = without(target.Voters, old)
				break
			}
		}
		return target, m.config.HasQuorum(m.answers) && target.HasQuorum(m.answers)
	}
	return target, false
}

// settled tells whether there is nothing left to do.
func (m *membership) settled() bool {
	return !m.config.Joint() && len(m.config.Learners) == 0 && slices.Equal(m.config.Voters, m.wanted)
}

func (m *membership) replica(id consensus.ReplicaID) *consensus.Replication {
	for i := range m.replicas {
		if m.replicas[i].Replica == id {
			return &m.replicas[i]
		}
	}
	return nil
}

func (m *membership) answers(id consensus.ReplicaID) bool {
	p := m.replica(id)
	return id == m.self || p != nil && p.Active && slices.Contains(m.wanted, id)
}

func (m *membership) caughtUp(id consensus.ReplicaID) bool {
	p := m.replica(id)
	return p != nil && p.Active && !p.Snapshotting && p.Match >= m.settledAt
}

func with(ids []consensus.ReplicaID, id consensus.ReplicaID) []consensus.ReplicaID {
	ids = append(slices.Clone(ids), id)
	slices.Sort(ids)
	return ids
}

func without(ids []consensus.ReplicaID, id consensus.ReplicaID) []consensus.ReplicaID {
	return slices.DeleteFunc(slices.Clone(ids), func(o consensus.ReplicaID) bool { return o == id })
}
