package issuer

import (
	"maps"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sequencer"
)

// Hold is of driver.Numbers. Exactness needs a sequencer here that has the lease, and room; then the mutex stays locked until Take (rules 1 and 2: a number
// is taken when the batch is evaluated, and none before).
func (i *Issuer) Hold() (present kv.Present, exact bool) {
	i.mu.Lock()
	present.Compacted = i.compactedHere()
	if s := &i.issuing; s.core != nil && !i.stopped && i.node.SystemLeaseHolds() {
		if next, room := s.core.Peek(); room > 0 {
			present.Revision = next - 1
			return present, true
		}
	}
	i.unlockInRound()
	i.metrics.refused.Add(1)
	present.Revision = i.Known()
	return present, false
}

// Take is of driver.Numbers. The lease is looked at when the numbers are issued (rule 4); without it they are a gap.
func (i *Issuer) Take(group consensus.GroupID, n int) (first, compacted kv.Revision, issued bool) {
	defer i.unlockInRound()
	shard := kv.ShardID(group)
	l, core := i.led[shard], i.issuing.core
	if l == nil || core == nil {
		return 0, 0, false
	}
	first, _ = core.Peek()
	if core.Take(shard, 0, l.leadership, uint64(n)) != nil {
		return 0, 0, false // more than there is room for: the driver asks like the others
	}
	i.publish()
	compacted = i.compactedHere()
	issued = i.node.SystemLeaseHolds()
	if !issued && n > 0 {
		i.asker.Voided(shard, first+kv.Revision(n)-1)
	}
	i.pump() // the limit may be to be raised
	if !issued {
		return 0, 0, false
	}
	return first, compacted, true
}

// Ask is of driver.Numbers (rule 32). The caller holds the lock of a replica, which no write to a connection is to keep from its readers.
func (i *Issuer) Ask(group consensus.GroupID, term consensus.Term, n int, bounds kv.Bounds, got func(first, compacted kv.Revision, issued bool)) {
	i.mu.Lock()
	if l := i.led[kv.ShardID(group)]; l != nil && l.leadership == sequencer.Leadership(term) {
		l.asked = append(l.asked, asked{n: uint64(n), bound: bounds, got: got})
		i.ask(kv.ShardID(group), l)
	}
	i.mu.Unlock()
}

// SendAsked is of driver.Numbers.
func (i *Issuer) SendAsked() {
	i.mu.Lock()
	i.pump()
	i.unlockInRound()
}

// Alarms is of driver.Numbers. The sequencer's node looks at the system shard itself; frames of a sequencer tell the others.
func (i *Issuer) Alarms() (types uint64) {
	if i.here.epoch.Load() == 0 {
		return i.alarms.Load()
	}
	_, types = i.node.SystemNotice()
	return types
}

// ask asks for what has not been asked for. What the asker refuses, because too much is unanswered, is asked for later.
func (i *Issuer) ask(shard kv.ShardID, l *led) {
	for at := range l.asked {
		if a := &l.asked[at]; a.batch == 0 {
			batch, ok := i.asker.Alloc(shard, a.n, a.bound)
			if !ok {
				i.refusedAsks = true
				return
			}
			a.batch = batch
			i.metrics.asked.Add(1)
		}
	}
}

// compactedHere is up to where history is compacted, as far as is known here: what the applied state says is all, if this node issues numbers for certain.
func (i *Issuer) compactedHere() kv.Revision {
	applied, _ := i.node.SystemNotice()
	return max(applied, i.compacted)
}

func (i *Issuer) retryAsks() {
	if !i.refusedAsks {
		return
	}
	i.refusedAsks = false
	for _, shard := range slices.Sorted(maps.Keys(i.led)) {
		i.ask(shard, i.led[shard])
	}
}

// arrived deals with what the asker has for this node.
func (i *Issuer) arrived(r *sequencer.AskerReady) {
	i.compacted = max(i.compacted, r.Compact) // before the numbers, which are of the same frame or an earlier one
	if r.Told {
		i.alarms.Store(r.Alarms) // before whoever waits for numbers gets them
	}
	for _, n := range r.Numbers {
		i.numbers(n)
	}
	i.multiRevisions(r.Revisions)
	if r.Told {
		i.Hear(r.Now)
		i.told(r)
		for _, shard := range i.uninformed {
			i.node.CallClean(shard, 0)
		}
		i.uninformed = i.uninformed[:0]
	}
	for _, shard := range r.Unclean {
		i.node.CallClean(shard, 0)
	}
	if len(r.HandOver) > 0 {
		i.relocate(r.HandOver)
	}
}

// numbers hands out what has arrived, in its order.
func (i *Issuer) numbers(n sequencer.Numbers) {
	i.Hear(n.First + kv.Revision(n.N) - 1)
	l := i.led[n.Shard]
	if l == nil || len(l.asked) == 0 || l.asked[0].batch != n.Batch {
		i.asker.Voided(n.Shard, n.First+kv.Revision(n.N)-1) // nobody waits for them (rule 14)
		return
	}
	a, compacted := l.asked[0], i.compacted
	if n.Compacted != 0 { // what was compacted after they were issued does not matter to them
		compacted = min(compacted, n.Compacted)
	}
	l.asked = slices.Delete(l.asked, 0, 1)
	i.later(func() { a.got(n.First, compacted, n.N == a.n) })
}

// relocate: the sequencer cannot be reached. That is no reason to move anything if it cannot be reached from anywhere: while nobody leads the system shard, and
// until whoever does has had as much time.
func (i *Issuer) relocate(shards []kv.ShardID) {
	t := &i.target
	if t.node != 0 && t.node != i.options.Self && !t.lost && i.time-t.since >= i.options.ElectionTimeout {
		i.node.Relocate(shards, t.node)
	}
}
