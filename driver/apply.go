package driver

import (
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/shard"
)

// apply applies the committed entries that takeReady collected: effects and metadata become visible in
// one step, then the core hears of it, then those who wait.
func (r *driven) apply(now time.Duration) error {
	if len(r.toApply) == 0 || r.installing != nil {
		return nil
	}
	if r.flushComesFirst() {
		r.driver.needsMaintenance(r)
		return nil
	}
	members := r.Members()
	results, subscribers, err := r.applyBatch(r.toApply)
	if err != nil {
		return fmt.Errorf("group %d: %w", r.group, err)
	}
	r.driver.opts.Sequencing.Applied(r.group, r.machine.Closed())
	r.tellMembers(members)
	entries := r.toApply[:len(results)]
	last := entries[len(entries)-1]
	r.applied.Store(uint64(last.Index))
	r.core.AckApplied(last.Index)
	r.driver.metrics.entriesApplied.Add(uint64(len(entries)))
	for i := range results {
		if err := r.announce(&results[i], subscribers, now); err != nil {
			return err
		}
	}
	r.waits.indices.reached(uint64(last.Index), nil)
	r.waits.revisions.reached(uint64(r.machine.Closed()), nil)
	r.waits.released(r.machine)
	r.hearReleased()
	r.toApply = slices.Delete(r.toApply, 0, len(entries))
	r.driver.markDirty(r)
	if _, pending := r.machine.Bulk(); pending > 0 || len(r.shipments.waiting) > 0 || r.wantsFlush() {
		r.driver.needsMaintenance(r)
	}
	return nil
}

// applyBatch applies entries in one engine batch under the exclusive lock: all of them, or those in front of a flush that comes first. It returns who is to
// be told: those who subscribed before, for whoever subscribes later finds the entries applied.
func (r *driven) applyBatch(entries []consensus.Entry) ([]shard.Applied, []func(*shard.Applied), error) {
	engine := r.driver.opts.Engine
	batch := engine.NewBatch()
	defer batch.Close()
	results := make([]shard.Applied, 0, len(entries))
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range entries {
		before, _ := r.machine.Bulk()
		result, err := r.machine.Apply(entries[i], batch)
		if err != nil {
			return nil, nil, fmt.Errorf("entry %d of term %d: %w", entries[i].Index, entries[i].Term, err)
		}
		if result.Compacted != 0 {
			r.hashing.compact(&r.hashes, interval{from: result.CompactedBefore, to: result.Compacted}, r.driver.opts.KeepHashes)
		}
		results = append(results, result)
		if staged, _ := r.machine.Bulk(); before == 0 && staged > 0 {
			r.flush.missed = r.flush.missed || r.mayFlush() && r.wantsFlush()
		} else if before > 0 && r.flushComesFirst() {
			break
		}
	}
	if r.leading && !r.leaseWork && r.machine.WantsTicks() {
		r.leaseWork = true
		r.driver.markWorking(r)
	}
	if batch.Count() > 0 {
		if err := ofShared(engine.Apply(batch)); err != nil {
			return nil, nil, err
		}
	}
	r.reckonMemory()
	r.publishState(slices.ContainsFunc(results, func(a shard.Applied) bool { return a.Alarms }))
	return results, r.subscribers, nil
}

// announce tells what an entry did to whoever is concerned.
func (r *driven) announce(result *shard.Applied, subscribers []func(*shard.Applied), now time.Duration) error {
	if result.Void && r.leading && result.Term == r.role.Term {
		// Whatever it evaluates from now on would be void too. Another leader begins with what is applied.
		return fmt.Errorf("entry %d: proposal %d of this leader applies nothing: one before it is lost", result.Index, result.Seq)
	}
	r.decided(result.Term, result.Seq, result.Void)
	if result.Config != nil {
		r.membership.ConfigApplied(result.Index, r.machine.Config())
		r.carryOutMembership()
		r.membershipApplied()
		r.reckonLease()
		if r.driver.opts.Listener.ConfigChanged != nil {
			r.driver.opts.Listener.ConfigChanged(r.group, *result.Config)
		}
	}
	if result.Placed {
		if err := r.placed(result.Index); err != nil {
			return err
		}
	}
	if result.Compacted != 0 {
		r.compact.requested = result.Index
		r.compacting.Store(true)
		r.othersFollow()
	}
	if result.Limit != 0 {
		r.driver.opts.Sequencing.LimitApplied(result.Term, result.Limit)
	}
	for _, fn := range subscribers {
		fn(result)
	}
	if !r.leading && r.role.Role == consensus.RoleLeader && result.Term == r.role.Term && result.Seq == 0 {
		return r.lead(now)
	}
	return nil
}

// announceSnapshot tells subscribers that the state jumped: what lies between is found in the history only.
func (r *driven) announceSnapshot(subscribers []func(*shard.Applied)) {
	r.driver.opts.Sequencing.Applied(r.group, r.machine.Closed())
	r.othersFollow()
	jump := shard.Applied{Index: r.machine.AppliedIndex(), Term: r.machine.AppliedTerm(), Jump: true}
	jump.Revision, jump.Closed = r.machine.Highest(), r.machine.Closed()
	for _, fn := range subscribers {
		fn(&jump)
	}
	r.waits.released(r.machine)
}
