package shard

import (
	"cmp"
	"slices"
	"time"

	"github.com/tidwall/btree"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
	"github.com/quoratedb/quorate/shard/lock"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// What a participant knows of transactions over several shards (docs/protocols/commit.md). It is a function of the log, as all of the applied state is. The
// rules that are named here and in the files beside this one are those of docs/protocols/sequencer.md.

// record is what the log says of one transaction. It is replaced, and never changed in place (but for since): those in flight and those of the applied state
// share parts.
type record struct {
	id           kv.TransactionID
	participants []kv.ShardID
	// prepared: the share is in the log, with what it locks and what it changes, at kv.Unnumbered.
	prepared bool
	accesses []latch.Access
	effects  []mvcc.Effect
	// release, if there is one, is the lease that has these keys, all of them: its note goes with them. Only Lease and Incarnation count.
	release *kv.LeaseBinding
	// stamp is the highest revision that was applied when it was prepared (rule 30). What commits here has a higher one.
	stamp kv.Revision
	// promised is the highest ballot that was promised. accepted is the ballot of value, if that is not undecided.
	promised, accepted kv.Ballot
	value              kv.Decision
	decision           kv.Decision
	// open are, of an op about what is finished, those that are not; it is said of all before id.
	open []kv.TransactionID
	// since is when this replica, as a leader, heard of it first. It is not replicated.
	since time.Duration
}

// finished is that of an op about one.
func (r *record) finished() kv.Finished { return kv.Finished{At: r.id, Open: r.open} }

// holds tells whether the record has locks.
func (r *record) holds() bool { return r.prepared && r.decision.Verdict == kv.Undecided }

// holdsBack tells whether the shard is not closed beyond the stamp (rule 13). What only reads does not hold it back (rule 20).
func (r *record) holdsBack() bool { return r.holds() && len(r.effects) > 0 }

func (r *record) standing() kv.Standing {
	switch {
	case r.decision.Verdict != kv.Undecided:
		return kv.StandingResolved
	case r.prepared:
		return kv.StandingPrepared
	}
	return kv.StandingPromised
}

// sizeBytes is about what the record takes in memory and in the log.
func (r *record) sizeBytes() int {
	n := recordOverheadBytes + 8*len(r.participants)
	for i := range r.accesses {
		n += accessOverheadBytes + spanBytes(r.accesses[i].Span)
	}
	for i := range r.effects {
		n += effectOverheadBytes + len(r.effects[i].Key) + len(r.effects[i].Value)
	}
	return n
}

const (
	recordOverheadBytes = 128
	accessOverheadBytes = 16
)

// transactions are the records of the applied state, and what is finished. The zero value has none.
type transactions struct {
	records map[kv.TransactionID]*record
	ordered *btree.BTreeG[kv.TransactionID] // the same; nil: none was there yet
	// finished says by anchor which of its transactions are finished.
	finished map[kv.ShardID]kv.Finished
	// writers are those that hold back, in the order of their stamps, and perhaps some that do not any more. gone counts the latter.
	writers queue[writer]
	gone    int
	// written has their exclusive locks.
	written lock.Table
	// bytes is the size of those that hold locks, and open how many are undecided.
	bytes, open int

	// What the engine has rows of, as of the last Freeze, and what has changed since.
	stored        map[kv.TransactionID]struct{}
	dirty         map[kv.TransactionID]struct{}
	dirtyFinished map[kv.ShardID]struct{}
	// lastResolved is the highest revision that something was resolved at, as far as this replica knows. It is not replicated.
	lastResolved kv.Revision
}

// writer is a record that holds back, whatever else becomes of it.
type writer struct {
	id    kv.TransactionID
	stamp kv.Revision
}

// put replaces a record, or adds one.
func (t *transactions) put(r *record) {
	if t.records == nil {
		t.records = make(map[kv.TransactionID]*record)
		t.dirty = make(map[kv.TransactionID]struct{})
		t.ordered = btree.NewBTreeGOptions(func(a, b kv.TransactionID) bool { return compareIDs(a, b) < 0 }, btree.Options{NoLocks: true})
	}
	before := t.records[r.id]
	t.records[r.id] = r
	t.ordered.Set(r.id)
	t.dirty[r.id] = struct{}{}
	if before != nil && before.standing() == kv.StandingPrepared && r.standing() == kv.StandingPrepared {
		return // it has its locks, and its place among the writers
	}
	t.leave(before)
	t.enter(r)
}

func (t *transactions) enter(r *record) {
	if r.decision.Verdict == kv.Undecided {
		t.open++
	}
	if !r.holds() {
		return
	}
	t.bytes += r.sizeBytes()
	if r.holdsBack() {
		*t.writers.push() = writer{r.id, r.stamp}
		t.written.Acquire(r.id, exclusive(r.accesses))
	}
}

func (t *transactions) leave(r *record) {
	if r == nil {
		return
	}
	if r.decision.Verdict == kv.Undecided {
		t.open--
	}
	if !r.holds() {
		return
	}
	t.bytes -= r.sizeBytes()
	if r.holdsBack() {
		t.gone++
		t.written.Release(r.id)
	}
}

// exclusive returns the accesses that write.
func exclusive(accesses []latch.Access) []latch.Access {
	return slices.DeleteFunc(slices.Clone(accesses), func(a latch.Access) bool { return !a.Writes })
}

// isWriter tells whether an entry of writers still stands for a record.
func (t *transactions) isWriter(w writer) bool {
	r := t.records[w.id]
	return r != nil && r.holdsBack()
}

// lowestStamp is that of the record which holds the shard back; false: none does.
func (t *transactions) lowestStamp() (kv.Revision, bool) {
	if t.writers.size() == 0 {
		return 0, false
	}
	return t.writers.first().stamp, true
}

// settle takes out of writers what does not hold back any more. It costs, all in all, what was put in.
func (t *transactions) settle() {
	for t.writers.size() > 0 && !t.isWriter(*t.writers.first()) {
		t.writers.popFirst()
		t.gone--
	}
	if t.gone <= t.writers.size()/2 {
		return
	}
	kept := queue[writer]{}
	for at := t.writers.start; at < t.writers.end(); at++ {
		if w := *t.writers.at(at); t.isWriter(w) {
			*kept.push() = w
		}
	}
	t.writers, t.gone = kept, 0
}

// remove forgets a record.
func (t *transactions) remove(id kv.TransactionID) {
	t.leave(t.records[id])
	delete(t.records, id)
	t.ordered.Delete(id)
	if _, stored := t.stored[id]; stored {
		t.dirty[id] = struct{}{}
	} else {
		delete(t.dirty, id)
	}
}

// closed is the closed revision of a state whose highest is given (rule 13).
func (t *transactions) closed(highest kv.Revision) kv.Revision {
	if stamp, held := t.lowestStamp(); held {
		return min(highest, stamp)
	}
	return highest
}

// since has all records known since a moment: that at which a leadership begins.
func (t *transactions) since(now time.Duration) {
	for _, r := range t.records { // in any order
		r.since = now
	}
}

// each calls fn with the records, by transaction, until it returns false. Nothing may be removed meanwhile.
func (t *transactions) each(fn func(*record) bool) {
	if len(t.records) > 0 {
		t.ordered.Scan(func(id kv.TransactionID) bool { return fn(t.records[id]) })
	}
}

func compareIDs(a, b kv.TransactionID) int {
	return cmp.Or(cmp.Compare(a.Anchor, b.Anchor), cmp.Compare(a.Term, b.Term), cmp.Compare(a.Number, b.Number))
}
