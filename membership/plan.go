package membership

import (
	"slices"

	"github.com/quoratedb/quorate/consensus"
)

// plan is what the next change of a group's membership depends on.
type plan struct {
	self   consensus.ReplicaID // the leader
	config consensus.Config    // in force
	// wanted are to vote, and learners to be without a vote; both ascending.
	wanted, learners []consensus.ReplicaID
	// leaving are members whose nodes are to be without a replica. They still answer, and acknowledge: other voters that are not wanted are lost.
	leaving []consensus.ReplicaID
	// replicas is what the leader knows of the others.
	replicas []consensus.Replication
	// catchUpTo is what a learner must have before it may vote; see repair.
	catchUpTo consensus.Index
}

// next plans the next step from the membership in force to the wanted one: all wanted replicas are voters, those that are to be learners are, and nobody
// else is anything. It is a function of what is replicated and of who answers, so that any leader goes on where the one before stopped. One step
// at a time:
//
//   - a learner that is not wanted goes;
//   - a voter that is leaving goes;
//   - a wanted replica that is no member becomes a learner, and gets the data;
//   - a learner that is to vote, and has the data, becomes a voter, in the place of a lost one if there is any;
//   - a lost voter goes in whose place nobody comes.
//
// A step that changes voters waits until those that answer are a majority both before and after it. One voter more or less leaves any majority before and any
// after it with one in common; but what was only on a majority before may be on less than one after it, and lost by the next step. So the next one waits
// until a majority has what lies below the step before (in Raft it always has; Multi-Paxos accepts out of order).
// In the place of another the learner must have everything that the lost one may have acknowledged: then an entry is on as many as before. What a
// voter that is leaving has acknowledged cannot be known, since it goes on: it is never replaced. A leader never takes itself out; see heir.
func (p *plan) next() (target consensus.Config, change bool) {
	if p.config.Joint() {
		return target, false
	}
	target = p.config.Clone()
	for _, id := range p.config.Learners {
		if !p.wants(id) {
			target.Learners = without(target.Learners, id)
			return target, true
		}
	}
	for _, id := range p.leaving {
		if target, ok := p.dropped(id); ok {
			return target, true
		}
	}
	for _, list := range [][]consensus.ReplicaID{p.wanted, p.learners} {
		for _, id := range list {
			if !p.config.Contains(id) {
				target.Learners = with(target.Learners, id)
				return target, true
			}
		}
	}
	for _, id := range p.config.Learners {
		if slices.Contains(p.wanted, id) && p.caughtUp(id) {
			target.Learners, target.Voters = without(target.Learners, id), with(target.Voters, id)
			if lost := p.lost(); len(lost) > 0 {
				target.Voters = without(target.Voters, lost[0])
				return target, p.answer(target)
			}
			return target, p.answer(target) && p.spread()
		}
	}
	for _, id := range p.lost() {
		if p.allVote() {
			return p.dropped(id)
		}
	}
	return target, false
}

// dropped is the membership without a voter that is not the leader; false: it must not be, or would not be decided.
func (p *plan) dropped(id consensus.ReplicaID) (target consensus.Config, ok bool) {
	if id == p.self || !slices.Contains(p.config.Voters, id) {
		return target, false
	}
	target = p.config.Clone()
	target.Voters = without(target.Voters, id)
	return target, p.answer(target) && p.spread()
}

// spread tells whether everything up to the last change is on a majority.
func (p *plan) spread() bool {
	return p.config.HasQuorum(func(id consensus.ReplicaID) bool { return id == p.self || p.caughtUp(id) })
}

// heir is who should lead in place of a leader that is leaving: of the voters that stay and answer the one that has the most. 0: nobody, or the leader stays.
func (p *plan) heir() (heir consensus.ReplicaID) {
	if p.config.Joint() || !slices.Contains(p.leaving, p.self) {
		return 0
	}
	most := consensus.Index(0)
	for i := range p.replicas {
		r := &p.replicas[i]
		if slices.Contains(p.wanted, r.Replica) && slices.Contains(p.config.Voters, r.Replica) && r.Active && !r.Snapshotting && (heir == 0 || r.Match > most) {
			heir, most = r.Replica, r.Match
		}
	}
	return heir
}

// complete tells whether there is nothing left to do.
func (p *plan) complete() bool {
	return !p.config.Joint() && slices.Equal(p.config.Learners, p.learners) && slices.Equal(p.config.Voters, p.wanted)
}

// lost are the voters that are not wanted and will never answer again.
func (p *plan) lost() (ids []consensus.ReplicaID) {
	for _, id := range p.config.Voters {
		if !p.wants(id) && !slices.Contains(p.leaving, id) && id != p.self {
			ids = append(ids, id)
		}
	}
	return ids
}

func (p *plan) wants(id consensus.ReplicaID) bool {
	return slices.Contains(p.wanted, id) || slices.Contains(p.learners, id)
}

func (p *plan) allVote() bool {
	return !slices.ContainsFunc(p.wanted, func(id consensus.ReplicaID) bool { return !slices.Contains(p.config.Voters, id) })
}

// answer tells whether those that answer are a quorum both as it is and in the target.
func (p *plan) answer(target consensus.Config) bool {
	return p.config.HasQuorum(p.answers) && target.HasQuorum(p.answers)
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
	return id == p.self || r != nil && r.Active && (p.wants(id) || slices.Contains(p.leaving, id))
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
