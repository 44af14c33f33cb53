package shard

import "github.com/quoratedb/quorate/kv"

// A compaction of a store of several shards takes effect when it is committed in the system shard. Two things follow for the others (rules 39 and 40 of
// docs/protocols/sequencer.md).
//
// A request that is evaluated here may not read below it, if it arrived afterwards. Whoever gives out numbers says with them up to where history is
// compacted, so what a batch read is held against that before it is proposed or answered.
//
// The shard's leader puts a compaction of the shard itself into the log; its rows are deleted after that. The shard has to be closed at that revision: all
// that it ever has up to there must come before in the log. It does, because the entry is in the chain. Whatever comes behind it in the chain has asked for its
// numbers when the compaction had taken effect, so they are above it. What is lost with the leadership never comes.

// follow takes note of a compaction of the store, and has the shard follow it. A batch was just begun, so what is in the overlay has its numbers, and is in the
// chain before.
func (m *Machine) follow(compacted kv.Revision) {
	m.lead.floor = max(m.lead.floor, compacted)
	m.followCompaction()
}

func (m *Machine) followCompaction() {
	l := m.lead
	if m.options.Shard == kv.SystemShard { // there it takes effect, because somebody asked for it
		return
	}
	if l.floor > max(m.applied.Compacted, l.overlay.compacted) && m.mayCompact(l.floor) {
		l.overlay.addOp(op{kind: opCompact, revision: l.floor})
	}
}

// mayCompact tells whether the shard is closed at a revision, once all that is in flight is applied: no transaction is prepared that may commit at or below
// (rule 40). One whose prepare is in flight gets a stamp that is not below what is applied now.
func (m *Machine) mayCompact(at kv.Revision) bool {
	t, pending := &m.transactions, &m.lead.overlay.commits
	if pending.prepares > 0 && m.applied.Revision < at {
		return false
	}
	for position := t.writers.start; position < t.writers.end(); position++ {
		w := *t.writers.at(position)
		if w.stamp >= at {
			break
		}
		if p, inFlight := pending.records[w.id]; t.isWriter(w) && (!inFlight || p.record.holds()) {
			return false
		}
	}
	return true
}

// reads takes note that the state at a revision is read; 0: the newest.
func (b *batch) reads(rev kv.Revision) {
	if rev > 0 && (b.lowest == 0 || rev < b.lowest) {
		b.lowest = rev
	}
}

// readsOf takes note of all that a request may read at, whichever branch it takes.
func (b *batch) readsOf(r *kv.Request) {
	if b == nil {
		return
	}
	note := func(q *kv.RangeRequest) bool {
		if q != nil {
			b.reads(q.Revision)
		}
		return false
	}
	switch note(r.Range); {
	case r.Txn != nil:
		anyRange(r.Txn, note)
	case r.Commit != nil:
		anyRangeOfShare(r.Commit.Share, note)
	}
}

// readsBelow tells whether something was read that is compacted, of which nothing was known when it was read: then up to floor.
func (b *batch) readsBelow(floor, compacted kv.Revision) bool {
	return compacted > floor && b.lowest != 0 && b.lowest < compacted
}
