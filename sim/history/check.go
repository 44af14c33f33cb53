package history

import (
	"fmt"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
)

// Report is what Check found.
type Report struct {
	Problems []string
	// Figures about what was checked.
	Writes, Reads, Recovered, LeaseEnds int
}

func (r *Report) problem(format string, args ...any) {
	const enough = 50
	if len(r.Problems) < enough {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// checker is one run of Check.
type checker struct {
	*History
	Report
	model  *model.Store
	times  timeline
	leases leases
	// events by revision.
	events map[kv.Revision][]kv.Event
	// writers are the acknowledged writes by revision; looks is what was answered at a revision without taking it.
	writers map[kv.Revision]*Operation
	looks   map[kv.Revision][]*Operation
	// values finds the operation that puts a value: every value of a workload is different.
	values map[string]*Operation
	// deletes are those of unknown outcome, until one is found to have taken effect.
	deletes []*Operation
	used    map[*Operation]kv.Revision
}

// Check holds the answers, with their revisions, and the watches against the sequential model.
func Check(h *History) Report {
	c := &checker{
		History: h, model: model.New(),
		events:  map[kv.Revision][]kv.Event{},
		writers: map[kv.Revision]*Operation{}, looks: map[kv.Revision][]*Operation{},
		values: map[string]*Operation{}, used: map[*Operation]kv.Revision{},
	}
	for _, e := range h.Full {
		c.events[e.KV.ModRevision] = append(c.events[e.KV.ModRevision], e)
	}
	c.sort()
	c.times = newTimeline(h)
	c.leases = newLeases(h)
	c.replay()
	c.checkRealTime()
	c.checkProcesses()
	c.checkLeases()
	for i := range h.Watchers {
		c.checkWatcher(&h.Watchers[i])
	}
	return c.Report
}

// sort puts every operation where replay will look for it.
func (c *checker) sort() {
	for i := range c.Operations {
		o := &c.Operations[i]
		eachPut(o.Request, func(p *kv.PutRequest) {
			if other := c.values[string(p.Value)]; other != nil && other != o {
				c.problem("the workload put the value %q twice", p.Value)
			}
			c.values[string(p.Value)] = o
		})
		if o.Outcome == Unknown && o.Request.Kind == kv.KindDeleteRange {
			c.deletes = append(c.deletes, o)
		}
		if o.Outcome != Acknowledged {
			continue
		}
		at := o.Response.Revision
		switch {
		case at < 1 || at > c.Final:
			c.problem("lost: %s was answered at revision %d, but the store ended at %d", o.name(), at, c.Final)
		case o.wrote():
			if other := c.writers[at]; other != nil {
				c.problem("revision %d was given to both %s and %s", at, other.name(), o.name())
			}
			c.writers[at] = o
		default:
			if o.Request.Kind == kv.KindRange && o.Request.Range.Revision > 0 {
				at = o.Request.Range.Revision
			}
			c.looks[at] = append(c.looks[at], o)
		}
	}
}

// replay lets everything take effect in the order of the revisions. After the first answer that
// does not fit the states differ, and what follows would say nothing.
func (c *checker) replay() {
	for at := kv.Revision(1); at <= c.Final; at++ {
		if at > 1 && !c.write(at) {
			return
		}
		for _, o := range c.looks[at] {
			if !c.look(o, at) {
				return
			}
		}
		c.model.Prune()
	}
}

// write lets the write of a revision take effect.
func (c *checker) write(at kv.Revision) bool {
	events := c.events[at]
	if len(events) == 0 {
		if o := c.writers[at]; o != nil {
			c.problem("lost: revision %d was answered to %s, and is not in the history", at, o.name())
		} else {
			c.problem("revision %d is missing in the history", at)
		}
		return false
	}
	o := c.writers[at]
	if o == nil {
		if id, ends := c.leases.endedBy(c.model, events); ends {
			return c.endLease(id, at, events)
		}
		if o = c.find(at, events); o == nil {
			return false
		}
		c.Recovered++
	}
	c.Writes++
	if before, again := c.used[o]; again {
		c.problem("%s took effect twice, at revisions %d and %d", o.name(), before, at)
		return false
	}
	c.used[o] = at
	if !c.leases.hold(c, o, at) {
		return false
	}
	got, err := c.model.Apply(o.Request)
	if err != nil {
		c.problem("%s took effect at revision %d, where it must fail: %v", o.name(), at, err)
		return false
	}
	if want := describeEvents(c.model.Events(Everything(), at, at), false); want != describeEvents(events, false) {
		c.problem("revision %d of %s: the history has%s, it must be%s", at, o.name(), describeEvents(events, false), want)
		return false
	}
	return c.compare(o, got, at)
}

// compare holds an answer against the model's. got is the model's.
func (c *checker) compare(o *Operation, model *kv.Response, at kv.Revision) bool {
	if o.Outcome != Acknowledged {
		return true
	}
	if want, got := describe(model), describe(o.Response); want != got {
		c.problem("at revision %d %s was answered\n    %s\n  it must be\n    %s", at, o.name(), got, want)
		return false
	}
	return true
}

// find finds the operation of unknown outcome that explains the events of a revision.
func (c *checker) find(at kv.Revision, events []kv.Event) *Operation {
	for _, e := range events {
		if e.Type != kv.EventPut {
			continue
		}
		o := c.values[string(e.KV.Value)]
		switch {
		case o == nil:
			c.problem("revision %d holds a value that nobody put:%s", at, describeEvents(events, false))
		case o.Outcome == Refused:
			c.problem("%s was refused (%v), but took effect at revision %d", o.name(), o.Err, at)
		case o.Outcome == Acknowledged:
			c.problem("%s was answered at revision %d, but took effect at revision %d", o.name(), o.Response.Revision, at)
		default:
			return o
		}
		return nil
	}
	for i, o := range c.deletes {
		if c.times.floor(o.Invoke) >= at || o.Invoke > c.times.seen(at) {
			continue
		}
		try := c.model.Clone()
		if _, err := try.Apply(o.Request); err == nil && describeEvents(try.Events(Everything(), at, at), false) == describeEvents(events, false) {
			c.deletes = append(c.deletes[:i:i], c.deletes[i+1:]...)
			return o
		}
	}
	c.problem("nobody asked for revision %d:%s", at, describeEvents(events, false))
	return nil
}

// look checks an answer that took no revision.
func (c *checker) look(o *Operation, at kv.Revision) bool {
	switch o.Request.Kind {
	case kv.KindRange, kv.KindTxn, kv.KindDeleteRange:
	case kv.KindLeaseRevoke:
		return c.revoked(o, at)
	default:
		return true
	}
	c.Reads++
	request := o.Request
	if request.Kind == kv.KindRange && request.Range.Revision > 0 {
		now := *request.Range
		now.Revision = 0
		request = &kv.Request{Kind: kv.KindRange, Range: &now}
	}
	try := c.model
	if !o.reads() {
		try = c.model.Clone()
	}
	got, err := try.Apply(request)
	if err != nil {
		c.problem("%s was answered at revision %d, where it must fail: %v", o.name(), at, err)
		return false
	}
	return c.compare(o, got, at)
}
