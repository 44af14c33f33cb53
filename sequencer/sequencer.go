package sequencer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// Sequencer issues the numbers of one epoch. It is not safe for concurrent use.
type Sequencer struct {
	options Options
	epoch   Epoch
	count   count
	shards  map[kv.ShardID]*shard
	// sessions are those that nodes have opened in this epoch.
	sessions map[kv.NodeID]*session
	// waiting are batches and transactions in the order in which they came; demand is the sum of what they ask for.
	waiting []waiting
	demand  uint64
	// touched are nodes whose sessions have something to be said. Invariant: each once, namely those with session.touched.
	touched []kv.NodeID
	// farewells end sessions.
	farewells []Outgoing
	// retry: what had no room may be tried again.
	retry bool
	// handed: the shell has been told that leadership may be transferred.
	handed bool
	// compacted is up to where history is compacted, as far as the shell has told.
	compacted kv.Revision
}

// shard is what is known of one shard in this epoch.
type shard struct {
	// last is the highest revision issued to the shard in this epoch, or what took effect last by its leader's word.
	last kv.Revision
	// clean: nothing that an earlier sequencer numbered can still take effect.
	clean      bool
	generation Generation // the newest that was heard of
	// leadership is the newest that has asked for numbers or called the shard clean in this epoch. One that comes after it, but was elected before, is
	// deposed: nothing that it proposes takes effect any more.
	leadership Leadership
	// of is the leadership to which last was issued, or whose word it is.
	of Leadership
	// multi is the highest revision of a transaction that writes in the shard, until the shard was called clean as of it or later; 0: none. It is not
	// part of last: whoever leads the shard, the transaction may still take effect, so a newer leadership's word is not enough.
	multi kv.Revision
	// asked is how often the frontier was asked for since, or since the leader was last told of a doubt.
	asked int
	// speaker is the node from which the newest leadership has spoken; 0: from none, it takes its numbers beside the sequencer.
	speaker kv.NodeID
}

// current takes note that a leadership has spoken, and tells whether no newer one has.
func (k *shard) current(l Leadership) bool {
	if k.leadership < l {
		k.leadership, k.speaker = l, 0
	}
	return k.leadership == l
}

// latest is the highest revision of the shard that may take effect, or has.
func (k *shard) latest() kv.Revision { return max(k.last, k.multi) }

// Notice is what every frame tells besides. The core looks at nothing in it.
type Notice struct {
	Compact kv.Revision // everything below is gone
	Alarms  uint64      // bits
}

// Outgoing is a frame for a node.
type Outgoing struct {
	To    kv.NodeID
	Reply *Reply
}

// Ready is work for the shell.
type Ready struct {
	// Limit, if not 0, must be proposed in the system shard's log; then LimitCommitted or LimitRefused follows.
	Limit kv.Revision
	// Frames may leave if the lease on the system shard is valid after Ready has returned, otherwise never (rule 4).
	Frames []Outgoing
	// Retry: who found no room to take from may try again.
	Retry bool
	// Transfer: the hand-over that was asked for is prepared, and leadership may be moved.
	Transfer bool
}

// New returns the sequencer of an epoch. The leader's barrier must be applied: applied and limit are the highest revision and the limit in
// the system shard's state as of then (rule 3). limit is 0 while there is one shard.
func New(options Options, epoch Epoch, applied, limit kv.Revision) (*Sequencer, error) {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	if epoch == 0 || applied < 0 || limit < 0 {
		return nil, fmt.Errorf("sequencer: epoch %d, revision %d, limit %d cannot be", epoch, applied, limit)
	}
	return &Sequencer{
		options: options, epoch: epoch, count: newCount(applied, limit),
		shards: make(map[kv.ShardID]*shard), sessions: make(map[kv.NodeID]*session),
	}, nil
}

// Now returns the revision at which a read that has arrived before the call sees everything (rule 17); while there is one shard, the last
// one applied (rule 7). Check the lease afterwards.
func (s *Sequencer) Now() kv.Revision { return s.count.now() }

// Peek returns the next number, and how many may be taken from it on. Nothing is consumed. While there is no room the leader waits for Ready.Retry.
func (s *Sequencer) Peek() (next kv.Revision, room uint64) {
	if len(s.waiting) > 0 && s.count.shared() {
		return s.count.next, 0 // others came first
	}
	return s.count.next, s.count.room()
}

