package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// Every request of a client passes judge where it enters, by the state of users and roles that is applied here, and carries the version of that. Whoever
// answers it knows whether users or roles have changed since, and then it has had no effect: it is judged again, by the newer state. A watch is judged when it
// is created, and again after each change. What other nodes forward was judged there.

// maxJudgments is how often a request is judged before it is refused with kv.ErrAuthOldRevision.
const maxJudgments = 16

// permits are the rights of principals.
type permits struct {
	current atomic.Pointer[policy]
	known   atomic.Bool // the state of users and roles here is one to go by, perhaps an old one
}

// policy has the rights in one state of those users that have asked for something.
type policy struct {
	state  *auth.State
	rights sync.Map // by the user's name
}

// users is the applied state of users and roles; nil: there never were any.
func (g *Gateway) users() *auth.State {
	if g.options.Users == nil {
		return nil
	}
	if state := g.options.Users(); state != nil && state.Version > 0 {
		return state
	}
	return nil
}

// KnowsUsers tells whether this node may go by the users and roles that it has applied. One that is new may not before it has caught up once: nobody is to be
// served as if there were no users because the node has not heard of them.
func (g *Gateway) KnowsUsers() bool {
	switch {
	case g.options.KnowsUsers == nil || g.permits.known.Load():
		return true
	case !g.options.KnowsUsers():
		return false
	}
	g.permits.known.Store(true)
	return true
}

// errUsersUnknown is the answer to who is not served before the node has heard who is who.
var errUsersUnknown = fmt.Errorf("this node is new and has not heard yet which users and roles there are: %w", kv.ErrNoLeader)

// rightsIn returns what a principal may do in a state.
func (g *Gateway) rightsIn(state *auth.State, principal string) *auth.Rights {
	p := g.permits.current.Load()
	if p == nil || p.state != state {
		p = &policy{state: state}
		g.permits.current.Store(p)
	}
	if known, found := p.rights.Load(principal); found {
		return known.(*auth.Rights)
	}
	rights := auth.Compile(state, principal)
	if state.User(principal) != nil { // others need not be remembered: anybody may have any name
		p.rights.Store(principal, rights)
	}
	return rights
}

// Meets tells why a client must not do something that is about no certain keys.
func (g *Gateway) Meets(principal string, proof kv.Credential, need auth.Need) error {
	if need != auth.NeedNothing && !g.KnowsUsers() {
		return errUsersUnknown
	}
	state := g.users()
	if state == nil {
		return nil
	}
	rights := g.rightsIn(state, principal)
	if err := rights.Holds(proof); err != nil {
		return err
	}
	return rights.Meets(need)
}

// permit judges a request that needs to know of no lease.
func (g *Gateway) permit(req *kv.Request) error {
	if !g.KnowsUsers() && req.AuthVersion != kv.Unjudged {
		return errUsersUnknown
	}
	state := g.users()
	if state == nil || req.AuthVersion == kv.Unjudged {
		return nil
	}
	rights := g.rightsIn(state, req.Principal)
	if err := rights.Holds(req.Credential); err != nil {
		return err
	}
	req.AuthVersion = rights.Version()
	return rights.Decide(req, func(kv.LeaseID) [][]byte { return nil })
}

// outdated tells whether users or roles have changed since a request was judged, as far as is known here.
func (g *Gateway) outdated(req *kv.Request) bool { return req.AuthVersion < g.authVersion() }

// authVersion is the latest version of users and roles that is known here.
func (g *Gateway) authVersion() (version uint64) {
	if g.options.Users == nil {
		return 0
	}
	if g.options.AuthVersion != nil {
		version = g.options.AuthVersion()
	}
	return max(version, g.options.Users().Version)
}

// permitAnew judges a request of a range by the newest state.
func (g *Gateway) permitAnew(ctx context.Context, req *kv.Request) error {
	if g.authVersion() > g.options.Users().Version {
		if err := g.CatchUp(ctx, kv.SystemShard); err != nil {
			return err
		}
	}
	return g.permit(req)
}

// permitRange judges a request of a range. It is not refused by a state that is old.
func (g *Gateway) permitRange(ctx context.Context, req *kv.Request) error {
	err := g.permit(req)
	if err != nil && g.CatchUp(ctx, kv.SystemShard) == nil {
		err = g.permit(req)
	}
	return err
}

// MayWatch tells why a client must not watch a span, by the state that is applied here.
func (g *Gateway) MayWatch(principal string, proof kv.Credential, span kv.Span) error {
	return g.permit(&kv.Request{Kind: kv.KindRange, Principal: principal, Credential: proof, Range: &kv.RangeRequest{Span: span}})
}

