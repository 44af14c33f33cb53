package wal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
)

// See DESIGN.md for the format.
const (
	recordHeaderBytes = 32
	recordAlignment   = 8
	maxSegmentBytes   = 1 << 31 // offsets are kept in 32 bits
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is the header of a record, and its payload.
type record struct {
	sequence uint64 // counts records from 1; the next record has the next number
	synced   uint64 // every record up to this one was durable when this one was written
	oldest   uint64 // generation of the oldest segment that was needed then
	payload  []byte
}

// checksum covers the generation, which is not stored in the record: what an earlier
// use left in a recycled segment is therefore never taken for new.
func checksum(generation uint64, header, payload []byte) uint32 {
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], generation)
	sum := crc32.Checksum(seed[:], castagnoli)
	sum = crc32.Update(sum, castagnoli, header[:4])
	sum = crc32.Update(sum, castagnoli, header[8:recordHeaderBytes])
	return crc32.Update(sum, castagnoli, payload)
}

// seal fills in the header of a record whose payload begins at recordHeaderBytes, and pads it.
func seal(buffer []byte, generation uint64, r record) []byte {
	binary.BigEndian.PutUint32(buffer[0:], uint32(len(buffer)-recordHeaderBytes))
	binary.BigEndian.PutUint64(buffer[8:], r.sequence)
	binary.BigEndian.PutUint64(buffer[16:], r.synced)
	binary.BigEndian.PutUint64(buffer[24:], r.oldest)
	binary.BigEndian.PutUint32(buffer[4:], checksum(generation, buffer, buffer[recordHeaderBytes:]))
	for len(buffer)%recordAlignment != 0 {
		buffer = append(buffer, 0)
	}
	return buffer
}

// recordBytes is the size on disk of a record with that payload.
func recordBytes(payload int) int64 {
	return (recordHeaderBytes + int64(payload) + recordAlignment - 1) / recordAlignment * recordAlignment
}

// plausible reads the header at the start of b, of which at least recordHeaderBytes are there.
// It says no to most of what is not a record, at the price of a comparison. room is
// how much there is left in the segment.
func plausible(b []byte, room int64) (r record, payload int, ok bool) {
	payload = int(binary.BigEndian.Uint32(b))
	r.sequence = binary.BigEndian.Uint64(b[8:])
	r.synced = binary.BigEndian.Uint64(b[16:])
	r.oldest = binary.BigEndian.Uint64(b[24:])
	return r, payload, r.sequence > r.synced && recordBytes(payload) <= room
}

// A part is what one record says about one group, in the order of the fields.
type part struct {
	group        consensus.GroupID
	drop         bool
	compact      *storage.LogPosition // the log begins after this entry
	reset        *storage.LogPosition
	truncateFrom consensus.Index
	entries      []entry
	hardState    *consensus.HardState
}

// entry knows where its data is within the payload.
type entry struct {
	consensus.Entry
	offset int
}

const (
	flagDrop = 1 << iota
	flagCompact
	flagReset
	flagTruncate
	flagEntries
	flagHardState
	flagsKnown = 1<<iota - 1
)

// appendPart encodes the part and sets the offsets of its entries, relative to the start of the payload.
func appendPart(b []byte, payloadStart int, p *part) []byte {
	b = binary.AppendUvarint(b, uint64(p.group))
	flags := len(b)
	b = append(b, 0)
	if p.drop {
		b[flags] |= flagDrop
	}
	if p.compact != nil {
		b[flags] |= flagCompact
		b = appendPosition(b, p.compact)
	}
	if p.reset != nil {
		b[flags] |= flagReset
		b = appendPosition(b, p.reset)
	}
	if p.truncateFrom != 0 {
		b[flags] |= flagTruncate
		b = binary.AppendUvarint(b, uint64(p.truncateFrom))
	}
	if len(p.entries) > 0 {
		b[flags] |= flagEntries
		b = appendEntries(b, payloadStart, p.entries)
	}
	if p.hardState != nil {
		b[flags] |= flagHardState
		b = binary.AppendUvarint(b, uint64(p.hardState.Term))
		b = binary.AppendUvarint(b, uint64(p.hardState.Vote))
		b = binary.AppendUvarint(b, uint64(p.hardState.Commit))
	}
	return b
}

