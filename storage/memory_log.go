package storage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/quoratedb/quorate/consensus"
)

// MaxIndexGap is how far beyond the last entry of a group a new entry may be. A log
// with larger holes is a mistake of its writer.
const MaxIndexGap = 1 << 20

// MemoryLog is the deterministic in-memory Log. What was not synced may be lost at a
// Crash. Writes, reads and Crash are for one goroutine; Sync may run in another.
type MemoryLog struct {
	memoryLogState
	durable memoryLogState
	// unsynced holds the writes after durable, in order.
	// Invariant: unsynced[i] has number written-len(unsynced)+i+1.
	unsynced []memoryWrite
	written  atomic.Uint64
	synced   atomic.Uint64 // numbers of writes; synced <= written
	stopped  atomic.Pointer[error]
	aside    map[consensus.GroupID]bool

	writes, bytes int64
	syncs         atomic.Int64
}

// memoryLogState is what a log holds.
type memoryLogState struct {
	groups map[consensus.GroupID]*memoryGroup
	node   NodeRecord
}

// memoryWrite is one unit: a Write, a Compact or a Drop.
type memoryWrite struct {
	parts   []GroupAppend
	place   int64 // of the first entry of the parts
	node    *NodeRecord
	group   consensus.GroupID
	compact consensus.Index
	drop    bool
}

var _ Log = (*MemoryLog)(nil)

// NewMemoryLog returns an empty log.
func NewMemoryLog() *MemoryLog {
	return &MemoryLog{aside: make(map[consensus.GroupID]bool), memoryLogState: newMemoryLogState(), durable: newMemoryLogState()}
}

func newMemoryLogState() memoryLogState {
	return memoryLogState{groups: map[consensus.GroupID]*memoryGroup{}}
}

// NodeRecord implements Log.
func (l *MemoryLog) NodeRecord() (NodeRecord, error) { return l.node, l.Err() }

// Group implements Log.
func (l *MemoryLog) Group(id consensus.GroupID) GroupLog { return &memoryGroupLog{l, id} }

