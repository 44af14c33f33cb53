package shard

import (
	"encoding/binary"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// The format of a log entry (varints as in encoding/binary; "s" is signed zigzag):
//
//	byte    format, entryFormat
//	uvarint term, seq                  the chain of entries
//	uvarint lease clock                milliseconds
//	uvarint revision before the entry
//	uvarint number of effects, then each effect
//	uvarint number of ops, then each op
//
// An effect:
//
//	byte    flags
//	uvarint key length, key
//	        unless flagDelete:
//	uvarint value length, value
//	        unless flagCreates: uvarint version, uvarint revision - create revision
//	        if flagLease: svarint lease
//	        if flagPrev: uvarint revision - previous revision, uvarint previous sub-number
//	        if flagPrevLease: svarint lease of the previous version
//
// Revisions are not stored: an effect with flagNext is the first of the next revision, any other
// follows its predecessor within the same one. What a transaction over several shards changes came with an earlier op (commit_codec.go); ops about
// transactions take effect before the effects of the entry.
const entryFormat = 1

const (
	flagNext      = 1 << iota // first effect of its revision
	flagDelete                // a tombstone
	flagCreates               // version 1, created by this very revision
	flagLease                 // has a lease
	flagPrev                  // there is a version before
	flagPrevLive              // which is not a tombstone
	flagPrevLease             // and has a lease other than this one
	flagSameLease             // and has the same lease
)

// effectOverheadBytes and opOverheadBytes are generous bounds of what an encoded effect or op takes beside
// its key and value.
const (
	effectOverheadBytes = 48
	opOverheadBytes     = 40
)

// header is what comes before the effects of an entry.
type header struct {
	term       consensus.Term
	seq        uint64
	leaseClock int64
	base       kv.Revision
}

// entry is a decoded log entry.
type entry struct {
	header
	revision kv.Revision // after the entry
	effects  []mvcc.Effect
	ops      []op
}

// encodeProposal writes everything that is not in a proposal yet into one buffer.
func (m *Machine) encodeProposal(l *leadership) []byte {
	o := l.overlay
	h := header{term: l.term, seq: l.seq, leaseClock: l.proposed, base: l.revision}
	if o.sealed {
		h.base--
	} else if first := o.firstUntaken(); first != nil {
		h.base = first.At.Rev - 1
	}
	buf := make([]byte, 0, o.untakenBytes+o.nodeBytes()+64)
	buf = appendHeader(buf, &h)
	buf = binary.AppendUvarint(buf, uint64(o.changes.end()-o.takenChanges-o.untakenResolved))
	for at := o.takenChanges; at < o.changes.end(); at++ {
		if c := o.changes.at(at); !c.resolved {
			buf = appendEffect(buf, &c.Effect)
		}
	}
	buf = binary.AppendUvarint(buf, uint64(o.ops.end()-o.takenOps))
	for at := o.takenOps; at < o.ops.end(); at++ {
		buf = appendOp(buf, o.ops.at(at))
	}
	return buf
}

func (o *overlay) nodeBytes() int {
	n := 0
	if o.otherOps > 0 {
		for at := o.takenOps; at < o.ops.end(); at++ {
			switch p := o.ops.at(at); {
			case p.node != nil:
				n += nodeSizeBytes(p.node)
			case p.roster != nil:
				n += rosterBytes + seatBytes*len(p.roster.Seats)
			case p.encoded != nil:
				n += len(p.encoded)
			}
		}
	}
	return n
}

func appendHeader(buf []byte, h *header) []byte {
	buf = append(buf, entryFormat)
	buf = binary.AppendUvarint(buf, uint64(h.term))
	buf = binary.AppendUvarint(buf, h.seq)
	buf = binary.AppendUvarint(buf, uint64(h.leaseClock))
	return binary.AppendUvarint(buf, uint64(h.base))
}

func appendEffect(buf []byte, e *mvcc.Effect) []byte {
	return appendFlaggedEffect(buf, e, effectFlags(e))
}

func appendFlaggedEffect(buf []byte, e *mvcc.Effect, flags byte) []byte {
	buf = append(buf, flags)
	buf = appendBytes(buf, e.Key)
	if flags&flagDelete == 0 {
		buf = appendBytes(buf, e.Value)
		if flags&flagCreates == 0 {
			buf = binary.AppendUvarint(buf, uint64(e.Version))
			buf = binary.AppendUvarint(buf, uint64(e.At.Rev-e.Create))
		}
	}
	if flags&flagLease != 0 {
		buf = binary.AppendVarint(buf, int64(e.Lease))
	}
	if flags&flagPrev != 0 {
		buf = binary.AppendUvarint(buf, uint64(e.At.Rev-e.Prev.Rev))
		buf = binary.AppendUvarint(buf, uint64(e.Prev.Sub))
	}
	if flags&flagPrevLease != 0 {
		buf = binary.AppendVarint(buf, int64(e.PrevLease))
	}
	return buf
}

func effectFlags(e *mvcc.Effect) (flags byte) {
	if e.At.Sub == 0 {
		flags |= flagNext
	}
	if e.Version == 0 {
		flags |= flagDelete
	} else if e.Version == 1 && e.Create == e.At.Rev {
		flags |= flagCreates
	}
	if e.Lease != 0 {
		flags |= flagLease
	}
	if e.Prev != (mvcc.Locator{}) {
		flags |= flagPrev
	}
	if e.PrevLive {
		flags |= flagPrevLive
	}
	if e.PrevLease != 0 {
		if e.PrevLease == e.Lease {
			flags |= flagSameLease
		} else {
			flags |= flagPrevLease
		}
	}
	return flags
}

// decodeEntry reads an entry; its effects share the bytes of data.
func decodeEntry(data []byte) (*entry, error) {
	d := &decoder{data: data}
	if format := d.byte(); d.err == nil && format != entryFormat {
		return nil, fmt.Errorf("entry format %d, this version knows %d: %w", format, entryFormat, ErrMalformed)
	}
	e := &entry{}
	e.term, e.seq = consensus.Term(d.uvarint()), d.uvarint()
	e.leaseClock = d.positive()
	e.base = kv.Revision(d.positive())
	if n := d.count(2); n > 0 {
		e.effects = make([]mvcc.Effect, n)
	}
	at := mvcc.Locator{Rev: e.base}
	for i := range e.effects {
		d.effect(&e.effects[i], &at, i == 0)
	}
	e.revision = at.Rev
	if n := d.count(1); n > 0 {
		e.ops = make([]op, n)
	}
	for i := range e.ops {
		d.op(&e.ops[i])
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("decode an entry: %w", err)
	}
	if e.base > maxRevision || e.seq == 0 {
		return nil, fmt.Errorf("decode an entry: base revision %d, sequence number %d: %w", e.base, e.seq, ErrMalformed)
	}
	return e, nil
}

// maxRevision leaves room for arithmetic.
const maxRevision = 1 << 62

// effect reads one effect; at is the locator of the effect before and becomes that of this one.
func (d *decoder) effect(e *mvcc.Effect, at *mvcc.Locator, first bool) {
	flags := d.byte()
	switch {
	case flags&flagNext != 0:
		*at = mvcc.Locator{Rev: at.Rev + 1}
	case first:
		d.fail("the first effect does not start a revision")
	default:
		at.Sub++
	}
	e.At = *at
	e.Key = d.bytes()
	if flags&flagDelete == 0 {
		e.Value = d.bytes()
		e.Version, e.Create = 1, at.Rev
		if flags&flagCreates == 0 {
			e.Version = d.positive()
			e.Create = d.revisionBefore(at.Rev)
		}
		if e.Version == 0 {
			d.fail("a put of version 0")
		}
	}
	if flags&flagLease != 0 {
		e.Lease = kv.LeaseID(d.varint())
	}
	e.PrevLive = flags&flagPrevLive != 0
	if flags&flagPrev != 0 {
		e.Prev = mvcc.Locator{Rev: d.revisionBefore(at.Rev), Sub: uint32(d.uvarint())}
	}
	switch {
	case flags&flagPrevLease != 0:
		e.PrevLease = kv.LeaseID(d.varint())
	case flags&flagSameLease != 0:
		e.PrevLease = e.Lease
	}
	if len(e.Key) == 0 || flags&flagDelete != 0 && (e.Lease != 0 || !e.PrevLive) || !e.Prev.Less(e.At) {
		d.fail("an effect that makes no sense")
	}
}

func (d *decoder) revisionBefore(rev kv.Revision) kv.Revision {
	distance := d.uvarint()
	if distance > uint64(rev) {
		d.fail("a revision below zero")
		return 0
	}
	return rev - kv.Revision(distance)
}
