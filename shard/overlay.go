package shard

import (
	"fmt"
	"unsafe"

	"github.com/tidwall/btree"

	"github.com/quoratedb/quorate/auth"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/members"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/timeline"
)

// none is the position of no change.
const none = -1

// change is an effect in flight.
type change struct {
	mvcc.Effect
	older int64 // position of the change before of the same key; it may have left already
	// resolved: it is of a transaction over several shards, and in the log with that. Its revision is neither provisional nor in the order of the queue.
	resolved bool
}

// opKind names what an op does. The numbers are in the log: add, never renumber.
type opKind uint8

const (
	opGrant opKind = iota + 1
	opRenew
	opRevoke
	opCompact
	opAlarmRaise
	opAlarmClear
	opNode
	opClock   // nothing but the lease clock, which every entry carries
	opReplica // which replica a node's disk holds
	opExtend  // when a lease ends at the latest; opRenew is what earlier versions wrote
	opStage   // effects of a bulk, which are not in force yet
	opUnstage // what is staged never will be
	opBulk    // what is staged takes effect at a revision: before everything else that is in the entry
	// Of leases whose keys are not in the system shard alone. In the system shard: opRegister says that a shard may have some, and opEnd that all are to be
	// deleted, whereupon opRevoke follows. In the others: opNote says that the shard is registered, opDrop that it is not any more.
	opRegister
	opEnd
	opNote
	opDrop
	// Of transactions over several shards: see record.
	opPrepare
	opPromise
	opAccept
	opResolve
	opFinished
	opRoster  // on which nodes the shard is to be
	opAuth    // what becomes of users and roles
	opMembers // what becomes of the list of members
	opTime    // which revision the store had at a time
	// opFinishedOpen is an opFinished that leaves some out. Versions before it know nothing of it, and it is there only when a shard was without a quorum for long.
	opFinishedOpen
)

// op is a change of something else than keys.
type op struct {
	kind     opKind
	lease    kv.LeaseID
	ttl      int64 // seconds; it is in the log of an opGrant only
	millis   int64 // opExtend: from the entry's lease clock to the deadline
	revision kv.Revision
	alarm    kv.Alarm
	node     *kv.NodeRecord
	replica  Placement
	roster   *kv.Roster
	part     *bulkPart

	shard       kv.ShardID // opRegister
	incarnation uint64     // opNote
	// record has, of ops about transactions, what the op is about; in a leader's overlay all that is known after it.
	record *record
	// auth is what an opAuth does, and list what there is after an opMembers; encoded, in a leader's overlay.
	auth    *auth.Change
	list    *members.List
	encoded []byte
	time    timeline.Point
}

func (p *op) isFinished() bool { return p.kind == opFinished || p.kind == opFinishedOpen }

// pendingLease is what the ops in flight make of a lease.
type pendingLease struct {
	last   int64 // position of the last op about it
	exists bool
	ttl    int64
	// ended: it has run out and is being emptied.
	ended bool
	// granted is behind the position of the last grant, if that was in flight when an op was added. shards are registered in flight, and ending in flight.
	granted int64
	shards  []kv.ShardID
	ending  bool
}

// overlay holds what a leader has evaluated and what is not applied yet. Changes and ops are queues,
// addressed by positions that never repeat; indexes point into them. For the common put of a
// single key it costs one append and one hash insertion.
type overlay struct {
	changes   queue[change]
	ops       queue[op]
	proposals queue[proposal]

	// newest finds the newest change of a key. Its strings share the bytes of the change's key.
	newest map[string]int64
	// ordered holds the same keys in order. It exists from the first question about a span until the
	// overlay is empty.
	ordered *btree.BTreeG[string]
	// byLease lists, ascending, the changes that attach a key to a lease or detach it.
	byLease map[kv.LeaseID][]int64
	leases  map[kv.LeaseID]pendingLease
	notes   map[kv.LeaseID]pendingNote

	otherOps int // ops in flight about alarms, nodes, replicas, rosters, users, roles, members and times
	// alarms is what the ops in flight add to the number of active alarms of a type; it may be negative.
	alarms    map[kv.AlarmType]int
	compacted kv.Revision // highest compaction in flight; 0: none

	// takenChanges and takenOps are the positions up to which everything is in a proposal.
	takenChanges, takenOps int64
	untakenBytes           int
	sealed                 bool // a bulk takes effect with the next proposal, which has nothing else

	commits pendingCommits
	// resolved counts the changes of transactions that are in flight, untakenResolved those of them that are in no proposal. lowestResolved is the lowest
	// revision of the latter; 0: there are none.
	resolved, untakenResolved int64
	lowestResolved            kv.Revision
}

// proposal is a log entry that was handed out.
type proposal struct {
	seq                   uint64
	changesUpTo, opsUpTo  int64 // positions after its last change and op
	revisionAfterProposal kv.Revision
	lowestResolved        kv.Revision // of transactions that it resolves; 0: it resolves none that writes
}

