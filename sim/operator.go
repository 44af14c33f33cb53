package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
)

// operator is somebody who has one node of the cluster replaced by another, as operators do with etcdctl, and on the way asks for what must be refused.
type operator struct {
	*client
	random *rand.Rand
	of     *node
	pause  time.Duration // between the steps, at most
	// acknowledged is the newest list that it was answered.
	acknowledged uint64
}

// firstOperator is the number of the first one's client. Each has another.
const firstOperator = 900

// operatorPatience is how long an operator waits for an answer.
const operatorPatience = 8 * time.Second

// maxLearners is what nodes allow: --max-learners.
const maxLearners = 1

// replaceMember lets an operator replace a node, if none is at work and the cluster can do without it.
func (w *world) replaceMember(f *Fault, n *node, random *rand.Rand) {
	if !w.plan.Members || w.roster.operator != nil || w.marks["member removed"] >= 50 || !w.mayDamage(n, "it was removed") {
		return
	}
	n.damage.wiped = true
	w.mark("member removed")
	o := &operator{random: random, of: n, pause: f.Duration, acknowledged: w.roster.answered}
	w.roster.operator = o
	w.groups[0].newPerson(firstOperator+w.marks["member removed"], "operator", func(c *client) {
		o.client = c
		o.replace()
		w.roster.operator = nil
	})
}

// replaces tells whether an operator is about to have another node in the place of this one.
func (r *rosters) replaces(n *node) bool {
	return r.operator != nil && r.operator.of == n && n.damage.wiped
}

// rest lets some time pass.
func (o *operator) rest() { _ = o.Sleep(1 + time.Duration(o.random.Int64N(int64(o.pause)+1))) }

func (o *operator) replace() {
	n, gone := o.of, o.of.id
	o.two(gone)
	o.change(&kv.MemberRequest{Action: kv.MemberRemove, ID: gone}, func(l *members.List) bool { return l.Member(gone) == nil })
	o.rest()
	o.rest()
	if o.over {
		return
	}
	n.rejoin()
	added := &kv.MemberRequest{Action: kv.MemberAdd, ID: n.id, PeerURLs: []string{peerURL(n.id, 0)}, Learner: o.random.IntN(3) > 0, MaxLearners: maxLearners}
	o.refused(added, gone)
	o.change(added, func(l *members.List) bool { return l.Member(n.id) != nil })
	promote := &kv.MemberRequest{Action: kv.MemberPromote, ID: n.id}
	if added.Learner && o.random.IntN(2) == 0 {
		if _, err := o.ask(promote); err == nil {
			o.w.fail(Correctness, "node %d has never run, and got a vote", n.id)
		}
	}
	o.look()
	o.rest()
	if o.over {
		return
	}
	n.startAdded()
	if added.Learner {
		o.change(promote, func(l *members.List) bool { m := l.Member(n.id); return m != nil && !m.Learner })
		o.w.mark("learner promoted")
	}
	o.look()
	if o.random.IntN(2) == 0 {
		moved := []string{peerURL(n.id, 1)}
		o.change(&kv.MemberRequest{Action: kv.MemberUpdate, ID: n.id, PeerURLs: moved}, func(l *members.List) bool {
			m := l.Member(n.id)
			return m != nil && slices.Equal(m.PeerURLs, moved)
		})
	}
	if !o.over {
		o.w.mark("member replaced")
	}
}

// ask asks some node for a change, as the API does.
func (o *operator) ask(r *kv.MemberRequest) (*kv.Response, error) {
	number := 1 + o.random.IntN(len(o.w.nodes))
	request := *r
	resp, _, _, err := o.exchange(number, &kv.Request{Kind: kv.KindMember, Member: &request}, operatorPatience, func(p *part, req *kv.Request, done func(*kv.Response, error)) {
		p.node.spawn(func() { done(p.node.changeMembers(req.Member)) })
	})
	if err == nil {
		o.heard(resp.MemberList)
	}
	return resp, err
}

// heard notes that a change was answered.
func (o *operator) heard(answer *kv.MemberListResponse) {
	o.acknowledged = max(o.acknowledged, answer.Version)
	o.w.roster.answered = max(o.w.roster.answered, answer.Version)
}

// change asks until the list is as it is to be.
func (o *operator) change(r *kv.MemberRequest, done func(*members.List) bool) {
	for !o.over {
		_, err := o.ask(r)
		if o.w.reading() {
			o.w.line("operator: change %d of node %d: %v", r.Action, r.ID, err)
		}
		switch {
		case err == nil:
			return
		case errors.Is(err, kv.ErrPeerURLExists) || errors.Is(err, kv.ErrTooManyLearners) || errors.Is(err, kv.ErrMemberExists), errors.Is(err, kv.ErrMemberNotFound),
			errors.Is(err, kv.ErrMemberNotLearner):
			// It is so already: an answer was lost.
			if !done(o.w.roster.newest()) {
				o.w.fail(Correctness, "the change %+v of the list of members was refused: %v", *r, err)
				return
			}
			if r.Action == kv.MemberAdd || r.Action == kv.MemberRemove {
				return // the next step waits until all have followed
			}
			return
		}
		_ = o.Sleep(20*time.Millisecond + time.Duration(o.random.Int64N(int64(200*time.Millisecond))))
	}
}

