package sim

import (
	"fmt"
	"strings"

	"github.com/quoratedb/quorate/kv"
)

// describeRequest writes a request for the trace.
func describeRequest(r *kv.Request) string {
	switch r.Kind {
	case kv.KindRange:
		return describeOp(&kv.Op{Range: r.Range})
	case kv.KindPut:
		return describeOp(&kv.Op{Put: r.Put})
	case kv.KindDeleteRange:
		return describeOp(&kv.Op{DeleteRange: r.DeleteRange})
	case kv.KindTxn:
		return describeOp(&kv.Op{Txn: r.Txn})
	case kv.KindCompact:
		return fmt.Sprintf("compact %d", r.Compact.Revision)
	case kv.KindLeaseGrant:
		return fmt.Sprintf("grant lease %d for %d s", r.LeaseGrant.ID, r.LeaseGrant.TTLSeconds)
	case kv.KindLeaseRevoke:
		return fmt.Sprintf("revoke lease %d", r.LeaseRevoke.ID)
	case kv.KindLeaseKeepAlive:
		return fmt.Sprintf("renew lease %d", r.LeaseKeepAlive.ID)
	case kv.KindLeaseTimeToLive:
		return fmt.Sprintf("ask for lease %d", r.LeaseTimeToLive.ID)
	}
	return fmt.Sprintf("request of kind %d", r.Kind)
}

func describeOp(op *kv.Op) string {
	switch {
	case op.Put != nil:
		text := fmt.Sprintf("put %s=%s", op.Put.Key, op.Put.Value)
		if op.Put.Lease != 0 {
			text += fmt.Sprintf(" lease %d", op.Put.Lease)
		}
		return text
	case op.DeleteRange != nil:
		return "delete " + describeSpan(op.DeleteRange.Span)
	case op.Range != nil:
		text := "get " + describeSpan(op.Range.Span)
		if op.Range.Revision != 0 {
			text += fmt.Sprintf(" at %d", op.Range.Revision)
		}
		if op.Range.Serializable {
			text += " locally"
		}
		return text
	case op.Txn != nil:
		return fmt.Sprintf("if %d compares then {%s} else {%s}", len(op.Txn.Compare), describeOps(op.Txn.Success), describeOps(op.Txn.Failure))
	}
	return "nothing"
}

func describeOps(ops []kv.Op) string {
	var texts []string
	for i := range ops {
		texts = append(texts, describeOp(&ops[i]))
	}
	return strings.Join(texts, "; ")
}

func describeSpan(s kv.Span) string {
	if s.Single() {
		return string(s.Start)
	}
	return fmt.Sprintf("[%q, %q)", s.Start, s.End)
}

// describeAnswer writes an answer for the trace.
func describeAnswer(r *kv.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	text := fmt.Sprintf("revision %d", r.Revision)
	switch {
	case r.Range != nil:
		text += ":"
		for i := range r.Range.KVs {
			e := &r.Range.KVs[i]
			text += fmt.Sprintf(" %s=%s@%d", e.Key, e.Value, e.ModRevision)
		}
	case r.Txn != nil:
		text += fmt.Sprintf(", succeeded %v", r.Txn.Succeeded)
	case r.DeleteRange != nil:
		text += fmt.Sprintf(", %d deleted", r.DeleteRange.Deleted)
	}
	return text
}