func newOverlay() *overlay {
	return &overlay{
		newest:  make(map[string]int64),
		byLease: make(map[kv.LeaseID][]int64),
		leases:  make(map[kv.LeaseID]pendingLease),
		notes:   make(map[kv.LeaseID]pendingNote),
		alarms:  make(map[kv.AlarmType]int),
	}
}

// untaken tells whether something waits to be proposed.
func (o *overlay) untaken() bool {
	return o.takenChanges < o.changes.end() || o.takenOps < o.ops.end()
}

// keyString shares the bytes of a key, which nobody may change.
func keyString(key []byte) string { return unsafe.String(unsafe.SliceData(key), len(key)) }

// find returns the newest change of the key; the pointer is valid until the next addition.
func (o *overlay) find(key []byte) *change {
	if len(o.newest) == 0 {
		return nil
	}
	at, ok := o.newest[keyString(key)]
	if !ok {
		return nil
	}
	return o.changes.at(at)
}

// older returns the change before c of the same key if it is still in flight.
func (o *overlay) older(c *change) *change {
	if c.older < o.changes.start {
		return nil
	}
	return o.changes.at(c.older)
}

func (o *overlay) add(e *mvcc.Effect) {
	at := o.changes.end()
	key := keyString(e.Key)
	older, found := o.newest[key]
	if !found {
		older = none
		if o.ordered != nil {
			o.ordered.Set(key)
		}
	}
	o.newest[key] = at
	c := o.changes.push()
	c.Effect, c.older = *e, older
	o.untakenBytes += len(e.Key) + len(e.Value) + effectOverheadBytes
	if e.Lease != 0 || e.PrevLease != 0 {
		o.touchLeases(&c.Effect, at)
	}
}

// addResolved adds a change of a transaction over several shards that is resolved.
func (o *overlay) addResolved(e *mvcc.Effect) {
	o.add(e)
	o.changes.at(o.changes.end() - 1).resolved = true
	o.resolved++
	o.untakenResolved++
	if o.lowestResolved == 0 || e.At.Rev < o.lowestResolved {
		o.lowestResolved = e.At.Rev
	}
}

// firstUntaken is the first change that is in no proposal, but for those of transactions; nil: there is none.
func (o *overlay) firstUntaken() *change {
	for at := o.takenChanges; at < o.changes.end(); at++ {
		if c := o.changes.at(at); !c.resolved {
			return c
		}
	}
	return nil
}

func (o *overlay) touchLeases(e *mvcc.Effect, at int64) {
	if e.Lease != 0 {
		o.byLease[e.Lease] = append(o.byLease[e.Lease], at)
	}
	if e.PrevLease != 0 && e.PrevLease != e.Lease {
		o.byLease[e.PrevLease] = append(o.byLease[e.PrevLease], at)
	}
}

// rollback takes back the changes from the position on; none of them is in a proposal.
func (o *overlay) rollback(position int64) {
	for o.changes.end() > position {
		at := o.changes.end() - 1
		c := o.changes.at(at)
		if c.older >= o.changes.start {
			o.newest[keyString(c.Key)] = c.older
		} else {
			o.forget(c)
		}
		o.untouchLease(c.Lease, at)
		o.untouchLease(c.PrevLease, at)
		o.untakenBytes -= len(c.Key) + len(c.Value) + effectOverheadBytes
		o.changes.popLast()
	}
}

func (o *overlay) untouchLease(id kv.LeaseID, at int64) {
	list := o.byLease[id]
	if id == 0 || len(list) == 0 || list[len(list)-1] != at {
		return
	}
	if len(list) == 1 {
		delete(o.byLease, id)
	} else {
		o.byLease[id] = list[:len(list)-1]
	}
}

func (o *overlay) forget(c *change) {
	key := keyString(c.Key)
	delete(o.newest, key)
	if o.ordered != nil {
		o.ordered.Delete(key)
	}
}

func (o *overlay) addOp(p op) {
	at := o.ops.end()
	*o.ops.push() = p
	o.untakenBytes += opOverheadBytes
	switch p.kind {
	case opGrant:
		o.leases[p.lease] = pendingLease{last: at, exists: true, ttl: p.ttl, granted: at + 1}
	case opExtend, opRegister, opEnd:
		o.addToLease(at, &p)
	case opNote, opDrop:
		o.notes[p.lease] = pendingNote{last: at, incarnation: p.incarnation}
	case opRevoke:
		o.leases[p.lease] = pendingLease{last: at}
	case opCompact:
		o.compacted = p.revision
	case opAlarmRaise:
		o.otherOps++
		o.alarms[p.alarm.Type]++
	case opAlarmClear:
		o.otherOps++
		o.alarms[p.alarm.Type]--
	case opNode, opReplica, opRoster, opTime:
		o.otherOps++
	case opAuth, opMembers:
		o.otherOps++
		o.untakenBytes += len(p.encoded)
	case opStage:
		o.untakenBytes += len(p.part.encoded)
	case opBulk:
		o.sealed = true
	case opPrepare, opPromise, opAccept, opResolve, opFinished, opFinishedOpen:
		o.untakenBytes += o.commits.add(at, &p)
	}
}

