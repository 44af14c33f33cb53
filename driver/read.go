package driver

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// Leader returns the node that leads the group as far as this node knows, and the term. The node is 0
// when nobody is known to lead.
func (r *Replica) Leader() (kv.NodeID, uint64) {
	l := r.leader.Load()
	return l.node, uint64(l.term)
}

// Shard is the one that this is a replica of.
func (r *Replica) Shard() kv.ShardID { return kv.ShardID(r.group) }

// IsLeader tells whether this replica leads and is ready to serve.
func (r *Replica) IsLeader() bool { return r.serving.Load() }

// Applied returns the index up to which the log is applied here.
func (r *Replica) Applied() uint64 { return r.applied.Load() }

// Committed returns the index up to which this replica has told anybody that entries are committed, or more.
func (r *Replica) Committed() uint64 { return max(r.committed.Load(), r.applied.Load()) }

// LeaseValid tells whether at the moment of the call no other leader can exist, and this replica has applied
// everything that it has told the others to be committed. A linearizable read from the applied state asks before
// and after reading: before, because followers may have applied, and shown, what this leader has not applied yet;
// after, because the lease must not end while it reads.
func (r *Replica) LeaseValid() bool {
	return r.committed.Load() <= r.applied.Load() && r.leaseHolds()
}

// leaseHolds tells whether no other leader can exist.
func (r *Replica) leaseHolds() bool {
	l := r.lease.Load()
	return l != nil && l.Valid(r.front.support, r.front.clock())
}

// ReadIndex finds an index such that a read of any replica that has applied it is linearizable for
// requests that arrived before the call. Leader only: kv.ErrNotLeader elsewhere.
func (r *Replica) ReadIndex(done func(index uint64, err error)) {
	if !r.serving.Load() {
		done(0, kv.ErrNotLeader)
		return
	}
	// Nobody has seen more than what this leader has declared committed. It may not have applied it
	// itself: its own disk may be slower than those of the quorum.
	index := r.Committed()
	r.front.tellCommitted() // whoever asks from elsewhere waits until it is applied there
	if r.leaseHolds() {
		done(index, nil)
		return
	}
	answer := func(index consensus.Index, err error) { done(uint64(index), err) }
	r.ask(func(r *driven) { r.askBarrier(answer) }, func(err error) { done(0, err) })
}

// askBarrier asks a quorum whether this replica still leads. All who ask in one round share a barrier.
func (r *driven) askBarrier(done func(consensus.Index, error)) {
	if !r.leading {
		done(0, kv.ErrNotLeader)
		return
	}
	if !r.barriers.join(done) {
		return
	}
	d := r.driver
	d.lastRead++
	r.barriers.next = d.lastRead
	if err := r.core.ReadBarrier(d.lastRead); err != nil {
		r.barriers.gathering = nil
		done(0, kv.ErrNotLeader)
		return
	}
	d.markDirty(r)
}

// barrierDone answers a barrier once everything before it is applied here.
func (r *driven) barrierDone(read consensus.ReadState) {
	waiting := r.barriers.passed(read.ID)
	switch {
	case len(waiting) == 0:
	case read.Index == 0:
		tellAll(waiting, 0, kv.ErrLeaderChanged)
	default:
		r.waitApplied(read.Index, func(err error) { tellAll(waiting, read.Index, err) })
	}
}

// WaitApplied calls done when the index is applied here, or with an error when that will not happen.
func (r *Replica) WaitApplied(index uint64, done func(error)) {
	if r.applied.Load() >= index {
		done(nil)
		return
	}
	r.ask(func(r *driven) { r.waitApplied(consensus.Index(index), done) }, done)
}

func (r *driven) waitApplied(index consensus.Index, done func(error)) {
	if r.machine.AppliedIndex() >= index {
		done(nil)
		return
	}
	r.waits.indices.add(uint64(index), done)
}

