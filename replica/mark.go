package replica

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
)

// How a disk that went back in time is noticed: an older image of it that was put back, a copy that runs somewhere else, or syncs that
// did nothing. What such a disk has forgotten, others have heard; so every node remembers how far it saw the disks of the others, tells
// the rest, and has it on disk a second later. See "Marks" in docs/decisions/0012-lost-replicas.md.
//
// Every write of a node to its log has a number, its position. A process begins with a write of its own, and the log keeps which processes
// there were. On an honest disk each begins above everything that anybody heard of the one before it.

// process is one process of a node.
type process struct {
	began    uint64 // position of its first write
	instance uint64 // Options.Instance
}

// mark is how far a disk was seen.
type mark struct {
	disk      uint64
	position  uint64    // was durable
	processes []process // ascending, the present one last; at most maxProcesses
}

// maxProcesses is how many a disk remembers. A peer that remembers only forgotten processes accepts us if all
// remembered ones began after the position it saw.
const maxProcesses = 8

func (m *mark) present() process {
	if len(m.processes) == 0 {
		return process{}
	}
	return m.processes[len(m.processes)-1]
}

// continues tells whether m is of the same disk as o, and later or the same: it knows everything that was durable when o was seen.
func (m *mark) continues(o *mark) bool {
	i := slices.Index(m.processes, o.present())
	switch {
	case m.disk != o.disk:
		return false
	case i < 0: // it was forgotten, or never happened here
		return m.processes[0].began > o.position
	case i == len(m.processes)-1:
		return m.position >= o.position
	}
	return m.processes[i+1].began > o.position
}

// marks is what a node knows of its own disk and of those of the others. It belongs to the driver.
type marks struct {
	own      mark
	position uint64 // written
	syncing  uint64 // written when the sync in flight began
	seen     map[kv.NodeID]mark
	heard    map[kv.NodeID]uint64        // the process whose messages are acted upon in this round; 0: it does not say, or there are two
	told     map[kv.NodeID]time.Duration // when a node that was refused was last told what is known here

	changed bool // something is not yet sent to the others
	// What is known of others is written with the log's next write, each second or so; see nodeRecord.
	unwritten bool
	writtenAt time.Duration
	pending   map[kv.NodeID]mark // written with pendingAt
	pendingAt uint64
	durable   map[kv.NodeID]mark
}

// Position is the number of the last write that a node's log knows of. For the simulator.
func Position(log storage.Log) uint64 {
	record, _ := log.NodeRecord() // who cannot read it has no use for the number
	return record.Position
}

// Witnessed is how far this node has seen the other's disk, and will remember after a crash. For the simulator, between rounds.
func (s *Store) Witnessed(node kv.NodeID) (disk, position uint64) {
	m := s.marks.durable[node]
	return m.disk, m.position
}

// marking tells whether there is a disk ID, and anybody who could remember how far the disk was.
func (s *Store) marking() bool { return s.opts.Disk != 0 && len(s.opts.Nodes) > 1 }

// openMarks makes durable that a process begins.
func (s *Store) openMarks() error {
	k := &s.marks
	k.seen, k.heard, k.told = make(map[kv.NodeID]mark), make(map[kv.NodeID]uint64), make(map[kv.NodeID]time.Duration)
	k.own = mark{disk: s.opts.Disk, processes: []process{{1, s.opts.Instance}}}
	if !s.marking() {
		s.openWitnesses(0)
		return nil
	}
	if err := s.readNodeRecord(); err != nil {
		return err
	}
	k.durable = maps.Clone(k.seen)
	s.openWitnesses(k.position)
	before := k.own.processes[max(0, len(k.own.processes)-maxProcesses+1):]
	k.own.processes = append(slices.Clone(before), process{k.position + 1, s.opts.Instance})
	k.own.position = k.position + 1
	k.position++
	if err := s.opts.Log.Write(nil, &storage.NodeRecord{Position: k.position, Data: s.allMarks()}); err != nil {
		return err
	}
	k.changed = true
	return s.opts.Log.Sync()
}