// addToLease is the op at a position about a lease that exists.
func (o *overlay) addToLease(at int64, p *op) {
	l := o.leases[p.lease]
	l.last, l.exists, l.ttl = at, true, p.ttl
	switch p.kind {
	case opExtend:
		l.ended = p.millis == 0
	case opRegister:
		l.shards = withShard(l.shards, p.shard)
	case opEnd:
		l.ended, l.ending = true, true
	}
	o.leases[p.lease] = l
}

// take ends the current proposal.
func (o *overlay) take(seq uint64, revision kv.Revision) {
	o.takenChanges, o.takenOps, o.untakenBytes, o.sealed = o.changes.end(), o.ops.end(), 0, false
	*o.proposals.push() = proposal{seq, o.takenChanges, o.takenOps, revision, o.lowestResolved}
	o.untakenResolved, o.lowestResolved = 0, 0
}

// applied removes what the oldest proposal brought in.
func (o *overlay) applied(seq uint64) error {
	if o.proposals.size() == 0 || o.proposals.first().seq != seq {
		return fmt.Errorf("proposal %d was applied, which is not the oldest in flight: %w", seq, ErrInconsistent)
	}
	p := *o.proposals.first()
	o.proposals.popFirst()
	for o.changes.start < p.changesUpTo {
		o.dropFirstChange()
	}
	for o.ops.start < p.opsUpTo {
		o.dropFirstOp()
	}
	if o.changes.size() == 0 {
		o.ordered = nil
	}
	return nil
}

func (o *overlay) dropFirstChange() {
	at := o.changes.start
	c := o.changes.first()
	if newest := o.newest[keyString(c.Key)]; newest == at {
		o.forget(c)
	}
	if c.Lease != 0 {
		o.dropFirstTouch(c.Lease)
	}
	if c.PrevLease != 0 && c.PrevLease != c.Lease {
		o.dropFirstTouch(c.PrevLease)
	}
	if c.resolved {
		o.resolved--
	}
	o.changes.popFirst()
}

func (o *overlay) dropFirstTouch(id kv.LeaseID) {
	if list := o.byLease[id]; len(list) > 1 {
		o.byLease[id] = list[1:]
	} else {
		delete(o.byLease, id)
	}
}

func (o *overlay) dropFirstOp() {
	at := o.ops.start
	switch p := o.ops.first(); p.kind {
	case opNote, opDrop:
		if o.notes[p.lease].last == at {
			delete(o.notes, p.lease)
		}
	case opGrant, opExtend, opRevoke, opRegister, opEnd:
		if o.leases[p.lease].last == at {
			delete(o.leases, p.lease)
		}
	case opCompact:
		if o.compacted == p.revision {
			o.compacted = 0
		}
	case opAlarmRaise:
		o.otherOps--
		o.alarms[p.alarm.Type]--
	case opAlarmClear:
		o.otherOps--
		o.alarms[p.alarm.Type]++
	case opNode, opReplica, opRoster, opAuth, opMembers, opTime:
		o.otherOps--
	case opPrepare, opPromise, opAccept, opResolve, opFinished, opFinishedOpen:
		o.commits.drop(at, p)
	}
	o.ops.popFirst()
}

// touched calls fn for each key of the span that has a change in flight, in order, until it fails.
func (o *overlay) touched(span kv.Span, fn func(newest *change) error) (err error) {
	if o.changes.size() == 0 {
		return nil
	}
	if o.ordered == nil {
		o.ordered = btree.NewBTreeG(func(a, b string) bool { return a < b })
		for key := range o.newest { // the tree gives the order
			o.ordered.Set(key)
		}
	}
	lower, upper := span.Bounds()
	end := keyString(upper)
	o.ordered.Ascend(keyString(lower), func(key string) bool {
		if upper != nil && key >= end {
			return false
		}
		err = fn(o.changes.at(o.newest[key]))
		return err == nil
	})
	return err
}

// queue is a slice that is consumed at its front; elements have positions that never repeat.
type queue[T any] struct {
	start int64 // position of the first element
	head  int   // its index
	items []T
}

func (q *queue[T]) size() int       { return len(q.items) - q.head }
func (q *queue[T]) end() int64      { return q.start + int64(q.size()) }
func (q *queue[T]) at(pos int64) *T { return &q.items[q.head+int(pos-q.start)] }
func (q *queue[T]) first() *T       { return &q.items[q.head] }

func (q *queue[T]) push() *T {
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	var zero T
	q.items = append(q.items, zero)
	return &q.items[len(q.items)-1]
}

func (q *queue[T]) popFirst() {
	var zero T
	q.items[q.head] = zero
	q.head++
	q.start++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
		if cap(q.items)*int(unsafe.Sizeof(zero)) > 4<<20 {
			q.items = nil // a burst is over; give its memory back
		}
	}
}

func (q *queue[T]) popLast() {
	var zero T
	q.items[len(q.items)-1] = zero
	q.items = q.items[:len(q.items)-1]
}
