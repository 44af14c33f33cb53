package shard

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// lease is a record of the applied state. Times are of the replicated lease clock, in milliseconds.
type lease struct {
	id  kv.LeaseID
	ttl int64 // seconds
	// deadline is replicated: no leader may promise more time than up to here without the log. A renewal puts it further off than
	// what it promises, so that a leader can answer the next ones by itself.
	deadline int64
	// promised is the latest end that this replica knows to have been promised, or earlier.
	// Invariant: at or before deadline. Replicas differ in it.
	promised int64
	// key is where the lease stands in the heap: at or before its end. A renewal moves only promised and deadline; the heap is
	// corrected when the lease comes to its top. Nothing depends on key being the same on all replicas. One that led before may
	// look later than at the end, by what its lease clock had run ahead of the log.
	key      int64
	position int32 // in the heap
	// With several shards: incarnation is the index of the entry that granted the lease, shards those that are registered with it, ascending, and ending that
	// its keys are being deleted. This shard is not among them before the end of the lease, and then only if it has keys. Never changed in place.
	incarnation uint64
	shards      []kv.ShardID
	ending      bool
}

// end is when the lease runs out for a leader whose lease clock began at the moment. What leaders before it promised, they
// promised before that moment, and each its TTL at most; the deadline bounds it too.
func (l *lease) end(leaderSince int64) int64 {
	return max(l.promised, min(l.deadline, deadlineAfter(leaderSince, l.ttl)))
}

// covers tells whether a leader may promise the whole TTL from now on without the log.
func (l *lease) covers(now int64) bool { return deadlineAfter(now, l.ttl) <= l.deadline }

// promise takes note of a promise of the whole TTL from now on, or of as much as the deadline allows.
func (l *lease) promise(now int64) { l.promised = min(deadlineAfter(now, l.ttl), l.deadline) }

// aheadMillis is how much further than what a renewal promises it puts the deadline. With as much as the TTL, a client that
// renews three times in a TTL needs the log once.
func aheadMillis(ttlSeconds int64) int64 { return ttlSeconds * 1000 }

// leaseTable holds every lease of the shard, on every replica, so that a new leader has nothing to do.
// About 130 bytes a lease.
type leaseTable struct {
	byID map[kv.LeaseID]*lease
	heap []*lease // a binary heap by key
	// dirty are the leases whose row is older than the record; a lease that is gone is dirty until its row is
	// deleted. flushing are those of the flush under way.
	dirty map[kv.LeaseID]struct{}
	// notes are, in the other shards, the incarnations of leases that are registered there; nil: none is.
	notes map[kv.LeaseID]uint64
}

func newLeaseTable() leaseTable {
	return leaseTable{byID: make(map[kv.LeaseID]*lease), dirty: make(map[kv.LeaseID]struct{})}
}

func (t *leaseTable) size() int { return len(t.byID) }

// load adds a lease from its row, which does not say what was promised. heapify must follow.
func (t *leaseTable) load(id kv.LeaseID, ttl, deadline int64) *lease {
	return t.add(id, ttl, deadline, deadline-aheadMillis(ttl))
}

func (t *leaseTable) add(id kv.LeaseID, ttl, deadline, promised int64) *lease {
	l := &lease{id: id, ttl: ttl, deadline: deadline, promised: promised, key: promised, position: int32(len(t.heap))}
	t.byID[id] = l
	t.heap = append(t.heap, l)
	return l
}

func (t *leaseTable) heapify() {
	for i := len(t.heap)/2 - 1; i >= 0; i-- {
		t.siftDown(i)
	}
}

// grant creates or replaces a lease. Replacing happens only when the log is replayed over rows that
// are newer than the applied index.
func (t *leaseTable) grant(id kv.LeaseID, ttl, deadline int64, incarnation uint64) {
	t.revoke(id)
	t.add(id, ttl, deadline, deadline).incarnation = incarnation
	t.siftUp(len(t.heap) - 1)
	t.dirty[id] = struct{}{}
}

// extend puts the deadline so many milliseconds from now. The TTL is promised, as far as the deadline allows. Replayed over newer rows
// it may find no lease, which a later entry revokes anyway.
func (t *leaseTable) extend(id kv.LeaseID, now, millis int64) {
	l := t.byID[id]
	if l == nil {
		return
	}
	l.deadline = now + millis
	l.promise(now)
	t.dirty[id] = struct{}{}
}

// register says that a shard may have keys of a lease.
func (t *leaseTable) register(id kv.LeaseID, shard kv.ShardID) {
	if l := t.byID[id]; l != nil {
		l.shards = withShard(l.shards, shard)
		t.dirty[id] = struct{}{}
	}
}

