package history

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
)

const (
	// leaseSlack is what the milliseconds in which lease clocks count may round away.
	leaseSlack = 5 * time.Millisecond
	// leasePatience is how long a lease may outlive its time on a healthy cluster: the lease clock is logged every 3 s, and a new
	// leader goes on from there.
	leasePatience = 10 * time.Second
)

// leases is what clients know of leases.
type leases struct {
	byID map[kv.LeaseID]*leaseLife
	all  []*leaseLife
	// anonymous are grants of unknown outcome that left the choice of the ID to the store.
	anonymous []*Operation
	lists     []*Operation
}

// leaseLife is one lease as clients saw it. An ID that was granted more than once has lives that are hard to tell apart: then
// only little is judged.
type leaseLife struct {
	id       kv.LeaseID
	grants   []*Operation // Acknowledged or Unknown
	renewals []*Operation
	maybe    []*Operation // renewals of unknown outcome
	alive    []*Operation // were told what is left of it
	revokes  []*Operation // refused ones too: the official client repeats them, and the second try finds nothing
	missing  []*Operation // were told that there is no such lease
	put      []*Operation // attached a key
	ended    kv.Revision  // where its last keys were deleted; 0: not seen
	ending   kv.Revision  // where the first were, and not all; 0: not seen
	revoked  kv.Revision  // what its revocation was answered, if nothing was attached; 0: it was not
}

func newLeases(h *History) leases {
	l := leases{byID: map[kv.LeaseID]*leaseLife{}}
	for i := range h.Operations {
		l.note(&h.Operations[i])
	}
	return l
}

func (l *leases) note(o *Operation) {
	switch r := o.Request; r.Kind {
	case kv.KindLeaseGrant:
		l.noteGrant(o)
	case kv.KindLeaseRevoke:
		life := l.life(r.LeaseRevoke.ID)
		life.revokes = append(life.revokes, o)
		if o.Outcome == Refused && errors.Is(o.Err, kv.ErrLeaseNotFound) {
			life.missing = append(life.missing, o)
		}
	case kv.KindLeaseKeepAlive:
		life := l.life(r.LeaseKeepAlive.ID)
		switch {
		case o.Outcome == Unknown:
			life.maybe = append(life.maybe, o)
		case o.Outcome == Acknowledged && o.Response.LeaseKeepAlive.TTLSeconds > 0:
			life.renewals = append(life.renewals, o)
		case o.Outcome == Acknowledged || errors.Is(o.Err, kv.ErrLeaseNotFound):
			life.missing = append(life.missing, o)
		}
	case kv.KindLeaseTimeToLive:
		life := l.life(r.LeaseTimeToLive.ID)
		switch {
		case o.Outcome != Acknowledged:
		case o.Response.LeaseTimeToLive.TTLSeconds >= 0:
			life.alive = append(life.alive, o)
		default:
			life.missing = append(life.missing, o)
		}
	case kv.KindLeaseLeases:
		if o.Outcome == Acknowledged {
			l.lists = append(l.lists, o)
		}
	case kv.KindPut:
		if r.Put.Lease != 0 && o.Outcome == Refused && errors.Is(o.Err, kv.ErrLeaseNotFound) {
			life := l.life(r.Put.Lease)
			life.missing = append(life.missing, o)
		}
	}
}

func (l *leases) noteGrant(o *Operation) {
	id := o.Request.LeaseGrant.ID
	if o.Outcome == Acknowledged {
		id = o.Response.LeaseGrant.ID
	}
	switch {
	case o.Outcome == Refused:
	case id == 0:
		l.anonymous = append(l.anonymous, o)
	default:
		life := l.life(id)
		life.grants = append(life.grants, o)
	}
}

func (l *leases) life(id kv.LeaseID) *leaseLife {
	if l.byID[id] == nil {
		l.byID[id] = &leaseLife{id: id}
		l.all = append(l.all, l.byID[id])
	}
	return l.byID[id]
}

// grant is the only grant of the lease, if it was acknowledged; else nil.
func (l *leaseLife) grant() *Operation {
	if len(l.grants) == 1 && l.grants[0].Outcome == Acknowledged {
		return l.grants[0]
	}
	return nil
}

// attached notes the leases of the puts that a write did.
func (l *leases) attached(c *checker, o *Operation, at kv.Revision) {
	for _, e := range c.events(at) {
		if e.Type == kv.EventDelete || e.KV.Lease == 0 {
			continue
		}
		life := l.life(e.KV.Lease)
		switch {
		case len(life.grants) == 0 && !l.maybeAnonymous(o.Return):
			c.problem("%s took effect at revision %d, but lease %x was never granted", o.name(), at, int64(life.id))
		case len(life.grants) == 1 && max(life.ended, life.revoked) != 0:
			c.problem("%s took effect at revision %d, but lease %x had ended at %d", o.name(), at, int64(life.id), max(life.ended, life.revoked))
		}
		life.put = append(life.put, o)
	}
}

func (l *leases) maybeAnonymous(by time.Duration) bool {
	return slices.ContainsFunc(l.anonymous, func(o *Operation) bool { return o.Invoke <= by })
}

