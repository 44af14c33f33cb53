package driver

import (
	"context"
	"sync"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// keptHash is what history up to a revision amounted to when it was compacted there.
type keptHash struct {
	interval
	hash mvcc.HashSum
}

// interval is what a compaction takes together: history was compacted at from before, and is at to now.
type interval struct{ from, to kv.Revision }

// hashes takes a hash at every compaction, before its rows are deleted, and keeps the newest in memory, as etcd does: a monitor that
// compares nodes at a revision gets one answer for it, whether history was compacted there in between or not. Only what was written since the
// compaction before is read for it, but for the first one of a process. Safe for concurrent use.
type hashes struct {
	mu     sync.Mutex
	kept   []keptHash                    // the newest last; at most Options.KeepHashes
	taking map[kv.Revision]chan struct{} // closed when there is a hash of the revision, or will be none
}

// hashing is what the driver's goroutine does for hashes.
type hashing struct {
	queued  []interval // begun when the one under way is done; until then nothing that they need is deleted
	running bool
	live    mvcc.LiveHash // what the next one can begin with
}

// opened forgets what was to be hashed: the machine was just opened, and has what it needs no longer, perhaps.
func (h *hashing) opened(of *hashes) {
	for _, i := range h.queued {
		of.taken(i, nil, 0)
	}
	h.queued = nil
}

// compact queues the hash of a compaction that was just applied. The caller holds Replica.mu: whoever reads in a state that is
// compacted finds the hash, or that it is being taken.
func (h *hashing) compact(of *hashes, i interval, keep int) {
	if keep == 0 {
		return
	}
	if len(h.queued) == keep {
		of.taken(h.queued[0], nil, 0)
		h.queued = append(h.queued[:0], h.queued[1:]...)
	}
	h.queued = append(h.queued, i)
	of.expect(i.to)
}

// expect has whoever asks for the hash of a revision wait for taken.
func (h *hashes) expect(revision kv.Revision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taking == nil {
		h.taking = make(map[kv.Revision]chan struct{})
	}
	h.taking[revision] = make(chan struct{})
}

// taken ends the wait for a hash. found is nil if there is none.
func (h *hashes) taken(i interval, found *keptHash, keep int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if found != nil {
		h.kept = append(h.kept, *found)
		h.kept = h.kept[max(0, len(h.kept)-keep):]
	}
	if done := h.taking[i.to]; done != nil {
		close(done)
		delete(h.taking, i.to)
	}
}

// find returns the hash kept for a revision.
func (h *hashes) find(revision kv.Revision) (keptHash, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.kept {
		if k.to == revision {
			return k, true
		}
	}
	return keptHash{}, false
}

// CompactionHash returns the hash that was taken, before it is folded, when history was compacted at the revision, and where it was compacted before. If it is
// being taken, it is waited for. It is not found if it was never taken here, or long ago.
func (r *Replica) CompactionHash(ctx context.Context, revision kv.Revision) (hash mvcc.HashSum, compacted kv.Revision, found bool, err error) {
	r.hashes.mu.Lock()
	taking := r.hashes.taking[revision]
	r.hashes.mu.Unlock()
	if taking != nil {
		select {
		case <-taking:
		case <-ctx.Done():
			return 0, 0, false, ctx.Err()
		case <-r.front.context.Done():
			return 0, 0, false, kv.ErrStopped
		}
	}
	kept, found := r.hashes.find(revision)
	return kept.hash, kept.from, found, nil
}

// takeHashes begins with the hashes that are queued, if none is under way. They are taken from a view, beside the rounds.
func (r *driven) takeHashes() {
	h, d := &r.hashing, r.driver
	if len(h.queued) == 0 || h.running {
		return
	}
	todo, live, view := h.queued, h.live, r.View()
	h.queued, h.running = nil, true
	r.spawn(func() {
		for _, i := range todo {
			live = r.hashes.take(view, i, live, d.stopped, d.opts.KeepHashes)
		}
		_ = view.Close() // it was only read
	}, func() {
		h.running, h.live = false, live
		d.needsMaintenance(r)
	})
}

// take takes one, and returns what the next can begin with. An error means that there is none to be kept: the node stops, or
// what is damaged was reported when it was read.
func (h *hashes) take(view *mvcc.View, i interval, live mvcc.LiveHash, stopped func() error, keep int) mvcc.LiveHash {
	hash, live, err := view.CompactionHash(i.from, i.to, live, stopped)
	if err != nil {
		h.taken(i, nil, 0)
		return mvcc.LiveHash{At: -1}
	}
	h.taken(i, &keptHash{interval: i, hash: hash}, keep)
	return live
}
