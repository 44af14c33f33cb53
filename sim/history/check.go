package history

import (
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
)

// Report is what Check found.
type Report struct {
	Problems []string
	// Figures about what was checked.
	Writes, Reads, Recovered, LeaseEnds, Claims, Messages int
	Gaps                                                  int // revisions below the last one that never took effect
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
	// byRevision[r] is what happened at revision r, by its places in Full; before[i] is the place of the event
	// before Full[i] on the same key, or -1.
	byRevision []interval
	before     []int
	// writers are the acknowledged writes by revision; looks is what was answered at a revision without taking it.
	writers []*Operation
	looks   [][]*Operation
	// claims are errors that say something about the state, by the first revision at which they can be true.
	claims map[kv.Revision][]*claim
	open   []*claim
	// keysAsked are answers about the keys of leases, by the first revision at which they can be right, if Sparse.
	keysAsked map[kv.Revision][]*keysAsked
	keysOpen  []*keysAsked
	// values finds the operations that put a value; only a request and its repetitions put the same.
	values map[string][]*Operation
	// quiet are operations of unknown outcome that values do not find: they may only delete, or keep values.
	quiet []*Operation
	used  map[*Operation]kv.Revision
	// recovered are writes that nobody was told of, with the operations that explain them.
	recovered   []recovery
	compactions []Commit
	end         time.Duration // of the last thing that was recorded
}

type interval struct{ from, to int }

// Check holds the answers, with their revisions, and the watches against the sequential model.
func Check(h *History) Report {
	c := &checker{
		History: h, model: model.New(),
		writers: make([]*Operation, h.Final+1), looks: make([][]*Operation, h.Final+1),
		claims: map[kv.Revision][]*claim{}, keysAsked: map[kv.Revision][]*keysAsked{}, values: map[string][]*Operation{}, used: map[*Operation]kv.Revision{},
	}
	c.model.AnyLease = true
	c.arrange()
	c.times = newTimeline(h)
	c.leases = newLeases(h)
	c.sort()
	if c.replay() {
		c.assign()
	}
	c.checkRealTime()
	c.checkProcesses()
	c.checkCompactions()
	c.checkLeases()
	for i := range h.Watchers {
		c.checkWatcher(&h.Watchers[i])
	}
	for i := range h.Streams {
		c.checkStream(&h.Streams[i])
	}
	return c.Report
}

// arrange puts the events where they are found by revision, and finds the compactions.
func (c *checker) arrange() {
	c.byRevision = make([]interval, c.Final+1)
	c.before = make([]int, len(c.Full))
	last := map[string]int{}
	for i := range c.Full {
		e := &c.Full[i].KV
		c.before[i] = -1
		if before, known := last[string(e.Key)]; known {
			c.before[i] = before
		}
		last[string(e.Key)] = i
		if e.ModRevision < 1 || e.ModRevision > c.Final {
			c.problem("the history has an event at revision %d, but ends at %d", e.ModRevision, c.Final)
			continue
		}
		at := &c.byRevision[e.ModRevision]
		if at.to == 0 {
			at.from = i
		}
		at.to = i + 1
	}
	for i := range c.Commits {
		if c.Commits[i].Compacted > 0 {
			c.compactions = append(c.compactions, c.Commits[i])
		}
		c.end = max(c.end, c.Commits[i].At)
	}
}

func (c *checker) events(at kv.Revision) []kv.Event {
	i := c.byRevision[at]
	return c.Full[i.from:i.to]
}

// prev is the version before the i-th event; nil if there was none.
func (c *checker) prev(i int) *kv.KeyValue {
	if before := c.before[i]; before >= 0 && c.Full[before].Type == kv.EventPut {
		return &c.Full[before].KV
	}
	return nil
}

// sort puts every operation where replay will look for it.
func (c *checker) sort() {
	for i := range c.Operations {
		o := &c.Operations[i]
		c.end = max(c.end, o.Invoke, o.Return)
		if !c.noteValues(o) && o.Outcome == Unknown {
			c.quiet = append(c.quiet, o)
		}
		switch o.Outcome {
		case Acknowledged:
			c.sortAnswer(o)
			c.sortKeysAsked(o)
		case Refused:
			c.sortClaim(o)
		}
	}
}

