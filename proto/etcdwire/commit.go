package etcdwire

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"github.com/quoratedb/quorate/kv"
)

// What nodes tell each other about transactions over several shards. etcd has no such messages. All fields of kv.CommitRequest and kv.CommitResponse travel,
// whichever the kind needs; those that are zero take no space.

// The fields of a CommitRequest.
const (
	commitID           = 1
	commitShard        = 2
	commitParticipants = 3 // uvarints, one after the other
	commitShare        = 4 // its presence counts
	commitPatient      = 5
	commitFinished     = 6
	commitBallot       = 7
	commitDecision     = 8
	commitOpen         = 9 // of commitFinished: one field each
)

// The fields of a CommitResponse; 1 is the header.
const (
	committedStanding = 2
	committedBusy     = 3
	committedMet      = 4 // a byte for each compare
	committedWrites   = 5
	committedResults  = 6
	committedPromised = 7
	committedAccepted = 8
	committedDecision = 9
)

func appendCommit(dst []byte, r *kv.CommitRequest) []byte {
	dst = appendTransactionID(dst, commitID, r.ID)
	dst = appendInt(dst, commitShard, int64(r.Shard))
	if len(r.Participants) > 0 {
		dst = appendHead(dst, commitParticipants, shardsSize(r.Participants))
		for _, id := range r.Participants {
			dst = binary.AppendUvarint(dst, uint64(id))
		}
	}
	if r.Share != nil {
		dst = appendShare(appendHead(dst, commitShare, shareSize(r.Share)), r.Share)
	}
	dst = appendBool(dst, commitPatient, r.Patient)
	dst = appendTransactionID(dst, commitFinished, r.Finished.At)
	for _, id := range r.Finished.Open {
		dst = appendTransactionID(dst, commitOpen, id)
	}
	dst = appendBallot(dst, commitBallot, r.Ballot)
	return appendDecision(dst, commitDecision, r.Decision)
}

func shardsSize(ids []kv.ShardID) (n int) {
	for _, id := range ids {
		n += varintSize(uint64(id))
	}
	return n
}

func appendTransactionID(dst []byte, number byte, id kv.TransactionID) []byte {
	if id == (kv.TransactionID{}) {
		return dst
	}
	dst = appendHead(dst, number, transactionIDSize(id))
	return appendInt(appendInt(appendInt(dst, 1, int64(id.Anchor)), 2, int64(id.Term)), 3, int64(id.Number))
}

func transactionIDSize(id kv.TransactionID) int {
	return intSize(int64(id.Anchor)) + intSize(int64(id.Term)) + intSize(int64(id.Number))
}

func appendBallot(dst []byte, number byte, b kv.Ballot) []byte {
	if b == (kv.Ballot{}) {
		return dst
	}
	dst = appendHead(dst, number, ballotSize(b))
	return appendInt(appendInt(appendInt(dst, 1, int64(b.Round)), 2, int64(b.Shard)), 3, int64(b.Term))
}

func ballotSize(b kv.Ballot) int {
	return intSize(int64(b.Round)) + intSize(int64(b.Shard)) + intSize(int64(b.Term))
}

func ballotFieldSize(b kv.Ballot) int { return bytesSize(ballotSize(b)) }

func appendDecision(dst []byte, number byte, d kv.Decision) []byte {
	if d == (kv.Decision{}) {
		return dst
	}
	dst = appendHead(dst, number, decisionSize(d))
	return appendInt(appendInt(dst, 1, int64(d.Verdict)), 2, int64(d.Revision))
}

func decisionSize(d kv.Decision) int { return intSize(int64(d.Verdict)) + intSize(int64(d.Revision)) }

func decisionFieldSize(d kv.Decision) int { return bytesSize(decisionSize(d)) }

func appendShare(dst []byte, s *kv.Share) []byte {
	for i := range s.Compares {
		e := &s.Compares[i]
		dst = appendHead(dst, 1, expectationSize(e))
		dst = appendCompare(appendHead(dst, 1, compareSize(&e.Compare)), &e.Compare)
		dst = appendBool(dst, 2, e.Holds)
	}
	for i := range s.Ops {
		o := &s.Ops[i]
		dst = appendHead(dst, 2, placedOpSize(o))
		dst = appendInt(dst, 1, int64(o.Place))
		dst = appendOp(appendHead(dst, 2, opSize(&o.Op)), &o.Op)
	}
	if s.Release != nil {
		dst = appendBinding(appendHead(dst, 3, bindingSize(s.Release)), s.Release)
	}
	return dst
}

