package issuer

import (
	"cmp"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
)

// What gateways ask: gateway.Revisions.

// learning are the calls of Learn that are not answered.
type learning struct {
	// reads want the revision only. Those in flight are answered when ticket is served; those that came later wait for the next frame.
	inFlight, later []learner
	ticket          sequencer.Ticket
	// frontiers want shards, too, in the order of their ids.
	frontiers []learner
	asked     []sequencer.ShardGeneration // has its space used again
}

// learner is one call.
type learner struct {
	shards []kv.ShardID
	id     uint64 // of the frontier
	since  time.Duration
	got    func(kv.Present, error)
}

// Now is of gateway.Revisions: it returns the last revision that was issued, if this node issues them for certain at the end of the call. The lease is looked
// at when the revision is read (rule 4), and that it is the lease of the sequencer that the revision is of, after that.
func (i *Issuer) Now() (present kv.Present, certain bool) {
	epoch := i.here.epoch.Load()
	if epoch == 0 {
		return kv.Present{}, false
	}
	present.Revision = kv.Revision(i.here.now.Load())
	present.Compacted, _ = i.node.SystemNotice()
	if !i.node.SystemLeaseHolds() || i.here.epoch.Load() != epoch {
		return kv.Present{}, false
	}
	return present, true
}

// Known is of gateway.Revisions: the highest revision that this node has heard of as issued.
func (i *Issuer) Known() kv.Revision { return kv.Revision(i.known.Load()) }

// Learn is of gateway.Revisions: got is called once, with what was true at some moment after the call (rule 17). It fails with kv.ErrStopped, with
// kv.ErrTimeout after two election timeouts, or then with kv.ErrNoLeader if nobody is known to lead the system shard, and with kv.ErrTooManyRequests if more
// shards are asked for than a frame has room for. It must not be called with a lock that got needs.
func (i *Issuer) Learn(shards []kv.ShardID, got func(kv.Present, error)) {
	i.mu.Lock()
	l := learner{shards: shards, since: i.time, got: got}
	switch {
	case i.stopped:
		i.later(func() { got(kv.Present{}, kv.ErrStopped) })
	case len(shards) == 0:
		i.learning.later = append(i.learning.later, l)
		i.read()
	default:
		i.frontier(l)
	}
	i.pump()
	i.unlock()
}

// read asks for the present on behalf of those who wait for the next frame, unless one is on its way.
func (i *Issuer) read() {
	if l := &i.learning; len(l.inFlight) == 0 && len(l.later) > 0 {
		l.inFlight, l.later = l.later, nil
		l.ticket = i.asker.Read()
	}
}

func (i *Issuer) frontier(l learner) {
	asked := i.learning.asked[:0]
	for _, shard := range l.shards {
		asked = append(asked, sequencer.ShardGeneration{Shard: shard})
	}
	i.learning.asked = asked
	id, ok := i.asker.Frontier(asked)
	if !ok {
		i.later(func() { l.got(kv.Present{}, kv.ErrTooManyRequests) })
		return
	}
	l.id = id
	i.learning.frontiers = append(i.learning.frontiers, l)
}

// told answers those whom a frame of the sequencer serves.
func (i *Issuer) told(r *sequencer.AskerReady) {
	l := &i.learning
	if len(l.inFlight) > 0 && r.Served >= l.ticket {
		present := kv.Present{Revision: r.Now, Compacted: r.Compact}
		for _, waits := range l.inFlight {
			i.later(func() { waits.got(present, nil) })
		}
		l.inFlight = nil
		i.read()
	}
	if r.Frontier != nil {
		i.answerFrontiers(r.Frontier, r.Compact)
	}
}

// answerFrontiers answers those whose shards are in the answer (rule 16), and has shards called clean that are led here and behind although they are.
func (i *Issuer) answerFrontiers(f *sequencer.Frontier, compacted kv.Revision) {
	for _, s := range f.Shards {
		if applied := i.applied[s.Shard]; i.led[s.Shard] != nil && s.Clean && applied != nil && int64(s.Last) > applied.Load() {
			i.node.CallClean(s.Shard, s.Last)
		}
	}
	slices.SortFunc(f.Shards, func(a, b sequencer.ShardFrontier) int { return cmp.Compare(a.Shard, b.Shard) }) // most questions are in that order
	l := &i.learning
	served := 0
	for ; served < len(l.frontiers) && l.frontiers[served].id <= f.ID; served++ {
		waits := l.frontiers[served]
		present := kv.Present{Revision: f.Now, Compacted: compacted, Shards: make([]kv.ShardProgress, len(waits.shards))}
		for at, shard := range waits.shards {
			if told, found := slices.BinarySearchFunc(f.Shards, shard, func(s sequencer.ShardFrontier, of kv.ShardID) int { return cmp.Compare(s.Shard, of) }); found {
				present.Shards[at] = kv.ShardProgress{Last: f.Shards[told].Last, Clean: f.Shards[told].Clean}
			}
		}
		i.later(func() { waits.got(present, nil) })
	}
	l.frontiers = slices.Delete(l.frontiers, 0, served)
}

// giveUpLearning fails those who have waited for too long.
func (i *Issuer) giveUpLearning() {
	err := kv.ErrTimeout
	if i.target.node == 0 || i.target.lost {
		err = kv.ErrNoLeader
	}
	i.failWhere(err, func(l *learner) bool { return i.time-l.since >= 2*i.options.ElectionTimeout })
	i.read()
}

func (i *Issuer) failLearning(err error) { i.failWhere(err, func(*learner) bool { return true }) }

func (i *Issuer) failWhere(err error, fails func(*learner) bool) {
	for _, list := range []*[]learner{&i.learning.inFlight, &i.learning.later, &i.learning.frontiers} {
		*list = slices.DeleteFunc(*list, func(l learner) bool {
			if !fails(&l) {
				return false
			}
			i.later(func() { l.got(kv.Present{}, err) })
			return true
		})
	}
}
