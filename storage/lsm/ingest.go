package lsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

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
	covered, err := e.inspectAll(ctx, files, spans, nil)
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
