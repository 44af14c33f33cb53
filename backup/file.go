package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
	"github.com/quoratedb/quorate/timeline"
)

// A data file is a header and blocks. A block is its kind, the lengths of what is stored and of what that decompresses to, a CRC-32C of all of that, and a
// frame of zstd. The last block is the end: what the file has, so a file that was cut off is noticed.
const (
	fileMagic       = "qrbkdat\x01" // the last byte is the format
	blockHeaderSize = 1 + 4 + 4 + 4

	blockVersions = 'v'
	blockLeases   = 'l'
	blockUsers    = 'u'
	blockTimes    = 't'
	blockEnd      = 'e'

	// blockBytes is what a block has about, before it is compressed. A version that is larger has one of its own.
	blockBytes = 256 << 10
	// maxBlockBytes bounds what a reader takes: more than the largest request that any cluster accepts.
	maxBlockBytes = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fileWriter makes a data file in memory.
type fileWriter struct {
	out    []byte
	raw    []byte
	kind   byte
	before kv.Revision // of the version before, in the block
	end    fileEnd
}

// fileEnd says what a file has.
type fileEnd struct {
	Digest Digest
	Items  int64        // leases, or points of time; a file has of one kind only
	Users  int64        // rows of users and roles
	First  mvcc.Locator // of its versions
	Last   mvcc.Locator
}

// encoder and decoder serve all files: they keep nothing between two blocks.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			panic(err) // of the options alone
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBlockBytes))
		if err != nil {
			panic(err)
		}
		return d
	})
)

func newFileWriter() *fileWriter {
	w := new(fileWriter)
	w.reset()
	return w
}

func (w *fileWriter) reset() {
	w.out = append(w.out[:0], fileMagic...)
	w.raw, w.kind, w.before, w.end = w.raw[:0], 0, 0, fileEnd{}
}

func (w *fileWriter) addVersion(v *Version) {
	w.begin(blockVersions)
	if w.end.Digest.Versions == 0 {
		w.end.First = v.At()
	}
	w.raw = appendVersion(w.raw, v, w.before)
	w.before = v.ModRevision
	w.end.Digest.Add(v)
	w.end.Last = v.At()
	w.filled()
}

func (w *fileWriter) addLease(l kv.Lease) {
	w.begin(blockLeases)
	w.raw = binary.AppendUvarint(w.raw, uint64(l.ID))
	w.raw = binary.AppendUvarint(w.raw, uint64(l.TTLSeconds))
	w.end.Items++
	w.filled()
}

// addTimes adds points, which make a block.
func (w *fileWriter) addTimes(points []timeline.Point) {
	w.begin(blockTimes)
	w.raw = timeline.AppendPoints(w.raw, points)
	w.end.Items += int64(len(points))
	w.block()
}

func (w *fileWriter) begin(kind byte) {
	if w.kind != kind {
		w.block()
		w.kind = kind
	}
}

func (w *fileWriter) filled() {
	if len(w.raw) >= blockBytes {
		w.block()
	}
}

// block ends the block that is being filled.
func (w *fileWriter) block() {
	if len(w.raw) > 0 {
		w.store(w.kind, w.raw)
	}
	w.raw, w.before = w.raw[:0], 0
}

func (w *fileWriter) store(kind byte, raw []byte) {
	at := len(w.out)
	w.out = append(w.out, make([]byte, blockHeaderSize)...)
	w.out = encoder().EncodeAll(raw, w.out)
	header := w.out[at : at+blockHeaderSize]
	header[0] = kind
	binary.LittleEndian.PutUint32(header[1:], uint32(len(w.out)-at-blockHeaderSize))
	binary.LittleEndian.PutUint32(header[5:], uint32(len(raw)))
	binary.LittleEndian.PutUint32(header[9:], blockSum(header, w.out[at+blockHeaderSize:]))
}

func blockSum(header, stored []byte) uint32 {
	return crc32.Update(crc32.Checksum(header[:9], castagnoli), castagnoli, stored)
}

// empty tells whether nothing was added since reset.
func (w *fileWriter) empty() bool { return w.end == fileEnd{} }

// size is about what the file takes so far.
func (w *fileWriter) size() int { return len(w.out) + len(w.raw) }

// finish gives the file, which belongs to the writer until reset.
func (w *fileWriter) finish() ([]byte, fileEnd) {
	w.block()
	var raw []byte
	for _, n := range []uint64{uint64(w.end.Digest.Versions), uint64(w.end.Digest.Bytes), w.end.Digest.Sum, uint64(w.end.Items),
		uint64(w.end.First.Rev), uint64(w.end.First.Sub), uint64(w.end.Last.Rev), uint64(w.end.Last.Sub)} {
		raw = binary.AppendUvarint(raw, n)
	}
	if w.end.Users > 0 {
		raw = binary.AppendUvarint(raw, uint64(w.end.Users))
	}
	w.store(blockEnd, raw)
	return w.out, w.end
}

// fileReader reads a data file from its beginning to its end. What it returns is valid until it is called again.
type fileReader struct {
	source  io.ReaderAt
	size    int64
	offset  int64
	window  []byte // what was read ahead, up to offset
	ahead   int
	raw     []byte
	block   decoding
	kind    byte
	before  kv.Revision
	found   fileEnd
	ended   bool
	version Version
}