// judge tells whether a call may go on. If not, it is answered, or is judged once more is known.
func (g *Gateway) judge(c *Call) (permitted bool) {
	known := c.internal || c.Trusted || g.KnowsUsers()
	state := g.users() // after that: it is at least as new as the one that is known
	switch {
	case c.internal || state == nil && known:
		return true
	case !known:
		g.learnUsers(c)
		return false
	case c.Trusted:
		c.Req.AuthVersion = kv.Unjudged
		return true
	}
	rights := g.rightsIn(state, c.Req.Principal)
	err := rights.Holds(c.Req.Credential)
	if err == nil && c.leases == nil {
		if ids := rights.Leases(c.Req); len(ids) > 0 {
			g.learnLeases(c, ids)
			return false
		}
	}
	if err == nil {
		c.Req.AuthVersion = rights.Version()
		err = rights.Decide(c.Req, func(id kv.LeaseID) [][]byte { return c.leases[id] })
	}
	switch {
	case err == nil:
		return true
	case !c.confirmed: // perhaps it was allowed just now, and that has not come here yet
		c.confirmed, c.leases = true, nil
		if g.track(c) {
			g.catchUp(c.expires, func(error) { g.options.Spawn(func() { g.enter(c) }) })
		}
		return false
	}
	c.judged = true
	c.finish(nil, err)
	return false
}

// learnUsers has a call wait until it is known here who is who.
func (g *Gateway) learnUsers(c *Call) {
	if !g.track(c) {
		return
	}
	g.catchUp(c.expires, func(err error) {
		if err != nil {
			c.judged = true
			c.finish(nil, err)
			return
		}
		c.confirmed = true
		g.options.Spawn(func() { g.enter(c) })
	})
}

// catchUp has done called once the state of users and roles here is as new as any that was told of before the call, or with why that is not known.
func (g *Gateway) catchUp(until time.Duration, done func(error)) {
	system := g.links.byShard[kv.SystemShard]
	if system == nil {
		done(notHere(kv.SystemShard))
		return
	}
	caughtUp := &Call{gateway: g, link: system, until: until, internal: true, ready: func(err error) {
		if err == nil {
			g.permits.known.Store(true)
		}
		done(err)
	}}
	caughtUp.item.Read = true
	g.calls.Add(1)
	if g.track(caughtUp) {
		system.await(caughtUp)
		system.pump()
	}
}

// learnLeases asks which keys leases have, before a call is judged. What is attached to one of them afterwards is judged with whoever does that: it must be
// allowed to write all keys of the lease.
func (g *Gateway) learnLeases(c *Call, ids []kv.LeaseID) {
	if !g.track(c) {
		return
	}
	var mu sync.Mutex
	known, missing := make(map[kv.LeaseID][][]byte, len(ids)), len(ids)
	learned := func(id kv.LeaseID, resp *kv.Response, err error) {
		if err != nil {
			c.finish(nil, err)
			return
		}
		mu.Lock()
		known[id] = resp.LeaseTimeToLive.Keys
		missing--
		last := missing == 0
		mu.Unlock()
		if last && !c.answered.Load() {
			c.leases = known
			g.options.Spawn(func() { g.enter(c) })
		}
	}
	for _, id := range ids {
		req := &kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: id, Keys: true}, Memory: c.Req.Memory}
		g.Submit(&Call{Req: req, Trusted: true, MoreFollow: true, until: c.expires, RequireLeader: c.RequireLeader,
			Done: func(resp *kv.Response, err error) { learned(id, resp, err) }})
	}
}

// review looks at the outcome of a call before its client is told. It returns the outcome to be told; over: somebody else tells one.
func (c *Call) review(resp *kv.Response, err error) (_ *kv.Response, _ error, over bool) {
	g := c.gateway
	if c.internal || c.Trusted || c.judged || c.ready != nil || c.Req == nil {
		return resp, err, false
	}
	state := g.users()
	switch {
	case state == nil && (err == nil && !g.outdated(c.Req) || err != nil && !errors.Is(err, kv.ErrAuthOldRevision)):
		return resp, err, false
	case err != nil && errors.Is(err, kv.ErrAuthOldRevision), err == nil && shard.IsReadOnly(c.Req) && g.outdated(c.Req):
		if c.judgeAgain() {
			return nil, nil, true
		}
		return nil, kv.ErrAuthOldRevision, false
	case err == nil && resp != nil && resp.LeaseTimeToLive != nil:
		if err := g.rightsIn(state, c.Req.Principal).Shows(resp); err != nil {
			return nil, err, false
		}
	}
	return resp, err, false
}

// judgeAgain has a call that has had no effect begin anew, as another one, when the state here is one that is newer than that it was judged by.
func (c *Call) judgeAgain() bool {
	g := c.gateway
	if c.judgments >= maxJudgments {
		return false
	}
	req := *c.Req
	req.AuthVersion = 0
	next := &Call{
		Req: &req, Done: c.Done, Deadline: c.Deadline, until: c.expires, RequireLeader: c.RequireLeader, MoreFollow: true, judgments: c.judgments + 1, gateway: g,
	}
	g.calls.Add(1)
	c.next.Store(next)
	if c.answered.Swap(true) {
		g.calls.Add(-1)
		return true
	}
	c.end()
	g.catchUp(c.expires, func(err error) {
		if err != nil {
			next.judged = true
			next.finish(nil, err)
			return
		}
		g.options.Spawn(func() { g.enter(next) })
	})
	return true
}