func shareSize(s *kv.Share) (n int) {
	if s.Release != nil {
		n += messageSize(bindingSize(s.Release))
	}
	for i := range s.Compares {
		n += messageSize(expectationSize(&s.Compares[i]))
	}
	for i := range s.Ops {
		n += messageSize(placedOpSize(&s.Ops[i]))
	}
	return n
}

func expectationSize(e *kv.Expectation) int {
	return messageSize(compareSize(&e.Compare)) + boolSize(e.Holds)
}

func placedOpSize(o *kv.PlacedOp) int { return intSize(int64(o.Place)) + messageSize(opSize(&o.Op)) }

// decodeCommit reads what appendCommit wrote. What is decoded is reserved from the limits' memory before it is allocated.
func decodeCommit(in []byte, out *kv.CommitRequest, limits Limits) error {
	*out = kv.CommitRequest{}
	c := cursor{b: in}
	for c.more() {
		var err error
		switch c.tag() {
		case commitID<<3 | wireBytes:
			out.ID, err = decodeTransactionID(c.bytes())
		case commitShard<<3 | wireVarint:
			out.Shard = kv.ShardID(c.varint())
		case commitParticipants<<3 | wireBytes:
			out.Participants, err = decodeShards(c.bytes(), limits)
		case commitShare<<3 | wireBytes:
			out.Share = new(kv.Share)
			err = decodeShare(c.bytes(), out.Share, limits)
		case commitPatient<<3 | wireVarint:
			out.Patient = c.bool()
		case commitFinished<<3 | wireBytes:
			out.Finished.At, err = decodeTransactionID(c.bytes())
		case commitOpen<<3 | wireBytes:
			if len(out.Finished.Open) == kv.MaxOpen {
				return ErrMalformed
			}
			var id kv.TransactionID
			id, err = decodeTransactionID(c.bytes())
			out.Finished.Open = append(out.Finished.Open, id)
		case commitBallot<<3 | wireBytes:
			out.Ballot, err = decodeBallot(c.bytes())
		case commitDecision<<3 | wireBytes:
			out.Decision, err = decodeDecision(c.bytes())
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

func decodeShards(in []byte, limits Limits) (ids []kv.ShardID, err error) {
	n := 0
	for _, b := range in {
		if b < 0x80 { // the last byte of one
			n++
		}
	}
	if err := limits.Memory.Add(int64(n) * int64(unsafe.Sizeof(kv.ShardID(0)))); err != nil {
		return nil, err
	}
	reserve(&ids, n)
	c := cursor{b: in}
	for c.more() {
		ids = append(ids, kv.ShardID(c.varint()))
	}
	return ids, c.result()
}

func decodeTransactionID(in []byte) (kv.TransactionID, error) {
	n, err := decodeNumbers(in)
	return kv.TransactionID{Anchor: kv.ShardID(n[0]), Term: n[1], Number: n[2]}, err
}

func decodeBallot(in []byte) (kv.Ballot, error) {
	n, err := decodeNumbers(in)
	return kv.Ballot{Round: n[0], Shard: kv.ShardID(n[1]), Term: n[2]}, err
}

// decodeNumbers decodes a message of three numbers, which are its fields 1 to 3.
func decodeNumbers(in []byte) (numbers [3]uint64, err error) {
	c := cursor{b: in}
	for c.more() {
		switch tag := c.tag(); tag {
		case 1<<3 | wireVarint, 2<<3 | wireVarint, 3<<3 | wireVarint:
			numbers[tag>>3-1] = c.varint()
		default:
			c.skip()
		}
	}
	return numbers, c.result()
}

func decodeDecision(in []byte) (d kv.Decision, err error) {
	c := cursor{b: in}
	for c.more() {
		switch c.tag() {
		case 1<<3 | wireVarint:
			d.Verdict = kv.Verdict(c.enum())
		case 2<<3 | wireVarint:
			d.Revision = kv.Revision(c.int64())
		default:
			c.skip()
		}
	}
	return d, c.result()
}

// What a part of a share takes in memory beside the input, with the largest request.
const (
	expectationBytes = int64(unsafe.Sizeof(kv.Expectation{}))
	placedOpBytes    = int64(unsafe.Sizeof(kv.PlacedOp{}) + unsafe.Sizeof(kv.RangeRequest{}))
)

func decodeShare(in []byte, out *kv.Share, limits Limits) error {
	c := cursor{b: in}
	compares, ops, _ := c.countFields(1<<3|wireBytes, 2<<3|wireBytes, 0)
	if err := limits.Memory.Add(int64(compares)*expectationBytes + int64(ops)*placedOpBytes); err != nil {
		return err
	}
	reserve(&out.Compares, compares)
	reserve(&out.Ops, ops)
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireBytes:
			out.Compares = append(out.Compares, kv.Expectation{})
			err = decodeExpectation(c.bytes(), &out.Compares[len(out.Compares)-1])
		case 2<<3 | wireBytes:
			out.Ops = append(out.Ops, kv.PlacedOp{})
			err = decodePlacedOp(c.bytes(), &out.Ops[len(out.Ops)-1])
		case 3<<3 | wireBytes:
			out.Release = new(kv.LeaseBinding)
			err = decodeBinding(c.bytes(), out.Release)
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

func decodeExpectation(in []byte, out *kv.Expectation) error {
	c := cursor{b: in}
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireBytes:
			out.Compare = kv.Compare{}
			err = decodeCompare(c.bytes(), &out.Compare)
		case 2<<3 | wireVarint:
			out.Holds = c.bool()
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

// decodePlacedOp refuses transactions: those of a client are taken apart before shares are made of them.
func decodePlacedOp(in []byte, out *kv.PlacedOp) error {
	c := cursor{b: in}
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireVarint:
			place := c.varint()
			if place > math.MaxUint32 {
				c.fail()
			}
			out.Place = uint32(place)
		case 2<<3 | wireBytes:
			out.Op = kv.Op{}
			err = decodeOp(c.bytes(), &out.Op, Limits{}, 1) // one level is used up by the share
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

func appendCommitResponse(dst []byte, h Header, r *kv.CommitResponse) []byte {
	dst = appendInt(h.field(dst), committedStanding, int64(r.Standing))
	dst = appendBool(dst, committedBusy, r.Busy)
	if len(r.Met) > 0 {
		dst = appendHead(dst, committedMet, len(r.Met))
		for _, met := range r.Met {
			b := byte(0)
			if met {
				b = 1
			}
			dst = append(dst, b)
		}
	}
	dst = appendBool(dst, committedWrites, r.Writes)
	for i := range r.Results {
		dst = appendOpResponse(appendHead(dst, committedResults, opResponseSize(&r.Results[i])), &r.Results[i])
	}
	dst = appendBallot(dst, committedPromised, r.Promised)
	dst = appendBallot(dst, committedAccepted, r.Accepted)
	return appendDecision(dst, committedDecision, r.Decision)
}

func commitResponseSize(h Header, r *kv.CommitResponse) int {
	n := h.fieldSize() + intSize(int64(r.Standing)) + boolSize(r.Busy) + bytesSize(len(r.Met)) + boolSize(r.Writes)
	for i := range r.Results {
		n += messageSize(opResponseSize(&r.Results[i]))
	}
	return n + ballotFieldSize(r.Promised) + ballotFieldSize(r.Accepted) + decisionFieldSize(r.Decision)
}

func decodeCommitResponse(in []byte, rev *kv.Revision, out *kv.CommitResponse) error {
	c := cursor{b: in}
	results, _, _ := c.countFields(committedResults<<3|wireBytes, 0, 0)
	reserve(&out.Results, results)
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireBytes:
			err = decodeHeaderRevision(c.bytes(), rev)
		case committedStanding<<3 | wireVarint:
			out.Standing = kv.Standing(c.enum())
		case committedBusy<<3 | wireVarint:
			out.Busy = c.bool()
		case committedMet<<3 | wireBytes:
			out.Met = decodeMet(c.bytes())
		case committedWrites<<3 | wireVarint:
			out.Writes = c.bool()
		case committedResults<<3 | wireBytes:
			out.Results = append(out.Results, kv.OpResponse{})
			err = decodeOpResponse(c.bytes(), &out.Results[len(out.Results)-1], 1)
		case committedPromised<<3 | wireBytes:
			out.Promised, err = decodeBallot(c.bytes())
		case committedAccepted<<3 | wireBytes:
			out.Accepted, err = decodeBallot(c.bytes())
		case committedDecision<<3 | wireBytes:
			out.Decision, err = decodeDecision(c.bytes())
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	if err := c.result(); err != nil {
		return err
	}
	return knownOutcome(out)
}

// knownOutcome refuses what only a later version says: whoever took it for something else would forget a transaction that is not finished.
func knownOutcome(r *kv.CommitResponse) error {
	switch {
	case r.Standing > kv.StandingOver:
		return fmt.Errorf("a participant stands at %d with a transaction: %w", r.Standing, ErrUnknownKind)
	case r.Decision.Verdict > kv.Abort:
		return fmt.Errorf("the verdict about a transaction is %d: %w", r.Decision.Verdict, ErrUnknownKind)
	}
	return nil
}

func decodeMet(in []byte) (met []bool) {
	reserve(&met, len(in))
	for _, b := range in {
		met = append(met, b != 0)
	}
	return met
}
