// Package history checks what a cluster answered to its clients while it was disturbed.
//
// Every answer of the store carries the revision it was given at. So linearizability need not be searched
// for: the acknowledged writes, put in the order of their revisions, are the only order that can be meant.
// Check replays them on the sequential model (shard/model), compares every answer with what the model says at that
// revision, and holds the revisions against real time. That is linear in the length of the history, and exact.
// Registers is an independent opinion: it forgets the revisions and lets porcupine search.
//
// Package history is pure: it gets times and events from whoever recorded them.
package history

import (
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Outcome is what a client knows about an operation.
type Outcome uint8

// The outcomes.
const (
	// Acknowledged operations were answered.
	Acknowledged Outcome = iota
	// Refused operations were answered with an error which says that they had no effect.
	Refused
	// Unknown operations may have taken effect, or may still.
	Unknown
)

// Operation is one request of a client and what became of it.
type Operation struct {
	Client int
	// Node is the one that was asked. Process numbers its starts; 0 if it was started anew during the operation.
	Node, Process int
	Request       *kv.Request
	Response      *kv.Response // of Acknowledged
	Outcome       Outcome
	Err           error         // of Refused and Unknown
	Invoke        time.Duration // before the request was sent
	Return        time.Duration // after the answer had come; meaningless for Unknown
}

// Batch is one message on a watch.
type Batch struct {
	At       time.Duration // when it was received
	Revision kv.Revision   // of the header
	Progress bool          // it says only that everything up to Revision was delivered
	Events   []kv.Event
}

// Watcher is what one watch delivered, over all its reconnections.
type Watcher struct {
	Name    string
	Span    kv.Span
	Start   kv.Revision // the first revision asked for
	PrevKV  bool
	Batches []Batch
}

// History is everything that was recorded of a run.
type History struct {
	Operations []Operation
	// Full are all events of the store from its first revision on, read when the run was over.
	Full []kv.Event
	// Final is the revision of the store when the run was over.
	Final    kv.Revision
	Watchers []Watcher
}

// Everything is the span of all keys.
func Everything() kv.Span { return kv.Span{Start: []byte{0}, End: []byte{0}} }

// reads tells whether the operation only looks.
func (o *Operation) reads() bool {
	switch o.Request.Kind {
	case kv.KindRange:
		return true
	case kv.KindTxn:
		return !writesInAny(o.Request.Txn)
	}
	return false
}

func writesInAny(t *kv.TxnRequest) bool {
	for _, ops := range [][]kv.Op{t.Success, t.Failure} {
		for _, op := range ops {
			if op.Range == nil {
				return true
			}
		}
	}
	return false
}

func (o *Operation) serializable() bool {
	return o.Request.Kind == kv.KindRange && o.Request.Range.Serializable
}

// wrote tells whether an acknowledged operation took a revision. A revocation does not say.
func (o *Operation) wrote() bool {
	switch o.Request.Kind {
	case kv.KindPut:
		return true
	case kv.KindDeleteRange:
		return o.Response.DeleteRange.Deleted > 0
	case kv.KindTxn:
		return txnWrote(o.Response.Txn)
	}
	return false
}

func txnWrote(t *kv.TxnResponse) bool {
	for _, r := range t.Responses {
		if r.Put != nil || r.DeleteRange != nil && r.DeleteRange.Deleted > 0 || r.Txn != nil && txnWrote(r.Txn) {
			return true
		}
	}
	return false
}

// eachPut calls fn with every put that the request may do.
func eachPut(r *kv.Request, fn func(*kv.PutRequest)) {
	switch r.Kind {
	case kv.KindPut:
		fn(r.Put)
	case kv.KindTxn:
		eachPutOfTxn(r.Txn, fn)
	}
}

func eachPutOfTxn(t *kv.TxnRequest, fn func(*kv.PutRequest)) {
	for _, ops := range [][]kv.Op{t.Success, t.Failure} {
		for _, op := range ops {
			switch {
			case op.Put != nil:
				fn(op.Put)
			case op.Txn != nil:
				eachPutOfTxn(op.Txn, fn)
			}
		}
	}
}
