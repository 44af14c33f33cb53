package watch

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// inquiryInterval is how much time there is at least between the beginnings of two questions.
const inquiryInterval = 500 * time.Microsecond

// inquiry closes shards by questions: how far had they come, and the store? One question is asked at a time, about all that somebody needs to be
// closed. It begins after the need for it has come up, so its answer is not too old. Guarded by the hub's lock, but for the answer.
type inquiry struct {
	seeking []*feed   // whose shards may be closed too low; checked when a question is made
	waiting []*waiter // who wants the present, whatever it is, of shards of his; and some that want it no more
	wanting int       // how many of them do
	asked   uint64    // number of the last question
	made    uint64    // counts attempts to make one
	armed   uint64    // the question after which the next one was found to be too early, and said so
	began   time.Duration
	flying  bool     // it is not answered yet
	shards  []*Shard // that it is about
	held    []*Shard // that it did not bring further, or an earlier one
	mute    bool     // it found no answer: who waits for the present waits for the next tick

	compacted kv.Revision // the highest that was ever answered

	mu     sync.Mutex // the last one taken
	answer *answer
}

// answer is what came of the question with the number.
type answer struct {
	number  uint64
	present kv.Present
	err     error
}

// question is what is to be asked.
type question struct {
	number uint64
	shards []kv.ShardID
}

// seek has the shards of a feed asked about as long as its goal is above where they are closed.
func (q *inquiry) seek(f *feed) {
	if !f.seeking {
		f.seeking = true
		q.seeking = append(q.seeking, f)
	}
}

// want has the present asked for.
func (q *inquiry) want(w *waiter) {
	if w.question != 0 {
		return
	}
	w.question = q.asked + 1
	q.wanting++
	if !w.listed {
		w.listed = true
		q.waiting = append(q.waiting, w)
	}
}

// unwant is the opposite of want.
func (q *inquiry) unwant(w *waiter) {
	if w.question != 0 {
		w.question = 0
		q.wanting--
	}
}

// presentWanted tells whether somebody waits for the next question, and there is hope for an answer.
func (q *inquiry) presentWanted() bool { return q.wanting > 0 && !q.mute }

// next returns the question that is to be asked now, or, once, how long it must wait. The lock of the rings is held.
func (q *inquiry) next(clock func() time.Duration) (ask *question, wait time.Duration) {
	if q.flying || len(q.seeking) == 0 && !q.presentWanted() {
		return nil, 0
	}
	q.made++
	q.shards = q.shards[:0]
	q.seeking = slices.DeleteFunc(q.seeking, func(f *feed) bool {
		f.seeking = !f.gone() && q.add(f.shards, f.goal())
		return !f.seeking
	})
	if len(q.shards) == 0 && !q.presentWanted() {
		return nil, 0
	}
	for _, w := range q.waiting {
		if w.question != 0 {
			w.eachFeed(func(f *feed) { q.add(f.shards, endOfTime) })
		}
	}
	now := clock()
	if wait = q.began + inquiryInterval - now; q.asked > 0 && wait > 0 {
		if q.armed == q.asked {
			return nil, 0
		}
		q.armed = q.asked
		return nil, wait
	}
	q.asked, q.began, q.flying = q.asked+1, now, true
	ask = &question{number: q.asked, shards: make([]kv.ShardID, len(q.shards))}
	for i, s := range q.shards {
		ask.shards[i] = s.id
	}
	return ask, 0
}

// add adds those of the shards to a question that are closed below the goal, and tells whether there are any.
func (q *inquiry) add(shards []*Shard, goal kv.Revision) (unmet bool) {
	for _, s := range shards {
		if s.ring.last >= goal {
			continue
		}
		unmet = true
		if !s.held && s.asked != q.made {
			s.asked = q.made
			q.shards = append(q.shards, s)
		}
	}
	return unmet
}

// got takes an answer, from any goroutine.
func (q *inquiry) got(a *answer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.answer = a
}

// take closes shards by the answer that has come, and returns who waited for it and what it says; nobody if there is none. The lock of the rings is held.
func (q *inquiry) take() (present kv.Revision, waiters []*waiter) {
	q.mu.Lock()
	a := q.answer
	q.answer = nil
	q.mu.Unlock()
	if a == nil || !q.flying || a.number != q.asked {
		return 0, nil
	}
	q.flying = false
	if a.err != nil || len(a.present.Shards) != len(q.shards) {
		q.mute = true
		for _, s := range q.shards {
			q.hold(s)
		}
		return 0, nil
	}
	q.compacted = max(q.compacted, a.present.Compacted)
	for i, s := range q.shards {
		if p := a.present.Shards[i]; p.Clean {
			s.hear(statement{p.Last, a.present.Revision})
		}
		if s.ring.last < a.present.Revision {
			q.hold(s)
		}
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(w *waiter) bool {
		if w.question > a.number {
			return false
		}
		if w.question != 0 {
			waiters = append(waiters, w)
		}
		q.unwant(w)
		w.listed = false
		return true
	})
	return a.present.Revision, waiters
}

// hold has no question asked about the shard before it moves, or the next tick.
func (q *inquiry) hold(s *Shard) {
	s.held = true
	q.held = append(q.held, s)
}

// tick allows what did not help to be asked again. The lock of the rings is held.
func (q *inquiry) tick() {
	q.mute = false
	for _, s := range q.held {
		s.held = false
	}
	clear(q.held)
	q.held = q.held[:0]
}

// check returns an error if the inquiry contradicts itself. The locks of the hub and of the rings are held.
func (q *inquiry) check() error {
	for _, f := range q.seeking {
		if !f.seeking {
			return fmt.Errorf("a feed of %d shards is among those that seek, and does not know it", len(f.shards))
		}
	}
	wanting := 0
	for _, w := range q.waiting {
		if !w.listed || w.question > q.asked+1 || w.question != 0 && w.feed != nil {
			return fmt.Errorf("a waiter waits for question %d, and the last one was %d", w.question, q.asked)
		}
		if w.question != 0 {
			wanting++
		}
	}
	if wanting != q.wanting {
		return fmt.Errorf("%d want to be told the present, counted %d", wanting, q.wanting)
	}
	return nil
}
