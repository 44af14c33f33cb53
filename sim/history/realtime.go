package history

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// timeline says when which revision was known to exist.
type timeline struct {
	// returned and highest: at returned[i] somebody had seen revision highest[i]; both ascend.
	returned []time.Duration
	highest  []kv.Revision
	// first[r] is the first moment at which somebody had seen revision r or a later one.
	first []time.Duration
	// committed[r] is when revision r was first applied; nil: not known.
	committed []time.Duration
	// reached is how far the store had come at which moments; nil: not known.
	reached   []Issue
	final     kv.Revision
	compacted []compactionKnown
}

// compactionKnown: a client was told of a compaction.
type compactionKnown struct{ operation *Operation }

const never = time.Duration(math.MaxInt64)

func newTimeline(h *History) timeline {
	type sight struct {
		at       time.Duration
		revision kv.Revision
	}
	t := timeline{first: make([]time.Duration, h.Final+2), final: h.Final}
	t.noteCommits(h)
	var sights []sight
	for i := range h.Operations {
		if o := &h.Operations[i]; o.Outcome == Acknowledged {
			sights = append(sights, sight{o.Return, o.Response.Revision})
		}
	}
	for i := range h.Streams {
		for _, m := range h.Streams[i].Moves {
			if m.Message != nil { // its header tells what the node has applied
				sights = append(sights, sight{m.At, min(m.Message.Revision, t.ceiling(m.At))})
			}
		}
	}
	for i := range h.Watchers {
		for _, b := range h.Watchers[i].Batches {
			if n := len(b.Events); n > 0 {
				sights = append(sights, sight{b.At, b.Events[n-1].KV.ModRevision})
			}
		}
	}
	slices.SortStableFunc(sights, func(a, b sight) int { return cmp.Compare(a.at, b.at) })
	for r := range t.first {
		t.first[r] = never
	}
	highest := kv.Revision(0)
	for _, s := range sights {
		if s.revision <= highest {
			continue
		}
		for r := highest + 1; r <= min(s.revision, h.Final); r++ {
			t.first[r] = s.at
		}
		highest = s.revision
		t.returned, t.highest = append(t.returned, s.at), append(t.highest, highest)
	}
	return t
}

func (t *timeline) noteCommits(h *History) {
	for i := range h.Operations {
		if o := &h.Operations[i]; o.Outcome == Acknowledged && o.Request.Kind == kv.KindCompact {
			t.compacted = append(t.compacted, compactionKnown{o})
		}
	}
	if t.reached = h.Issued; !h.Sparse {
		t.reached = reachedBy(h.Commits)
	}
	if h.Commits == nil {
		return
	}
	t.committed = make([]time.Duration, h.Final+2)
	if h.Sparse {
		t.noteSparseCommits(h)
		return
	}
	at := kv.Revision(1)
	for _, one := range h.Commits {
		for ; at < one.Revision && at <= h.Final; at++ {
			t.committed[at+1] = one.At
		}
	}
}

// reachedBy says how far one shard had come: to where its log had.
func reachedBy(commits []Commit) []Issue {
	if commits == nil {
		return nil
	}
	reached := make([]Issue, 0, len(commits))
	for i := range commits {
		reached = append(reached, Issue{commits[i].At, commits[i].Revision})
	}
	return reached
}

func (t *timeline) noteSparseCommits(h *History) {
	for at := range t.committed {
		t.committed[at] = never
	}
	for _, one := range h.Commits {
		for at := max(one.From, 1); at <= min(one.Revision, h.Final); at++ {
			t.committed[at] = min(t.committed[at], one.At) // a transaction is committed when it is in one of its shards
		}
	}
}

// moment is when the revision came to be, as far as is known: when it was first applied, or else when somebody had seen it.
func (t *timeline) moment(at kv.Revision) time.Duration {
	if t.committed != nil {
		return t.committed[at]
	}
	return t.first[at]
}

// ceiling is the highest revision that the store can have been at.
func (t *timeline) ceiling(by time.Duration) kv.Revision {
	if t.reached == nil {
		return t.final
	}
	i := sort.Search(len(t.reached), func(i int) bool { return t.reached[i].At > by })
	if i == 0 {
		return 1
	}
	return t.reached[i-1].Revision
}

