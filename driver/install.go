package driver

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// installation is a snapshot that takes the place of the state, beside the rounds. Meanwhile nothing is taken from the core and nothing is
// applied, in this group; reads see the state before.
type installation struct {
	append consensus.Append // what the core wants to have written with it
	done   bool
	// What came of it.
	machine Machine
	err     error
}

// sharedView is closed by the last of its users.
type sharedView struct {
	view  *mvcc.View
	users atomic.Int64
}

func shared(view *mvcc.View) *sharedView {
	s := &sharedView{view: view}
	s.users.Store(1)
	return s
}

// share returns a view that is to be closed, too.
func (s *sharedView) share() *mvcc.View {
	s.users.Add(1)
	return s.view.Sharing(s.release)
}

func (s *sharedView) release() error {
	if s.users.Add(-1) > 0 {
		return nil
	}
	return s.view.Close()
}

// beginInstall has the staged snapshot installed, in one durable step.
func (r *driven) beginInstall(a consensus.Append) error {
	staged := r.staged.take(*a.Snapshot)
	if staged == nil {
		return fmt.Errorf("group %d: a snapshot at index %d is to be installed but none was received", r.group, a.Snapshot.Index)
	}
	installing := &installation{append: a}
	r.installing = installing
	clear(r.toApply)
	r.toApply = r.toApply[:0]
	r.mu.Lock()
	r.replaced = shared(r.machine.View())
	r.mu.Unlock()
	meta, spans := *a.Snapshot, r.machine.StateSpans()
	r.spawn(func() {
		installing.machine, installing.err = r.driver.replaceState(r.group, meta, staged.files, spans)
		staged.discard()
	}, func() {
		installing.done = true
		r.driver.markDirty(r)
	})
	return nil
}

// leaveReplaced is called when nobody reads any more, and no goroutine is at work: that of an installation which came to nothing, because the replica or
// the node has ended, goes on changing the engine, under the machine that is still there.
func (r *driven) leaveReplaced() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.replaced != nil {
		_ = r.replaced.release() // it was only read
	}
	r.installing, r.replaced = nil, nil
}

// replaceState runs beside the rounds.
func (d *Driver) replaceState(group consensus.GroupID, meta consensus.SnapshotMeta, files []string, spans []storage.Span) (Machine, error) {
	if err := ofShared(d.opts.Engine.Ingest(context.Background(), files, spans)); err != nil {
		return nil, fmt.Errorf("group %d: install the snapshot at index %d: %w", group, meta.Index, err)
	}
	machine, err := d.openMachine(group, 0)
	if err != nil {
		return nil, fmt.Errorf("group %d: open the snapshot at index %d: %w", group, meta.Index, err)
	}
	if machine.AppliedIndex() != meta.Index || machine.AppliedTerm() != meta.Term {
		return nil, fmt.Errorf("%w: group %d: the snapshot holds the state at index %d of term %d, not at %d of %d as announced",
			storage.ErrCorrupt, group, machine.AppliedIndex(), machine.AppliedTerm(), meta.Index, meta.Term)
	}
	return machine, nil
}

// finishInstall makes an installed state the replica's, and has the log begin there. done is false while it is still being installed.
func (r *driven) finishInstall() (done bool, err error) {
	installing := r.installing
	if !installing.done {
		return false, nil
	}
	if installing.err != nil {
		return false, installing.err
	}
	meta := *installing.append.Snapshot
	members := r.Members()
	subscribers := r.replaceMachine(installing.machine)
	if err := r.takeAppend(&installing.append); err != nil {
		return false, err
	}
	r.installing = nil
	r.applied.Store(uint64(r.machine.AppliedIndex()))
	r.membershipApplied()
	err = r.membership.Installed(r.machine.Config(), r.machine.Placements(), r.machine.Roster())
	r.carryOutMembership()
	if err != nil {
		return false, err
	}
	// A snapshot does not tell which of our proposals it contains.
	r.fateUnknown()
	r.opened()
	r.announceSnapshot(subscribers)
	r.tellMembers(members)
	r.waits.indices.reached(uint64(meta.Index), nil)
	r.waits.revisions.reached(uint64(r.machine.Closed()), nil)
	if r.driver.opts.Listener.SnapshotInstalled != nil {
		r.driver.opts.Listener.SnapshotInstalled(r.group, meta)
	}
	return true, nil
}

func (r *driven) replaceMachine(machine Machine) []func(*shard.Applied) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.replaced.release() // it was only read
	r.machine, r.replaced = machine, nil
	r.driver.metrics.reckonReplaced(&r.figures)
	r.publishState(true)
	return r.subscribers
}
