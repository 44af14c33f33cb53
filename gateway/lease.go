package gateway

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Leases in a store of several shards. The system shard has their records, any may have their keys.

// Ask has a request of a leader answered by the leader of the shard that it is for, for driver.Driver.AskWith. It may be called in a round of the driver.
func (g *Gateway) Ask(req *kv.Request, done func(*kv.Response, error)) {
	if req.Kind == kv.KindLeaseEnd {
		g.endLease(req, done)
		return
	}
	g.Submit(&Call{Req: req, Done: done, MoreFollow: true, internal: true})
}

// firstEndTime is for how long the first attempt is made to end a lease with keys in several shards; each further one takes twice as long as the one before, up to
// 1 << mostDoublings times that. If one of the shards has no leader, the others' locks fall after that, and watches go on there, until the next attempt. One that
// has very many keys needs longer.
const (
	firstEndTime  = 2 * time.Second
	mostDoublings = 3
)

// maxFailedEnds is of how many leases it is known how often their ends failed. Beyond it all begin anew.
const maxFailedEnds = 1024

// leaseEnds counts, by lease, attempts to end it that failed.
type leaseEnds struct {
	mu     sync.Mutex
	failed map[kv.LeaseID]int
}

// patience is how long the next attempt may take.
func (e *leaseEnds) patience(id kv.LeaseID, timeout time.Duration) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return min(firstEndTime, timeout) << min(e.failed[id], mostDoublings)
}

// attempted notes how an attempt went.
func (e *leaseEnds) attempted(id kv.LeaseID, failed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !failed {
		delete(e.failed, id)
		return
	}
	if e.failed == nil || len(e.failed) >= maxFailedEnds {
		e.failed = make(map[kv.LeaseID]int)
	}
	e.failed[id]++
}

// endLease has a transaction end a lease whose record is in the system shard that is led here.
func (g *Gateway) endLease(req *kv.Request, done func(*kv.Response, error)) {
	l := g.links.byShard[kv.SystemShard]
	if l == nil || !g.transacts() {
		done(nil, kv.ErrNotLeader)
		return
	}
	id := req.LeaseBinding.Lease
	ended := func(resp *kv.Response, err error) {
		g.leaseEnds.attempted(id, err != nil && !errors.Is(err, kv.ErrRequestTooLarge) && !errors.Is(err, kv.ErrNotLeader))
		done(resp, err)
	}
	if _, err := l.commits.take(req, g.time()+g.leaseEnds.patience(id, g.options.RequestTimeout), ended); err != nil {
		done(nil, err)
	}
}

// decided tells whether a request that changes nothing is evaluated by the leader all the same: it may have to wait for the end of a lease.
func (g *Gateway) decided(req *kv.Request) bool {
	return g.options.Revisions != nil && req.Kind == kv.KindLeaseTimeToLive
}

// lifetime is a question about a lease: the system shard knows how long it lives and which shards may have keys of it, and those list them, each as of its own
// answer. A shard that does not know the lease has none of its keys, unless the lease has ended meanwhile; so the system shard is asked again.
type lifetime struct {
	call    *Call
	known   *kv.Response // what the system shard said last
	unknown uint64       // the incarnation that a shard did not know

	mu sync.Mutex
	// Of the incarnation that the system shard said last: the keys, the highest revision of an answer, how many shards have not answered, and whether one did not
	// know the lease.
	keys     [][]byte
	revision kv.Revision
	left     int
	lacks    bool
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
	req.Principal, req.AuthVersion, req.Memory = c.Req.Principal, c.Req.AuthVersion, c.Req.Memory
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
	if t.keys, t.revision, t.lacks = nil, 0, false; binding == nil || !t.call.Req.LeaseTimeToLive.Keys {
		t.finish()
		return
	}
	shards := binding.Shards
	if len(shards) == 0 {
		shards = []kv.ShardID{binding.Shard}
	}
	t.left = len(shards)
	for _, shard := range shards {
		of := &kv.LeaseBinding{Lease: binding.Lease, Incarnation: binding.Incarnation, Shard: shard}
		t.submit(&kv.Request{Kind: kv.KindLeaseKeys, LeaseBinding: of}, func(resp *kv.Response) { t.has(of, resp) })
	}
}

// has takes what a shard says, as of the revision of its answer: the lease lived before that and, if it was not known there, after.
func (t *lifetime) has(of *kv.LeaseBinding, resp *kv.Response) {
	t.mu.Lock()
	t.keys = append(t.keys, resp.LeaseTimeToLive.Keys...)
	t.revision = max(t.revision, resp.Revision)
	t.lacks = t.lacks || resp.LeaseTimeToLive.Binding == nil
	t.left--
	last := t.left == 0
	t.mu.Unlock()
	switch {
	case !last:
	case t.lacks:
		t.unknown = of.Incarnation
		t.ask()
	default:
		t.finish()
	}
}

// finish puts the answer together.
func (t *lifetime) finish() {
	if t.revision > 0 {
		slices.SortFunc(t.keys, bytes.Compare)
		t.known.LeaseTimeToLive.Keys, t.known.Revision = t.keys, t.revision
	}
	t.call.finish(t.known, nil)
}
