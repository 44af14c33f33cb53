package readpath

import (
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Read is a read as its path sees it. What is exported is set before the path gets it, but for At, and not changed while the path has it.
type Read struct {
	Owner  any          // of the shell
	Shards []kv.ShardID // that it is about
	// At is the present as of which it reads, once it has learned that. It has one progress for each of the shards, in their order.
	At kv.Present

	in         *list // where it is; nil: nowhere here
	prev, next *Read
	arriving   *arriving     // whose list in is
	until      kv.Revision   // that the replica has to come to
	since      time.Duration // it waits there
}

// Options of a Path.
type Options struct {
	// Patience is how long a read waits for the replica here, before it asks the leader of the shard: the last revision that was issued may never be applied
	// anywhere, if the leader that it was issued to is gone.
	Patience time.Duration
}

// Path is the way of the reads of one node. Not safe for concurrent use.
type Path struct {
	options Options

	// One question is on its way at most. A read that comes meanwhile arrived after it was asked, so it waits for the next.
	waiting, asked list
	question       uint64 // the last one; never used again
	shards         []kv.ShardID
	flying         bool
	held           bool // nothing is asked until the next tick

	arrivals map[kv.ShardID]*arriving
	order    []*arriving // those of the map that reads wait for, in no order that matters to anybody but tests
}

// arriving are the reads that wait for the replica of a shard.
//
// Invariant: until does not fall from one read of the list to the next.
type arriving struct {
	shard kv.ShardID
	reads list
	armed kv.Revision // that the replica was asked to tell; 0: none
	place int         // in Path.order, from 1; 0: not there
}

// New returns a path without reads.
func New(options Options) *Path {
	return &Path{options: options, arrivals: map[kv.ShardID]*arriving{}}
}

// Work is one thing to be done: a question, or the wait for a replica.
type Work struct {
	// Question, if it is not 0, is to be asked: how far have the store and these shards come? Learned or Failed ends it.
	Question uint64
	Shards   []kv.ShardID
	// Otherwise the replica of Shard on this node is to be waited for until it has come to the revision. Arrived or Gone ends that.
	Shard kv.ShardID
	Until kv.Revision
}

// Ask takes a read that has to learn the present.
func (p *Path) Ask(r *Read) { p.waiting.push(r) }

// Await takes a read for which the replica of a shard here has to come to the last revision that was issued to it.
func (p *Path) Await(r *Read, shard kv.ShardID, last kv.Revision, now time.Duration) {
	a := p.arrivals[shard]
	if a == nil {
		a = &arriving{shard: shard}
		p.arrivals[shard] = a
	}
	if a.place == 0 {
		p.order = append(p.order, a)
		a.place = len(p.order)
	}
	r.arriving, r.until, r.since = a, last, now
	for e := a.reads.last; e != nil && e.until > last; e = e.prev {
		if e.At.Revision > r.At.Revision {
			r.until = e.until // it learned earlier, and comes later
			break
		}
		// A leader said since that some of what was issued never takes effect. Complete up to this read's revision is complete up to that one's.
		e.until = last
	}
	a.reads.push(r)
	if r.until < a.armed {
		a.armed = 0
	}
}

// Remove forgets a read, wherever it is.
func (p *Path) Remove(r *Read) {
	if r.in != nil {
		r.in.remove(r)
		r.arriving = nil
	}
}

// Ready returns what is to be done next.
func (p *Path) Ready() (w Work, ok bool) {
	if !p.flying && !p.held && p.waiting.length > 0 {
		return p.askNext(), true
	}
	for i := 0; i < len(p.order); i++ {
		switch a := p.order[i]; {
		case a.reads.length == 0:
			p.leave(a)
			i--
		case a.armed == 0:
			a.armed = a.reads.first.until
			return Work{Shard: a.shard, Until: a.armed}, true
		}
	}
	return Work{}, false
}

// leave takes the arrivals of a shard out of the order.
func (p *Path) leave(a *arriving) {
	moved := p.order[len(p.order)-1]
	p.order[a.place-1], moved.place = moved, a.place
	p.order[len(p.order)-1] = nil
	p.order = p.order[:len(p.order)-1]
	a.place = 0
}

// askNext puts the next question on its way. It is about the shards of all that wait.
func (p *Path) askNext() Work {
	p.question++
	p.flying, p.shards = true, make([]kv.ShardID, 0, max(1, len(p.shards))) // it is about as many as the one before
	for p.waiting.first != nil {
		r := p.waiting.first
		p.waiting.remove(r)
		p.asked.push(r)
		for _, shard := range r.Shards {
			if at, there := slices.BinarySearch(p.shards, shard); !there {
				p.shards = slices.Insert(p.shards, at, shard)
			}
		}
	}
	return Work{Question: p.question, Shards: p.shards}
}

// Learned ends the question that is on its way. It returns the reads that shared it, with what they have learned; they are the path's no more. An answer to
// an earlier question, or one that is not about the shards, serves nobody.
func (p *Path) Learned(question uint64, present kv.Present) []*Read {
	if !p.flying || question != p.question {
		return nil
	}
	if len(present.Shards) != len(p.shards) {
		p.Failed(question)
		return nil
	}
	p.flying = false
	reads := p.asked.take()
	for _, r := range reads {
		r.At = kv.Present{Revision: present.Revision, Compacted: present.Compacted, Shards: p.progress(r.Shards, present.Shards)}
	}
	return reads
}

// progress picks those of some shards of the question.
func (p *Path) progress(of []kv.ShardID, told []kv.ShardProgress) []kv.ShardProgress {
	if len(of) == 1 {
		at, _ := slices.BinarySearch(p.shards, of[0])
		return told[at : at+1 : at+1]
	}
	picked := make([]kv.ShardProgress, len(of))
	for i, shard := range of {
		at, _ := slices.BinarySearch(p.shards, shard)
		picked[i] = told[at]
	}
	return picked
}

// Failed has the reads that shared a question share the next one, after the next tick: nothing is known.
func (p *Path) Failed(question uint64) {
	if !p.flying || question != p.question {
		return
	}
	p.flying, p.held = false, true
	for _, r := range p.asked.take() {
		p.waiting.push(r)
	}
}

// Arrived tells that the replica of a shard has come to a revision; until is the one that was waited for. It returns the reads that need no more; they are
// the path's no more.
func (p *Path) Arrived(shard kv.ShardID, until, revision kv.Revision) (reads []*Read) {
	a := p.arrivals[shard]
	if a == nil {
		return nil
	}
	if a.armed == until {
		a.armed = 0
	}
	for r := a.reads.first; r != nil && r.until <= revision; r = a.reads.first {
		p.Remove(r)
		reads = append(reads, r)
	}
	return reads
}

// Gone tells that the replica of a shard will not come to anything any more. It returns the reads that waited for it; they are the path's no more.
func (p *Path) Gone(shard kv.ShardID) (reads []*Read) {
	if a := p.arrivals[shard]; a != nil {
		a.armed = 0
		reads = a.reads.take()
	}
	return reads
}

// Tick is to be called from time to time. It returns the reads that have waited for a replica for too long, and are to ask the leader
// of the shard; they are the path's no more.
func (p *Path) Tick(now time.Duration) (late []*Read) {
	p.held = false
	for _, a := range p.order {
		for r := a.reads.first; r != nil && now-r.since >= p.options.Patience; r = a.reads.first {
			p.Remove(r)
			late = append(late, r)
		}
	}
	return late
}
