package sequencer

import (
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// session is the sequencer's end of a session.
type session struct {
	id Session
	// heard and sent are the counters of the last frame in each direction.
	heard, sent uint64
	waiting     int // batches that have no number yet
	named       int // by transactions that have none, counted as often as they are named
	numbers     []Numbers
	revisions   []MultiRevision
	doubts      []Doubt
	frontier    []ShardGeneration // to be answered by the next frame; nil: not asked
	touched     bool
}

// Step takes a frame from a node. An error is for the operator: the frame has had no effect, and the session, if there was one, is over.
func (s *Sequencer) Step(from kv.NodeID, q *Request) error {
	c := s.sessions[from]
	switch {
	case c != nil && q.Session.before(c.id):
		return nil // of an older session
	case q.Counter == 1 && (c == nil || c.id != q.Session): // Hello
		s.end(from)
		c = &session{id: q.Session}
		s.sessions[from] = c
	case c == nil || c.id != q.Session || q.Counter != c.heard+1 || q.Epoch != 0 && q.Epoch != s.epoch:
		// A frame is missing, or this is not the sequencer that the session is with (rule 9).
		s.dismiss(from, q.Session)
		return nil
	}
	if err := s.judge(c, q); err != nil {
		s.dismiss(from, q.Session)
		return err
	}
	c.heard++
	s.touch(from, c)
	for _, a := range q.Allocs {
		known := s.shards[a.Shard]
		if !known.current(a.Leadership) {
			continue // it is deposed, and will hear of that
		}
		known.speaker = from
		s.waiting = append(s.waiting, waiting{node: from, alloc: a})
		s.demand += a.N
		c.waiting++
	}
	for i := range q.Multis {
		m := &q.Multis[i]
		s.waiting = append(s.waiting, waiting{node: from, multi: m})
		s.demand++
		c.named += len(m.Writers)
	}
	for _, clean := range q.Cleans {
		s.clean(from, &clean)
	}
	if len(q.Frontier) > 0 {
		c.frontier = append(c.frontier, q.Frontier...)
		s.doubt(q.Frontier)
	}
	if len(q.Allocs)+len(q.Multis) > 0 {
		s.proceed()
	}
	return nil
}

// before tells whether a session of the same process is an older one. Of two processes of one node the transport hears only one.
func (id Session) before(other Session) bool {
	return id.Instance == other.Instance && id.Number < other.Number
}

// judge looks at a whole frame before anything of it counts. It notes generations, which are true whatever else is wrong.
func (s *Sequencer) judge(c *session, q *Request) error {
	if batches := c.waiting + len(c.numbers) + len(q.Allocs); batches > MaxWaiting {
		return fmt.Errorf("%w: %d batches", errClaims, batches)
	}
	if asked := len(c.frontier) + len(q.Frontier); asked > maxFrontier {
		return fmt.Errorf("%w: %d shards asked for", errClaims, asked)
	}
	for _, a := range q.Allocs {
		if _, err := s.shard(a.Shard, a.Generation); err != nil {
			return err
		}
	}
	named := c.named + len(c.revisions) // which have not left
	for i := range q.Multis {
		named += len(q.Multis[i].Writers)
	}
	if named > MaxNamed {
		return fmt.Errorf("%w: %d shards named by transactions", errClaims, named)
	}
	for i := range q.Multis {
		if err := s.acquaint(q.Multis[i].Writers); err != nil {
			return err
		}
	}
	for _, clean := range q.Cleans {
		if clean.Epoch == s.epoch && clean.AsOf >= s.count.next {
			return fmt.Errorf("%w: shard %d is clean as of %d, but %d is next", errClaims, clean.Shard, clean.AsOf, s.count.next)
		}
		if _, err := s.shard(clean.Shard, clean.Generation); err != nil {
			return err
		}
	}
	return nil
}

// clean takes the word of a shard's leader (rule 16). It counts in its epoch only: about what this sequencer issued, a leader that asked
// another has said nothing. What was issued to older leaderships does not matter, whenever that was: whatever of it takes effect did so before the
// barrier of this one, and is at or below Top. Not so with a transaction, which lives as long as it is prepared in the shard's log: its number is cleared only
// as of itself or later, when its leader has found it resolved.
func (s *Sequencer) clean(from kv.NodeID, m *Clean) {
	if m.Epoch != s.epoch {
		return
	}
	if m.Top >= s.count.next {
		return // a later sequencer numbered it: this one is deposed, and has yet to hear of it
	}
	known := s.shards[m.Shard]
	if !known.current(m.Leadership) {
		return
	}
	known.clean, known.speaker = true, from
	if known.last <= m.AsOf || known.of < m.Leadership {
		known.last, known.of = m.Top, m.Leadership
	}
	if known.multi <= m.AsOf {
		known.multi = 0
	}
}

// doubt has the leaders of shards hear that somebody waits for the number of a transaction. None need know of it otherwise: the coordinator may have asked for
// it after the transaction was aborted, and the shard called clean. It is told again as long as somebody asks: nobody waits for a frame that tells it, so
// only the next one shows that one was lost.
func (s *Sequencer) doubt(asked []ShardGeneration) {
	for _, a := range asked {
		known := s.shards[a.Shard]
		if known == nil || !known.clean || known.multi == 0 || known.multi < known.last {
			continue
		}
		known.asked++
		c := s.sessions[known.speaker]
		if known.asked < s.options.Doubts || c == nil {
			continue
		}
		known.asked = 0
		c.doubts = append(c.doubts, Doubt{a.Shard, known.multi})
		s.touch(known.speaker, c)
	}
}

// reply makes the next frame of a session. Now and the frontier are read at the same moment (rule 16), after everything that the frame says it
// has heard (rule 17).
func (s *Sequencer) reply(c *session, notice Notice) *Reply {
	c.sent++
	r := &Reply{
		Session: c.id, Counter: c.sent, Epoch: s.epoch, Heard: c.heard, Now: s.count.now(), Notice: notice, Numbers: c.numbers,
		Revisions: c.revisions, Doubts: c.doubts,
	}
	if len(c.frontier) > 0 {
		r.Frontier = make([]ShardFrontier, 0, len(c.frontier))
	}
	for _, asked := range c.frontier {
		r.Frontier = append(r.Frontier, s.frontier(asked))
	}
	c.numbers, c.revisions, c.frontier, c.doubts = nil, nil, nil, nil
	return r
}

// frontier: a shard of which nothing was heard in this epoch is not clean (rule 16); of an old generation nothing is said (rule 12).
func (s *Sequencer) frontier(asked ShardGeneration) ShardFrontier {
	f := ShardFrontier{Shard: asked.Shard}
	if known := s.shards[asked.Shard]; known != nil {
		if known.generation > asked.Generation {
			f.Newer = known.generation
		} else if known.clean {
			f.Last, f.Clean = known.latest(), true
		}
	}
	return f
}

func (s *Sequencer) touch(node kv.NodeID, c *session) {
	if !c.touched {
		c.touched = true
		s.touched = append(s.touched, node)
	}
}

// dismiss ends the session with a node, if there is one, and says so.
func (s *Sequencer) dismiss(node kv.NodeID, id Session) {
	s.end(node)
	s.farewells = append(s.farewells, Outgoing{node, &Reply{Session: id, Epoch: s.epoch, Over: true}})
}

// end forgets a session. What was issued and has not left stays issued, and is a gap.
func (s *Sequencer) end(node kv.NodeID) {
	c := s.sessions[node]
	if c == nil {
		return
	}
	delete(s.sessions, node)
	if c.touched {
		s.touched = slices.DeleteFunc(s.touched, func(n kv.NodeID) bool { return n == node })
	}
	if c.waiting+c.named == 0 {
		return
	}
	s.waiting = slices.DeleteFunc(s.waiting, func(w waiting) bool {
		if w.node == node {
			s.demand -= w.numbers()
		}
		return w.node == node
	})
	s.widened()
}
