package driver

import (
	"bufio"
	"fmt"
	"maps"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// sendSnapshot ships the state of the group to a replica that needs more than the log still holds: as of another entry than the core announced,
// perhaps (see shipWaiting). One at a time goes to a replica.
func (r *driven) sendSnapshot(to kv.NodeID, m consensus.Message) {
	d := r.driver
	if !r.shipments.add(to, m) {
		// One that was begun in an earlier term is on its way: the core asks again.
		r.core.SnapshotDone(m.To, false)
		d.markDirty(r)
		return
	}
	d.needsMaintenance(r)
}

// outgoingSnapshot waits for a run that is written, and for a place among those that are on their way.
type outgoingSnapshot struct {
	to      kv.NodeID
	message consensus.Message
	renewed bool // a run was begun for it, if there was anything to write
}

// shipments are the snapshots of a group that go to other replicas.
type shipments struct {
	waiting []outgoingSnapshot
	under   map[consensus.ReplicaID]bool // one waits, or is on its way
	// keptFor are the entries as of which snapshots were sent, to replicas that may not have them yet: the log is kept from there on.
	keptFor map[consensus.ReplicaID]consensus.Index
}

func newShipments() shipments {
	return shipments{under: make(map[consensus.ReplicaID]bool), keptFor: make(map[consensus.ReplicaID]consensus.Index)}
}

// add has a snapshot wait; false: there is one for this replica.
func (s *shipments) add(to kv.NodeID, m consensus.Message) bool {
	if s.under[m.To] {
		return false
	}
	s.under[m.To] = true
	s.waiting = append(s.waiting, outgoingSnapshot{to: to, message: m})
	return true
}

// renew tells whether a run is to be begun for any that waits, and takes it as begun.
func (s *shipments) renew() (wantsRun bool) {
	for i := range s.waiting {
		wantsRun = wantsRun || !s.waiting[i].renewed
		s.waiting[i].renewed = true
	}
	return wantsRun
}

// leave returns those that need not wait for a run any more, now that one can be sent as of a state with these members.
func (s *shipments) leave(members consensus.Config) (leaving []outgoingSnapshot) {
	s.waiting = slices.DeleteFunc(s.waiting, func(o outgoingSnapshot) bool {
		leaves := o.renewed || members.Contains(o.message.To)
		if leaves {
			leaving = append(leaving, o)
		}
		return leaves
	})
	return leaving
}

// maxShipping is how many snapshots a node sends at one time; more of one group if they begin together. Each keeps a state of the engine from being
// deleted, and has its files.
const maxShipping = 4

// mayShip tells whether a snapshot waits, and has a place among those of the node that are on their way.
func (r *driven) mayShip() bool {
	return len(r.shipments.waiting) > 0 && r.driver.shipping < maxShipping
}

// shipWaiting sends the snapshots that wait. What is sent is the engine as it is: the state as of the run that was written last, with some rows of what
// came after, as a crash would leave it. The receiver's log brings the rest. So that this is little, a run is begun for each of them first, which
// wantsRun tells. But while a bulk is staged no run can begin, and the entries that end it may need the very replica that waits for the snapshot: then
// they go at once. Only a new member waits even so, if the state is from before it became one; the group can do without it.
// No run is under way, and nothing is pending.
func (r *driven) shipWaiting(staged int) (wantsRun bool, err error) {
	if !r.mayShip() {
		return false, nil
	}
	if staged == 0 && r.shipments.renew() {
		return true, nil
	}
	meta, err := r.prepareShipping()
	if err != nil {
		return false, err
	}
	for _, o := range r.shipments.leave(meta.Config) {
		r.ship(o.to, o.message, meta)
	}
	return false, nil
}

// prepareShipping makes the engine's state one that can be shipped, and says as of which entry it is.
func (r *driven) prepareShipping() (consensus.SnapshotMeta, error) {
	engine := r.driver.opts.Engine
	batch := engine.NewBatch()
	defer batch.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	meta := r.machine.Ship(batch)
	return meta, ofShared(engine.Apply(batch))
}

// ship sends what the engine holds.
func (r *driven) ship(to kv.NodeID, m consensus.Message, meta consensus.SnapshotMeta) {
	d := r.driver
	d.shipping++
	m.Snapshot = &meta
	r.shipments.keptFor[m.To] = meta.Index
	state := d.opts.Engine.NewSnapshot()
	spans := r.machine.StateSpans()
	var bytes int64
	var err error
	r.spawn(func() {
		bytes, err = d.shipSnapshot(r.group, to, m, state, spans)
		state.Close()
	}, func() { r.shipped(to, &m, bytes, err) })
}

// shipped tells the core how it went, also when its term is another one by now: it ships nothing else to that replica before. That is
// safe in a later term: a core ignores it unless it asked, and it cannot ask while one is in transit (see sendSnapshot).
func (r *driven) shipped(to kv.NodeID, m *consensus.Message, bytes int64, err error) {
	d := r.driver
	delete(r.shipments.under, m.To)
	d.shipping--
	for _, other := range d.order {
		if len(other.shipments.waiting) > 0 {
			d.needsMaintenance(other)
		}
	}
	if d.opts.Listener.SnapshotSent != nil {
		d.opts.Listener.SnapshotSent(r.group, to, *m.Snapshot, bytes, err)
	}
	if !r.ended {
		r.core.SnapshotDone(m.To, err == nil)
		d.markDirty(r)
		d.needsMaintenance(r)
	}
}

// catchesUp tells whether a replica that a snapshot was sent to is still to say that it has it. What comes behind it stays in the log meanwhile, unless the
// log is too large: otherwise, if much is written, a state that takes long to send would be too old when it is there, each time.
func (r *driven) catchesUp(id consensus.ReplicaID, of []consensus.Replication) bool {
	if r.shipments.under[id] {
		return true
	}
	node, member := r.membership.NodeOf(id)
	i := slices.IndexFunc(of, func(p consensus.Replication) bool { return p.Replica == id })
	return member && i >= 0 && of[i].Match < r.shipments.keptFor[id] && r.driver.live.Alive(node)
}

// letKeptGo has the log cut that was kept for replicas which have caught up.
func (r *driven) letKeptGo() error {
	if !r.forgetCaughtUp() {
		return nil
	}
	return r.compactLog()
}

func (r *driven) forgetCaughtUp() (forgotten bool) {
	if len(r.shipments.keptFor) == 0 {
		return false
	}
	of := r.core.Status().Replicas
	maps.DeleteFunc(r.shipments.keptFor, func(id consensus.ReplicaID, _ consensus.Index) bool {
		over := !r.catchesUp(id, of)
		forgotten = forgotten || over
		return over
	})
	return forgotten
}

// shipSnapshot exports the state into files and sends them.
func (d *Driver) shipSnapshot(group consensus.GroupID, to kv.NodeID, m consensus.Message, state storage.Snapshot, spans []storage.Span) (sent int64, err error) {
	dir, err := d.opts.Files.TempDir(d.opts.StagingDir, "out-")
	if err != nil {
		return 0, fmt.Errorf("stage a snapshot: %w", err)
	}
	defer d.opts.Files.RemoveAll(dir)
	files, err := d.opts.Engine.Export(d.context, state, spans, dir, nil)
	if err != nil {
		return 0, fmt.Errorf("export a snapshot: %w", err)
	}
	stream, err := d.opts.Transport.OpenStream(d.context, to, snapshotStream)
	if err != nil {
		return 0, fmt.Errorf("send a snapshot to node %v: %w", to, err)
	}
	w := bufio.NewWriterSize(stream, 256<<10)
	err = writeSnapshot(w, d.opts.Files, group, m, files, &sent)
	if err == nil {
		err = w.Flush()
	}
	if closeErr := stream.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return sent, fmt.Errorf("send a snapshot to node %v: %w", to, err)
	}
	return sent, nil
}
