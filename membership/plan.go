package membership

import (
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// plan is what the next change of a group's membership depends on.
type plan struct {
	self   consensus.ReplicaID // the leader
	config consensus.Config    // in force
	wanted []consensus.ReplicaID
	// replicas is what the leader knows of the others.
	replicas []consensus.Replication
	// catchUpTo is what a learner must have before it may vote; see repair.
	catchUpTo consensus.Index
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
func (p *plan) next() (target consensus.Config, change bool) {
	if p.config.Joint() {
		return target, false
	}
	target = p.config.Clone()
	for _, id := range p.config.Learners {
		if !slices.Contains(p.wanted, id) {
			target.Learners = without(target.Learners, id)
			return target, true
		}
	}
	for _, id := range p.wanted {
		if !p.config.Contains(id) {
			target.Learners = with(target.Learners, id)
			return target, true
		}
	}
	for _, id := range p.config.Learners {
		if !p.caughtUp(id) {
			continue
		}
		target.Learners, target.Voters = without(target.Learners, id), with(target.Voters, id)
		for _, old := range p.config.Voters {
			if !slices.Contains(p.wanted, old) {
				target.Voters = without(target.Voters, old)
				break
			}
		}
		return target, p.config.HasQuorum(p.answers) && target.HasQuorum(p.answers)
	}
	return target, false
}

// complete tells whether there is nothing left to do.
func (p *plan) complete() bool {
	return !p.config.Joint() && len(p.config.Learners) == 0 && slices.Equal(p.config.Voters, p.wanted)
}

func (p *plan) replica(id consensus.ReplicaID) *consensus.Replication {
	for i := range p.replicas {
		if p.replicas[i].Replica == id {
			return &p.replicas[i]
		}
	}
	return nil
}

func (p *plan) answers(id consensus.ReplicaID) bool {
	r := p.replica(id)
	return id == p.self || r != nil && r.Active && slices.Contains(p.wanted, id)
}

func (p *plan) caughtUp(id consensus.ReplicaID) bool {
	r := p.replica(id)
	return r != nil && r.Active && !r.Snapshotting && r.Match >= p.catchUpTo
}

func with(ids []consensus.ReplicaID, id consensus.ReplicaID) []consensus.ReplicaID {
	ids = append(slices.Clone(ids), id)
	slices.Sort(ids)
	return ids
}

func without(ids []consensus.ReplicaID, id consensus.ReplicaID) []consensus.ReplicaID {
	return slices.DeleteFunc(slices.Clone(ids), func(o consensus.ReplicaID) bool { return o == id })
}
