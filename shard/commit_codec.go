package shard

import (
	"encoding/binary"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/latch"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// The ops about transactions over several shards, and the rows of records and of what is finished.
//
// An ID is
//
//	uvarint anchor, term, number
//
// What an op has after its kind:
//
//	opPrepare  ID, participants, share
//	opPromise  ID, participants, ballot
//	opAccept   ID, ballot, decision
//	opResolve  ID, decision
//	opFinished    ID: all before it of the same anchor are finished
//	opFinishedOpen  ID, open: so they are, but for those that are open
//
// Participants are their number and each of them, a ballot is round, shard and term, a decision the verdict (a byte) and, of a commit, the revision; all
// numbers are uvarints. A share is
//
//	uvarint number of accesses; each: a byte, 1 if it writes; length and bytes of the span's start, and of its end. If all keys of a lease are deleted,
//	        there is one more in front: a byte, 2; varint lease, uvarint incarnation
//	uvarint number of effects; if there are any, a revision above all that they name
//	        each: uvarint sub-number, then the effect as in codec.go, without flagNext, as if it were at that revision
//
// The row of a record has
//
//	byte    format, recordFormat
//	byte    recordPrepared or 0
//	        participants (none if it was resolved before anything else was known of it), promised and accepted ballot, accepted decision, decision
//	        if it is prepared: uvarint stamp, share
//
// and that of what is finished term and number of the ID and, if any are, which are open: their number; then term and number of each.
const recordFormat = 1

const recordPrepared = 1

// accessLease stands for the keys of a lease, in front of the accesses.
const accessLease = 2

// maxParticipants is how many shards a transaction can have. A message says it in a few KiB.
const maxParticipants = 4096

func appendID(buf []byte, id kv.TransactionID) []byte {
	buf = binary.AppendUvarint(buf, uint64(id.Anchor))
	buf = binary.AppendUvarint(buf, id.Term)
	return binary.AppendUvarint(buf, id.Number)
}

func (d *decoder) id() kv.TransactionID {
	id := kv.TransactionID{Anchor: kv.ShardID(d.uvarint()), Term: d.uvarint(), Number: d.uvarint()}
	if id.Anchor == 0 || id.Number == 0 {
		d.fail("a transaction without an anchor or a number")
	}
	return id
}

func appendOpen(buf []byte, open []kv.TransactionID) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(open)))
	for _, id := range open {
		buf = binary.AppendUvarint(binary.AppendUvarint(buf, id.Term), id.Number)
	}
	return buf
}

func (d *decoder) open(anchor kv.ShardID) (open []kv.TransactionID) {
	for range d.count(2) {
		open = append(open, kv.TransactionID{Anchor: anchor, Term: d.uvarint(), Number: d.uvarint()})
	}
	return open
}

func appendParticipants(buf []byte, list []kv.ShardID) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(list)))
	for _, id := range list {
		buf = binary.AppendUvarint(buf, uint64(id))
	}
	return buf
}

func (d *decoder) participants() []kv.ShardID {
	n := d.count(1)
	if n > maxParticipants {
		d.fail("a transaction with too many participants")
	}
	if n == 0 || d.err != nil {
		return nil
	}
	list := make([]kv.ShardID, n)
	for i := range list {
		if list[i] = kv.ShardID(d.uvarint()); list[i] == 0 || i > 0 && list[i] <= list[i-1] {
			d.fail("participants that are not in order")
		}
	}
	return list
}

func appendBallot(buf []byte, b kv.Ballot) []byte {
	buf = binary.AppendUvarint(buf, b.Round)
	buf = binary.AppendUvarint(buf, uint64(b.Shard))
	return binary.AppendUvarint(buf, b.Term)
}

func (d *decoder) ballot() kv.Ballot {
	return kv.Ballot{Round: d.uvarint(), Shard: kv.ShardID(d.uvarint()), Term: d.uvarint()}
}

