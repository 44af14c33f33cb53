package shard

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/kv"
)

// lease is a record of the applied state. Times are of the replicated lease clock, in milliseconds.
type lease struct {
	id       kv.LeaseID
	ttl      int64 // seconds
	deadline int64
	// key is where the lease stands in the heap. A renewal only moves the deadline; the heap is
	// corrected when the lease comes to its top. Nothing depends on key being the same on all replicas.
	key      int64
	position int32 // in the heap
}

// leaseTable holds every lease of the shard, on every replica, so that a new leader has nothing to do.
// About 120 bytes a lease.
type leaseTable struct {
	byID map[kv.LeaseID]*lease
	heap []*lease // a binary heap by key
	// dirty are the leases whose row is older than the record; a lease that is gone is dirty until its row is
	// deleted. flushing are those of the flush under way.
	dirty map[kv.LeaseID]struct{}
}

func newLeaseTable() leaseTable {
	return leaseTable{byID: make(map[kv.LeaseID]*lease), dirty: make(map[kv.LeaseID]struct{})}
}

func (t *leaseTable) size() int { return len(t.byID) }

// load adds a lease from its row. heapify must follow.
func (t *leaseTable) load(id kv.LeaseID, ttl, deadline int64) {
	l := &lease{id: id, ttl: ttl, deadline: deadline, key: deadline, position: int32(len(t.heap))}
	t.byID[id] = l
	t.heap = append(t.heap, l)
}

func (t *leaseTable) heapify() {
	for i := len(t.heap)/2 - 1; i >= 0; i-- {
		t.siftDown(i)
	}
}

// grant creates or replaces a lease. Replacing happens only when the log is replayed over rows that
// are newer than the applied index.
func (t *leaseTable) grant(id kv.LeaseID, ttl, deadline int64) {
	t.revoke(id)
	t.load(id, ttl, deadline)
	t.siftUp(len(t.heap) - 1)
	t.dirty[id] = struct{}{}
}

// renew moves the deadline. Replayed over newer rows it may find no lease, which a later entry revokes anyway.
func (t *leaseTable) renew(id kv.LeaseID, now int64) {
	if l := t.byID[id]; l != nil {
		l.deadline = deadlineAfter(now, l.ttl)
		t.dirty[id] = struct{}{}
	}
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
	id       kv.LeaseID
	deadline int64
}

// ends lists when the leases run out, in no order.
func (t *leaseTable) ends() []leaseEnd {
	ends := make([]leaseEnd, 0, len(t.heap))
	for _, l := range t.heap {
		ends = append(ends, leaseEnd{l.id, l.deadline})
	}
	return ends
}

// byTimeLeft lists leases as etcd does, those first that run out first; of equal ones the lower ID.
func byTimeLeft(ends []leaseEnd) []kv.LeaseID {
	slices.SortFunc(ends, func(a, b leaseEnd) int { return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.id, b.id)) })
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
	}
	return nil
}

// deadlineAfter adds seconds to a lease clock. MaxLeaseTTLSeconds keeps it far from overflow.
func deadlineAfter(now, ttlSeconds int64) int64 { return now + ttlSeconds*1000 }

// remainingSeconds is what is left of a lease, rounded down as in etcd, never negative.
func (l *lease) remainingSeconds(now int64) int64 { return max(0, (l.deadline-now)/1000) }
