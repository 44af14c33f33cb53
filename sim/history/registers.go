package history

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/quoratedb/quorate/kv"
)

// step is what an operation did to one key: it saw a value, or that there was none; or set it.
type step struct {
	kind  stepKind
	value string // of saw, sawNot and set
}

type stepKind uint8

const (
	saw        stepKind = iota // the value
	sawNothing                 // the key did not exist
	sawNot                     // another value, or none
	sawSome                    // the key existed
	set
	unset
)

// register is the state of one key.
type register struct {
	exists bool
	value  string
}

func (r register) apply(steps []step) (bool, register) {
	for _, s := range steps {
		fits := true
		switch s.kind {
		case saw:
			fits = r.exists && r.value == s.value
		case sawNothing:
			fits = !r.exists
		case sawNot:
			fits = !r.exists || r.value != s.value
		case sawSome:
			fits = r.exists
		case set:
			r = register{exists: true, value: s.value}
		case unset:
			r = register{}
		}
		if !fits {
			return false, r
		}
	}
	return true, r
}

// Registers takes every key for a register of its own, forgets the revisions, and lets porcupine search for an order.
// undecided counts keys for which it did not find an answer in time.
func Registers(h *History, keys []string, timeout time.Duration) (problems []string, undecided int) {
	byKey := map[string][]porcupine.Operation{}
	seen := valuesSeen(h)
	last := time.Duration(0)
	for i := range h.Operations {
		last = max(last, h.Operations[i].Invoke, h.Operations[i].Return)
	}
	for i := range h.Operations {
		o := &h.Operations[i]
		if o.Outcome == Refused || o.serializable() || o.Outcome == Unknown && !matters(o, seen) {
			continue
		}
		end := o.Return
		if o.Outcome == Unknown {
			end = last + time.Second
		}
		for key, steps := range stepsOf(o, keys) {
			byKey[key] = append(byKey[key], porcupine.Operation{
				ClientId: o.Client, Input: steps, Call: int64(o.Invoke), Output: o, Return: int64(end),
			})
		}
	}
	m := porcupine.Model{
		Init: func() any { return register{} },
		Step: func(state, input, _ any) (bool, any) {
			return state.(register).apply(input.([]step))
		},
	}
	for _, key := range keys {
		switch porcupine.CheckOperationsTimeout(m, byKey[key], timeout) {
		case porcupine.Illegal:
			problems = append(problems, fmt.Sprintf("key %q: no order of its %d operations explains the answers", key, len(byKey[key])))
		case porcupine.Unknown:
			undecided++
		}
	}
	return problems, undecided
}

// valuesSeen are the values that the store ever held.
func valuesSeen(h *History) map[string]bool {
	seen := map[string]bool{}
	for i := range h.Full {
		seen[string(h.Full[i].KV.Value)] = true
	}
	return seen
}

// matters tells whether an operation of unknown outcome may have changed anything: not if the store never held its
// values. A transaction whose value it held succeeded.
func matters(o *Operation, seen map[string]bool) bool {
	if o.Request.Kind == kv.KindDeleteRange {
		return true
	}
	matters := false
	eachPut(o.Request, func(p *kv.PutRequest) { matters = matters || seen[string(p.Value)] })
	return matters
}

// stepsOf says what an operation did to each of the keys.
func stepsOf(o *Operation, keys []string) map[string][]step {
	steps := map[string][]step{}
	add := func(key string, s step) { steps[key] = append(steps[key], s) }
	known := o.Outcome == Acknowledged
	switch r := o.Request; r.Kind {
	case kv.KindRange:
		if known && r.Range.Revision == 0 {
			sawRange(r.Range, o.Response.Range, keys, add)
		}
	case kv.KindPut:
		add(string(r.Put.Key), step{set, string(r.Put.Value)})
	case kv.KindDeleteRange:
		var answer *kv.DeleteRangeResponse
		if known {
			answer = o.Response.DeleteRange
		}
		deleted(r.DeleteRange, answer, keys, add)
	case kv.KindTxn:
		succeeded := !known || o.Response.Txn.Succeeded
		if known {
			compared(r.Txn, succeeded, add)
		}
		branch := r.Txn.Success
		if !succeeded {
			branch = r.Txn.Failure
		}
		for i, op := range branch {
			switch {
			case op.Put != nil:
				add(string(op.Put.Key), step{set, string(op.Put.Value)})
			case op.DeleteRange != nil:
				var answer *kv.DeleteRangeResponse
				if known {
					answer = o.Response.Txn.Responses[i].DeleteRange
				}
				deleted(op.DeleteRange, answer, keys, add)
			case op.Range != nil && known:
				sawRange(op.Range, o.Response.Txn.Responses[i].Range, keys, add)
			}
		}
	}
	return steps
}

func sawRange(r *kv.RangeRequest, answer *kv.RangeResponse, keys []string, add func(string, step)) {
	if r.KeysOnly || r.CountOnly {
		return
	}
	found := map[string]string{}
	for i := range answer.KVs {
		found[string(answer.KVs[i].Key)] = string(answer.KVs[i].Value)
	}
	for _, key := range keys {
		if value, exists := found[key]; exists {
			add(key, step{saw, value})
		} else if !answer.More && r.Span.Contains([]byte(key)) {
			add(key, step{kind: sawNothing})
		}
	}
}

func deleted(r *kv.DeleteRangeRequest, answer *kv.DeleteRangeResponse, keys []string, add func(string, step)) {
	for _, key := range keys {
		if !r.Span.Contains([]byte(key)) {
			continue
		}
		if answer != nil && r.Span.Single() {
			if answer.Deleted > 0 {
				add(key, step{kind: sawSome})
			} else {
				add(key, step{kind: sawNothing})
			}
		}
		add(key, step{kind: unset})
	}
}

// compared says what a transaction's conditions tell about values.
func compared(t *kv.TxnRequest, succeeded bool, add func(string, step)) {
	for _, c := range t.Compare {
		if c.Target != kv.CompareValue || c.Result != kv.CompareEqual || !c.Span.Single() {
			continue
		}
		switch {
		case succeeded:
			add(string(c.Span.Start), step{saw, string(c.Value)})
		case len(t.Compare) == 1:
			add(string(c.Span.Start), step{sawNot, string(c.Value)})
		}
	}
}