// readNodeRecord takes from the log what an earlier process knew.
func (s *Store) readNodeRecord() error {
	k := &s.marks
	k.own.processes = nil
	record, err := s.opts.Log.NodeRecord()
	if err != nil {
		return fmt.Errorf("read how far the disks of the nodes were: %w", err)
	}
	k.position = record.Position
	all, err := decodeMarks(record.Data)
	if err != nil {
		return fmt.Errorf("%w: what the log says of how far the disks of the nodes were: %w", storage.ErrCorrupt, err)
	}
	for _, m := range all {
		if m.node != s.opts.Self {
			k.seen[m.node] = m.mark
		} else if m.disk == s.opts.Disk {
			k.own.processes = m.processes
		}
	}
	return nil
}

// allMarks is what the node record holds.
func (s *Store) allMarks() []byte { return appendMark(s.appendOthers(nil), s.opts.Self, &s.marks.own) }

// nodeRecord says which write of the log the next one is and, now and then, what is known of the other disks.
func (s *Store) nodeRecord(now time.Duration) *storage.NodeRecord {
	if !s.marking() {
		return nil
	}
	k := &s.marks
	k.position++
	record := &storage.NodeRecord{Position: k.position}
	if k.unwritten && now-k.writtenAt >= 10*s.opts.HeartbeatInterval {
		record.Data = s.allMarks()
		k.unwritten, k.writtenAt = false, now
		k.pending, k.pendingAt = maps.Clone(k.seen), k.position
	}
	return record
}

// marksSynced takes note that the sync is done which began last.
func (s *Store) marksSynced() {
	k := &s.marks
	if k.own.position < k.syncing {
		k.own.position, k.changed = k.syncing, true
	}
	if k.pending != nil && k.pendingAt <= k.syncing {
		k.durable, k.pending = k.pending, nil
	}
}

// witness looks whether a message is of the process that is known, and on the disk that is known. An error means that nothing of it is to be
// acted upon: its sender has forgotten something, or is gone, or has still to say which process it is.
func (s *Store) witness(node kv.NodeID, sender sender) error {
	k := &s.marks
	if sender.disk == 0 || !s.marking() || sender.instance == 0 && s.speaks(node) < formatMarks {
		k.hears(node, 0) // such a message does not say: it is a snapshot, or of an older version; see judgeSender
		return nil
	}
	known := k.seen[node]
	if known.disk == sender.disk && known.present().instance == sender.instance {
		if sender.position > known.position {
			known.position = sender.position
			s.saw(node, known)
		}
		k.hears(node, sender.instance)
		return nil
	}
	s.tellMarks(node)
	return fmt.Errorf("replica: a message came from a process of node %v on disk %x, and another one is known here, or none (disk %x): "+
		"either it is late, or the node has yet to say that it has started again, or its disk is not as others have seen it", node, sender.disk, known.disk)
}

// hears notes whose message is acted upon next.
func (k *marks) hears(node kv.NodeID, instance uint64) {
	if before, heard := k.heard[node]; heard && before != instance {
		instance = 0
	}
	k.heard[node] = instance
}

// heardInstance is the process of the node whose messages are acted upon in this round; 0 if that is not known for sure. Whoever
// takes it for the process of a leader must not guess: it would break a promise to another one.
func (s *Store) heardInstance(node kv.NodeID) uint64 {
	return s.marks.heard[node]
}

// beats tells whether the sender's process is the one whose heartbeats come.
func (s *Store) beats(node kv.NodeID, sender sender) bool {
	return sender.instance != 0 && s.live.Instance(node) == sender.instance
}

// livesOnKnownDisk tells whether the process of the node that is known to be on the disk is alive: then nobody else speaks for the node, and
// what is said to be lost is not. A node that has lost something runs another process, which heartbeats show at once.
func (s *Store) livesOnKnownDisk(node kv.NodeID, disk uint64) bool {
	known := s.marks.seen[node]
	return disk != 0 && known.disk == disk && known.present().instance == s.live.Instance(node) && s.live.Alive(node)
}

// confirmsLoss tells whether a claim that acknowledged entries are lost here is to be believed. A node that remembers how far this disk was says so
// itself when it is told where the disk is now, and this node compares that with what it knows (receiveMarks). Otherwise the leader must keep to
// its word; where nobody remembers disks, it is all there is.
func (r *Replica) confirmsLoss(now time.Duration, from kv.NodeID, m *consensus.Message) bool {
	s := r.store
	if !s.marking() || s.speaks(from) < formatMarks {
		return true
	}
	s.tellMarks(from)
	return r.loss.repeated(m.From, m.Term, now, s.opts.ElectionTimeout)
}

