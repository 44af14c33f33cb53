package history

import (
	"bytes"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
)

// leaseSlack is what the milliseconds in which lease clocks count may round away.
const leaseSlack = 5 * time.Millisecond

// leases is what clients know of leases.
type leases struct {
	byID map[kv.LeaseID]*leaseLife
}

// leaseLife is one lease as clients saw it.
type leaseLife struct {
	grant    *Operation // Acknowledged or Unknown
	renewals []*Operation
	revokes  []*Operation // refused ones too: the official client repeats them, and the second try finds nothing
	missing  []*Operation // were told that there is no such lease
	ended    kv.Revision  // where its keys were deleted, or the answer to its revocation; 0: not seen
	inModel  bool
}

func newLeases(h *History) leases {
	l := leases{byID: map[kv.LeaseID]*leaseLife{}}
	for i := range h.Operations {
		o := &h.Operations[i]
		r := o.Request
		switch {
		case r.Kind == kv.KindLeaseGrant && o.Outcome != Refused:
			l.life(r.LeaseGrant.ID).grant = o
		case r.Kind == kv.KindLeaseRevoke:
			life := l.life(r.LeaseRevoke.ID)
			life.revokes = append(life.revokes, o)
		case r.Kind == kv.KindLeaseKeepAlive && o.Outcome == Acknowledged && o.Response.LeaseKeepAlive.TTLSeconds > 0:
			life := l.life(r.LeaseKeepAlive.ID)
			life.renewals = append(life.renewals, o)
		case r.Kind == kv.KindLeaseKeepAlive && o.Outcome != Unknown:
			life := l.life(r.LeaseKeepAlive.ID)
			life.missing = append(life.missing, o)
		case r.Kind == kv.KindPut && r.Put.Lease != 0 && o.Outcome == Refused:
			life := l.life(r.Put.Lease)
			life.missing = append(life.missing, o)
		}
	}
	return l
}

func (l *leases) life(id kv.LeaseID) *leaseLife {
	if l.byID[id] == nil {
		l.byID[id] = &leaseLife{}
	}
	return l.byID[id]
}

// hold makes sure that the leases a write needs exist in the model: grants carry no revision of their own.
func (l *leases) hold(c *checker, o *Operation, at kv.Revision) bool {
	held := true
	eachPut(o.Request, func(p *kv.PutRequest) {
		if p.Lease == 0 || !held {
			return
		}
		life := l.life(p.Lease)
		switch {
		case life.grant == nil:
			c.problem("%s took effect at revision %d, but its lease was never granted", o.name(), at)
			held = false
		case life.ended != 0:
			c.problem("%s took effect at revision %d, but its lease had ended at %d", o.name(), at, life.ended)
			held = false
		case !life.inModel:
			life.inModel = true
			_, err := c.model.Apply(life.grant.Request)
			held = err == nil
		}
	})
	return held
}

// endedBy tells whether the events are the end of a lease: exactly its keys are deleted.
func (l *leases) endedBy(m *model.Store, events []kv.Event) (kv.LeaseID, bool) {
	var keys [][]byte
	for i := range events {
		if events[i].Type != kv.EventDelete {
			return 0, false
		}
		keys = append(keys, events[i].KV.Key)
	}
	before, found := m.At(keys[0], m.Revision())
	if !found || before.Lease == 0 {
		return 0, false
	}
	return before.Lease, slices.EqualFunc(attached(m, before.Lease), keys, bytes.Equal)
}

func attached(m *model.Store, id kv.LeaseID) [][]byte {
	r, err := m.Apply(&kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: id, Keys: true}})
	if err != nil {
		return nil
	}
	return r.LeaseTimeToLive.Keys
}

// endLease lets a lease end at a revision, by expiry or because somebody revoked it.
func (c *checker) endLease(id kv.LeaseID, at kv.Revision, events []kv.Event) bool {
	c.LeaseEnds++
	life := c.leases.life(id)
	life.ended = at
	if _, err := c.model.Apply(&kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: id}}); err != nil {
		c.problem("lease %x ended at revision %d, where it did not exist: %v", int64(id), at, err)
		return false
	}
	if want := describeEvents(c.model.Events(Everything(), at, at), false); want != describeEvents(events, false) {
		c.problem("revision %d, the end of lease %x: the history has%s, it must be%s", at, int64(id), describeEvents(events, false), want)
		return false
	}
	if seen := c.times.seen(at); !life.mayEndBy(seen) {
		c.problem("lease %x ended early: its keys were gone at revision %d by %v; it was granted %s and renewed by then until %v",
			int64(id), at, seen, life.grant.name(), life.validUntil(seen))
	}
	return true
}

// mayEndBy tells whether the lease may be gone at a moment.
func (l *leaseLife) mayEndBy(at time.Duration) bool {
	for _, o := range l.revokes {
		if o.Invoke <= at {
			return true
		}
	}
	return l.grant == nil || at+leaseSlack >= l.validUntil(at)
}

// validUntil is when the lease ends at the earliest, by what was answered before a moment.
func (l *leaseLife) validUntil(before time.Duration) time.Duration {
	until := time.Duration(0)
	if g := l.grant; g != nil && g.Outcome == Acknowledged {
		until = g.Invoke + time.Duration(g.Response.LeaseGrant.TTLSeconds)*time.Second
	}
	for _, o := range l.renewals {
		if o.Return <= before {
			until = max(until, o.Invoke+time.Duration(o.Response.LeaseKeepAlive.TTLSeconds)*time.Second)
		}
	}
	return until
}

// revoked checks an acknowledged revocation: afterwards nothing is attached.
func (c *checker) revoked(o *Operation, at kv.Revision) bool {
	id := o.Request.LeaseRevoke.ID
	life := c.leases.life(id)
	if keys := attached(c.model, id); len(keys) > 0 {
		c.problem("%s was answered at revision %d, but keys %q are still attached", o.name(), at, keys)
		return false
	}
	if life.ended == 0 {
		life.ended = at
	}
	return true
}

// checkLeases: nobody is told that a lease does not exist while it must.
func (c *checker) checkLeases() {
	for id, life := range c.leases.byID {
		for _, o := range life.missing {
			if !life.mayEndBy2(o) {
				c.problem("%s was told that lease %x does not exist; it was valid until %v", o.name(), int64(id), life.validUntil(o.Invoke))
			}
		}
		for _, o := range life.renewals {
			if life.ended != 0 && o.Invoke > c.times.seen(life.ended) {
				c.problem("%s was answered although lease %x had ended at revision %d", o.name(), int64(id), life.ended)
			}
		}
	}
}

// mayEndBy2 is mayEndBy for somebody who was told so at the end of an operation.
func (l *leaseLife) mayEndBy2(o *Operation) bool {
	if l.grant == nil || l.grant.Outcome != Acknowledged {
		return true
	}
	for _, r := range l.revokes {
		if r != o && r.Invoke <= o.Return {
			return true
		}
	}
	return o.Return+leaseSlack >= l.validUntil(o.Invoke)
}
