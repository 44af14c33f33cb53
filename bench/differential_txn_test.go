package main

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func quoted(in []byte) string { return fmt.Sprintf("%q", in) }

func (d *differential) txn() {
	r := d.txnRequest(0)
	if panicsEtcd(r) {
		return
	}
	d.both(methodTxn, r)
}

// twice is a transaction that deletes keys several times, or puts keys and deletes them: of an endless range etcd does not look whether it has a key that is put.
// All operations are answered with previous values, and reads stand between them.
func (d *differential) twice() {
	r := &pb.TxnRequest{}
	for range 2 + d.chance.IntN(4) {
		r.Success = append(r.Success, d.change(0))
	}
	if d.flip(3) {
		r.Compare, r.Failure = []*pb.Compare{d.compare()}, []*pb.RequestOp{d.change(0), d.change(0), d.change(0)}
	}
	d.both(methodTxn, r)
}

// change is an operation of such a transaction.
func (d *differential) change(depth int) *pb.RequestOp {
	key := []byte(letters[d.chance.IntN(len(letters))])
	switch n := d.chance.IntN(12); {
	case n == 0 && depth < 2:
		inner := &pb.TxnRequest{Success: []*pb.RequestOp{d.change(depth + 1), d.change(depth + 1)}}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: inner}}
	case n < 3:
		all := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, SortTarget: pb.RangeRequest_SortTarget(d.chance.IntN(5)), SortOrder: pb.RangeRequest_DESCEND}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: all}}
	case n < 6:
		put := &pb.PutRequest{Key: key, Value: d.value(), PrevKv: true}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
	case n < 9:
		endless := &pb.DeleteRangeRequest{Key: key, RangeEnd: []byte{0}, PrevKv: true}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: endless}}
	}
	some := &pb.DeleteRangeRequest{Key: key, RangeEnd: d.end(key), PrevKv: true}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: some}}
}

// txnRequest is a transaction; deeper ones have fewer operations.
func (d *differential) txnRequest(depth int) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range d.chance.IntN(3) {
		r.Compare = append(r.Compare, d.compare())
	}
	size := 4 - depth
	if depth == 0 && d.flip(40) {
		size = 130 // more than may be
	}
	readOnly := d.flip(4)
	for range d.chance.IntN(size + 1) {
		r.Success = append(r.Success, d.op(depth, readOnly))
	}
	for range d.chance.IntN(size + 1) {
		r.Failure = append(r.Failure, d.op(depth, readOnly))
	}
	return r
}

func (d *differential) op(depth int, readOnly bool) *pb.RequestOp {
	n := d.chance.IntN(20)
	switch {
	case n == 0 && d.flip(4):
		return &pb.RequestOp{}
	case n < 4 && depth < 3:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: d.txnRequest(depth + 1)}}
	case n < 9 || readOnly:
		r := d.rangeRequest()
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
	case n < 16:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: d.put(d.anyLease)}}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: d.deleteRange()}}
}

func (d *differential) compare() *pb.Compare {
	key := d.key()
	c := &pb.Compare{Key: key, Result: pb.Compare_CompareResult(d.chance.IntN(4)), Target: pb.Compare_CompareTarget(d.chance.IntN(5))}
	if d.flip(3) {
		c.RangeEnd = d.end(key)
	}
	if d.flip(30) {
		c.Result = pb.Compare_CompareResult(d.chance.IntN(9) - 2)
	}
	if d.flip(30) {
		c.Target = pb.Compare_CompareTarget(d.chance.IntN(9) - 2)
	}
	union := int(c.Target)
	if d.flip(15) {
		union = d.chance.IntN(6) // not the one that the target is about, or none
	}
	switch union {
	case 0:
		c.TargetUnion = &pb.Compare_Version{Version: d.chance.Int64N(4) - 1}
	case 1:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: d.at()}
	case 2:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: d.at()}
	case 3:
		c.TargetUnion = &pb.Compare_Value{Value: d.value()}
	case 4:
		c.TargetUnion = &pb.Compare_Lease{Lease: d.anyLease()}
	}
	return c
}

// panicsEtcd tells whether a transaction may end etcd's process. Its checks look at the state before the transaction: a put that
// keeps the value or the lease of a key that the transaction has deleted is beyond them.
func panicsEtcd(t *pb.TxnRequest) bool {
	deletes, keeps := false, false
	walk(t, func(op *pb.RequestOp) {
		put := op.GetRequestPut()
		deletes = deletes || op.GetRequestDeleteRange() != nil
		keeps = keeps || put.GetIgnoreValue() || put.GetIgnoreLease()
	})
	return deletes && keeps
}

// writesTwice tells whether a transaction may put a key and delete it. A range without an end escapes etcd's check, and ours.
func writesTwice(t *pb.TxnRequest) bool {
	endless, puts := false, false
	walk(t, func(op *pb.RequestOp) {
		endless = endless || string(op.GetRequestDeleteRange().GetRangeEnd()) == "\x00"
		puts = puts || op.GetRequestPut() != nil
	})
	return endless && puts
}

// walk visits all operations, those of nested transactions too.
func walk(t *pb.TxnRequest, visit func(*pb.RequestOp)) {
	for _, ops := range [][]*pb.RequestOp{t.GetSuccess(), t.GetFailure()} {
		for _, op := range ops {
			visit(op)
			if nested := op.GetRequestTxn(); nested != nil {
				walk(nested, visit)
			}
		}
	}
}
