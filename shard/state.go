package shard

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// State is what a replica must know besides keys, leases and nodes: a function of the log up to Index. It is
// written as one row, in the last batch of a flush. After a crash the engine may hold rows of later
// entries; the replay from Index on writes every one of them again.
type State struct {
	Index     consensus.Index
	Term      consensus.Term // of the entry at Index
	ChainTerm consensus.Term // the last entry that took effect, or the last barrier (ChainSeq 0)
	ChainSeq  uint64
	Revision  kv.Revision
	Compacted kv.Revision
	// LeaseClock is the replicated clock of leases, in milliseconds. It never goes back.
	LeaseClock int64
	Alarms     []kv.Alarm        // by type and node
	Config     *consensus.Config // nil if no entry ever set one
	config     []byte            // as the entry encoded it
	// Placements are the replicas of nodes whose disks are known, by node. Never changed in place.
	Placements []Placement
	// NextReplica is above every replica ID that was ever assigned; 0 before the first.
	NextReplica consensus.ReplicaID
}

// stateFormat 1 had no placements.
const stateFormat = 2

// Prefixes of this package's rows; those of mvcc are 'r', 'k' and one row of 'm', that of package replica is 'i'.
const (
	leasePrefix      = 'l'
	attachmentPrefix = 'a'
	statePrefix      = 'm'
	nodePrefix       = 'n'
)

func stateKey(shard kv.ShardID) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{statePrefix}, uint64(shard)), "state"...)
}

func appendLeaseKey(buf []byte, id kv.LeaseID) []byte {
	return binary.BigEndian.AppendUint64(append(buf, leasePrefix), uint64(id))
}

func appendAttachmentKey(buf []byte, id kv.LeaseID, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(append(buf, attachmentPrefix), uint64(id)), key...)
}

func nodeKey(id kv.NodeID) []byte {
	return binary.BigEndian.AppendUint64([]byte{nodePrefix}, uint64(id))
}

const idKeySize = 1 + 8

// StateSpans are the engine intervals that hold this shard's rows, ascending: what a snapshot must carry,
// all of one moment.
func StateSpans(shard kv.ShardID) []storage.Span {
	spans := mvcc.Spans(shard)
	state := stateKey(shard)
	spans = append(spans, storage.Span{Lower: state, Upper: append(stateKey(shard), 0)})
	for _, prefix := range []byte{leasePrefix, attachmentPrefix, nodePrefix} {
		spans = append(spans, storage.Span{Lower: []byte{prefix}, Upper: []byte{prefix + 1}})
	}
	slices.SortFunc(spans, func(a, b storage.Span) int { return strings.Compare(string(a.Lower), string(b.Lower)) })
	return spans
}

// StateSpans are the engine intervals that make up this shard's snapshot.
func (m *Machine) StateSpans() []storage.Span { return StateSpans(m.options.Shard) }

// StateKey is the row that DecodeState reads.
func StateKey(shard kv.ShardID) []byte { return stateKey(shard) }

// DecodeState reads the state row of a shard: in a snapshot that is not installed, it says what is in it.
func DecodeState(row []byte) (State, error) { return decodeState(row) }

// LoadState reads the state row, so that the mvcc.Store can be opened at its Revision and Compacted. A
// shard that has none is empty, at revision 1.
func LoadState(r storage.Reader, shard kv.ShardID) (State, error) {
	row, found, err := r.Get(stateKey(shard), nil)
	if err != nil {
		return State{}, fmt.Errorf("read the state row of shard %d: %w", shard, err)
	}
	if !found {
		return State{Revision: 1}, nil
	}
	s, err := decodeState(row)
	if err != nil {
		return State{}, fmt.Errorf("the state row of shard %d: %w", shard, err)
	}
	return s, nil
}

