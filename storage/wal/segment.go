package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/storage"
)

// A segment file begins with a header of its own block, so that no record shares a sector with it.
const (
	headerBytes   = 4096
	formatVersion = 1
	headerMagic   = "QUORATEW"
	fileSuffix    = ".wal"
	lockName      = "LOCK"
)

// segment is one file in one of its uses.
type segment struct {
	path       string
	number     uint64 // of the file; stays the same when it is recycled
	file       vfs.File
	size       int64
	generation uint64 // of this use; one higher than that of the segment before it

	end        int64 // where the next record goes
	live       int   // entries of which this is the place
	liveBytes  int64
	emptySince uint64 // Invariant: if live is 0, the record with this number says so
	readers    int    // without the log's lock: it stays open, and in this use
}

func fileName(number uint64) string { return fmt.Sprintf("%08d%s", number, fileSuffix) }

func fileNumber(name string) (number uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, fileSuffix)
	if !ok || len(digits) < 8 {
		return 0, false
	}
	_, err := fmt.Sscanf(digits, "%d", &number)
	return number, err == nil && fileName(number) == name
}

func encodeHeader(generation uint64) []byte {
	b := make([]byte, headerBytes)
	copy(b, headerMagic)
	binary.BigEndian.PutUint32(b[8:], formatVersion)
	binary.BigEndian.PutUint64(b[16:], generation)
	binary.BigEndian.PutUint32(b[12:], headerChecksum(b))
	return b
}

func headerChecksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:24])
}

// errNoHeader: the segment was never used, or its header is damaged.
var errNoHeader = errors.New("no valid segment header")

// errVersion: another version of the program wrote the log.
var errVersion = errors.New("unknown format version")

func decodeHeader(b []byte) (generation uint64, err error) {
	if len(b) < 24 || string(b[:8]) != headerMagic || headerChecksum(b) != binary.BigEndian.Uint32(b[12:]) {
		return 0, errNoHeader
	}
	if version := binary.BigEndian.Uint32(b[8:]); version != formatVersion {
		return 0, fmt.Errorf("%w %d; this program knows version %d", errVersion, version, formatVersion)
	}
	if generation = binary.BigEndian.Uint64(b[16:]); generation == 0 {
		return 0, errNoHeader
	}
	return generation, nil
}

// openSegment opens a file that exists. headerErr is errNoHeader if it has none.
func openSegment(fs vfs.FS, dir string, number uint64) (s *segment, headerErr, err error) {
	path := fs.PathJoin(dir, fileName(number))
	file, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, nil, fmt.Errorf("wal: open %s: %w", path, err)
	}
	s = &segment{path: path, number: number, file: file}
	info, err := file.Stat()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("wal: %s: %w", path, err), file.Close())
	}
	s.size = info.Size()
	header := make([]byte, min(s.size, headerBytes))
	if err := readFull(file, header, 0); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("wal: read %s: %w", path, err), file.Close())
	}
	s.generation, headerErr = decodeHeader(header)
	if errors.Is(headerErr, errVersion) {
		err := fmt.Errorf("wal: %s: %w; use the version of the program that wrote it", path, headerErr)
		return nil, nil, errors.Join(err, file.Close())
	}
	s.end = headerBytes
	return s, headerErr, nil
}

func readFull(f vfs.File, b []byte, offset int64) error {
	n, err := f.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// begin makes the segment the one of the generation. It is durable when begin returns: recovery relies on
// no record ever standing behind a header that could be missing.
func (s *segment) begin(generation uint64) error {
	if _, err := s.file.WriteAt(encodeHeader(generation), 0); err != nil {
		return fmt.Errorf("wal: write the header of %s: %w", s.path, err)
	}
	if err := s.file.SyncData(); err != nil {
		return fmt.Errorf("wal: sync the header of %s: %w", s.path, err)
	}
	s.generation, s.end, s.live, s.liveBytes, s.emptySince = generation, headerBytes, 0, 0, 0
	return nil
}

func (s *segment) corrupt(offset int64, format string, args ...any) error {
	return fmt.Errorf("%w: log segment %s at offset %d: %s; what this node acknowledged is lost; see \"A node that lost its data\" in docs/operations.md",
		storage.ErrCorrupt, s.path, offset, fmt.Sprintf(format, args...))
}