// withShard returns the shards of an ascending list and one more, which may be among them.
func withShard(list []kv.ShardID, id kv.ShardID) []kv.ShardID {
	at, among := slices.BinarySearch(list, id)
	if among {
		return list
	}
	return slices.Concat(list[:at], []kv.ShardID{id}, list[at:])
}

// note says which incarnation of a lease is registered; 0: none is.
func (t *leaseTable) note(id kv.LeaseID, incarnation uint64) {
	if t.notes == nil {
		t.notes = make(map[kv.LeaseID]uint64)
	}
	if t.notes[id] = incarnation; incarnation == 0 {
		delete(t.notes, id)
	}
	t.dirty[id] = struct{}{}
}

func (t *leaseTable) revoke(id kv.LeaseID) {
	l := t.byID[id]
	if l == nil {
		return
	}
	delete(t.byID, id)
	t.dirty[id] = struct{}{}
	at, last := int(l.position), len(t.heap)-1
	t.swap(at, last)
	t.heap[last] = nil
	t.heap = t.heap[:last]
	if at < last {
		t.fix(at)
	}
}

// next returns the lease with the smallest key; nil if there is none.
func (t *leaseTable) next() *lease {
	if len(t.heap) == 0 {
		return nil
	}
	return t.heap[0]
}

// postpone moves a lease in the heap.
func (t *leaseTable) postpone(l *lease, key int64) {
	l.key = key
	t.fix(int(l.position))
}

// leaseEnd is when a lease runs out.
type leaseEnd struct {
	id kv.LeaseID
	at int64
}

// ends lists when the leases run out, in no order.
func (t *leaseTable) ends(leaderSince int64) []leaseEnd {
	ends := make([]leaseEnd, 0, len(t.heap))
	for _, l := range t.heap {
		ends = append(ends, leaseEnd{l.id, l.end(leaderSince)})
	}
	return ends
}

// byTimeLeft lists leases as etcd does, those first that run out first; of equal ones the lower ID.
func byTimeLeft(ends []leaseEnd) []kv.LeaseID {
	slices.SortFunc(ends, func(a, b leaseEnd) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)) })
	ids := make([]kv.LeaseID, len(ends))
	for i, e := range ends {
		ids[i] = e.id
	}
	return ids
}

func (t *leaseTable) fix(i int) {
	t.siftDown(i)
	t.siftUp(i)
}

func (t *leaseTable) siftUp(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if t.heap[parent].key <= t.heap[i].key {
			return
		}
		t.swap(i, parent)
		i = parent
	}
}

func (t *leaseTable) siftDown(i int) {
	for {
		child := 2*i + 1
		if child >= len(t.heap) {
			return
		}
		if right := child + 1; right < len(t.heap) && t.heap[right].key < t.heap[child].key {
			child = right
		}
		if t.heap[i].key <= t.heap[child].key {
			return
		}
		t.swap(i, child)
		i = child
	}
}

func (t *leaseTable) swap(i, j int) {
	t.heap[i], t.heap[j] = t.heap[j], t.heap[i]
	t.heap[i].position, t.heap[j].position = int32(i), int32(j)
}

func (t *leaseTable) check() error {
	if len(t.heap) != len(t.byID) {
		return fmt.Errorf("%d leases, %d in the heap", len(t.byID), len(t.heap))
	}
	for i, l := range t.heap {
		if int(l.position) != i || t.byID[l.id] != l {
			return fmt.Errorf("lease %x is misplaced in the heap", int64(l.id))
		}
		if i > 0 && t.heap[(i-1)/2].key > l.key {
			return fmt.Errorf("lease %x stands below a later one in the heap", int64(l.id))
		}
		if l.promised > l.deadline {
			return fmt.Errorf("lease %x is promised until %d, its deadline is %d", int64(l.id), l.promised, l.deadline)
		}
	}
	return nil
}

// deadlineAfter adds seconds to a lease clock. MaxLeaseTTLSeconds keeps it far from overflow.
func deadlineAfter(now, ttlSeconds int64) int64 { return now + ttlSeconds*1000 }

// remainingSeconds is what is left of a lease, rounded down as in etcd, never negative. A replica that led before may know of
// promises that its lease clock, which went back, takes for more than the TTL.
func (l *lease) remainingSeconds(leaderSince, now int64) int64 {
	return min(l.ttl, max(0, (l.end(leaderSince)-now)/1000))
}
