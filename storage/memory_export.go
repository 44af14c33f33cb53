package storage

import (
	"bytes"
	"context"
	"fmt"
	"slices"
)

// Export implements Engine.
func (m *Memory) Export(ctx context.Context, s Snapshot, spans []Span, dir string, progress func(int64)) ([]string, error) {
	if err := m.Err(); err != nil {
		return nil, err
	}
	snapshot, ok := s.(*memorySnapshot)
	if !ok || snapshot.closed {
		return nil, fmt.Errorf("storage: export needs an open snapshot of the memory engine, got %T", s)
	}
	if err := ValidateSpans(spans); err != nil {
		return nil, err
	}
	w := memoryExport{ctx: ctx, files: m.options.Files, dir: dir, limit: m.options.ExportFileBytes, progress: progress}
	if err := w.writeAll(snapshot, spans); err != nil {
		w.removeAll()
		return nil, err
	}
	return w.names, nil
}

// Inspect implements Engine.
func (m *Memory) Inspect(ctx context.Context, files []string, spans []Span, key []byte) (value []byte, found bool, err error) {
	if err := ValidateSpans(spans); err != nil {
		return nil, false, err
	}
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return nil, false, fmt.Errorf("storage: inspect: %w", err)
		}
		sets, err := readMemoryFile(m.options.Files, name, spans)
		if err != nil {
			return nil, false, err
		}
		for _, c := range sets {
			if bytes.Equal(c.key, key) {
				value, found = bytes.Clone(c.value), true
			}
		}
	}
	return value, found, nil
}

// Ingest implements Engine.
func (m *Memory) Ingest(ctx context.Context, files []string, spans []Span) error {
	if err := m.Err(); err != nil {
		return err
	}
	if err := ValidateSpans(spans); err != nil {
		return err
	}
	var changes []change
	for _, span := range spans {
		changes = append(changes, change{changeDeleteRange, span.Lower, span.Upper})
	}
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("storage: ingest: %w", err)
		}
		sets, err := readMemoryFile(m.options.Files, name, spans)
		if err != nil {
			return err
		}
		changes = append(changes, sets...)
	}
	m.apply(changes)
	m.makeDurable(m.frozen())
	for _, name := range files {
		if err := m.options.Files.Remove(name); err != nil {
			return fmt.Errorf("storage: ingest: remove %s after it was ingested: %w", name, err)
		}
	}
	return nil
}

// Load implements Engine.
func (m *Memory) Load(tables []Rows, done func(error)) { done(m.load(tables)) }

func (m *Memory) load(tables []Rows) error {
	if err := m.Err(); err != nil {
		return err
	}
	var all memoryBatch
	var spans []Span
	for i, rows := range tables {
		table := all.Count()
		for row := range rows {
			if n := all.Count(); n > table && bytes.Compare(all.changes[n-1].key, row.Key) >= 0 {
				return fmt.Errorf("storage: load: in table %d the row %x comes after %x", i, row.Key, all.changes[n-1].key)
			}
			if row.Deleted {
				all.Delete(row.Key)
			} else {
				all.Set(row.Key, row.Value)
			}
		}
		if n := all.Count(); n > table {
			spans = append(spans, Span{all.changes[table].key, append(slices.Clone(all.changes[n-1].key), 0)})
		}
	}
	slices.SortFunc(spans, func(a, b Span) int { return bytes.Compare(a.Lower, b.Lower) })
	if err := ValidateSpans(spans); err != nil {
		return fmt.Errorf("storage: load: tables overlap: %w", err)
	}
	m.apply(all.changes)
	m.makeDurable(m.frozen())
	return nil
}

// ValidateSpans tells whether the spans are what Export and Ingest take: not empty, ascending and disjoint.
func ValidateSpans(spans []Span) error {
	for i, s := range spans {
		if bytes.Compare(s.Lower, s.Upper) >= 0 {
			return fmt.Errorf("storage: span %d is empty: [%x, %x)", i, s.Lower, s.Upper)
		}
		if i > 0 && bytes.Compare(spans[i-1].Upper, s.Lower) > 0 {
			return fmt.Errorf("storage: span %d, [%x, %x), is not after the one before, which ends at %x", i, s.Lower, s.Upper, spans[i-1].Upper)
		}
	}
	return nil
}