// View returns the applied state at this moment, for reads without any lock. Close it.
func (r *Replica) View() *mvcc.View {
	r.reads.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.viewLocked()
}

// viewLocked: while a snapshot is installed, the engine does not hold the state of the machine any more.
func (r *Replica) viewLocked() *mvcc.View {
	if r.replaced != nil {
		return r.replaced.share()
	}
	return r.machine.View()
}

// Readable is kv.ErrNoLeader while this replica does not belong to the group yet: what it has is not old, it is nothing.
func (r *Replica) Readable() error {
	if r.standing.outsider.Load() {
		return kv.ErrNoLeader
	}
	return nil
}

// Read evaluates a request without effects on the applied state. kv.ErrUnhealthy: the disk did not let it be read.
func (r *Replica) Read(req *kv.Request) (*kv.Response, error) {
	resp, err := r.read(req)
	return resp, r.Unread(err)
}

// Unread gives errors of the disk, which no client knows, the name of one that lets it go to another node: kv.ErrUnhealthy. Damage ends this node, so that
// it is repaired, as a scrub that finds it does.
func (r *Replica) Unread(err error) error {
	if err == nil || kv.CodeOf(err) != 0 || errors.Is(err, shard.ErrReadCompacted) {
		return err
	}
	if errors.Is(err, storage.ErrCorrupt) {
		r.ask(func(r *driven) { r.fail(fmt.Errorf("a read found damaged data: %w", err)) }, func(error) {})
	}
	return fmt.Errorf("%w: %w", kv.ErrUnhealthy, err)
}

func (r *Replica) read(req *kv.Request) (*kv.Response, error) {
	if err := r.Readable(); err != nil && req.Kind != kv.KindMemberList && shard.IsSerializable(req) {
		return nil, err
	}
	r.reads.Add(1)
	now := r.front.clock()
	if !scans(req) {
		r.mu.RLock()
		defer r.mu.RUnlock()
		if r.replaced != nil {
			return r.machine.Read(r.replaced.view, now, req)
		}
		return r.machine.Read(nil, now, req)
	}
	r.mu.Lock()
	machine, view := r.machine, r.viewLocked()
	r.mu.Unlock()
	defer view.Close()
	return machine.Read(view, now, req)
}

// Renew answers a keep-alive that needs nothing of the log; false: Propose does it. As with Read, the answer is right if LeaseValid says yes
// before the call and after it. applied is an index that contains what it tells; somebody elsewhere waits until that is applied there.
func (r *Replica) Renew(req *kv.LeaseKeepAliveRequest, elsewhere bool) (resp *kv.Response, applied uint64, renewed bool) {
	now := r.front.clock()
	r.mu.Lock()
	resp, renewed = r.machine.Renew(req, now)
	r.mu.Unlock()
	if renewed && elsewhere {
		r.front.tellCommitted()
	}
	return resp, r.applied.Load(), renewed
}

// scans tells whether a read may take long, so that it must not hold up the driver.
func scans(req *kv.Request) bool {
	switch req.Kind {
	case kv.KindRange:
		return req.Range != nil && !req.Range.Span.Single()
	case kv.KindTxn:
		return true
	}
	return false
}

// Replaced reads one version that is not the newest of its key, for previous values in watches.
func (r *Replica) Replaced(at mvcc.Locator) (kv.KeyValue, mvcc.Locator, bool, error) {
	r.mu.RLock()
	machine, under := r.machine, r.machine.UnderBulk()
	r.mu.RUnlock()
	return machine.Replaced(at, under)
}

// Subscribe has fn called with every entry that is applied from now on, in order, from the driver's
// goroutine. It returns the revision up to which everything was applied before.
func (r *Replica) Subscribe(fn func(*shard.Applied)) kv.Revision {
	r.mu.Lock()
	defer r.mu.Unlock()
	// A new slice: the driver may be calling those in the old one.
	r.subscribers = append(r.subscribers[:len(r.subscribers):len(r.subscribers)], fn)
	return r.machine.Closed()
}
