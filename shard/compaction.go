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
	l := m.lead
	l.floor = max(l.floor, compacted)
	if m.options.Shard == kv.SystemShard { // there it takes effect, because somebody asked for it
		return
	}
	if l.floor > max(m.applied.Compacted, l.overlay.compacted) {
		l.overlay.addOp(op{kind: opCompact, revision: l.floor})
	}
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
	if note(r.Range); r.Txn != nil {
		anyRange(r.Txn, note)
	}
}

// readsBelow tells whether something was read that is compacted, of which nothing was known when it was read: then up to floor.
func (b *batch) readsBelow(floor, compacted kv.Revision) bool {
	return compacted > floor && b.lowest != 0 && b.lowest < compacted
}