// two asks two nodes at once, by the same list, for changes that are both right by it: one at most is made.
func (o *operator) two(id kv.NodeID) {
	w := o.w
	list := w.roster.newest()
	if o.random.IntN(2) == 0 || list.Member(id) == nil || list.Version < w.roster.answered {
		return
	}
	var answered []uint64
	open := 0
	atLeader := o.random.IntN(2) == 0
	for move := range 2 {
		n := w.nodes[o.random.IntN(len(w.nodes))]
		if leader := w.groups[0].leader(); atLeader && leader != nil {
			n = leader.node
		}
		if !n.up || n.frozen() || n.parts[0].gateway == nil {
			continue
		}
		r := &kv.MemberRequest{Action: kv.MemberUpdate, ID: id, PeerURLs: []string{peerURL(id, 2+move+2*int(list.Version))}, Version: list.Version}
		open++
		n.enter(func() {
			n.parts[0].gateway.Submit(&gateway.Call{Req: &kv.Request{Kind: kv.KindMember, Member: r}, Trusted: true, Done: func(resp *kv.Response, err error) {
				open--
				if err == nil {
					answered = append(answered, resp.MemberList.Version)
					w.roster.answered = max(w.roster.answered, resp.MemberList.Version)
				}
			}})
		})
	}
	for until := w.now + 500*time.Millisecond; open > 0 && w.now < until && !o.over; {
		_ = o.Sleep(2 * time.Millisecond)
	}
	if len(answered) > 1 {
		w.fail(Correctness, "by the list of members of version %d two changes were made, %v", list.Version, answered)
	}
	if len(answered) > 0 {
		w.mark("one of two changes of the members")
	}
}

// refused asks for what is wrong whatever the cluster does, at the leader of the list itself.
func (o *operator) refused(add *kv.MemberRequest, gone kv.NodeID) {
	w := o.w
	leader := w.groups[0].leader()
	if leader == nil || leader.gateway == nil || leader.node.frozen() {
		return
	}
	list := leader.replica.Members()
	other := list.Members[o.random.IntN(len(list.Members))]
	for _, probe := range []struct {
		r    kv.MemberRequest
		want error
	}{
		{kv.MemberRequest{Action: kv.MemberAdd, ID: add.ID, PeerURLs: other.PeerURLs}, kv.ErrPeerURLExists},
		{kv.MemberRequest{Action: kv.MemberAdd, ID: gone, PeerURLs: add.PeerURLs}, kv.ErrMemberNotFound},
		{kv.MemberRequest{Action: kv.MemberUpdate, ID: gone, PeerURLs: add.PeerURLs}, kv.ErrMemberNotFound},
	} {
		r := probe.r
		r.Version = list.Version
		if !leader.up() || !list.WasRemoved(gone) {
			return
		}
		leader.node.enter(func() {
			leader.gateway.Submit(&gateway.Call{Req: &kv.Request{Kind: kv.KindMember, Member: &r}, Trusted: true, Done: func(_ *kv.Response, err error) {
				switch {
				case err == nil:
					w.fail(Correctness, "the change %+v of the list of members was made, and must be refused: %v", r, probe.want)
				case errors.Is(err, probe.want):
					w.mark("wrong change of the members refused")
				}
			}})
		})
	}
	_ = o.Sleep(200 * time.Millisecond)
}

// look reads the list: what is read is not older than what was answered before.
func (o *operator) look() {
	least := o.w.roster.answered
	number := 1 + o.random.IntN(len(o.w.nodes))
	req := &kv.Request{Kind: kv.KindMemberList, MemberList: &kv.MemberListRequest{Linearizable: true}}
	resp, _, _, err := o.exchange(number, req, operatorPatience, asked)
	if err != nil {
		return
	}
	for version := least; version <= o.w.roster.highest; version++ {
		if list := o.w.roster.versions[version]; list == nil || sameMembers(list, resp.MemberList.Nodes) {
			o.w.mark("list of members read")
			return
		}
	}
	o.w.fail(Correctness, "node %d answers a linearizable read of the list of members with %v, which it was at no version from %d to %d", number, resp.MemberList.Nodes,
		least, o.w.roster.highest)
}

func sameMembers(list *members.List, nodes []kv.NodeRecord) bool {
	return slices.EqualFunc(list.Members, nodes, func(m members.Member, n kv.NodeRecord) bool {
		return m.ID == n.ID && m.Learner == n.Learner && slices.Equal(m.PeerURLs, n.PeerURLs)
	})
}

// What a node that is asked does, in place of package api/etcd and server.

