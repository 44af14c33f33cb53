package membership

import (
	"fmt"
	"slices"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// record is what is in this node's own record in the log, and what is on its way there.
type record struct {
	position uint64 // written
	syncing  uint64 // written when the sync in flight began
	// What is known of others is written with the log's next write, each second or so; see Write.
	unwritten bool
	writtenAt time.Duration
	pending   map[kv.NodeID]disks // written with pendingAt
	pendingAt uint64
	durable   map[kv.NodeID]disks
}

// restore takes from the log what an earlier process knew, and begins another one.
func (n *Node) restore(r storage.NodeRecord) error {
	all, err := DecodeMarks(r.Data)
	if err != nil {
		return fmt.Errorf("%w: what the log says of how far the disks of the nodes were: %w", storage.ErrCorrupt, err)
	}
	var before []Process
	for _, m := range all {
		if m.Node != n.options.Self {
			n.marks.seen[m.Node] = append(n.marks.seen[m.Node], m.Mark)
		} else if m.Disk == n.options.Disk {
			before = m.Processes
		}
	}
	n.record.durable = cloneDisks(n.marks.seen)
	n.record.position = r.Position
	before = before[max(0, len(before)-maxProcesses+1):]
	began := r.Position + 1
	n.marks.own = Mark{Disk: n.options.Disk, Position: began, Processes: append(slices.Clone(before), Process{began, n.options.Instance})}
	return nil
}

// Begin is the first write of this process. It is durable before anything else happens. nil: there is nothing to write.
func (n *Node) Begin() *storage.NodeRecord {
	if !n.marking() {
		return nil
	}
	return n.begin()
}

func (n *Node) begin() *storage.NodeRecord {
	n.record.position++
	n.marks.changed = true
	return &storage.NodeRecord{Position: n.record.position, Data: AppendMarks(nil, n.recordMarks())}
}

// Write is what goes into the log with the next write: its number and, now and then, what is known of the other disks. nil: nothing.
func (n *Node) Write(now time.Duration) *storage.NodeRecord {
	if !n.marking() {
		return nil
	}
	r := &n.record
	r.position++
	out := &storage.NodeRecord{Position: r.position}
	if r.unwritten && now-r.writtenAt >= 10*n.options.HeartbeatInterval {
		out.Data = AppendMarks(nil, n.recordMarks())
		r.unwritten, r.writtenAt = false, now
		r.pending, r.pendingAt = cloneDisks(n.marks.seen), r.position
	}
	return out
}

// recordMarks are the marks of the others, and then of the own disk. Earlier versions read this, too.
func (n *Node) recordMarks() []NodeMark {
	return append(n.otherMarks(), NodeMark{n.options.Self, n.marks.own})
}

// Syncing tells that a sync of the log begins; Synced follows if it succeeds.
func (n *Node) Syncing() { n.record.syncing = n.record.position }

// Synced tells that the sync is done which began last.
func (n *Node) Synced() {
	r := &n.record
	if n.marks.own.Position < r.syncing {
		n.marks.own.Position, n.marks.changed = r.syncing, true
	}
	if r.pending != nil && r.pendingAt <= r.syncing {
		r.durable, r.pending = r.pending, nil
	}
}

// Witnessed is how far this node has seen the other's disk, and will remember after a crash; 0: not at all.
func (n *Node) Witnessed(node kv.NodeID, disk uint64) (position uint64) {
	if m := n.record.durable[node].mark(disk); m != nil {
		position = m.Position
	}
	return position
}
