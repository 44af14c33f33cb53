package history

import (
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// recovery is a revision that was not acknowledged to anybody, and whoever may have written it. With free set
// it may also be the end of a lease.
type recovery struct {
	at   kv.Revision
	by   []*Operation
	free bool
}

// explain finds who wrote a revision that was acknowledged to nobody. What it did is known from the events, so
// it does not matter for the rest of the replay who of several it was; assign looks at that in the end.
func (c *checker) explain(at kv.Revision, events []kv.Event) bool {
	candidates := c.candidates(at, events)
	id, whole, ends := c.leases.endedBy(c, events)
	if ends && len(candidates) > 0 {
		ends = c.leases.life(id).mayEndBy(c, c.times.moment(at))
		c.recovered = append(c.recovered, recovery{at, candidates, ends})
	} else if ends {
		return c.endLease(id, whole, at, events)
	} else if len(candidates) == 0 {
		c.unexplained(at, events)
		return false
	} else {
		c.recovered = append(c.recovered, recovery{at, candidates, false})
	}
	c.Recovered++
	_, fits := c.apply(candidates[0], at, events)
	if fits && len(candidates) == 1 {
		c.leases.attached(c, candidates[0], at)
	}
	return fits
}

// candidates are the operations of unknown outcome that would have written these events now.
func (c *checker) candidates(at kv.Revision, events []kv.Event) (fitting []*Operation) {
	try := func(o *Operation) {
		// Invoked in time, and not after somebody had seen this revision.
		if o.Outcome != Unknown || o.Invoke > c.times.moment(at) || c.times.floor(o.Invoke) >= at || slices.Contains(fitting, o) {
			return
		}
		if _, written, err := c.model.Try(o.Request); err == nil && sameEvents(written, events) {
			fitting = append(fitting, o)
		}
	}
	for i := range events {
		if events[i].Type == kv.EventPut {
			for _, o := range c.values[string(events[i].KV.Value)] {
				try(o)
			}
		}
	}
	for _, o := range c.quiet { // one of them may have put the value that was there again
		if touches(o.Request, events[0].KV.Key) {
			try(o)
		}
	}
	return fitting
}

// touches tells whether the request may write the key.
func touches(r *kv.Request, key []byte) (touches bool) {
	eachOp(r, func(op *kv.Op) {
		switch {
		case op.Put != nil:
			touches = touches || string(op.Put.Key) == string(key)
		case op.DeleteRange != nil:
			touches = touches || op.DeleteRange.Span.Contains(key)
		}
	})
	return touches
}

// unexplained says what is wrong with a revision that no operation of unknown outcome wrote.
func (c *checker) unexplained(at kv.Revision, events []kv.Event) {
	for i := range events {
		if events[i].Type != kv.EventPut {
			continue
		}
		owners := c.values[string(events[i].KV.Value)]
		if len(owners) == 0 {
			c.problem("revision %d holds a value that nobody put:%s", at, describeEvents(events, false))
			return
		}
		switch o := owners[0]; o.Outcome {
		case Refused:
			c.problem("%s was refused (%v), but took effect at revision %d", o.name(), o.Err, at)
		case Acknowledged:
			c.problem("%s was answered at revision %d, but took effect at revision %d", o.name(), o.Response.Revision, at)
		default:
			c.problem("revision %d cannot be the effect of %s:%s", at, o.name(), describeEvents(events, false))
		}
		return
	}
	c.problem("nobody asked for revision %d:%s", at, describeEvents(events, false))
}

// assign gives every recovered revision an operation of its own: a matching in a graph with two sides.
func (c *checker) assign() {
	taken := map[*Operation]int{} // place in recovered
	for i := range c.recovered {
		if !c.augment(i, taken, map[*Operation]bool{}) && !c.recovered[i].free {
			r := &c.recovered[i]
			c.problem("an operation took effect twice: nobody is left for revision %d, which %s would explain", r.at, r.by[0].name())
		}
	}
	for o, i := range taken {
		c.used[o] = c.recovered[i].at
	}
}

func (c *checker) augment(i int, taken map[*Operation]int, visited map[*Operation]bool) bool {
	for _, o := range c.recovered[i].by {
		if visited[o] {
			continue
		}
		visited[o] = true
		if other, isTaken := taken[o]; !isTaken || c.recovered[other].free || c.augment(other, taken, visited) {
			taken[o] = i
			return true
		}
	}
	return false
}
