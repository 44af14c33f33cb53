package lsm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"

	"github.com/quoratedb/quorate/storage"
)

// scrub reads the tables again that there were when it began: every block of each, as it is in the file, against its checksum. It
// reads past the block cache. A table that a compaction has replaced meanwhile is passed over.
type scrub struct {
	engine *Engine
	size   int64
	tables []tableName // that are left
	open   *sstable.Reader
	file   interface {
		ReadAt([]byte, int64) (int, error)
	} // of open
	current tableName
	blocks  []block.Handle // of it that are left, ascending
	buffer  []byte
	problem error // the pass could not begin
}

// tableName is the name of a table's file within the engine's directory.
type tableName string

// maxScrubRead bounds one read of several blocks. A block is as large as the largest row at most.
const maxScrubRead = 1 << 20

// NewScrub implements storage.Engine.
func (e *Engine) NewScrub() storage.Scrub {
	s := &scrub{engine: e}
	var sizes map[tableName]int64
	if sizes, s.problem = e.tables(); s.problem != nil {
		return s
	}
	for name, size := range sizes {
		s.tables = append(s.tables, name)
		s.size += size
	}
	slices.Sort(s.tables)
	return s
}

// tables are the files that hold the state now, and their sizes. Several tables may be parts of one file.
func (e *Engine) tables() (map[tableName]int64, error) {
	if err := e.err(); err != nil {
		return nil, err
	}
	levels, err := e.db.SSTables()
	if err != nil {
		return nil, fmt.Errorf("lsm: list the tables of the state in %s: %w", e.options.Dir, err)
	}
	sizes := map[tableName]int64{}
	for _, level := range levels {
		for _, t := range level {
			sizes[tableName(t.BackingSSTNum.String()+".sst")] += int64(t.Size)
		}
	}
	return sizes, nil
}

func (s *scrub) SizeBytes() int64 { return s.size }

// Next implements storage.Scrub.
func (s *scrub) Next(maxBytes int) (read int64, done bool, err error) {
	if err := errors.Join(s.problem, s.engine.err()); err != nil {
		return 0, false, err
	}
	if s.open == nil && len(s.tables) == 0 {
		return 0, true, nil
	}
	if s.open == nil {
		s.current, s.tables = s.tables[0], s.tables[1:]
		err = s.openTable()
	}
	if err == nil {
		read, err = s.readBlocks(maxBytes)
	}
	if err != nil || len(s.blocks) == 0 {
		err = errors.Join(s.judge(err), s.Close())
	}
	return read, false, err
}

// openTable checks the footer, the properties and the index, and finds out where the blocks are.
func (s *scrub) openTable() error {
	e := s.engine
	file, err := e.options.FS.Open(e.options.FS.PathJoin(e.options.Dir, string(s.current)))
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	table, err := sstable.NewReader(context.Background(), readable, e.pebble.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	s.open, s.file = table, file
	layout, err := table.Layout()
	if err != nil {
		return err
	}
	s.blocks = blocksOf(layout)
	return nil
}

// blocksOf lists everything in the file that has a checksum of its own, in the order of the file.
func blocksOf(l *sstable.Layout) []block.Handle {
	blocks := slices.Concat(l.Index, l.ValueBlock,
		[]block.Handle{l.TopIndex, l.RangeDel, l.RangeKey, l.ValueIndex, l.Properties, l.MetaIndex, l.BlobReferenceIndex})
	for i := range l.Data {
		blocks = append(blocks, l.Data[i].Handle)
	}
	for i := range l.Filter {
		blocks = append(blocks, l.Filter[i].Handle)
	}
	blocks = slices.DeleteFunc(blocks, func(b block.Handle) bool { return b.Length == 0 }) // those that the table does not have
	slices.SortFunc(blocks, func(a, b block.Handle) int { return cmp.Compare(a.Offset, b.Offset) })
	return slices.Compact(blocks)
}

// readBlocks reads as many blocks as fit into one read.
func (s *scrub) readBlocks(maxBytes int) (read int64, err error) {
	if len(s.blocks) == 0 {
		return 0, nil
	}
	start, count := s.blocks[0].Offset, 0
	end := start
	for _, b := range s.blocks {
		next := b.Offset + b.Length + block.TrailerLen
		if count > 0 && next-start > uint64(min(maxBytes, maxScrubRead)) {
			break
		}
		end = next
		count++
	}
	if uint64(cap(s.buffer)) < end-start || cap(s.buffer) > maxScrubRead {
		s.buffer = make([]byte, end-start)
	}
	buffer := s.buffer[:end-start]
	if n, err := s.file.ReadAt(buffer, int64(start)); n < len(buffer) {
		return 0, fmt.Errorf("read %d bytes at offset %d: %w", len(buffer), start, err)
	}
	for _, b := range s.blocks[:count] {
		// Pebble's default, which all tables of the engine have, those that are ingested included.
		if err := block.ValidateChecksum(block.ChecksumTypeCRC32c, buffer[b.Offset-start:], b); err != nil {
			return int64(end - start), err
		}
	}
	s.blocks = s.blocks[count:]
	return int64(end - start), nil
}

// judge says what an error about the current table means. Nothing if nobody needs the table any more.
func (s *scrub) judge(err error) error {
	if err == nil {
		return nil
	}
	tables, listing := s.engine.tables()
	if listing != nil {
		return listing
	}
	if _, needed := tables[s.current]; !needed {
		return nil
	}
	dir, number := s.engine.options.Dir, syscall.Errno(0)
	switch err = fmt.Errorf("file %s: %w", s.current, err); {
	case pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist):
		return describe(dir, err)
	case errors.As(err, &number):
		return fmt.Errorf("lsm: scrub the state in %s: %w", dir, err)
	}
	// Nothing that the disk said: the content makes no sense, or the file is too short.
	return fmt.Errorf("%w: the state in %s: %w; see \"A node that lost its data\" in docs/operations.md", storage.ErrCorrupt, dir, oneLine{err})
}

// Close lets go of the table that is open.
func (s *scrub) Close() error {
	s.blocks = nil
	if s.open == nil {
		return nil
	}
	table := s.open
	s.open, s.file = nil, nil
	return table.Close()
}