// newFileReader reads ahead so many bytes.
func newFileReader(source io.ReaderAt, size int64, ahead int) (*fileReader, error) {
	r := &fileReader{source: source, size: size, ahead: ahead}
	magic, err := r.take(len(fileMagic))
	switch {
	case err != nil:
		return nil, err
	case string(magic) == fileMagic:
		return r, nil
	case string(magic[:len(magic)-1]) == fileMagic[:len(fileMagic)-1] && magic[len(magic)-1] > fileMagic[len(fileMagic)-1]:
		return nil, fmt.Errorf("a data file: %w (%d): use that version of Quorate", ErrNewerFormat, magic[len(magic)-1])
	}
	return nil, damagedf("it is not a data file")
}

// take gives the next n bytes of the file.
func (r *fileReader) take(n int) ([]byte, error) {
	if len(r.window) < n {
		left := r.size - r.offset
		if int64(n-len(r.window)) > left {
			return nil, damagedf("it ends in the middle")
		}
		more := int(min(left, int64(max(n, r.ahead)-len(r.window))))
		window := make([]byte, len(r.window)+more)
		copy(window, r.window)
		if read, err := r.source.ReadAt(window[len(r.window):], r.offset); read < more {
			if err == nil || errors.Is(err, io.EOF) {
				return nil, damagedf("it is shorter than it was")
			}
			return nil, err
		}
		r.offset += int64(more)
		r.window = window
	}
	taken := r.window[:n]
	r.window = r.window[n:]
	return taken, nil
}

// nextBlock reads a block; io.EOF if there is none.
func (r *fileReader) nextBlock() error {
	if r.ended {
		return io.EOF
	}
	header, err := r.take(blockHeaderSize)
	if err != nil {
		return err
	}
	kind := header[0]
	storedLength, rawLength := binary.LittleEndian.Uint32(header[1:]), binary.LittleEndian.Uint32(header[5:])
	if rawLength > maxBlockBytes || storedLength > maxBlockBytes {
		return damagedf("a block of %d bytes", max(rawLength, storedLength))
	}
	header = append(make([]byte, 0, blockHeaderSize), header...)
	stored, err := r.take(int(storedLength))
	if err != nil {
		return err
	}
	if blockSum(header, stored) != binary.LittleEndian.Uint32(header[9:]) {
		return damagedf("the checksum of a block is wrong")
	}
	r.raw, err = decoder().DecodeAll(stored, r.raw[:0])
	if err != nil || len(r.raw) != int(rawLength) {
		return damagedf("a block does not decompress: %v", err)
	}
	r.kind, r.block, r.before = kind, decoding{rest: r.raw}, 0
	if kind != blockEnd {
		return nil
	}
	r.ended = true
	return r.checkEnd()
}

// checkEnd compares what the file says that it has with what was found.
func (r *fileReader) checkEnd() error {
	d := &r.block
	n := func() uint64 { return d.uvarint(math.MaxUint64) }
	said := fileEnd{Digest: Digest{Versions: int64(n()), Bytes: int64(n()), Sum: n()}, Items: int64(n()),
		First: mvcc.Locator{Rev: kv.Revision(n()), Sub: uint32(n())}, Last: mvcc.Locator{Rev: kv.Revision(n()), Sub: uint32(n())}}
	if len(d.rest) > 0 {
		said.Users = int64(n())
	}
	switch {
	case d.failed || len(d.rest) > 0:
		return damagedf("its end cannot be read")
	case said != r.found:
		return damagedf("it has other versions than it says")
	case r.offset < r.size || len(r.window) > 0:
		return damagedf("there is something behind its end")
	}
	return io.EOF
}

// times gives the points of a file that has nothing else.
func (r *fileReader) times() (s timeline.Series, err error) {
	for {
		err := r.nextBlock()
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		points, err := timeline.DecodePoints(r.block.rest)
		if err != nil || r.kind != blockTimes {
			return s, damagedf("its times cannot be read")
		}
		r.found.Items += int64(len(points))
		before := len(s.Points())
		if s = timeline.Join(s, timeline.SeriesOf(points)); len(s.Points()) != before+len(points) {
			return s, damagedf("its times are not in order")
		}
	}
}

// next gives the next version, and a lease if that comes next; io.EOF at the end of a file that is whole.
func (r *fileReader) next() (*Version, *kv.Lease, error) {
	for len(r.block.rest) == 0 {
		if err := r.nextBlock(); err != nil {
			return nil, nil, err
		}
	}
	switch r.kind {
	case blockVersions:
		v := &r.version
		r.block.version(v, r.before)
		if r.block.failed {
			return nil, nil, damagedf("a version cannot be read")
		}
		if r.found.Digest.Versions == 0 {
			r.found.First = v.At()
		} else if !r.found.Last.Less(v.At()) {
			return nil, nil, damagedf("its versions are not in order")
		}
		r.before, r.found.Last = v.ModRevision, v.At()
		r.found.Digest.Add(v)
		return v, nil, nil
	case blockLeases:
		l := kv.Lease{ID: kv.LeaseID(r.block.uvarint(math.MaxUint64)), TTLSeconds: int64(r.block.uvarint(math.MaxInt64))}
		if r.block.failed || l.ID == 0 || l.TTLSeconds == 0 {
			return nil, nil, damagedf("a lease cannot be read")
		}
		r.found.Items++
		return nil, &l, nil
	}
	return nil, nil, damagedf("a block of an unknown kind, %q", r.kind)
}
