package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
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
	// Flush is the number of the flush that wrote this (mvcc.Store.FlushNumber). What bears a higher one was written by a flush that did not end.
	Flush  uint64
	Alarms []kv.Alarm        // by type and node
	Config *consensus.Config // nil if no entry ever set one
	config []byte            // as the entry encoded it
	// Placements are the replicas of nodes whose disks are known, by node. Never changed in place.
	Placements []Placement
	// NextReplica is above every replica ID that was ever assigned; 0 before the first.
	NextReplica consensus.ReplicaID
	// Limit is Machine.Limit.
	Limit kv.Revision
	// Roster is Machine.Roster.
	Roster kv.Roster
}

// stateFormat is that of storage format 3; what came before had other keys, too.
const stateFormat = 3

// StateSpans are the engine intervals that make up this shard's snapshot.
func (m *Machine) StateSpans() []storage.Span { return keys.Spans(m.options.Shard) }

// DecodeState reads the state row of a shard: in a snapshot that is not installed, it says what is in it.
func DecodeState(row []byte) (State, error) { return decodeState(row) }

// LoadState reads the state row. A shard that has none is empty, at revision 1.
func LoadState(r storage.Reader, shard kv.ShardID) (State, error) {
	row, found, err := r.Get(keys.State(shard), nil)
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

// Ship prepares the state to be shipped as the engine has it: like one that a crash left, it is as of the flush that was written last, which is what is
// returned, and may have rows of entries that come after. b says of how many. A snapshot of the engine that is taken when b is applied can be opened
// elsewhere; the log brings the rest. Exclusive.
func (m *Machine) Ship(b storage.Batch) consensus.SnapshotMeta {
	b.Set(keys.Extent(m.options.Shard), binary.AppendUvarint(nil, uint64(max(m.applied.Index, m.options.LogEnd))))
	meta := consensus.SnapshotMeta{Index: m.flushed.Index, Term: m.flushed.Term}
	if m.flushed.Config != nil {
		meta.Config = m.flushed.Config.Clone()
	}
	return meta
}

// loadExtent reads the last entry that a state which came from elsewhere may have rows of. Whoever shipped it has a row, too, which says nothing new.
func loadExtent(r storage.Reader, shard kv.ShardID) (consensus.Index, error) {
	row, found, err := r.Get(keys.Extent(shard), nil)
	if err != nil || !found {
		return 0, err
	}
	d := &decoder{data: row}
	extent := consensus.Index(d.uvarint())
	if err := d.end(); err != nil {
		return 0, fmt.Errorf("the row of what shard %d had when it was shipped: %w", shard, err)
	}
	return extent, nil
}

func appendState(buf []byte, s *State) []byte {
	buf = append(buf, stateFormat)
	for _, v := range []uint64{uint64(s.Index), uint64(s.Term), uint64(s.ChainTerm), s.ChainSeq, uint64(s.Revision), uint64(s.Compacted), uint64(s.LeaseClock), s.Flush} {
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
	if s.Limit != 0 || s.Roster.Version != 0 { // so a store of one shard has the rows that it always had
		buf = binary.AppendUvarint(buf, uint64(s.Limit))
	}
	if s.Roster.Version != 0 { // likewise one whose members never changed
		buf = appendRoster(buf, &s.Roster)
	}
	return buf
}

func decodeState(row []byte) (State, error) {
	d := &decoder{data: row}
	format := d.byte()
	if d.err == nil && format != stateFormat {
		return State{}, fmt.Errorf("state format %d, this version reads %d: %w", format, stateFormat, ErrMalformed)
	}
	s := State{Index: consensus.Index(d.uvarint()), Term: consensus.Term(d.uvarint()), ChainTerm: consensus.Term(d.uvarint()), ChainSeq: d.uvarint()}
	s.Revision, s.Compacted, s.LeaseClock = kv.Revision(d.positive()), kv.Revision(d.positive()), d.positive()
	s.Flush = d.uvarint()
	if n := d.count(2); n > 0 {
		s.Alarms = make([]kv.Alarm, n)
	}
	for i := range s.Alarms {
		s.Alarms[i] = kv.Alarm{Node: kv.NodeID(d.uvarint()), Type: kv.AlarmType(d.byte())}
	}
	s.config = slices.Clone(d.bytes())
	d.placements(&s)
	if d.err == nil && len(d.data) > 0 {
		if s.Limit = kv.Revision(d.positive()); s.Limit < 1 && len(d.data) == 0 || s.Limit > maxRevision {
			d.fail("a limit that makes no sense")
		}
	}
	if d.err == nil && len(d.data) > 0 {
		s.Roster = *d.roster()
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
func (m *Machine) loadState(state State) error {
	m.applied, m.durable, m.flushed = state, state, state
	m.alarms = newAlarmTable(state.Alarms)
	if err := m.loadLeases(); err != nil {
		return err
	}
	if err := m.loadTransactions(); err != nil {
		return err
	}
	m.transactions.lastResolved = state.Revision
	m.close()
	if err := m.loadAuth(); err != nil {
		return err
	}
	if err := m.loadTimes(); err != nil {
		return err
	}
	return m.loadMembers()
}

func (m *Machine) loadLeases() error {
	m.leases = newLeaseTable()
	lower, upper := keys.Leases(m.options.Shard)
	err := eachRow(m.reader, lower, upper, func(key, value []byte) error {
		id, err := keys.ParseLease(key)
		if err != nil {
			return err
		}
		d := &decoder{data: value}
		if m.remote() {
			m.leases.note(id, d.uvarint())
		} else {
			l := m.leases.load(id, d.positive(), d.positive())
			if m.options.Sequenced {
				d.binding(l)
			}
		}
		if err := d.end(); err != nil {
			return fmt.Errorf("lease row %x: %w", key, err)
		}
		return nil
	})
	clear(m.leases.dirty)
	m.leases.heapify()
	return err
}

func eachRow(r storage.Reader, lower, upper []byte, fn func(key, value []byte) error) error {
	it := r.NewIterator(lower, upper)
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

// errEnough ends a walk over rows.
var errEnough = errors.New("enough rows")

// attached lists keys of a lease behind one ("": all of them) in the applied state, in order: all (limit 0), or the first ones.
func (m *Machine) attached(id kv.LeaseID, behind string, limit int, tally *kv.Tally) (attached [][]byte, err error) {
	lower, upper := keys.Attachments(m.rows.Home, id)
	if behind != "" {
		lower = append(append(lower, behind...), 0)
	}
	err = eachRow(m.reader, lower, upper, func(row, _ []byte) error {
		key := keys.AttachedKey(row)
		if !m.rows.Has(key) {
			return nil
		}
		if m.store.Pending() > 0 { // the row may be one of those that a bulk has still to take away
			if meta, _, err := m.store.Meta(key); err != nil || meta.Lease != id {
				return err
			}
		}
		attached = append(attached, slices.Clone(key))
		if len(attached) == limit {
			return errEnough
		}
		return tally.Add(attachedBytes + int64(len(key)))
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return attached, err
}