// Groups implements Log.
func (l *MemoryLog) Groups() []consensus.GroupID {
	ids := make([]consensus.GroupID, 0, len(l.groups))
	for id := range l.groups {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Write implements Log.
func (l *MemoryLog) Write(parts []GroupAppend, node *NodeRecord) error {
	if err := l.Err(); err != nil {
		return err
	}
	if err := ValidateNodeRecord(node, l.node.Position); err != nil {
		return l.stop(err)
	}
	for i := range parts {
		if err := l.validate(&parts[i]); err != nil {
			return l.stop(err)
		}
	}
	l.writes++
	place := l.bytes
	for i := range parts {
		for j := range parts[i].Entries {
			l.bytes += int64(parts[i].Entries[j].SizeBytes())
		}
	}
	l.do(memoryWrite{parts: clonePart(parts), place: place, node: cloneNodeRecord(node)})
	return nil
}

// clonePart copies what the caller may reuse: everything but the Data of entries.
func clonePart(parts []GroupAppend) []GroupAppend {
	cloned := slices.Clone(parts)
	for i := range cloned {
		cloned[i].Entries = slices.Clone(cloned[i].Entries)
		if cloned[i].HardState != nil {
			hs := *cloned[i].HardState
			cloned[i].HardState = &hs
		}
		if cloned[i].Reset != nil {
			reset := *cloned[i].Reset
			cloned[i].Reset = &reset
		}
	}
	return cloned
}

func cloneNodeRecord(node *NodeRecord) *NodeRecord {
	if node == nil {
		return nil
	}
	return &NodeRecord{Position: node.Position, Data: slices.Clone(node.Data)}
}

func (l *MemoryLog) validate(a *GroupAppend) error {
	before, last := LogPosition{}, consensus.Index(0)
	if g := l.groups[a.Group]; g != nil {
		before, last = g.before, g.last()
	}
	return ValidateAppend(a, before.Index+1, last)
}

// ValidateNodeRecord tells whether the record can be written after one at the position. node may be nil.
func ValidateNodeRecord(node *NodeRecord, position uint64) error {
	if node != nil && node.Position <= position {
		return fmt.Errorf("storage: log: write %d of the node does not follow its write %d", node.Position, position)
	}
	return nil
}

// ValidateAppend tells whether the part can be written to a log that holds first to last.
func ValidateAppend(a *GroupAppend, first, last consensus.Index) error {
	if a.Group == 0 || a.Group > MaxGroup {
		return fmt.Errorf("storage: log: no group has the number %d", a.Group)
	}
	if a.Reset != nil {
		last = a.Reset.Index
	} else if a.TruncateFrom != 0 && a.TruncateFrom <= last {
		last = max(a.TruncateFrom, first) - 1
	}
	for i := range a.Entries {
		index := a.Entries[i].Index
		switch {
		case index == 0:
			return fmt.Errorf("storage: log of group %d: an entry must not have index 0", a.Group)
		case i > 0 && index <= a.Entries[i-1].Index:
			return fmt.Errorf("storage: log of group %d: entry %d follows entry %d", a.Group, index, a.Entries[i-1].Index)
		case index > last && index-last > MaxIndexGap:
			return fmt.Errorf("storage: log of group %d: entry %d is too far beyond the last entry, %d", a.Group, index, last)
		}
		last = max(last, index)
	}
	return nil
}

// do applies the write to the current state and remembers it for a crash.
func (l *MemoryLog) do(w memoryWrite) {
	w.apply(&l.memoryLogState)
	l.forgetSynced()
	l.unsynced = append(l.unsynced, w)
	l.written.Add(1)
}

// forgetSynced moves synced writes from unsynced into durable.
func (l *MemoryLog) forgetSynced() {
	n := len(l.unsynced) - int(l.written.Load()-l.synced.Load())
	for _, w := range l.unsynced[:n] {
		w.apply(&l.durable)
	}
	l.unsynced = slices.Delete(l.unsynced, 0, n)
}

func (w *memoryWrite) apply(s *memoryLogState) {
	groups := s.groups
	if w.node != nil {
		s.node.Position = w.node.Position
		if w.node.Data != nil {
			s.node.Data = w.node.Data
		}
	}
	switch {
	case w.drop:
		delete(groups, w.group)
	case w.compact != 0:
		if g := groups[w.group]; g != nil {
			g.compact(w.compact)
		}
	}
	place := w.place
	for i := range w.parts {
		g := groups[w.parts[i].Group]
		if g == nil {
			g = &memoryGroup{}
			groups[w.parts[i].Group] = g
		}
		place = g.append(&w.parts[i], place)
	}
}

// Sync implements Log.
func (l *MemoryLog) Sync() error {
	if err := l.Err(); err != nil {
		return err
	}
	l.syncs.Add(1)
	l.synced.Store(l.written.Load())
	return nil
}

// Compact implements Log.
func (l *MemoryLog) Compact(id consensus.GroupID, index consensus.Index) error {
	if err := l.Err(); err != nil {
		return err
	}
	if g := l.groups[id]; g != nil && min(index, g.last()) > g.before.Index {
		l.do(memoryWrite{group: id, compact: min(index, g.last())})
	}
	return nil
}

// Drop implements Log.
func (l *MemoryLog) Drop(id consensus.GroupID) error {
	if err := l.Err(); err != nil {
		return err
	}
	if l.groups[id] != nil {
		l.do(memoryWrite{group: id, drop: true})
	}
	return nil
}

// SetAside implements Log. What is set aside counts beside the rest, wherever it was written.
func (l *MemoryLog) SetAside(id consensus.GroupID, aside bool) {
	if l.aside[id] = aside; !aside {
		delete(l.aside, id)
	}
}

// Crash returns the log as it would be found after a power loss now: everything that
// was synced and the first few writes after that, as random chooses; a nil random keeps
// none. The receiver must not be used any more.
func (l *MemoryLog) Crash(random *rand.Rand) *MemoryLog {
	l.forgetSynced()
	found := NewMemoryLog()
	found.memoryLogState = l.durable
	if random != nil {
		for _, w := range l.unsynced[:random.IntN(len(l.unsynced)+1)] {
			w.apply(&found.memoryLogState)
		}
	}
	found.durable, found.bytes = found.clone(), l.bytes
	_ = l.stop(fmt.Errorf("%w: the machine lost power", ErrClosed))
	return found
}

// Image returns a copy of what is durable now, as a snapshot of the disk would have it.
func (l *MemoryLog) Image() *MemoryLog {
	l.forgetSynced()
	image := NewMemoryLog()
	image.memoryLogState, image.durable, image.bytes = l.durable.clone(), l.durable.clone(), l.bytes
	return image
}

func (s *memoryLogState) clone() memoryLogState {
	cloned := memoryLogState{groups: make(map[consensus.GroupID]*memoryGroup, len(s.groups)), node: s.node} // nobody changes its data
	for id, g := range s.groups {                                                                           // order does not matter
		cloned.groups[id] = g.clone()
	}
	return cloned
}

func (l *MemoryLog) stop(err error) error {
	l.stopped.CompareAndSwap(nil, &err)
	return l.Err()
}

// Err is what stopped the log; nil while it works.
func (l *MemoryLog) Err() error {
	if p := l.stopped.Load(); p != nil {
		return *p
	}
	return nil
}

// NewScrub implements Log. It reads every entry.
func (l *MemoryLog) NewScrub() Scrub { return NewLogScrub(l) }

// Metrics implements Log. As in a log on a disk, what was written after the oldest entry that a group still holds takes up space.
func (l *MemoryLog) Metrics() LogMetrics {
	oldest, group := l.bytes, consensus.GroupID(0)
	aside := int64(0)
	for _, id := range l.Groups() {
		if l.aside[id] {
			for i := range l.groups[id].entries {
				aside += int64(l.groups[id].entries[i].SizeBytes())
			}
			continue
		}
		for _, place := range l.groups[id].places {
			if group == 0 || place < oldest {
				oldest, group = place, id
			}
		}
	}
	return LogMetrics{SegmentCount: 1, SizeBytes: l.bytes - oldest + aside, PinnedBytes: l.bytes - oldest + aside, AsideBytes: aside, OldestPinning: group,
		WriteCount: l.writes, WriteBytes: l.bytes, SyncCount: l.syncs.Load()}
}

// Check verifies the invariants.
func (l *MemoryLog) Check() error {
	if written, synced := l.written.Load(), l.synced.Load(); synced > written || uint64(len(l.unsynced)) < written-synced {
		return fmt.Errorf("storage: memory log: %d writes, %d synced, %d remembered", written, synced, len(l.unsynced))
	}
	for _, id := range l.Groups() {
		previous := l.groups[id].before.Index
		for _, e := range l.groups[id].entries {
			if e.Index <= previous {
				return fmt.Errorf("storage: memory log of group %d: entry %d follows %d", id, e.Index, previous)
			}
			previous = e.Index
		}
	}
	return nil
}

// Close implements Log.
func (l *MemoryLog) Close() error {
	_ = l.stop(fmt.Errorf("%w: the memory log", ErrClosed))
	return nil
}
