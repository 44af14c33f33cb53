package wal

import (
	"fmt"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
)

func (l *Log) validate(a *storage.GroupAppend) error {
	if g := l.groups[a.Group]; g != nil {
		return storage.ValidateAppend(a, g.before.Index+1, g.last())
	}
	return storage.ValidateAppend(a, 1, 0)
}

// nodeGroup is the number under which records say what the node says of itself: the term of the hard state is the position, and the data of
// its entries, one after the other, is Data. Write makes one entry; versions that knew nothing of NodeRecord kept two, and read one as well.
const nodeGroup = storage.MaxGroup + 1

func newNodePart(node *storage.NodeRecord) part {
	p := part{group: nodeGroup, hardState: &consensus.HardState{Term: consensus.Term(node.Position)}}
	if node.Data != nil {
		p.truncateFrom = 1
		p.entries = []entry{{Entry: consensus.Entry{Index: 1, Term: 1, Data: node.Data}}}
	}
	return p
}

// NodeRecord implements storage.Log.
func (l *Log) NodeRecord() (node storage.NodeRecord, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[nodeGroup]
	if l.failed != nil || g == nil {
		return node, l.failed
	}
	node.Position = uint64(g.hardState.Term)
	if len(g.slots) == 0 {
		return node, nil
	}
	entries, err := g.entries(g.base, g.last()+1, maxSegmentBytes)
	for i := range entries {
		node.Data = append(node.Data, entries[i].Data...)
	}
	return node, err
}

// nodePosition is the position of the node's last write.
func (l *Log) nodePosition() uint64 {
	if g := l.groups[nodeGroup]; g != nil {
		return uint64(g.hardState.Term)
	}
	return 0
}

func newPart(a *storage.GroupAppend) part {
	p := part{group: a.Group, reset: a.Reset, truncateFrom: a.TruncateFrom, hardState: a.HardState}
	if len(a.Entries) > 0 {
		p.entries = make([]entry, len(a.Entries))
		for i := range a.Entries {
			p.entries[i].Entry = a.Entries[i]
		}
	}
	return p
}

// appendCompactions says where the logs of groups begin now, if the disk does not know yet.
func (l *Log) appendCompactions(buffer []byte) []byte {
	for _, id := range l.compacted {
		if g := l.groups[id]; g != nil && g.compacted {
			g.compacted = false
			buffer = appendPart(buffer, recordHeaderBytes, &part{group: id, compact: &g.before})
		}
	}
	l.compacted = l.compacted[:0]
	return buffer
}

// write appends one record with the parts and brings the index up to date.
func (l *Log) write(parts []part) error {
	buffer := append(l.buffer[:0], make([]byte, recordHeaderBytes)...)
	buffer = l.appendCompactions(buffer)
	for i := range parts {
		buffer = appendPart(buffer, recordHeaderBytes, &parts[i])
	}
	size := recordBytes(len(buffer) - recordHeaderBytes)
	if size > maxSegmentBytes/2 {
		return fmt.Errorf("one write of %d bytes is too large", size)
	}
	if head := l.head(); head.end+size > head.size {
		if err := l.nextSegment(); err != nil {
			return err
		}
	}
	offset, err := l.place(buffer)
	if err != nil {
		return err
	}
	if cap(buffer) <= maxKeptBuffer {
		l.buffer = buffer[:0]
	} else {
		l.buffer = nil
	}
	return l.apply(parts, offset)
}

// maxKeptBuffer bounds the memory that an exceptionally large write leaves behind.
const maxKeptBuffer = 4 << 20

// place writes the record, whose payload is in the buffer, at the end of the head.
func (l *Log) place(buffer []byte) (offset int64, err error) {
	head := l.head()
	r := record{sequence: l.sequence + 1, synced: l.synced, oldest: l.segments[0].generation}
	buffer = seal(buffer, head.generation, r)
	if _, err := head.file.WriteAt(buffer, head.end); err != nil {
		return 0, fmt.Errorf("write to %s: %w", head.path, err)
	}
	offset = head.end
	l.sequence++
	head.end += int64(len(buffer))
	if grown := head.end - head.size; grown > 0 { // a record larger than a segment makes the file grow
		head.size += grown
		l.retained += grown
	}
	l.writes++
	l.bytes += int64(len(buffer))
	l.pace()
	return offset, nil
}

// apply brings the index up to date with the record at the offset of the head.
func (l *Log) apply(parts []part, offset int64) error {
	for i := range parts {
		p := &parts[i]
		g, err := l.applyPart(p, l.head(), offset, true)
		if err != nil {
			return err
		}
		for j := range p.entries {
			l.cache.add(g, p.entries[j].Index, len(p.entries[j].Data))
		}
	}
	l.cache.evict()
	return nil
}

// applyPart brings the index of the part's group up to date with the last record, which is at the offset of the segment. It returns the
// group; nil: it was dropped.
func (l *Log) applyPart(p *part, s *segment, offset int64, keepData bool) (*group, error) {
	if p.drop {
		l.drop(p.group)
		return nil, nil
	}
	g := l.groups[p.group]
	if g == nil {
		g = &group{id: p.group}
		l.groups[p.group] = g
	}
	return g, g.apply(p, s, offset+recordHeaderBytes, l.sequence, keepData)
}

func (l *Log) drop(id consensus.GroupID) {
	if g := l.groups[id]; g != nil {
		g.clear(l.sequence)
		delete(l.groups, id)
		l.aside.remove(id)
	}
}