// floor is the highest revision that somebody had seen before a moment.
func (t *timeline) floor(before time.Duration) kv.Revision {
	i := sort.Search(len(t.returned), func(i int) bool { return t.returned[i] >= before })
	if i == 0 {
		return 0
	}
	return t.highest[i-1]
}

// seen is the first moment at which somebody had seen the revision.
func (t *timeline) seen(at kv.Revision) time.Duration { return t.first[at] }

// checkRealTime: what began after something else was answered is not before it in the order of the revisions.
func (c *checker) checkRealTime() {
	// begun[r] is when the last of the writes up to revision r was begun.
	begun := make([]time.Duration, c.Final+1)
	for i := range c.Operations {
		o := &c.Operations[i]
		at, used := c.used[o]
		if !used || at > c.Final {
			continue
		}
		begun[at] = o.Invoke
		if floor := c.times.floor(o.Invoke); at <= floor {
			c.problem("%s took effect at revision %d, but revision %d had been seen before it began", o.name(), at, floor)
		}
		if c.times.committed != nil && c.times.committed[at] < o.Invoke {
			c.problem("%s took effect at revision %d, which was there at %v, before it began", o.name(), at, c.times.committed[at])
		}
	}
	for r := 1; r < len(begun); r++ {
		begun[r] = max(begun[r], begun[r-1])
	}
	for i := range c.Operations {
		if o := &c.Operations[i]; o.Outcome == Acknowledged {
			c.checkAnswerTime(o, begun)
		}
	}
}

func (c *checker) checkAnswerTime(o *Operation, begun []time.Duration) {
	at := o.Response.Revision
	if at >= 1 && at <= c.Final && begun[at] > o.Return {
		c.problem("%s was answered at revision %d at %v, but a write up to that revision began only at %v", o.name(), at, o.Return, begun[at])
	}
	if ceiling := c.times.ceiling(o.Return); at > ceiling {
		c.problem("from the future: %s was answered at revision %d, when the store was at revision %d", o.name(), at, ceiling)
	}
	if o.serializable() || o.wrote() {
		return
	}
	if floor := c.times.floor(o.Invoke); at < floor {
		c.problem("stale: %s was answered at revision %d, but revision %d had been seen before it began", o.name(), at, floor)
	}
}

// atLeader tells whether the leader answers in person, so that the node that was asked may be behind the answer.
func (o *Operation) atLeader() bool {
	return o.Request.Kind == kv.KindLeaseTimeToLive || o.Request.Kind == kv.KindLeaseLeases
}

type process struct{ node, number int }

// checkProcesses: even serializable reads do not go back at one process, if there is one shard. One of several tells how far it has come by itself.
func (c *checker) checkProcesses() {
	byProcess := map[process][]*Operation{}
	var processes []process
	for i := range c.Operations {
		o := &c.Operations[i]
		if o.Outcome != Acknowledged || o.Process == 0 || o.atLeader() || c.Sparse && o.serializable() {
			continue
		}
		p := process{o.Node, o.Process}
		if byProcess[p] == nil {
			processes = append(processes, p)
		}
		byProcess[p] = append(byProcess[p], o)
	}
	for _, p := range processes {
		c.checkProcess(byProcess[p])
	}
}

func (c *checker) checkProcess(operations []*Operation) {
	slices.SortStableFunc(operations, func(a, b *Operation) int { return cmp.Compare(a.Return, b.Return) })
	highest := make([]*Operation, len(operations))
	for i, o := range operations {
		highest[i] = o
		if i > 0 && highest[i-1].Response.Revision > o.Response.Revision {
			highest[i] = highest[i-1]
		}
	}
	for _, o := range operations {
		i := sort.Search(len(operations), func(i int) bool { return operations[i].Return >= o.Invoke })
		if i > 0 && highest[i-1].Response.Revision > o.Response.Revision {
			c.problem("node %d went back: %s was answered at revision %d after %s at %d",
				o.Node, o.name(), o.Response.Revision, highest[i-1].name(), highest[i-1].Response.Revision)
		}
	}
}