// noteValues tells whether everything that the operation may do is found by its values.
func (c *checker) noteValues(o *Operation) (found bool) {
	deletes := false
	eachOp(o.Request, func(op *kv.Op) {
		switch {
		case op.DeleteRange != nil || op.Put != nil && op.Put.IgnoreValue:
			deletes = true
		case op.Put != nil:
			found = true
			value := string(op.Put.Value)
			others := c.values[value]
			if len(others) > 0 && others[0].Request != o.Request {
				c.problem("the workload put the value %q twice", value)
			}
			if !slices.Contains(others, o) {
				c.values[value] = append(others, o)
			}
		}
	})
	return !deletes
}

func (c *checker) sortAnswer(o *Operation) {
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
		c.looks[at] = append(c.looks[at], o)
	}
}

// replay lets everything take effect in the order of the revisions. After the first write that
// does not fit the states differ, and what follows would say nothing.
func (c *checker) replay() bool {
	for at := kv.Revision(1); at <= c.Final; at++ {
		switch {
		case at > 1 && c.Sparse && c.writers[at] == nil && len(c.events(at)) == 0:
			c.Gaps++
			c.model.Advance(at)
		case at > 1 && !c.write(at):
			return false
		}
		for _, o := range c.looks[at] {
			c.look(o, at)
		}
		c.tryClaims(at)
		c.tryKeysAsked(at)
	}
	c.endClaims()
	c.endKeysAsked()
	return true
}

// write lets the write of a revision take effect.
func (c *checker) write(at kv.Revision) bool {
	events := c.events(at)
	o := c.writers[at]
	switch {
	case len(events) == 0 && o != nil:
		c.problem("lost: revision %d was answered to %s, and is not in the history", at, o.name())
		return false
	case len(events) == 0:
		c.problem("revision %d is missing in the history", at)
		return false
	case o == nil:
		return c.explain(at, events)
	}
	c.Writes++
	if before, again := c.used[o]; again {
		c.problem("%s took effect twice, at revisions %d and %d", o.name(), before, at)
		return false
	}
	c.used[o] = at
	got, fits := c.apply(o, at, events)
	if !fits {
		return false
	}
	c.leases.attached(c, o, at)
	c.compare(o, got, at)
	return true
}

// apply lets an operation take effect at the revision of the events.
func (c *checker) apply(o *Operation, at kv.Revision, events []kv.Event) (*kv.Response, bool) {
	from := len(c.model.History())
	got, err := c.model.Apply(o.Request)
	if err != nil {
		c.problem("%s took effect at revision %d, where it must fail: %v", o.name(), at, err)
		return nil, false
	}
	written := c.model.History()[from:]
	if !sameEvents(written, events) {
		c.problem("revision %d of %s: the history has%s, it must be%s", at, o.name(), describeEvents(events, false), describeVersions(written))
		return nil, false
	}
	if c.tooLarge(written) {
		c.problem("%s took effect at revision %d, with more than the %d bytes that a request may write", o.name(), at, c.MaxEffectBytes)
	}
	return got, true
}

func sameEvents(written []model.Version, events []kv.Event) bool {
	return slices.EqualFunc(written, events, func(v model.Version, e kv.Event) bool {
		made := v.Event()
		return equalEvents(&made, &e)
	})
}

func describeVersions(written []model.Version) string {
	var events []kv.Event
	for i := range written {
		events = append(events, written[i].Event())
	}
	return describeEvents(events, false)
}

// compare holds an answer against the model's.
func (c *checker) compare(o *Operation, want *kv.Response, at kv.Revision) {
	if !equalBodies(want, o.Response) {
		c.problem("at revision %d %s was answered\n    %s\n  it must be\n    %s", at, o.name(), describe(o.Response), describe(want))
	}
}

// look checks an answer that took no revision.
func (c *checker) look(o *Operation, at kv.Revision) {
	switch o.Request.Kind {
	case kv.KindRange, kv.KindTxn, kv.KindDeleteRange:
	case kv.KindLeaseRevoke:
		c.revoked(o, at)
		return
	case kv.KindLeaseTimeToLive:
		c.askedKeys(o, at)
		return
	default:
		return
	}
	c.Reads++
	got, written, err := c.model.Try(o.Request)
	switch {
	case err != nil:
		c.problem("%s was answered at revision %d, where it must fail: %v", o.name(), at, err)
	case len(written) > 0:
		c.problem("at revision %d %s was answered\n    %s\n  it must write", at, o.name(), describe(o.Response))
	default:
		c.compare(o, got, at)
	}
}