// Take consumes n numbers from what Peek returned on, for the leader of a shard beside the sequencer. It fails if there is no room for them, or if a newer
// leadership of the shard has spoken.
func (s *Sequencer) Take(id kv.ShardID, generation Generation, leadership Leadership, n uint64) error {
	if _, room := s.Peek(); n > room || !s.count.shared() && id != kv.SystemShard {
		return fmt.Errorf("sequencer: %d numbers for shard %d, but there is room for %d", n, id, room)
	}
	known, err := s.shard(id, generation)
	if err != nil {
		return err
	}
	if !known.current(leadership) {
		return fmt.Errorf("sequencer: %d numbers for leadership %d of shard %d, which leadership %d has replaced", n, leadership, id, known.leadership)
	}
	s.issue(known, Numbers{Shard: id, Leadership: leadership, N: n})
	return nil
}

// TakeMulti consumes a number for a transaction that writes in these shards, whose coordinator is beside the sequencer (rule 5). It fails if there is no room.
func (s *Sequencer) TakeMulti(writers []ShardGeneration) (kv.Revision, error) {
	if _, room := s.Peek(); room == 0 || !s.count.shared() {
		return 0, errors.New("sequencer: there is no room for the number of a transaction")
	}
	if err := s.acquaint(writers); err != nil {
		return 0, err
	}
	return s.issueMulti(writers), nil
}

// Applied says how far the system shard's state has come. While there is one shard that is the present.
func (s *Sequencer) Applied(revision kv.Revision) {
	s.count.applied = max(s.count.applied, revision)
}

// Compacted says up to where history is compacted. It comes before whatever has numbers issued: Step, LimitCommitted and the like.
func (s *Sequencer) Compacted(revision kv.Revision) {
	s.compacted = max(s.compacted, revision)
}

// LimitCommitted: the limit of a Ready is applied from the log of the system shard.
func (s *Sequencer) LimitCommitted(limit kv.Revision) error {
	if err := s.count.committed(limit); err != nil {
		return err
	}
	s.widened()
	return nil
}

// LimitRefused: the limit of a Ready was never proposed. It is asked for again.
func (s *Sequencer) LimitRefused() {
	s.count.refused()
	s.widened()
}

// HandOver stops issuing, so that leadership of the system shard can be transferred without a gap (rule 6). Ready.Transfer follows.
func (s *Sequencer) HandOver() {
	s.count.stop()
	s.handed = false
}

// HandOverFailed: leadership stays here, or nobody wants it moved any more.
func (s *Sequencer) HandOverFailed() {
	s.count.goOn()
	s.widened()
}

// Ready moves the pending work out. Frames tell the notice besides, which must be of this moment or later.
func (s *Sequencer) Ready(notice Notice) Ready {
	r := Ready{Frames: s.farewells, Retry: s.retry}
	s.farewells, s.retry = nil, false
	if limit := s.count.wanted(s.options.Window, s.demand); limit != 0 {
		s.count.propose(limit)
		r.Limit = limit
	}
	if s.count.phase == ready && !s.handed {
		r.Transfer, s.handed = true, true
	}
	for _, node := range s.touched {
		c := s.sessions[node]
		c.touched = false
		r.Frames = append(r.Frames, Outgoing{node, s.reply(c, notice)})
	}
	s.touched = s.touched[:0]
	return r
}

// shard returns what is known of a shard. Whoever names a newer generation knows it (rule 12).
func (s *Sequencer) shard(id kv.ShardID, generation Generation) (*shard, error) {
	known := s.shards[id]
	if known == nil {
		if len(s.shards) >= s.options.MaxShards {
			return nil, fmt.Errorf("%w: a shard %d beside %d others", errClaims, id, len(s.shards))
		}
		known = new(shard)
		s.shards[id] = known
	}
	known.generation = max(known.generation, generation)
	return known, nil
}

// issue is the only place where numbers are issued. It says from which on.
func (s *Sequencer) issue(to *shard, n Numbers) Numbers {
	n.First = s.count.next
	s.count.next += kv.Revision(n.N)
	if n.N == 0 {
		return n
	}
	to.last, to.of = s.count.next-1, n.Leadership
	if s.options.Issued != nil {
		s.options.Issued(n)
	}
	return n
}