const (
	followPatience = 2 * time.Second
	syncPatience   = time.Second
)

// changeMembers has the list changed, and returns when all groups have followed.
func (n *node) changeMembers(r *kv.MemberRequest) (*kv.Response, error) {
	p := n.parts[0]
	if err := p.gateway.CatchUp(n.patient(), kv.SystemShard); err != nil {
		return nil, unanswered(err)
	}
	list := p.replica.Members()
	r.Version = list.Version
	if err := n.fitFor(r, list); err != nil {
		return nil, err
	}
	resp, err := n.submit(&kv.Request{Kind: kv.KindMember, Member: r})
	if err != nil {
		return nil, err
	}
	if resp.MemberList.Version > list.Version+1 {
		n.w.fail(Correctness, "by the list of members of version %d a change was made that led to version %d", list.Version, resp.MemberList.Version)
	}
	n.w.roster.answered = max(n.w.roster.answered, resp.MemberList.Version)
	if !n.settled(resp.MemberList.Version) {
		return nil, kv.ErrTimeout
	}
	return resp, nil
}

func (n *node) fitFor(r *kv.MemberRequest, list *members.List) error {
	found := members.Findings{}
	for {
		switch lack, err := list.Fit(r, found); {
		case err != nil:
			return err
		case lack == members.LacksNothing:
			n.checkFit(r, list)
			return nil
		case lack == members.LacksInSync:
			found.InSync = members.Found(n.inSync(r.ID))
		default:
			found.Settled = members.Found(n.settled(list.Version))
		}
	}
}

// checkFit: all groups follow the list, and a learner that is to vote has run. Who has lost its data meanwhile is somebody else's matter.
func (n *node) checkFit(r *kv.MemberRequest, list *members.List) {
	if m := list.Member(r.ID); r.Action == kv.MemberRemove && m != nil && m.Name == "" {
		return
	}
	if r.Action == kv.MemberPromote {
		if other := n.w.named(r.ID, uint(n.index)); other != nil && other.life == 0 {
			n.w.fail(Correctness, "node %d is about to vote, and has never run", r.ID)
		}
	}
	for p := range n.held() {
		if p.replica == nil {
			continue // the node has not begun with it
		}
		if version, _ := p.replica.Following(); !n.driving && version < list.Version && !n.left[p.groupID()] {
			p.group.fail(Correctness, "the list of members is about to change, and the group does not follow version %d", list.Version)
		}
	}
}

// settled waits until all groups follow the list, as far as is known here.
func (n *node) settled(version uint64) bool {
	var groups []consensus.GroupID
	for _, g := range n.w.groups {
		groups = append(groups, consensus.GroupID(g.id))
	}
	for until := n.w.now + followPatience; ; n.sleep(20 * time.Millisecond) {
		told := false
		n.store.Unsettled(version, groups, func(left []consensus.GroupID) { groups, told = left, true })
		for !told && n.w.now < until {
			n.sleep(time.Millisecond)
		}
		if len(groups) == 0 || n.w.now >= until {
			return len(groups) == 0
		}
	}
}

// inSync tells whether a node has what is known to be committed here.
func (n *node) inSync(id kv.NodeID) bool {
	there := map[kv.ShardID]uint64{}
	for p := range n.held() {
		if p.replica != nil { // else the node has not begun with it
			there[p.group.id] = p.replica.Committed()
		}
	}
	for until := n.w.now + syncPatience; n.w.now < until; n.sleep(20 * time.Millisecond) {
		n.sleep(2 * time.Millisecond)
		other := n.w.named(id, uint(n.index))
		if other == nil || !other.up || other.frozen() || n.w.net.link(n, other).blocked > 0 || n.w.net.link(other, n).blocked > 0 {
			continue
		}
		applied := map[kv.ShardID]uint64{}
		for p := range other.held() {
			if p.replica != nil {
				applied[p.group.id] = p.replica.Applied()
			}
		}
		if !members.Behind(there, applied) {
			return true
		}
	}
	return false
}

// publish has an added node say that it has started.
func (n *node) publish() {
	record := &kv.NodeRecord{ID: n.id, Name: fmt.Sprint("node", n.id)}
	for {
		_, err := n.submit(&kv.Request{Kind: kv.KindPublishNode, PublishNode: record})
		if err == nil || errors.Is(err, kv.ErrMemberNotFound) {
			return
		}
		n.sleep(50 * time.Millisecond)
	}
}

// submit asks the gateway, and waits.
func (n *node) submit(req *kv.Request) (resp *kv.Response, err error) {
	answered := false
	n.parts[0].gateway.Submit(&gateway.Call{Req: req, Trusted: true, Done: func(r *kv.Response, e error) { resp, err, answered = r, e, true }})
	for until := n.w.now + 4*time.Second; !answered; n.sleep(time.Millisecond) {
		if n.w.now >= until {
			return nil, kv.ErrTimeout
		}
	}
	return resp, err
}
