package shard

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// The rows of records and of what is finished. They change in the engine only together with the state row, and are as of the same moment: a replay that found a record
// which a later entry has removed could not resolve it again. So they are encoded at Freeze.

// commitRow is a row to be written; without a value it is to be deleted.
type commitRow struct{ key, value []byte }

// takeDirty returns the rows that have changed since the last call.
func (t *transactions) takeDirty(shard kv.ShardID) []commitRow {
	if len(t.dirty)+len(t.dirtyFinished) == 0 {
		return nil
	}
	rows := make([]commitRow, 0, len(t.dirty)+len(t.dirtyFinished))
	if t.stored == nil {
		t.stored = make(map[kv.TransactionID]struct{})
	}
	for id := range t.dirty { // sorted below
		row := commitRow{key: keys.AppendRecord(nil, shard, id)}
		if r := t.records[id]; r != nil {
			row.value = appendRecord(nil, r)
			t.stored[id] = struct{}{}
		} else {
			delete(t.stored, id)
		}
		rows = append(rows, row)
	}
	for anchor := range t.dirtyFinished { // sorted below
		finished := t.finished[anchor]
		value := binary.AppendUvarint(binary.AppendUvarint(nil, finished.At.Term), finished.At.Number)
		if len(finished.Open) > 0 {
			value = appendOpen(value, finished.Open)
		}
		rows = append(rows, commitRow{keys.AppendFinished(nil, shard, anchor), value})
	}
	clear(t.dirty)
	clear(t.dirtyFinished)
	slices.SortFunc(rows, func(a, b commitRow) int { return slices.Compare(a.key, b.key) })
	return rows
}

// AppendTransactions appends what the applied state has of transactions over several shards: the records with their locks and effects, and what is finished. It is
// a function of the log up to AppliedIndex, whatever was restarted or installed meanwhile, so that replicas can be held against each other. It costs what there is.
// Shared.
func (m *Machine) AppendTransactions(buf []byte) []byte {
	t := &m.transactions
	t.each(func(r *record) bool {
		buf = appendRecord(appendID(buf, r.id), r)
		return true
	})
	for _, anchor := range slices.Sorted(maps.Keys(t.finished)) {
		if finished := t.finished[anchor]; len(finished.Open) == 0 {
			buf = appendID(buf, finished.At)
		} else {
			buf = appendOpen(appendID(buf, finished.At), finished.Open)
		}
	}
	return buf
}

func writeCommitRows(b storage.Batch, rows []commitRow) {
	for _, row := range rows {
		if row.value == nil {
			b.Delete(row.key)
		} else {
			b.Set(row.key, row.value)
		}
	}
}

// loadTransactions reads the rows.
func (m *Machine) loadTransactions() error {
	m.transactions = transactions{}
	t := &m.transactions
	var writers []writer
	lower, upper := keys.Records(m.options.Shard)
	err := eachRow(m.reader, lower, upper, func(key, value []byte) error {
		id, err := keys.ParseRecord(key)
		if err != nil {
			return err
		}
		d := &decoder{data: slices.Clone(value)}
		r := d.record(id)
		if err := d.end(); err != nil {
			return fmt.Errorf("row %x of a transaction: %w", key, err)
		}
		t.put(r)
		if r.holdsBack() {
			writers = append(writers, writer{id, r.stamp})
		}
		if t.stored == nil {
			t.stored = make(map[kv.TransactionID]struct{})
		}
		t.stored[id] = struct{}{}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(writers, func(a, b writer) int { return cmp.Compare(a.stamp, b.stamp) })
	t.writers = queue[writer]{items: writers}
	clear(t.dirty)
	return m.loadFinished()
}

func (m *Machine) loadFinished() error {
	t := &m.transactions
	lower, upper := keys.Finished(m.options.Shard)
	err := eachRow(m.reader, lower, upper, func(key, value []byte) error {
		anchor, err := keys.ParseFinished(key)
		if err != nil {
			return err
		}
		d := &decoder{data: value}
		finished := kv.Finished{At: kv.TransactionID{Anchor: anchor, Term: d.uvarint(), Number: d.uvarint()}}
		if len(d.data) > 0 {
			finished.Open = d.open(anchor)
		}
		if !finished.Valid() {
			d.fail("something finished that makes no sense")
		}
		if err := d.end(); err != nil {
			return fmt.Errorf("row %x of what is finished: %w", key, err)
		}
		t.applyFinished(finished)
		return nil
	})
	clear(t.dirtyFinished)
	return err
}
