package history

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// describe writes a response for people; long values are cut off.
func describe(r *kv.Response) string {
	var b strings.Builder
	switch r.Kind {
	case kv.KindRange:
		describeRange(&b, r.Range)
	case kv.KindPut:
		describePut(&b, r.Put)
	case kv.KindDeleteRange:
		describeDelete(&b, r.DeleteRange)
	case kv.KindTxn:
		describeTxn(&b, r.Txn)
	}
	return b.String()
}

func describeRange(b *strings.Builder, r *kv.RangeResponse) {
	fmt.Fprintf(b, "range of %d, more %v:", r.Count, r.More)
	for i := range r.KVs {
		describeKV(b, &r.KVs[i])
	}
}

func describePut(b *strings.Builder, r *kv.PutResponse) {
	b.WriteString("put")
	if r.Prev != nil {
		b.WriteString(" over")
		describeKV(b, r.Prev)
	}
}

func describeDelete(b *strings.Builder, r *kv.DeleteRangeResponse) {
	fmt.Fprintf(b, "deleted %d:", r.Deleted)
	for i := range r.Prev {
		describeKV(b, &r.Prev[i])
	}
}

func describeTxn(b *strings.Builder, r *kv.TxnResponse) {
	fmt.Fprintf(b, "txn %v {", r.Succeeded)
	for _, one := range r.Responses {
		switch {
		case one.Range != nil:
			describeRange(b, one.Range)
		case one.Put != nil:
			describePut(b, one.Put)
		case one.DeleteRange != nil:
			describeDelete(b, one.DeleteRange)
		case one.Txn != nil:
			describeTxn(b, one.Txn)
		}
		fmt.Fprintf(b, " @%d; ", one.Revision)
	}
	b.WriteString("}")
}

func describeKV(b *strings.Builder, e *kv.KeyValue) {
	fmt.Fprintf(b, " %q=%.60q(create %d mod %d version %d lease %x)", e.Key, e.Value, e.CreateRevision, e.ModRevision, e.Version, int64(e.Lease))
}

// describeEvents writes events, with the versions before them if asked.
func describeEvents(events []kv.Event, withPrev bool) string {
	var b strings.Builder
	for i := range events {
		e := &events[i]
		if e.Type == kv.EventDelete {
			fmt.Fprintf(&b, " -%q(mod %d)", e.KV.Key, e.KV.ModRevision)
		} else {
			describeKV(&b, &e.KV)
		}
		if withPrev && e.Prev != nil {
			b.WriteString(" was")
			describeKV(&b, e.Prev)
		}
	}
	return b.String()
}

// name says which operation is meant.
func (o *Operation) name() string {
	return fmt.Sprintf("%s of client %d at node %d (%v to %v)", describeRequest(o.Request), o.Client, o.Node, o.Invoke, o.Return)
}

func describeRequest(r *kv.Request) string {
	switch r.Kind {
	case kv.KindRange:
		mode := ""
		if r.Range.Serializable {
			mode = " serializable"
		}
		return fmt.Sprintf("range [%q %q) at %d%s", r.Range.Span.Start, r.Range.Span.End, r.Range.Revision, mode)
	case kv.KindPut:
		return fmt.Sprintf("put %q=%.60q lease %x", r.Put.Key, r.Put.Value, int64(r.Put.Lease))
	case kv.KindDeleteRange:
		return fmt.Sprintf("delete [%q %q)", r.DeleteRange.Span.Start, r.DeleteRange.Span.End)
	case kv.KindTxn:
		return "txn" + describeOps(r.Txn.Success)
	case kv.KindLeaseGrant:
		return fmt.Sprintf("grant lease %x", int64(r.LeaseGrant.ID))
	case kv.KindLeaseRevoke:
		return fmt.Sprintf("revoke lease %x", int64(r.LeaseRevoke.ID))
	case kv.KindLeaseKeepAlive:
		return fmt.Sprintf("renew lease %x", int64(r.LeaseKeepAlive.ID))
	}
	return fmt.Sprintf("request of kind %d", r.Kind)
}

func describeOps(ops []kv.Op) string {
	var b strings.Builder
	for _, op := range ops {
		switch {
		case op.Put != nil:
			fmt.Fprintf(&b, " put %q=%.60q", op.Put.Key, op.Put.Value)
		case op.DeleteRange != nil:
			fmt.Fprintf(&b, " delete %q", op.DeleteRange.Span.Start)
		case op.Range != nil:
			fmt.Fprintf(&b, " range %q", op.Range.Span.Start)
		}
	}
	return b.String()
}

// Dump writes the operations and what the watches delivered in the order of their ends, for people.
func Dump(w io.Writer, h *History) {
	type line struct {
		at   time.Duration
		text string
	}
	var lines []line
	for i := range h.Operations {
		o := &h.Operations[i]
		text := fmt.Sprintf("%v %v", o.Outcome, o.Err)
		if o.Outcome == Acknowledged {
			text = fmt.Sprintf("revision %d %s", o.Response.Revision, describe(o.Response))
		}
		lines = append(lines, line{o.Return, fmt.Sprintf("%12v %12v client %2d node %d process %d: %s: %s", o.Invoke, o.Return, o.Client, o.Node, o.Process, describeRequest(o.Request), text)})
	}
	for _, watcher := range h.Watchers {
		for _, b := range watcher.Batches {
			lines = append(lines, line{b.At, fmt.Sprintf("%12v %12v watcher %s: revision %d progress %v%s", b.At, b.At, watcher.Name, b.Revision, b.Progress, describeEvents(b.Events, false))})
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return int(a.at - b.at) })
	for _, l := range lines {
		fmt.Fprintln(w, l.text)
	}
}
