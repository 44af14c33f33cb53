package storage

import "github.com/quoratedb/quorate/consensus"

// Log is the durable log of all groups of a node. One goroutine uses it; only Sync may run
// in another goroutine, one at a time, while further Writes go on.
type Log interface {
	// Group returns the view of one group's log; it is empty if the log never heard of it.
	Group(consensus.GroupID) GroupLog
	// Groups lists the groups known to the log, ascending.
	Groups() []consensus.GroupID
	// NodeRecord returns what the node wrote last about itself; zero if it never did.
	NodeRecord() (NodeRecord, error)
	// Write appends the parts of all groups, and what the node says of itself, as one unit; node is nil if it says nothing. The parts are
	// readable at once through GroupLog and durable after the next Sync that starts later. After an error the log is
	// unusable and every further call returns the same error.
	Write(parts []GroupAppend, node *NodeRecord) error
	// Sync makes everything written before the call durable. After a failed sync the log is unusable.
	Sync() error
	// Compact forgets entries of the group up to and including the index. Space is reused
	// when no group needs a segment any more.
	Compact(consensus.GroupID, consensus.Index) error
	// Drop forgets the group altogether.
	Drop(consensus.GroupID) error
	// SetAside tells that nobody writes to the group, reads it or compacts it, or, with false, that somebody does again. What it holds stays, and does
	// not keep the space of others: the log makes no more than several times as much room for it. Until the log is closed.
	SetAside(id consensus.GroupID, aside bool)
	// NewScrub begins a pass over everything that is on disk and still needed.
	NewScrub() Scrub
	Metrics() LogMetrics
	Close() error
}

// GroupAppend is what one group writes in one round. If Reset is set the group's log is emptied first
// and continues at Reset.Index+1 (a snapshot was installed). Then TruncateFrom, if not 0, removes entries at or above it.
// An entry at an index that exists already replaces just that entry.
type GroupAppend struct {
	Group        consensus.GroupID
	Reset        *LogPosition
	TruncateFrom consensus.Index
	Entries      []consensus.Entry
	HardState    *consensus.HardState
}

// MaxGroup is the greatest number of a group. Those above are the log's own.
const MaxGroup consensus.GroupID = 1<<62 - 1

// NodeRecord is what a node says of itself in its log, beside its groups.
type NodeRecord struct {
	// Position numbers the writes of a node: each record has a greater one than the one before.
	Position uint64
	// Data is the node's own. In a Write, nil leaves it as it is.
	Data []byte
}

// LogPosition is the index and term of an entry that the log no longer holds.
type LogPosition struct {
	Index consensus.Index
	Term  consensus.Term
}

// GroupLog reads one group's log.
type GroupLog interface {
	consensus.LogReader
	HardState() consensus.HardState
}

// LogMetrics are figures about a log.
type LogMetrics struct {
	SegmentCount  int
	SizeBytes     int64 // all segments, the recycled ones included
	PinnedBytes   int64 // segments that hold entries some group still needs
	WriteCount    int64
	WriteBytes    int64
	SyncCount     int64
	AsideBytes    int64             // entries of groups that are set aside
	OldestPinning consensus.GroupID // the group that keeps the oldest segment alive, of those that are not set aside
}