func appendState(buf []byte, s *State) []byte {
	buf = append(buf, stateFormat)
	for _, v := range []uint64{uint64(s.Index), uint64(s.Term), uint64(s.ChainTerm), s.ChainSeq, uint64(s.Revision), uint64(s.Compacted), uint64(s.LeaseClock)} {
		buf = binary.AppendUvarint(buf, v)
	}
	buf = binary.AppendUvarint(buf, uint64(len(s.Alarms)))
	for _, a := range s.Alarms {
		buf = append(binary.AppendUvarint(buf, uint64(a.Node)), byte(a.Type))
	}
	buf = appendBytes(buf, s.config)
	buf = binary.AppendUvarint(buf, uint64(s.NextReplica))
	buf = binary.AppendUvarint(buf, uint64(len(s.Placements)))
	for i := range s.Placements {
		buf = appendPlacement(buf, &s.Placements[i])
	}
	return buf
}

func decodeState(row []byte) (State, error) {
	d := &decoder{data: row}
	format := d.byte()
	if d.err == nil && (format < 1 || format > stateFormat) {
		return State{}, fmt.Errorf("state format %d, this version knows %d: %w", format, stateFormat, ErrMalformed)
	}
	s := State{Index: consensus.Index(d.uvarint()), Term: consensus.Term(d.uvarint()), ChainTerm: consensus.Term(d.uvarint()), ChainSeq: d.uvarint()}
	s.Revision, s.Compacted, s.LeaseClock = kv.Revision(d.positive()), kv.Revision(d.positive()), d.positive()
	if n := d.count(2); n > 0 {
		s.Alarms = make([]kv.Alarm, n)
	}
	for i := range s.Alarms {
		s.Alarms[i] = kv.Alarm{Node: kv.NodeID(d.uvarint()), Type: kv.AlarmType(d.byte())}
	}
	s.config = slices.Clone(d.bytes())
	if format > 1 {
		d.placements(&s)
	}
	if err := d.end(); err != nil {
		return State{}, err
	}
	if s.Revision < 1 || s.Compacted > s.Revision || s.Revision > maxRevision {
		return State{}, fmt.Errorf("revision %d, compacted %d: %w", s.Revision, s.Compacted, ErrMalformed)
	}
	if len(s.config) > 0 {
		config, err := consensus.DecodeConfig(s.config)
		if err != nil {
			return State{}, err
		}
		s.Config = &config
	}
	return s, nil
}

// loadState reads everything a machine keeps in memory.
func (m *Machine) loadState() error {
	state, err := LoadState(m.reader, m.options.Shard)
	if err != nil {
		return err
	}
	m.applied, m.durable, m.flushed = state, state, state
	m.alarms = newAlarmTable(state.Alarms)
	if err := m.loadLeases(); err != nil {
		return err
	}
	return m.loadNodes()
}

func (m *Machine) loadLeases() error {
	m.leases = newLeaseTable()
	err := eachRow(m.reader, leasePrefix, func(key, value []byte) error {
		d := &decoder{data: value}
		ttl, deadline := d.positive(), d.positive()
		if err := d.end(); err != nil || len(key) != idKeySize {
			return fmt.Errorf("lease row %x: %w", key, ErrMalformed)
		}
		m.leases.load(kv.LeaseID(binary.BigEndian.Uint64(key[1:])), ttl, deadline)
		return nil
	})
	m.leases.heapify()
	return err
}

func (m *Machine) loadNodes() error {
	m.nodes = make(map[kv.NodeID]*kv.NodeRecord)
	return eachRow(m.reader, nodePrefix, func(key, value []byte) error {
		d := &decoder{data: value}
		node := d.node()
		if err := d.end(); err != nil {
			return fmt.Errorf("node row %x: %w", key, err)
		}
		m.nodes[node.ID] = node
		return nil
	})
}

func eachRow(r storage.Reader, prefix byte, fn func(key, value []byte) error) error {
	it := r.NewIterator([]byte{prefix}, []byte{prefix + 1})
	for ok := it.First(); ok; ok = it.Next() {
		if err := fn(it.Key(), it.Value()); err != nil {
			it.Close()
			return err
		}
	}
	err := it.Error()
	if closeErr := it.Close(); err == nil {
		err = closeErr
	}
	return err
}

// attached lists the keys of a lease in the applied state, in order.
func (m *Machine) attached(id kv.LeaseID, tally *kv.Tally) (keys [][]byte, err error) {
	prefix := appendAttachmentKey(nil, id, nil)
	it := m.reader.NewIterator(prefix, prefixEnd(prefix))
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		key := it.Key()[idKeySize:]
		if err = tally.Add(attachedBytes + int64(len(key))); err == nil {
			keys = append(keys, slices.Clone(key))
		}
	}
	if err == nil {
		err = it.Error()
	}
	if closeErr := it.Close(); err == nil {
		err = closeErr
	}
	return keys, err
}

