package lsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/storage"
)

// Ingest implements storage.Engine.
//
// The files carry range tombstones over what they speak for; where they leave a gap in
// the spans, a table with only a tombstone fills it. All tables enter in one edit of
// the manifest, which is synced. If nothing but the spans lies between the first and
// the last, and no snapshot is open, the old content is cut out in the same edit, so that
// its space is free at once and the new tables go to the last level.
//
// Everything applied before is flushed first, so that what is durable stays a prefix.
func (e *Engine) Ingest(ctx context.Context, files []string, spans []storage.Span) error {
	if err := storage.ValidateSpans(spans); err != nil {
		return err
	}
	if err := e.err(); err != nil {
		return err
	}
	covered, err := e.inspectAll(ctx, files, spans)
	if err != nil {
		return err
	}
	if err := e.flushAndWait(ctx); err != nil { // most of it, while others may still apply
		return err
	}
	e.applying.Lock()
	defer e.applying.Unlock()
	if err := e.flushLockedAndWait(ctx); err != nil {
		return err
	}
	fillers, err := e.fillGaps(files, covered, spans)
	if err != nil {
		return err
	}
	if err := e.ingestLocked(ctx, append(slices.Clone(files), fillers...), spans); err != nil {
		return errors.Join(fmt.Errorf("lsm: ingest %d files: %w", len(files), err), e.removeFiles(fillers))
	}
	return nil
}

func (e *Engine) flushAndWait(ctx context.Context) error {
	done := make(chan error, 1)
	e.Flush(func(err error) { done <- err })
	return waitDone(ctx, done)
}

func (e *Engine) flushLockedAndWait(ctx context.Context) error {
	done := make(chan error, 1)
	if err := e.flushLocked(func(err error) { done <- err }); err != nil {
		return err
	}
	return waitDone(ctx, done)
}

func waitDone(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("lsm: ingest: waiting for a flush: %w", ctx.Err())
	}
}

// ingestLocked is called with everything flushed, so that Pebble has no memtable to wait for.
func (e *Engine) ingestLocked(ctx context.Context, files []string, spans []storage.Span) error {
	if len(files) == 0 {
		return nil
	}
	e.snapshotting.Lock()
	defer e.snapshotting.Unlock()
	if err := e.err(); err != nil {
		return err
	}
	alone, err := e.onlySpans(spans)
	if err != nil {
		return err
	}
	if alone && e.snapshots.Load() == 0 {
		all := pebble.KeyRange{Start: spans[0].Lower, End: spans[len(spans)-1].Upper}
		_, err = e.db.IngestAndExcise(ctx, files, nil, nil, all)
	} else {
		err = e.db.Ingest(ctx, files)
	}
	if err != nil {
		return err
	}
	e.settle()
	return e.failure.err()
}

// onlySpans tells whether no key lies between the spans.
func (e *Engine) onlySpans(spans []storage.Span) (bool, error) {
	for i := 1; i < len(spans); i++ {
		it := newIterator(e, e.db, spans[i-1].Upper, spans[i].Lower)
		found := it.First()
		if err := it.Close(); err != nil {
			return false, err
		}
		if found {
			return false, nil
		}
	}
	return true, nil
}

// inspectAll checks the files and returns what they speak for, in order.
func (e *Engine) inspectAll(ctx context.Context, files []string, spans []storage.Span) ([]storage.Span, error) {
	var covered []storage.Span
	for _, name := range files {
		of, err := e.inspect(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("lsm: ingest: file %s: %w", name, err)
		}
		for _, beyond := range subtract(of, spans) {
			return nil, fmt.Errorf("lsm: ingest: file %s replaces [%x, %x), which is outside of the spans to replace", name, beyond.Lower, beyond.Upper)
		}
		covered = append(covered, of...)
	}
	slices.SortFunc(covered, func(a, b storage.Span) int { return bytes.Compare(a.Lower, b.Lower) })
	return covered, storage.ValidateSpans(covered)
}

