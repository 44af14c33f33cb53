package restore

import (
	"bytes"
	"slices"

	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/keys"
)

// rows is a batch of which most becomes sorted tables: the rows of versions, and those about the newest version of each key. They come in the order of their keys,
// but for values that move behind their versions. All else is in the batch of the engine.
type rows struct {
	storage.Batch // of the engine

	tableBytes                      int // minTableBytes
	latest, versions, moved, values run
}

// run is rows in memory.
type run struct {
	memory []byte
	rows   []rowAt
}

// rowAt is where a row is in the memory of its run.
type rowAt struct {
	at, keyBytes, valueBytes int
	deleted                  bool
}

// of is the run that a row belongs to; nil: none.
func (r *rows) of(key []byte) *run {
	switch keys.KindOf(key) {
	case keys.Latest:
		return &r.latest
	case keys.Value:
		return &r.values
	case keys.Version:
		if n := len(r.versions.rows); n > 0 && bytes.Compare(key, r.versions.key(n-1)) < 0 {
			return &r.moved
		}
		return &r.versions
	}
	return nil
}

// Set implements storage.Batch.
func (r *rows) Set(key, value []byte) {
	if one := r.of(key); one != nil {
		one.add(key, value, false)
		return
	}
	r.Batch.Set(key, value)
}

// Delete implements storage.Batch.
func (r *rows) Delete(key []byte) {
	if one := r.of(key); one != nil {
		one.add(key, nil, true)
		return
	}
	r.Batch.Delete(key)
}

func (r *run) add(key, value []byte, deleted bool) {
	r.rows = append(r.rows, rowAt{len(r.memory), len(key), len(value), deleted})
	r.memory = append(append(r.memory, key...), value...)
}

func (r *run) key(i int) []byte { return r.keyOf(r.rows[i]) }

func (r *run) keyOf(one rowAt) []byte { return r.memory[one.at : one.at+one.keyBytes] }

func (r *run) row(i int) storage.Row {
	one := r.rows[i]
	value := one.at + one.keyBytes
	return storage.Row{Key: r.keyOf(one), Value: r.memory[value : value+one.valueBytes], Deleted: one.deleted}
}

// all gives the rows of several runs, each in its order, in the order of their keys.
func all(runs ...*run) storage.Rows {
	return func(yield func(storage.Row) bool) {
		next := make([]int, len(runs))
		for {
			least := -1
			for i, r := range runs {
				if next[i] < len(r.rows) && (least < 0 || bytes.Compare(r.key(next[i]), runs[least].key(next[least])) < 0) {
					least = i
				}
			}
			if least < 0 || !yield(runs[least].row(next[least])) {
				return
			}
			next[least]++
		}
	}
}

const (
	// minTableBytes is what a table has, or there is one only of what would be several: more files cost more than they are worth.
	minTableBytes = 256 << 10
	// piecesPerTable: a table of rows by key has about so many times that. Where keys come nearly in their order only few tables lie across others, and are written
	// again.
	piecesPerTable = 16
)

// tables are the rows that become tables, in their order. Revisions only ascend, so the versions lie behind all that were written before, and their table is
// never written again; neither are those of rows by key, if keys ascend, too. What is small is in one table, which lies across others.
func (r *rows) tables() (tables []storage.Rows) {
	slices.SortFunc(r.moved.rows, func(a, b rowAt) int { return bytes.Compare(r.moved.keyOf(a), r.moved.keyOf(b)) })
	earlier := 0 // values of versions that are in tables already
	if len(r.versions.rows) > 0 {
		earlier, _ = slices.BinarySearchFunc(r.moved.rows, r.versions.key(0), func(a rowAt, first []byte) int { return bytes.Compare(r.moved.keyOf(a), first) })
	}
	before, beside := &run{r.moved.memory, r.moved.rows[:earlier]}, &run{r.moved.memory, r.moved.rows[earlier:]}
	if r.bytes() < r.tableBytes {
		if r.empty() {
			return nil
		}
		return []storage.Rows{all(&r.latest, &r.versions, &r.moved, &r.values)}
	}
	tables = append(r.pieces(&r.latest), r.pieces(before)...)
	if len(r.versions.rows) > 0 {
		tables = append(tables, all(&r.versions, beside))
	}
	return append(tables, r.pieces(&r.values)...)
}

// pieces are the tables of a run.
func (r *rows) pieces(of *run) (tables []storage.Rows) {
	bytes, from := 0, 0
	for i, one := range of.rows {
		if bytes += one.keyBytes + one.valueBytes; bytes >= piecesPerTable*r.tableBytes || i == len(of.rows)-1 {
			tables = append(tables, all(&run{of.memory, of.rows[from : i+1]}))
			bytes, from = 0, i+1
		}
	}
	return tables
}

func (r *rows) runs() []*run { return []*run{&r.latest, &r.versions, &r.moved, &r.values} }

func (r *rows) bytes() (sum int) {
	for _, one := range r.runs() {
		sum += len(one.memory)
	}
	return sum
}

func (r *rows) empty() bool {
	return !slices.ContainsFunc(r.runs(), func(one *run) bool { return len(one.rows) > 0 })
}

// forget has the memory used again. What is in the batch of the engine stays.
func (r *rows) forget() {
	for _, one := range r.runs() {
		one.memory, one.rows = one.memory[:0], one.rows[:0]
	}
}