// sender says who sent a consensus frame.
type sender struct{ instance, disk, position uint64 }

// saw remembers how far a disk is.
func (s *Store) saw(node kv.NodeID, m mark) {
	s.marks.seen[node] = m
	s.marks.changed, s.marks.unwritten = true, true
}

// tellMarks lets a node know, now and then, what is known here, so that it says who it is, or finds out that it must stop.
func (s *Store) tellMarks(node kv.NodeID) {
	now := s.clock()
	if last, told := s.marks.told[node]; told && now-last < s.opts.HeartbeatInterval/4 {
		return
	}
	s.marks.told[node] = now
	s.sendMarks(node)
}

// receiveMarks takes what another node knows.
func (s *Store) receiveMarks(from kv.NodeID, all []nodeMark) {
	if !s.marking() {
		return
	}
	knowsThis, process := false, uint64(0)
	for i := range all {
		m := &all[i]
		if m.node == from {
			process = m.present().instance
		}
		if m.node != s.opts.Self {
			s.hear(from, m)
			continue
		}
		own := &s.marks.own
		if m.disk == own.disk && m.present() == own.present() && m.position > own.position {
			// What this process has written nobody knows better.
			s.refused(0, from, fmt.Errorf("replica: node %v says that this process has made %d writes durable, and it has made %d", from, m.position, own.position))
			knowsThis = true
			continue
		}
		if m.disk == own.disk && !own.continues(&m.mark) {
			began := own.present().began
			s.fail(fmt.Errorf("%w: this process began with write %d of disk %x, and node %v knows of %d writes by other processes: the data directory is an older image "+
				"of itself that was put back, or another process runs on a copy of it (stop that one), or the disk did not store what it said it had",
				ErrLost, began, own.disk, from, m.position))
			return
		}
		knowsThis = m.disk == own.disk && m.present() == own.present()
	}
	if process != 0 {
		s.witnesses.spoke(from, process)
	}
	if !knowsThis {
		s.tellMarks(from)
	}
}

// hear takes what a node says of a disk, its own or a third one's.
func (s *Store) hear(from kv.NodeID, m *nodeMark) {
	if s.first(m.node) == 0 {
		return
	}
	known := s.marks.seen[m.node]
	switch {
	case known.disk == 0:
	case known.disk != m.disk:
		// The table decides. Before a disk is in it, the node itself does.
		if s.placedOn(m.node, known.disk) || m.node != from && !s.placedOn(m.node, m.disk) {
			return
		}
	case known.present() == m.present() && known.position >= m.position:
		return
	case !m.continues(&known):
		if m.node == from && !known.continues(&m.mark) {
			s.refused(0, from, fmt.Errorf("replica: node %v is on disk %x as it was before its write %d, which is known here: an older image of the disk was put back, "+
				"or another process runs on a copy of it, or it did not store what it said it had", from, m.disk, known.position))
			s.tellMarks(from)
		}
		return
	}
	s.saw(m.node, m.mark)
}

// placedOn tells whether the table of a group has the node on that disk, and nothing was heard of a newer replica.
func (s *Store) placedOn(node kv.NodeID, disk uint64) bool {
	for _, r := range s.order {
		if p, ok := r.placement(node); ok && p.Disk == disk && p.Replica == r.newest(node) {
			return true
		}
	}
	return false
}

// spreadMarks tells the others what is new, at every tick.
func (s *Store) spreadMarks() {
	if !s.marks.changed || !s.marking() {
		return
	}
	s.marks.changed = false
	for _, node := range s.opts.Nodes {
		if node != s.opts.Self {
			s.sendMarks(node)
		}
	}
}

func (s *Store) sendMarks(to kv.NodeID) {
	if !s.marking() || s.speaks(to) < formatMarks {
		return
	}
	encode := func(b []byte) []byte { return s.appendOthers(appendMark(b, s.opts.Self, &s.marks.own)) }
	if !s.opts.Transport.Append(to, ChannelMarks, encode) {
		s.metrics.framesDropped.Add(1) // what matters comes again
	}
}
