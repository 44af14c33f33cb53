package gateway

import (
	"github.com/quoratedb/quorate/kv"
)

// Leases in a store of several shards. The system shard has their records, another one may have their keys.

// Ask has a request of a leader answered by the leader of the shard that it is for, for driver.Driver.AskWith. It may be called in a round of the driver.
func (g *Gateway) Ask(req *kv.Request, done func(*kv.Response, error)) {
	g.Submit(&Call{Req: req, Done: done, MoreFollow: true, internal: true})
}

// decided tells whether a request that changes nothing is evaluated by the leader all the same: it may have to wait for the end of a lease.
func (g *Gateway) decided(req *kv.Request) bool {
	return g.options.Revisions != nil && req.Kind == kv.KindLeaseTimeToLive
}

// lifetime is a question about a lease: the system shard knows how long it lives and which shard has its keys, and that shard lists them. A shard that does
// not know the lease has none of its keys, unless the lease has ended meanwhile; so the system shard is asked again.
type lifetime struct {
	call    *Call
	known   *kv.Response // what the system shard said last
	listed  *kv.Response // what the other shard said last, about the incarnation that the system shard had said; nil: nothing
	unknown uint64       // the incarnation that it did not know
}

// timeToLive answers a client's question about a lease.
func (g *Gateway) timeToLive(c *Call) {
	if g.track(c) {
		(&lifetime{call: c}).ask()
	}
}

// submit asks somebody on behalf of the client.
func (t *lifetime) submit(req *kv.Request, done func(*kv.Response)) {
	c := t.call
	req.Principal, req.Memory = c.Req.Principal, c.Req.Memory
	c.gateway.Submit(&Call{Req: req, Deadline: c.Deadline, RequireLeader: c.RequireLeader, MoreFollow: true, internal: true, Done: func(resp *kv.Response, err error) {
		switch {
		case err != nil:
			c.finish(nil, err)
		case !c.answered.Load():
			done(resp)
		}
	}})
}

func (t *lifetime) ask() {
	t.submit(&kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: t.call.Req.LeaseTimeToLive.ID}}, t.lives)
}

// lives takes what the system shard says.
func (t *lifetime) lives(resp *kv.Response) {
	t.known = resp
	binding := resp.LeaseTimeToLive.Binding
	resp.LeaseTimeToLive.Binding = nil
	if binding != nil && binding.Incarnation == t.unknown {
		t.finish()
		return
	}
	if t.listed = nil; binding == nil || !t.call.Req.LeaseTimeToLive.Keys {
		t.finish()
		return
	}
	t.submit(&kv.Request{Kind: kv.KindLeaseKeys, LeaseBinding: binding}, func(resp *kv.Response) { t.has(binding, resp) })
}

// has takes what the shard with the keys says, as of the revision of its answer: the lease lived before that and, if it was not known there, after.
func (t *lifetime) has(binding *kv.LeaseBinding, resp *kv.Response) {
	t.listed = resp
	if resp.LeaseTimeToLive.Binding == nil {
		t.unknown = binding.Incarnation
		t.ask()
		return
	}
	t.finish()
}

// finish puts the answer together.
func (t *lifetime) finish() {
	if t.listed != nil {
		t.known.LeaseTimeToLive.Keys, t.known.Revision = t.listed.LeaseTimeToLive.Keys, t.listed.Revision
	}
	t.call.finish(t.known, nil)
}