// endedBy tells whether the events are the end of a lease: exactly its keys are deleted, or the first of them, if it has many. whole: all. Of a store of several
// shards they are the first of one shard.
func (l *leases) endedBy(c *checker, events []kv.Event) (id kv.LeaseID, whole, ended bool) {
	for i := range events {
		if events[i].Type != kv.EventDelete {
			return 0, false, false
		}
	}
	before, found := c.model.At(events[0].KV.Key, c.model.Revision())
	if !found || before.Lease == 0 {
		return 0, false, false
	}
	keys := attached(c.model, before.Lease)
	switch {
	case c.KeysPerExpiry == 0 || len(events) > c.KeysPerExpiry || len(events) >= len(keys):
		whole = true
	case c.Sparse && c.ShardOf != nil:
		of := c.ShardOf(events[0].KV.Key)
		keys = slices.DeleteFunc(keys, func(key []byte) bool { return c.ShardOf(key) != of })
		keys = keys[:min(len(keys), len(events))]
	default:
		keys = keys[:len(events)]
	}
	return before.Lease, whole, slices.EqualFunc(keys, events, func(key []byte, e kv.Event) bool { return bytes.Equal(key, e.KV.Key) })
}

// attached lists the keys of a lease, in order.
func attached(m *model.Store, id kv.LeaseID) (keys [][]byte) {
	r, _, err := m.Try(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything(), KeysOnly: true}})
	if err != nil {
		return nil
	}
	for _, e := range r.Range.KVs {
		if e.Lease == id {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

// endLease lets a lease end at a revision, by expiry or because somebody revoked it; not whole: some of its keys.
func (c *checker) endLease(id kv.LeaseID, whole bool, at kv.Revision, events []kv.Event) bool {
	c.LeaseEnds++
	life := c.leases.life(id)
	if whole {
		life.ended = at
	} else if life.ending == 0 {
		life.ending = at
	}
	var ops []kv.Op
	for i := range events {
		ops = append(ops, kv.Op{DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: events[i].KV.Key}}})
	}
	from := len(c.model.History())
	_, err := c.model.Apply(&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: ops}})
	if written := c.model.History()[from:]; err != nil || !sameEvents(written, events) {
		c.problem("revision %d, the end of lease %x: the history has%s, it must be%s", at, int64(id), describeEvents(events, false), describeVersions(written))
		return false
	}
	if moment := c.times.moment(at); !life.mayEndBy(c, moment) {
		c.problem("lease %x ended early: its keys were gone at revision %d by %v; it was valid until %v", int64(id), at, moment, life.validUntil(c))
	}
	return true
}

// mayEndBy tells whether the lease may be gone at a moment.
func (l *leaseLife) mayEndBy(c *checker, at time.Duration) bool {
	return len(l.grants) != 1 || l.revokedBy(at, nil) || at+leaseSlack >= l.validUntil(c)
}

// revokedBy tells whether somebody may have revoked the lease by then, other than one operation.
func (l *leaseLife) revokedBy(at time.Duration, other *Operation) bool {
	return slices.ContainsFunc(l.revokes, func(o *Operation) bool { return o != other && o.Invoke <= at })
}

// validUntil is when a lease that was granted once ends at the earliest. Its time counts from the moment when the renewal was asked
// for, on a clock that may be fast. A renewal that succeeded shows that the lease had not ended before, whenever the answer came.
func (l *leaseLife) validUntil(c *checker) (until time.Duration) {
	lasts := func(o *Operation, ttlSeconds int64) {
		until = max(until, o.Invoke+time.Duration(float64(ttlSeconds)*float64(time.Second)/(1+c.ClockDrift)))
	}
	if g := l.grant(); g != nil {
		lasts(g, g.Response.LeaseGrant.TTLSeconds)
	}
	for _, o := range l.renewals {
		lasts(o, o.Response.LeaseKeepAlive.TTLSeconds)
	}
	return until
}

// goneBy is when a lease has ended at the latest, on a cluster that is healthy from HealthySince on; never if that is not known.
func (l *leaseLife) goneBy(c *checker) time.Duration {
	g := l.grant()
	if c.HealthySince == 0 || g == nil {
		return never
	}
	last := max(g.Return, c.HealthySince)
	for _, o := range l.renewals {
		last = max(last, o.Return)
	}
	for _, o := range l.maybe {
		last = max(last, o.Return+leasePatience)
	}
	ttl := float64(g.Response.LeaseGrant.TTLSeconds) * float64(time.Second) / (1 - c.ClockDrift)
	return last + time.Duration(ttl) + leasePatience
}

// revoked checks an acknowledged revocation: afterwards nothing is attached.
func (c *checker) revoked(o *Operation, at kv.Revision) {
	id := o.Request.LeaseRevoke.ID
	life := c.leases.life(id)
	if keys := attached(c.model, id); len(keys) > 0 {
		c.problem("%s was answered at revision %d, but keys %q are still attached", o.name(), at, keys)
		return
	}
	switch {
	case life.ended == 0:
		life.revoked = at
	case c.Sparse && life.ended <= at: // the shard that has the keys is another one, and revisions of others came meanwhile
	case len(life.grants) == 1 && life.ended != at:
		c.problem("%s was answered at revision %d, but the lease had ended at %d", o.name(), at, life.ended)
	}
}

// askedKeys checks the keys that a question about a lease was answered with. With several shards see keysAsked.
func (c *checker) askedKeys(o *Operation, at kv.Revision) {
	answer := o.Response.LeaseTimeToLive
	if c.Sparse || !o.tellsKeys() {
		return
	}
	if want := attached(c.model, answer.ID); !slices.EqualFunc(want, answer.Keys, bytes.Equal) {
		c.problem("%s was answered at revision %d that keys %q are attached, but it is %q", o.name(), at, answer.Keys, want)
	}
}

// tellsKeys tells whether the answer says which keys a lease has that lives.
func (o *Operation) tellsKeys() bool {
	return o.Request.LeaseTimeToLive.Keys && o.Response.LeaseTimeToLive.TTLSeconds >= 0
}
