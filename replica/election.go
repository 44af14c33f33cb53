package replica

import (
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// A replica holds still for the leader that it followed last (Replica.followed) as long as its node is bound by a
// promise to that leader's node: it lets no candidate near its core and does not tick it,
// because a tick may end in a campaign, and a campaign is a vote for itself. It is free when
//
//   - the promise has ended (nodeLost, or supporting becomes false),
//   - the leader asks for votes itself: it has stepped down,
//   - or the core has lost its leader for an election timeout although the leader's node lives, or the leader has no vote any
//     more. Then the promise is withdrawn, and the replica is free when what was promised so far has ended.

// firstCampaign is when a replica that was just opened campaigns if it hears of no leader: as soon as it may. Where
// there is a leader it has spoken by then, and if not, a pre-vote disturbs nobody.
func (r *Replica) firstCampaign(now time.Duration) {
	config := r.machine.Config()
	switch {
	case !config.Votes(r.self):
	case r.alone():
		r.campaignAfter(now, 0)
	default:
		r.campaignAfter(now, promiseDuration(r.store.opts)+r.campaignDelay())
	}
}

// alone tells whether this replica decides by itself: then nobody was promised anything that matters.
func (r *Replica) alone() bool {
	config := r.machine.Config()
	return len(config.Voters) == 1 && config.Voters[0] == r.self && len(config.Outgoing) == 0
}

// mayVote tells whether enough time has passed since the start that no promise of an earlier process binds.
func (r *Replica) mayVote(now time.Duration) bool { return r.store.live.MayVote(now) || r.alone() }

// supporting tells whether this node still holds still for the leader that the group followed.
func (r *Replica) supporting(now time.Duration) bool {
	return r.followed != 0 && r.store.live.Supporting(now, r.followed, r.followedInstance)
}

// mayTick tells whether time may pass for the core: not while its election timeout must not run.
func (r *Replica) mayTick(now time.Duration) bool {
	if r.held() {
		return false
	}
	if r.role.Role == consensus.RoleLeader {
		return true
	}
	r.releaseOrphan(now)
	return r.mayVote(now) && !r.supporting(now)
}

// releaseOrphan sees to it that a replica does not hold still for ever for a leader that no longer leads the
// group although its node lives. It asks the core itself: what the core thought in the round before may be out of date (doubtFollowed).
func (r *Replica) releaseOrphan(now time.Duration) {
	switch leader := r.core.Status().Leader; {
	case !r.supporting(now) || r.mayLead(leader):
		r.orphanedAt, r.freeAt = 0, 0
	case r.orphanedAt == 0:
		r.orphanedAt = now
	case r.freeAt == 0:
		if now-r.orphanedAt >= r.store.opts.ElectionTimeout {
			r.freeAt = r.store.live.Withdraw(now, r.followed)
		}
	case now >= r.freeAt:
		r.orphanedAt, r.freeAt = 0, 0
		r.followedIsGone(now)
	}
}

// mayLead tells whether a replica may lead as far as this one has applied: it has a vote, or is newer than the membership here. A leader that
// has taken its own vote away leads no more, or not for long, and cannot ask for votes to say so.
func (r *Replica) mayLead(id consensus.ReplicaID) bool {
	config := r.machine.Config()
	return id != 0 && (config.Votes(id) || config.NewerThanAll(id))
}

// mayHearCandidate tells whether a request for a vote or promise may reach the core: not while this
// node holds still for another leader, nor while it does not know what it promised before a restart.
// A leader that asks for votes in a later term has stepped down: what was promised to it is moot.
func (r *Replica) mayHearCandidate(now time.Duration, from kv.NodeID, term consensus.Term) bool {
	if !r.mayVote(now) {
		return false
	}
	if r.followed == from && r.followedInstance == r.store.heardInstance(from) && term > r.core.Status().Term {
		r.followed = 0
		r.core.LeaderLost()
		// It may be unable to hear the votes it asks for: somebody else tries if it does not succeed soon.
		r.campaignAfter(now, 2*r.store.opts.HeartbeatInterval+r.campaignDelay())
		r.store.setTicking(r, true)
		r.store.markDirty(r)
		return true
	}
	return !r.supporting(now)
}

// nodeLost tells every group that followed a leader on the node that it is gone. One of
// the followers campaigns at once, the others a little later, so that votes are not split. restarted: another process has its place.
func (s *Store) nodeLost(now time.Duration, node kv.NodeID, restarted bool) {
	if s.opts.Listener.NodeLost != nil {
		s.opts.Listener.NodeLost(node)
	}
	for _, r := range s.order {
		switch {
		case r.followed != node:
		case !r.supporting(now):
			r.followedIsGone(now)
		case restarted && r.followedInstance == 0:
			r.doubtFollowed(now)
		}
	}
}

// doubtFollowed lets go, in time, of a leader that may have ended: there was another process on its node, and nobody knows which of the two led.
// It may be the one that lives, which counts on what was promised to it. So the promise is withdrawn and waited out, and nothing is vouched
// for meanwhile; a word from the leader ends the doubt.
func (r *Replica) doubtFollowed(now time.Duration) {
	if r.role.Role == consensus.RoleLeader || r.freeAt != 0 {
		return
	}
	r.core.LeaderLost()
	r.orphanedAt, r.freeAt = now, r.store.live.Withdraw(now, r.followed)
	r.store.setTicking(r, true)
	r.store.markDirty(r)
}

// followedIsGone tells the core that the process which led the group does not exist any more.
func (r *Replica) followedIsGone(now time.Duration) {
	r.followed = 0
	if r.role.Role == consensus.RoleLeader {
		return
	}
	r.core.LeaderLost()
	r.campaignAfter(now, r.campaignDelay())
	r.store.setTicking(r, true)
	r.store.markDirty(r)
}

// campaignAfter plans a campaign.
func (r *Replica) campaignAfter(now, delay time.Duration) {
	r.campaigns = 0
	r.planCampaign(max(now+delay, 1)) // 0 means none
}

func (r *Replica) planCampaign(at time.Duration) {
	r.campaignAt = at
	if s := r.store; s.nextCampaign == 0 || at < s.nextCampaign {
		s.nextCampaign = at
	}
}

// campaignDelay staggers the campaigns of the nodes that are alive, with some jitter. Which of them is
// the first differs from group to group, so that one node does not get all the leaders.
func (r *Replica) campaignDelay() time.Duration {
	s := r.store
	step := s.opts.HeartbeatInterval / 2
	rank := 0
	for i := range s.opts.Nodes {
		node := s.opts.Nodes[(uint64(r.group)+uint64(i))%uint64(len(s.opts.Nodes))]
		if node == s.opts.Self {
			break
		}
		if s.live.Alive(node) {
			rank++
		}
	}
	return time.Duration(rank)*step + time.Duration(s.opts.Rand.Int64N(int64(step)/4+1))
}

// campaign starts the elections that are due, and tries again while nobody leads.
func (s *Store) campaign(now time.Duration) {
	if s.nextCampaign == 0 || now < s.nextCampaign {
		return
	}
	s.nextCampaign = 0
	for _, r := range s.ticking {
		if r.campaignAt != 0 {
			r.campaign(now)
		}
	}
}

func (r *Replica) campaign(now time.Duration) {
	s := r.store
	switch {
	case r.role.Leader != 0 || r.role.Role == consensus.RoleLeader || r.supporting(now):
		r.campaignAt = 0
	case now < r.campaignAt:
		r.planCampaign(r.campaignAt)
	case !r.mayVote(now):
		r.planCampaign(now + s.opts.HeartbeatInterval)
	default:
		r.core.Campaign()
		s.markDirty(r)
		// Each campaign abandons the one before, so they must leave more and more time: the disks of those who
		// vote may be slow.
		pause := min(2*s.opts.HeartbeatInterval<<min(r.campaigns, 4), 2*s.opts.ElectionTimeout)
		r.campaigns++
		r.planCampaign(now + pause + r.campaignDelay())
	}
}
