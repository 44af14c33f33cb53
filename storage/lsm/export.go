package lsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/storage"
)

// Export implements storage.Engine. The files are sorted tables. Each carries range
// tombstones over all the keys it speaks for, so that files that cover the spans also
// remove, by the same atomic step that adds theirs, whatever was there before.
func (e *Engine) Export(ctx context.Context, s storage.Snapshot, spans []storage.Span, dir string, progress func(int64)) ([]string, error) {
	own, ok := s.(*snapshot)
	if !ok {
		return nil, fmt.Errorf("lsm: export: a snapshot of type %T does not belong to this engine", s)
	}
	if err := own.err(); err != nil {
		return nil, err
	}
	if err := storage.ValidateSpans(spans); err != nil {
		return nil, err
	}
	w := &exporter{engine: e, ctx: ctx, dir: dir, progress: progress}
	if err := w.writeAll(own, spans); err != nil {
		return nil, errors.Join(fmt.Errorf("lsm: export to %s: %w", dir, err), w.removeAll())
	}
	return w.names, nil
}

// exporter writes one file after the other.
type exporter struct {
	engine   *Engine
	ctx      context.Context
	dir      string
	progress func(int64)

	names    []string
	table    *sstable.Writer // nil between files
	inTable  int             // bytes of keys and values
	finished int64           // bytes of finished files
	// covered is from where on the current table speaks for the current span.
	covered []byte
	checked int // bytes since the context was asked
}

const checkEveryBytes = 1 << 20

func (w *exporter) writeAll(s *snapshot, spans []storage.Span) error {
	for _, span := range spans {
		if err := w.writeSpan(s, span); err != nil {
			return err
		}
	}
	return w.finish()
}

func (w *exporter) writeSpan(s *snapshot, span storage.Span) error {
	it := s.NewIterator(span.Lower, span.Upper)
	defer it.Close()
	w.covered = append(w.covered[:0], span.Lower...)
	for ok := it.First(); ok; ok = it.Next() {
		if err := w.add(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	return w.cover(span.Upper)
}

func (w *exporter) add(key, value []byte) error {
	if w.inTable > 0 && w.inTable+len(key)+len(value) > w.engine.options.ExportFileBytes && !bytes.Equal(key, w.covered) {
		if err := w.cover(key); err != nil {
			return err
		}
		if err := w.finish(); err != nil {
			return err
		}
		w.covered = append(w.covered[:0], key...)
	}
	if err := w.begin(); err != nil {
		return err
	}
	w.inTable += len(key) + len(value)
	if w.checked += len(key) + len(value); w.checked > checkEveryBytes {
		w.checked = 0
		w.report(int64(w.inTable))
		if err := w.ctx.Err(); err != nil {
			return err
		}
	}
	return w.table.Set(key, value)
}

// cover ends what the current table speaks for.
func (w *exporter) cover(upper []byte) error {
	if err := w.begin(); err != nil {
		return err
	}
	return w.table.DeleteRange(bytes.Clone(w.covered), bytes.Clone(upper))
}

func (w *exporter) begin() error {
	if w.table != nil {
		return nil
	}
	if err := w.ctx.Err(); err != nil {
		return err
	}
	fs := w.engine.options.FS
	name := fs.PathJoin(w.dir, fmt.Sprintf("%06d.sst", len(w.names)+1))
	table, err := w.engine.createTable(name)
	if err != nil {
		return err
	}
	w.table, w.inTable, w.names = table, 0, append(w.names, name)
	return nil
}

func (e *Engine) createTable(name string) (*sstable.Writer, error) {
	file, err := e.options.FS.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	options := e.pebble.MakeWriterOptions(6, e.db.TableFormat())
	options.WritingToLowestLevel = false // there, deletions would count for nothing
	return sstable.NewWriter(objstorageprovider.NewFileWritable(file), options), nil
}

func (w *exporter) finish() error {
	if w.table == nil {
		return nil
	}
	err := w.table.Close()
	if err == nil {
		var meta *sstable.WriterMetadata
		if meta, err = w.table.Metadata(); err == nil {
			w.finished += int64(meta.Size)
		}
	}
	w.table, w.inTable = nil, 0
	if err == nil {
		w.report(0)
	}
	return err
}

func (w *exporter) report(unfinished int64) {
	if w.progress != nil {
		w.progress(w.finished + unfinished)
	}
}

// removeAll leaves nothing behind that looks like an export.
func (w *exporter) removeAll() error {
	var problems []error
	if w.table != nil {
		_ = w.table.Close() // the file goes anyway
		w.table = nil
	}
	for _, name := range w.names {
		problems = append(problems, w.engine.options.FS.Remove(name))
	}
	return errors.Join(problems...)
}