// prefixEnd is the first key after all that start with the prefix, whose first byte is not 0xff.
func prefixEnd(prefix []byte) []byte {
	end := slices.Clone(prefix)
	for end[len(end)-1] == 0xff {
		end = end[:len(end)-1]
	}
	end[len(end)-1]++
	return end
}

// flush is a flush under way.
type flush struct {
	state    State
	rowsDone bool // mvcc has written all of its rows
	leases   []kv.LeaseID
}

// NeedsFlush tells whether much is only in memory and in the log. Shared.
func (m *Machine) NeedsFlush() bool {
	return m.store.NeedsFlush() || len(m.leases.dirty) >= maxDirtyLeases
}

// maxDirtyLeases bounds, softly, what one flush writes and what replay has to repeat.
const maxDirtyLeases = 100_000

// Freeze starts a flush of the state as of now. It returns false if one is under way or if nothing was
// applied since the last. Exclusive.
func (m *Machine) Freeze() bool {
	if m.flush != nil || !m.changed || !m.store.Freeze() {
		return false
	}
	m.changed = false
	m.flush = &flush{state: m.applied, leases: m.leases.takeDirty()}
	m.flush.state.Alarms = m.Alarms()
	return true
}

// FlushChunk writes at most about maxRows rows of the flush to the batch. With the last ones, when done is
// true, comes the applied index. The caller applies each batch before it releases the lock. Exclusive.
func (m *Machine) FlushChunk(b storage.Batch, maxRows int) (done bool) {
	f := m.flush
	if f == nil {
		return true
	}
	if !f.rowsDone {
		f.rowsDone = m.store.FlushChunk(b, maxRows)
		return false
	}
	if len(f.leases) > 0 {
		n := min(maxRows, len(f.leases))
		m.flushLeases(b, f.leases[:n])
		f.leases = f.leases[n:]
		return false
	}
	b.Set(stateKey(m.options.Shard), appendState(nil, &f.state))
	return true
}

// flushLeases writes lease rows as of now, which may be later than the applied index of the flush: ops on leases
// set them absolutely, so that replay comes to the same end.
func (m *Machine) flushLeases(b storage.Batch, ids []kv.LeaseID) {
	var key, value []byte
	for _, id := range ids {
		key = appendLeaseKey(key[:0], id)
		if l := m.leases.byID[id]; l != nil {
			value = binary.AppendUvarint(value[:0], uint64(l.ttl))
			value = binary.AppendUvarint(value, uint64(l.deadline))
			b.Set(key, value)
		} else {
			b.Delete(key)
		}
	}
}

// FlushDone ends the flush after its last chunk was applied. It returns the index up to which the log is
// not needed any more once the engine made that durable: the caller flushes the engine and then calls
// MarkDurable with it. Exclusive.
func (m *Machine) FlushDone() consensus.Index {
	if m.flush != nil {
		m.store.FlushDone()
		m.flushed, m.flush = m.flush.state, nil
	}
	return m.flushed.Index
}

// MarkDurable tells that the engine was flushed after the flush that FlushDone returned the index of. Exclusive.
func (m *Machine) MarkDurable(index consensus.Index) {
	if index == m.flushed.Index && index > m.durable.Index {
		m.durable = m.flushed
	}
}

// CompactReady tells whether mvcc.Store.CompactStep may be called: the last compaction is durable with the
// applied index, so that no replay writes a row of its interval again. Shared.
func (m *Machine) CompactReady() bool { return m.durable.Compacted == m.applied.Compacted }

func (t *leaseTable) takeDirty() []kv.LeaseID {
	ids := make([]kv.LeaseID, 0, len(t.dirty))
	for id := range t.dirty { // sorted below
		ids = append(ids, id)
	}
	slices.Sort(ids)
	t.dirty = make(map[kv.LeaseID]struct{})
	return ids
}

func sortNodes(list []kv.NodeRecord) {
	slices.SortFunc(list, func(a, b kv.NodeRecord) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
}