// inspect makes one file durable, verifies its checksums, and returns what it speaks for.
func (e *Engine) inspect(ctx context.Context, name string) (covered []storage.Span, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	file, err := e.options.FS.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	table, err := sstable.NewReader(ctx, readable, e.pebble.MakeReaderOptions())
	if err != nil {
		return nil, badTable(errors.Join(err, readable.Close()))
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	if err := table.ValidateBlockChecksums(); err != nil {
		return nil, badTable(err)
	}
	if covered, err = tombstonesOf(ctx, table); err != nil {
		return nil, badTable(err)
	}
	return covered, pointsWithin(table, covered)
}

func badTable(err error) error {
	return fmt.Errorf("%w: %w; transfer it again", storage.ErrCorrupt, err)
}

// tombstonesOf returns the range tombstones of a table, adjacent ones merged.
func tombstonesOf(ctx context.Context, table *sstable.Reader) ([]storage.Span, error) {
	it, err := table.NewRawRangeDelIter(ctx, sstable.NoFragmentTransforms, sstable.NoReadEnv)
	if err != nil || it == nil {
		return nil, err
	}
	defer it.Close()
	var spans []storage.Span
	span, err := it.First()
	for ; span != nil && err == nil; span, err = it.Next() {
		if n := len(spans); n > 0 && bytes.Equal(spans[n-1].Upper, span.Start) {
			spans[n-1].Upper = bytes.Clone(span.End)
			continue
		}
		spans = append(spans, storage.Span{Lower: bytes.Clone(span.Start), Upper: bytes.Clone(span.End)})
	}
	return spans, err
}

// pointsWithin checks that every key lies in what the table speaks for: a table from elsewhere does not.
func pointsWithin(table *sstable.Reader, covered []storage.Span) error {
	it, err := table.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return badTable(err)
	}
	defer it.Close()
	i := 0
	for kv := it.First(); kv != nil; kv = it.Next() {
		for i < len(covered) && bytes.Compare(covered[i].Upper, kv.K.UserKey) <= 0 {
			i++
		}
		if i == len(covered) || bytes.Compare(kv.K.UserKey, covered[i].Lower) < 0 {
			return fmt.Errorf("it holds key %x but does not say that it replaces it; it was not written by Export", kv.K.UserKey)
		}
	}
	if err := it.Error(); err != nil {
		return badTable(err)
	}
	return nil
}

// fillGaps writes tables with only a tombstone for the parts of the spans that no file speaks for.
func (e *Engine) fillGaps(files []string, covered, spans []storage.Span) ([]string, error) {
	gaps := subtract(spans, covered)
	dir := e.options.Dir
	if len(files) > 0 {
		dir = e.options.FS.PathDir(files[0])
	}
	var names []string
	for i, gap := range gaps {
		name := e.options.FS.PathJoin(dir, fmt.Sprintf("gap-%06d.tmp", i+1))
		names = append(names, name)
		if err := e.writeTombstone(name, gap); err != nil {
			return nil, errors.Join(fmt.Errorf("lsm: ingest: write %s: %w", name, err), e.removeFiles(names))
		}
	}
	return names, nil
}

func (e *Engine) writeTombstone(name string, span storage.Span) error {
	table, err := e.createTable(name)
	if err != nil {
		return err
	}
	return errors.Join(table.DeleteRange(span.Lower, span.Upper), table.Close())
}

func (e *Engine) removeFiles(names []string) error {
	var problems []error
	for _, name := range names {
		if _, err := e.options.FS.Stat(name); err == nil {
			problems = append(problems, e.options.FS.Remove(name))
		}
	}
	return errors.Join(problems...)
}

// subtract returns the parts of the spans that are not covered; both are ascending.
func subtract(spans, covered []storage.Span) []storage.Span {
	var gaps []storage.Span
	i := 0
	for _, s := range spans {
		from := s.Lower
		for ; i < len(covered) && bytes.Compare(covered[i].Lower, s.Upper) < 0; i++ {
			if bytes.Compare(from, covered[i].Lower) < 0 {
				gaps = append(gaps, storage.Span{Lower: from, Upper: covered[i].Lower})
			}
			if bytes.Compare(from, covered[i].Upper) < 0 {
				from = covered[i].Upper
			}
			if bytes.Compare(covered[i].Upper, s.Upper) > 0 {
				break // it reaches into the next span too
			}
		}
		if bytes.Compare(from, s.Upper) < 0 {
			gaps = append(gaps, storage.Span{Lower: from, Upper: s.Upper})
		}
	}
	return gaps
}
