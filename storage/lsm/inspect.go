package lsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/storage"
)

// Inspect implements storage.Engine. It makes the files durable, too.
func (e *Engine) Inspect(ctx context.Context, files []string, spans []storage.Span, key []byte) (value []byte, found bool, err error) {
	if err := storage.ValidateSpans(spans); err != nil {
		return nil, false, err
	}
	if err := e.err(); err != nil {
		return nil, false, err
	}
	wanted := &wantedKey{key: key}
	if _, err := e.inspectAll(ctx, files, spans, wanted); err != nil {
		return nil, false, err
	}
	return wanted.value, wanted.found, nil
}

// wantedKey is a key that is looked for in files; nil looks for none.
type wantedKey struct {
	key, value []byte
	found      bool
}

// inspectAll checks the files and returns what they speak for, in order.
func (e *Engine) inspectAll(ctx context.Context, files []string, spans []storage.Span, wanted *wantedKey) ([]storage.Span, error) {
	var covered []storage.Span
	for _, name := range files {
		of, err := e.inspect(ctx, name, wanted)
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
func (e *Engine) inspect(ctx context.Context, name string, wanted *wantedKey) (covered []storage.Span, err error) {
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
	return covered, pointsWithin(table, covered, wanted)
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
func pointsWithin(table *sstable.Reader, covered []storage.Span, wanted *wantedKey) error {
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
		if wanted != nil && bytes.Equal(kv.K.UserKey, wanted.key) {
			value, _, err := kv.Value(nil)
			if err != nil {
				return badTable(err)
			}
			wanted.value, wanted.found = bytes.Clone(value), true
		}
	}
	if err := it.Error(); err != nil {
		return badTable(err)
	}
	return nil
}
