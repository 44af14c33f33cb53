package etcdwire

import (
	"unsafe"

	"github.com/quoratedb/quorate/kv"
)

// DecodeTxn reads an etcdserverpb.TxnRequest. It returns kv.ErrTooManyOps before it
// allocates more operations than the limits allow.
func DecodeTxn(in []byte, out *kv.TxnRequest, limits Limits) error {
	*out = kv.TxnRequest{}
	limits = limits.withDefaults()
	return mergeTxn(in, out, limits, limits.TxnDepth)
}

// Tags of TxnRequest.
const (
	tagCompare = 1<<3 | wireBytes
	tagSuccess = 2<<3 | wireBytes
	tagFailure = 3<<3 | wireBytes
)

// mergeTxn adds the message's contents to out. remaining is how many more levels may be nested, this one included.
func mergeTxn(in []byte, out *kv.TxnRequest, limits Limits, remaining int) error {
	if remaining <= 0 {
		return ErrTooDeep
	}
	c := cursor{b: in}
	compares, successes, failures := c.countFields(tagCompare, tagSuccess, tagFailure)
	if limits.Memory != nil {
		if err := limits.Memory.Add(int64(compares)*compareBytes + int64(successes+failures)*opBytes); err != nil {
			return err
		}
	}
	compares += len(out.Compare)
	successes += len(out.Success)
	failures += len(out.Failure)
	inner := limits
	if longest := max(compares, successes, failures); limits.TxnOps > 0 {
		if longest > limits.TxnOps {
			return kv.ErrTooManyOps
		}
		// etcd gives the transactions within only what is left; 0 would mean "no limit" here.
		if inner.TxnOps -= longest; inner.TxnOps == 0 {
			inner.TxnOps = noOpsLeft
		}
	} else if limits.TxnOps == noOpsLeft && longest > 0 {
		return kv.ErrTooManyOps
	}
	reserve(&out.Compare, compares)
	reserve(&out.Success, successes)
	reserve(&out.Failure, failures)
	for c.more() {
		var err error
		switch c.tag() {
		case tagCompare:
			out.Compare = append(out.Compare, kv.Compare{})
			err = decodeCompare(c.bytes(), &out.Compare[len(out.Compare)-1])
		case tagSuccess:
			out.Success = append(out.Success, kv.Op{})
			err = decodeOp(c.bytes(), &out.Success[len(out.Success)-1], inner, remaining)
		case tagFailure:
			out.Failure = append(out.Failure, kv.Op{})
			err = decodeOp(c.bytes(), &out.Failure[len(out.Failure)-1], inner, remaining)
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

// What a compare, and an operation with the largest request, take in memory beside the input.
const (
	compareBytes = int64(unsafe.Sizeof(kv.Compare{}))
	opBytes      = int64(unsafe.Sizeof(kv.Op{}) + unsafe.Sizeof(kv.RangeRequest{}))
)

// noOpsLeft marks an operation budget that is used up.
const noOpsLeft = -1

// reserve makes room for exactly n elements in an empty slice. One that is merged into
// grows by doubling instead: a hostile message may merge once for every few bytes.
func reserve[T any](s *[]T, n int) {
	if *s == nil && n > 0 {
		*s = make([]T, 0, n)
	}
}

// decodeOp reads an etcdserverpb.RequestOp, a oneof: another case replaces the one before, the
// same one again is merged into it.
func decodeOp(in []byte, out *kv.Op, limits Limits, remaining int) error {
	c := cursor{b: in}
	for c.more() {
		var err error
		switch c.tag() {
		case 1<<3 | wireBytes:
			if out.Range == nil {
				*out = kv.Op{Range: new(kv.RangeRequest)}
			}
			err = mergeRange(c.bytes(), out.Range)
		case 2<<3 | wireBytes:
			if out.Put == nil {
				*out = kv.Op{Put: new(kv.PutRequest)}
			}
			err = mergePut(c.bytes(), out.Put)
		case 3<<3 | wireBytes:
			if out.DeleteRange == nil {
				*out = kv.Op{DeleteRange: new(kv.DeleteRangeRequest)}
			}
			err = mergeDeleteRange(c.bytes(), out.DeleteRange)
		case 4<<3 | wireBytes:
			if out.Txn == nil {
				*out = kv.Op{Txn: new(kv.TxnRequest)}
			}
			err = mergeTxn(c.bytes(), out.Txn, limits, remaining-1)
		default:
			c.skip()
		}
		if err != nil {
			return err
		}
	}
	return c.result()
}

// Field numbers of Compare's oneof target_union.
const (
	unionVersion = 4
	unionCreate  = 5
	unionMod     = 6
	unionValue   = 7
	unionLease   = 8
)

// compareUnion is the field of target_union that belongs to a target; 0 for an unknown one.
func compareUnion(t kv.CompareTarget) byte {
	switch t {
	case kv.CompareVersion:
		return unionVersion
	case kv.CompareCreate:
		return unionCreate
	case kv.CompareMod:
		return unionMod
	case kv.CompareValue:
		return unionValue
	case kv.CompareLease:
		return unionLease
	default:
		return 0
	}
}

// decodeCompare reads an etcdserverpb.Compare. The right-hand side counts only if it is the one that
// belongs to the target, whichever comes first on the wire; else etcd compares with zero or nothing.
func decodeCompare(in []byte, out *kv.Compare) error {
	var union byte
	c := cursor{b: in}
	for c.more() {
		switch tag := c.tag(); tag {
		case 1<<3 | wireVarint:
			out.Result = kv.CompareResult(c.enum())
		case 2<<3 | wireVarint:
			out.Target = kv.CompareTarget(c.enum())
		case 3<<3 | wireBytes:
			out.Span.Start = c.bytes()
		case unionVersion<<3 | wireVarint, unionCreate<<3 | wireVarint, unionMod<<3 | wireVarint, unionLease<<3 | wireVarint:
			union, out.Integer = byte(tag>>3), c.int64()
		case unionValue<<3 | wireBytes:
			union, out.Value = unionValue, c.bytes()
		case 64<<3 | wireBytes:
			out.Span.End = c.bytes()
		default:
			c.skip()
		}
	}
	if union != compareUnion(out.Target) || union == unionValue {
		out.Integer = 0
	}
	if union != compareUnion(out.Target) || union != unionValue {
		out.Value = nil
	}
	return c.result()
}