func appendPosition(b []byte, p *storage.LogPosition) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(p.Index)), uint64(p.Term))
}

func appendEntries(b []byte, payloadStart int, entries []entry) []byte {
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for i := range entries {
		e := &entries[i]
		b = binary.AppendUvarint(b, uint64(e.Index))
		b = binary.AppendUvarint(b, uint64(e.Term))
		b = append(b, byte(e.Kind))
		b = binary.AppendUvarint(b, uint64(len(e.Data)))
		e.offset = len(b) - payloadStart
		b = append(b, e.Data...)
	}
	return b
}

var errMalformed = errors.New("the checksum is right but the content makes no sense")

// minEntryBytes is the least that an entry takes: four fields of one byte.
const minEntryBytes = 4

// decoder reads a payload. After an error everything reads as zero.
type decoder struct {
	payload []byte
	offset  int
	bad     bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.payload[d.offset:])
	if n <= 0 {
		d.bad = true
		d.offset = len(d.payload)
		return 0
	}
	d.offset += n
	return v
}

func (d *decoder) byte() byte {
	if d.offset == len(d.payload) {
		d.bad = true
		return 0
	}
	d.offset++
	return d.payload[d.offset-1]
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.payload)-d.offset) {
		d.bad = true
		d.offset = len(d.payload)
		return nil
	}
	d.offset += int(n)
	return d.payload[d.offset-int(n) : d.offset : d.offset]
}

func (d *decoder) position() *storage.LogPosition {
	return &storage.LogPosition{Index: consensus.Index(d.uvarint()), Term: consensus.Term(d.uvarint())}
}

// decodePayload returns the parts of a record. Their data aliases the payload.
func decodePayload(payload []byte) ([]part, error) {
	d := &decoder{payload: payload}
	var parts []part
	for d.offset < len(payload) {
		parts = append(parts, d.part())
		if d.bad {
			return nil, errMalformed
		}
	}
	return parts, nil
}

func (d *decoder) part() (p part) {
	p.group = consensus.GroupID(d.uvarint())
	flags := d.byte()
	if p.group == 0 || flags > flagsKnown {
		d.bad = true
	}
	p.drop = flags&flagDrop != 0
	if flags&flagCompact != 0 {
		p.compact = d.position()
	}
	if flags&flagReset != 0 {
		p.reset = d.position()
	}
	if flags&flagTruncate != 0 {
		p.truncateFrom = consensus.Index(d.uvarint())
	}
	if flags&flagEntries != 0 {
		p.entries = d.entries()
	}
	if flags&flagHardState != 0 {
		p.hardState = &consensus.HardState{
			Term: consensus.Term(d.uvarint()), Vote: consensus.ReplicaID(d.uvarint()), Commit: consensus.Index(d.uvarint()),
		}
	}
	return p
}

func (d *decoder) entries() []entry {
	count := d.uvarint()
	if count > uint64(len(d.payload)-d.offset)/minEntryBytes {
		d.bad = true
		return nil
	}
	entries := make([]entry, count)
	for i := range entries {
		e := &entries[i]
		e.Index, e.Term = consensus.Index(d.uvarint()), consensus.Term(d.uvarint())
		e.Kind = consensus.EntryKind(d.byte())
		length := d.uvarint()
		e.offset = d.offset
		e.Data = d.bytes(length)
		if e.Index == 0 || d.bad {
			d.bad = true
			return nil
		}
	}
	return entries
}

func storedChecksum(header []byte) uint32 { return binary.BigEndian.Uint32(header[4:]) }