func appendDecision(buf []byte, decision kv.Decision) []byte {
	if buf = append(buf, byte(decision.Verdict)); decision.Verdict == kv.Commit {
		buf = binary.AppendUvarint(buf, uint64(decision.Revision))
	}
	return buf
}

func (d *decoder) decision() kv.Decision {
	decision := kv.Decision{Verdict: kv.Verdict(d.byte())}
	if decision.Verdict == kv.Commit {
		decision.Revision = kv.Revision(d.positive())
	}
	if !validDecision(decision) {
		d.fail("a decision that makes no sense")
	}
	return decision
}

// validDecision tells whether a decision, or none, is one.
func validDecision(d kv.Decision) bool {
	switch d.Verdict {
	case kv.Undecided, kv.Abort:
		return d.Revision == 0
	case kv.Commit:
		return d.Revision > 0 && d.Revision < kv.Unnumbered
	}
	return false
}

func appendShare(buf []byte, r *record) []byte {
	accesses := len(r.accesses)
	if r.release != nil {
		accesses++
	}
	buf = binary.AppendUvarint(buf, uint64(accesses))
	if r.release != nil {
		buf = binary.AppendVarint(append(buf, accessLease), int64(r.release.Lease))
		buf = binary.AppendUvarint(buf, r.release.Incarnation)
	}
	for i := range r.accesses {
		a := &r.accesses[i]
		writes := byte(0)
		if a.Writes {
			writes = 1
		}
		buf = appendBytes(appendBytes(append(buf, writes), a.Span.Start), a.Span.End)
	}
	buf = binary.AppendUvarint(buf, uint64(len(r.effects)))
	if len(r.effects) == 0 {
		return buf
	}
	at := aboveAll(r.effects)
	buf = binary.AppendUvarint(buf, uint64(at))
	for i := range r.effects {
		e := numbered(&r.effects[i], at)
		buf = binary.AppendUvarint(buf, uint64(e.At.Sub))
		buf = appendFlaggedEffect(buf, &e, effectFlags(&e)&^flagNext)
	}
	return buf
}

// aboveAll is a revision above all numbered ones that the effects name: so what is written of these are short differences.
func aboveAll(effects []mvcc.Effect) kv.Revision {
	highest := kv.Revision(0)
	for i := range effects {
		for _, rev := range [...]kv.Revision{effects[i].Prev.Rev, effects[i].Create} {
			if rev < kv.Unnumbered {
				highest = max(highest, rev)
			}
		}
	}
	return highest + 1
}

// numbered returns an effect of a transaction at the revision that it gets.
func numbered(e *mvcc.Effect, at kv.Revision) mvcc.Effect { return renumbered(e, kv.Unnumbered, at) }

func renumbered(e *mvcc.Effect, from, to kv.Revision) mvcc.Effect {
	moved := *e
	for _, rev := range [...]*kv.Revision{&moved.At.Rev, &moved.Create, &moved.Prev.Rev} {
		if *rev == from {
			*rev = to
		}
	}
	return moved
}

// share reads what a record is prepared with.
func (d *decoder) share(r *record) {
	r.prepared = true
	accesses := d.count(3)
	if accesses > 0 && d.err == nil && len(d.data) > 0 && d.data[0] == accessLease {
		d.byte()
		r.release = &kv.LeaseBinding{Lease: kv.LeaseID(d.varint()), Incarnation: d.uvarint()}
		if r.release.Lease == 0 || r.release.Incarnation == 0 {
			d.fail("the keys of no lease are deleted")
		}
		accesses--
	}
	if accesses > 0 {
		r.accesses = make([]latch.Access, accesses)
	}
	for i := range r.accesses {
		a := &r.accesses[i]
		switch d.byte() {
		case 0:
		case 1:
			a.Writes = true
		default:
			d.fail("an access that neither reads nor writes")
		}
		if a.Span.Start, a.Span.End = d.bytes(), d.bytes(); len(a.Span.End) == 0 {
			a.Span.End = nil
		}
	}
	n := d.count(3)
	if n == 0 {
		return
	}
	rev := kv.Revision(d.positive())
	if rev < 1 || rev >= kv.Unnumbered {
		d.fail("effects of a transaction at a revision that makes no sense")
	}
	r.effects = make([]mvcc.Effect, n)
	for i := range r.effects {
		d.shareEffect(&r.effects[i], rev)
		if i > 0 && !r.effects[i-1].At.Less(r.effects[i].At) {
			d.fail("effects of a transaction that are not in order")
		}
	}
}

