package membership

// Standing is how a replica takes part in its group.
type Standing struct {
	// Text is StandingMember when everything is as it should be, otherwise what is being waited for.
	Text string
	// Outsider: it is no member of the group as of its own state, which says nothing then.
	Outsider bool
	// Learner: it is a member without a vote.
	Learner bool
	// Removed: the list of members has the node no more, and nobody counts on the replica.
	Removed bool
}

// StandingMember is what is said when nothing is the matter.
const StandingMember = "member"

// judgeStanding says so if the standing is another one than before.
func (g *Group) judgeStanding() {
	member := g.config.Contains(g.self)
	s := Standing{Text: StandingMember, Outsider: g.Held() || !member, Learner: member && !g.config.Votes(g.self)}
	p := g.plan(g.config)
	s.Removed = g.isOut || !member && g.removed()
	s.Outsider = s.Outsider || g.isOut
	switch {
	case s.Removed:
		s.Text = "removed: the cluster goes on without this node"
	case g.identity.standing == standingNew:
		s.Text = "new: waits until the others say that it always was"
	case g.identity.standing == standingLost:
		s.Text = "lost: waits until a leader takes this node in as a new replica"
	case !member:
		s.Text = "joining: waits for the data"
	case !p.complete() || g.Unflushed():
		s.Text = "one of a group in which another is being replaced: no other node may lose its data until that is over"
		if g.seats.Version != 0 {
			s.Text = "one of a group whose members change: no other node may lose its data until that is over"
		}
		if s.Learner {
			s.Text = "joining: has no vote yet"
		}
	}
	if s != g.standing {
		g.standing, g.ready.Standing = s, &s
	}
}