// issueMulti issues the number of a transaction, which becomes the last one of all shards that it writes in.
func (s *Sequencer) issueMulti(writers []ShardGeneration) kv.Revision {
	revision := s.count.next
	s.count.next++
	for _, w := range writers {
		known := s.shards[w.Shard]
		known.multi, known.asked = revision, 0
	}
	if s.options.Issued != nil {
		s.options.Issued(Numbers{First: revision, N: 1})
	}
	return revision
}

// acquaint takes note of the shards of a transaction.
func (s *Sequencer) acquaint(writers []ShardGeneration) error {
	for _, w := range writers {
		if _, err := s.shard(w.Shard, w.Generation); err != nil {
			return err
		}
	}
	return nil
}

// waiting is a batch, or a transaction, that has no number yet.
type waiting struct {
	node  kv.NodeID
	alloc Alloc
	multi *AllocMulti // nil: it is a batch
}

// numbers is how many are asked for.
func (w *waiting) numbers() uint64 {
	if w.multi != nil {
		return 1
	}
	return w.alloc.N
}

// proceed issues what has been waiting, as far as there is room: in the order in which it came, whoever asked. A leadership that was deposed meanwhile
// gets nothing (rule 16).
func (s *Sequencer) proceed() {
	done := 0
	for ; done < len(s.waiting) && s.count.shared(); done++ {
		w := &s.waiting[done]
		c := s.sessions[w.node]
		if w.multi == nil && !s.shards[w.alloc.Shard].current(w.alloc.Leadership) {
			s.demand -= w.alloc.N
			c.waiting--
			continue
		}
		if w.numbers() > s.count.room() || s.count.phase != issuing {
			break
		}
		s.demand -= w.numbers()
		if w.multi != nil {
			c.named -= len(w.multi.Writers)
			c.revisions = append(c.revisions, MultiRevision{w.multi.Ticket, s.issueMulti(w.multi.Writers)})
			s.touch(w.node, c)
			*w = waiting{} // the list may keep its place
			continue
		}
		known := s.shards[w.alloc.Shard]
		c.waiting--
		numbers := Numbers{Shard: w.alloc.Shard, Leadership: w.alloc.Leadership, Batch: w.alloc.Batch, N: w.alloc.N}
		if bounds := &w.alloc.Bounds; bounds.Hold(s.count.next, s.compacted) {
			numbers.Compacted = bounds.Compacted
		} else {
			numbers.N = 0
		}
		c.numbers = append(c.numbers, s.issue(known, numbers))
		s.touch(w.node, c)
	}
	if done == len(s.waiting) {
		s.waiting = s.waiting[:0]
	} else {
		s.waiting = s.waiting[done:]
	}
}

// widened: there may be room where there was none.
func (s *Sequencer) widened() {
	s.proceed()
	_, room := s.Peek()
	s.retry = s.retry || room > 0
}

// Check tells what is wrong with the state; nil: nothing.
func (s *Sequencer) Check() error {
	if c := &s.count; c.limit != 0 && c.next > c.limit+1 {
		return fmt.Errorf("sequencer: %d is next, above the limit %d (rule 3)", c.next, c.limit)
	}
	for id, known := range s.shards {
		if known.latest() >= s.count.next {
			return fmt.Errorf("sequencer: shard %d has %d, but %d is next", id, known.latest(), s.count.next)
		}
		if known.of > known.leadership {
			return fmt.Errorf("sequencer: shard %d has what leadership %d got, but %d is the newest", id, known.of, known.leadership)
		}
	}
	demand, held, named := uint64(0), make(map[kv.NodeID]int), make(map[kv.NodeID]int)
	for i := range s.waiting {
		w := &s.waiting[i]
		demand += w.numbers()
		if w.multi != nil {
			named[w.node] += len(w.multi.Writers)
		} else {
			held[w.node]++
		}
	}
	if demand != s.demand {
		return fmt.Errorf("sequencer: %d numbers are waited for, not %d", demand, s.demand)
	}
	touched := slices.Clone(s.touched)
	slices.SortFunc(touched, cmp.Compare[kv.NodeID])
	for node, c := range s.sessions {
		if c.waiting != held[node] || c.named != named[node] {
			return fmt.Errorf("sequencer: %d batches and %d shards of node %v wait, not %d and %d", held[node], named[node], node, c.waiting, c.named)
		}
		if _, listed := slices.BinarySearch(touched, node); listed != c.touched {
			return fmt.Errorf("sequencer: whether node %v is to hear something: %v and %v", node, listed, c.touched)
		}
	}
	return nil
}