func (d *decoder) shareEffect(e *mvcc.Effect, rev kv.Revision) {
	sub := d.uvarint()
	if sub > 1<<32-1 {
		d.fail("an effect at a place that makes no sense")
		return
	}
	at := mvcc.Locator{Rev: rev, Sub: uint32(sub) - 1} // the effect comes behind it
	d.effect(e, &at, false)
	if want := (mvcc.Locator{Rev: rev, Sub: uint32(sub)}); d.err == nil && at != want {
		d.fail("effects of a transaction with more than one revision")
	}
	*e = renumbered(e, rev, kv.Unnumbered)
}

func appendRecord(buf []byte, r *record) []byte {
	prepared := byte(0)
	if r.prepared {
		prepared = recordPrepared
	}
	buf = appendParticipants(append(buf, recordFormat, prepared), r.participants)
	buf = appendBallot(appendBallot(buf, r.promised), r.accepted)
	buf = appendDecision(appendDecision(buf, r.value), r.decision)
	if r.prepared {
		buf = appendShare(binary.AppendUvarint(buf, uint64(r.stamp)), r)
	}
	return buf
}

// record reads the row of a record.
func (d *decoder) record(id kv.TransactionID) *record {
	r := &record{id: id}
	if format := d.byte(); d.err == nil && format != recordFormat {
		d.fail("a record of a transaction in a format that this version does not know")
	}
	prepared := d.byte()
	r.participants = d.participants()
	r.promised, r.accepted = d.ballot(), d.ballot()
	r.value, r.decision = d.decision(), d.decision()
	switch prepared {
	case 0:
	case recordPrepared:
		r.stamp = kv.Revision(d.positive())
		d.share(r)
	default:
		d.fail("a record of a transaction that makes no sense")
	}
	return r
}

// appendCommitOp writes what an op about a transaction has after its kind.
func appendCommitOp(buf []byte, p *op) []byte {
	r := p.record
	buf = appendID(buf, r.id)
	switch p.kind {
	case opPrepare:
		buf = appendShare(appendParticipants(buf, r.participants), r)
	case opPromise:
		buf = appendBallot(appendParticipants(buf, r.participants), r.promised)
	case opAccept:
		buf = appendDecision(appendBallot(buf, r.accepted), r.value)
	case opResolve:
		buf = appendDecision(buf, r.decision)
	case opFinishedOpen:
		buf = appendOpen(buf, r.open)
	}
	return buf
}

func (d *decoder) commitOp(kind opKind) *record {
	r := &record{id: d.id()}
	switch kind {
	case opPrepare:
		if r.participants = d.participants(); len(r.participants) == 0 {
			d.fail("a transaction is prepared without participants")
		}
		d.share(r)
	case opPromise:
		r.participants = d.participants()
		r.promised = d.ballot()
	case opAccept:
		if r.accepted, r.value = d.ballot(), d.decision(); r.value.Verdict == kv.Undecided {
			d.fail("no decision is accepted")
		}
	case opResolve:
		if r.decision = d.decision(); r.decision.Verdict == kv.Undecided {
			d.fail("a transaction is resolved without a decision")
		}
	case opFinishedOpen:
		if r.open = d.open(r.id.Anchor); len(r.open) == 0 {
			d.fail("it leaves none out")
		}
		if finished := r.finished(); !finished.Valid() {
			d.fail("something finished that makes no sense")
		}
	}
	return r
}
