package history

import (
	"errors"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// checkLeases: nobody is told that a lease does not exist while it must, or that it exists when it cannot.
func (c *checker) checkLeases() {
	for _, life := range c.leases.all {
		c.checkGrants(life)
		c.checkMissing(life)
		c.checkAlive(life)
		c.checkOutlived(life)
	}
	for _, o := range c.leases.lists {
		c.checkList(o)
	}
	c.checkLeaseRefusals()
}

func (c *checker) checkGrants(l *leaseLife) {
	var before *Operation
	for _, o := range l.grants {
		if o.Outcome != Acknowledged {
			before = nil
			continue
		}
		answer, asked := o.Response.LeaseGrant, o.Request.LeaseGrant
		if answer.TTLSeconds < asked.TTLSeconds || answer.TTLSeconds < 1 || asked.ID != 0 && answer.ID != asked.ID {
			c.problem("%s was answered with lease %x of %d s", o.name(), int64(answer.ID), answer.TTLSeconds)
		}
		if before != nil && before.Return < o.Invoke && !l.revokedBy(o.Return, nil) &&
			o.Return+leaseSlack < before.Invoke+time.Duration(float64(before.Response.LeaseGrant.TTLSeconds)*float64(time.Second)/(1+c.ClockDrift)) {
			c.problem("lease %x was granted by %s, while it lived since %s", int64(l.id), o.name(), before.name())
		}
		before = o
	}
}

func (c *checker) checkMissing(l *leaseLife) {
	g := l.grant()
	if g == nil {
		return
	}
	until := l.validUntil(c)
	for _, o := range l.missing {
		self := o
		if c.Commits == nil {
			self = nil // a real client repeats a revocation, and the second try finds nothing
		}
		if o.Invoke > g.Return && !l.revokedBy(o.Return, self) && o.Return+leaseSlack < until {
			c.problem("%s was told that lease %x does not exist; it was valid until %v", o.name(), int64(l.id), until)
		}
	}
}

// checkAlive looks at everybody who was told that the lease lives.
func (c *checker) checkAlive(l *leaseLife) {
	for _, o := range slices.Concat(l.renewals, l.alive) {
		c.checkLives(l, o)
	}
	g := l.grant()
	if g == nil {
		return
	}
	granted := g.Response.LeaseGrant.TTLSeconds
	for _, o := range l.renewals {
		if c.afterFirstPart(l, o) {
			c.problem("%s was renewed, but keys of the lease were deleted at revision %d because it had ended", o.name(), l.ending)
		}
		if got := o.Response.LeaseKeepAlive.TTLSeconds; got != granted {
			c.problem("%s was answered with %d s, the lease was granted for %d", o.name(), got, granted)
		}
	}
	for _, o := range l.alive {
		answer := o.Response.LeaseTimeToLive
		if answer.GrantedTTLSeconds != granted || answer.TTLSeconds > granted {
			c.problem("%s was answered with %d of %d s, the lease was granted for %d", o.name(), answer.TTLSeconds, answer.GrantedTTLSeconds, granted)
		}
		if c.afterFirstPart(l, o) && answer.TTLSeconds > 0 {
			c.problem("%s was answered with %d s, but keys of the lease were deleted at revision %d because it had ended", o.name(), answer.TTLSeconds, l.ending)
		}
		if least := l.leftAtLeast(c, o); answer.TTLSeconds < least && (c.KeysPerExpiry == 0 || !l.revokedBy(o.Return, nil)) {
			c.problem("%s was answered with %d s, at least %d s are left", o.name(), answer.TTLSeconds, least)
		}
	}
}

// afterFirstPart tells whether the operation was answered by somebody who knew that some keys of the lease had been deleted because it had ended.
func (c *checker) afterFirstPart(l *leaseLife, o *Operation) bool {
	return l.ending != 0 && (o.Invoke > c.times.seen(l.ending) || o.Response.Revision >= l.ending)
}

// leftAtLeast is the time that is left of a lease at the end of an operation, by what was answered before it.
func (l *leaseLife) leftAtLeast(c *checker, o *Operation) int64 {
	g := l.grant()
	from := g.Invoke
	for _, r := range l.renewals {
		if r.Return < o.Invoke {
			from = max(from, r.Invoke)
		}
	}
	spent := time.Duration(float64(o.Return-from) * (1 + c.ClockDrift))
	left := time.Duration(g.Response.LeaseGrant.TTLSeconds)*time.Second - spent - leaseSlack
	return int64(max(0, left) / time.Second)
}

// checkLives: the operation was told that the lease lives. Was it granted, and had nobody been told of its end?
func (c *checker) checkLives(l *leaseLife, o *Operation) {
	if !slices.ContainsFunc(l.grants, func(g *Operation) bool { return g.Invoke <= o.Return }) && !c.leases.maybeAnonymous(o.Return) {
		c.problem("%s was told that lease %x lives, but it was never granted", o.name(), int64(l.id))
	}
	g := l.grant()
	if g == nil {
		return
	}
	// The keys may be in another shard than the lease. Whoever asks about one lease waits until it is known that they are gone; a list of all does not.
	waits := !c.Sparse || o.Request.Kind != kv.KindLeaseLeases
	if waits && l.ended != 0 && o.Invoke > c.times.seen(l.ended) {
		c.problem("%s was answered although lease %x had ended at revision %d", o.name(), int64(l.id), l.ended)
	}
	for _, m := range l.missing {
		if m.Invoke > g.Return && m.Return < o.Invoke {
			c.problem("%s was told that lease %x lives, but before that %s was told that it does not exist", o.name(), int64(l.id), m.name())
		}
	}
	for _, r := range l.revokes {
		if r.Outcome == Acknowledged && r.Return < o.Invoke {
			c.problem("%s was told that lease %x lives, but before that %s was answered", o.name(), int64(l.id), r.name())
		}
	}
	if gone := l.goneBy(c); o.Invoke > gone {
		c.problem("%s was told that lease %x lives, but it must have ended by %v", o.name(), int64(l.id), gone)
	}
}

// checkOutlived: no key outlives its lease on a healthy cluster.
func (c *checker) checkOutlived(l *leaseLife) {
	if gone := l.goneBy(c); c.end > gone && l.ended == 0 {
		if keys := attached(c.model, l.id); len(keys) > 0 && c.model.Revision() == c.Final {
			c.problem("lease %x must have ended by %v, but at %v keys %q are still attached", int64(l.id), gone, c.end, keys)
		}
	}
}

// checkList checks a list of all leases.
func (c *checker) checkList(o *Operation) {
	ids := slices.Clone(o.Response.LeaseLeases.IDs)
	slices.Sort(ids) // they come by the time that is left
	for i, id := range ids {
		if i > 0 && id == ids[i-1] {
			c.problem("%s was answered with lease %x twice", o.name(), int64(id))
		}
		if l := c.leases.byID[id]; l != nil {
			c.checkLives(l, o)
		} else if !c.leases.maybeAnonymous(o.Return) {
			c.problem("%s was told of lease %x, which was never granted", o.name(), int64(id))
		}
	}
	for _, l := range c.leases.all {
		g := l.grant()
		if g == nil || g.Return >= o.Invoke || l.revokedBy(o.Return, nil) || o.Return+leaseSlack >= l.validUntil(c) {
			continue
		}
		if _, listed := slices.BinarySearch(ids, l.id); !listed {
			c.problem("%s was not told of lease %x, which is valid until %v", o.name(), int64(l.id), l.validUntil(c))
		}
	}
}

// checkLeaseRefusals: transactions that were refused for a lease, and grants for an ID that is taken.
func (c *checker) checkLeaseRefusals() {
	for i := range c.Operations {
		o := &c.Operations[i]
		switch {
		case o.Outcome != Refused:
		case o.Request.Kind == kv.KindTxn && errors.Is(o.Err, kv.ErrLeaseNotFound):
			if !c.someLeaseMissing(o) {
				c.problem("%s was refused: %v, but all its leases live", o.name(), o.Err)
			}
		case o.Request.Kind == kv.KindLeaseGrant && errors.Is(o.Err, kv.ErrLeaseExists):
			l := c.leases.byID[o.Request.LeaseGrant.ID]
			if l == nil || !slices.ContainsFunc(l.grants, func(g *Operation) bool { return g.Invoke <= o.Return }) {
				c.problem("%s was refused: %v, but nobody was granted it", o.name(), o.Err)
			}
		}
	}
}

func (c *checker) someLeaseMissing(o *Operation) (missing bool) {
	eachPut(o.Request, func(p *kv.PutRequest) {
		if p.Lease == 0 {
			return
		}
		l := c.leases.life(p.Lease)
		g := l.grant()
		missing = missing || g == nil || g.Return >= o.Invoke || l.revokedBy(o.Return, nil) || o.Return+leaseSlack >= l.validUntil(c)
	})
	return missing
}
