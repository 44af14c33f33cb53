// Package history checks what a cluster answered to its clients while it was disturbed.
//
// Every answer of the store carries the revision it was given at. So linearizability need not be searched
// for: the acknowledged writes, put in the order of their revisions, are the only order that can be meant.
// Check replays them on the sequential model (shard/model), compares every answer with what the model says at that
// revision, and holds the revisions against real time. That is linear in the length of the history, and exact.
// Registers is an independent opinion: it forgets the revisions and lets porcupine search.
//
// What has no revision of its own is held against what must, or may, have been so between its beginning and its end: errors that
// say something about the state (claims.go), leases and their time on clocks that drift (leases.go, lives.go).
// Writes that nobody was told of are explained by operations of unknown outcome, each by one of its own (unknown.go). Streams of
// watches are followed message by message (streams.go). Whoever knows what the log did (Commits) has more checked.
//
// Requests and answers that are in a history must not be changed any more.
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
	// Full are all events of the store from its first revision on, in order, whether compacted later or not.
	Full []kv.Event
	// Final is the revision of the store when the run was over.
	Final    kv.Revision
	Watchers []Watcher
	Streams  []Stream
	// Commits, if somebody can know, is what the log did, in its order; nil: not known, and less is checked.
	Commits []Commit
	// Sparse: the store has several shards, each with a log of its own, and Commits are those of all, in the order of time. Revisions are issued before they
	// take effect, and not applied in their order; one may never take effect, and is missing in Full then. A read tells one that was issued.
	Sparse bool
	// Issued, if Sparse, are the highest revisions that had been issued at some moments, ascending; nil: not known, and less is checked.
	Issued []Issue
	// ClockDrift: clocks of nodes run at 1-ClockDrift to 1+ClockDrift.
	ClockDrift float64
	// MaxEffectBytes is what the effects of a request may take at most: keys, values and EffectOverheadBytes each; 0: any.
	MaxEffectBytes int
	// ShardOf says where a key is, if Sparse: MaxEffectBytes is of what a request writes in one shard. Nil: all are in one.
	ShardOf func(key []byte) kv.ShardID
	// KeysPerExpiry is how many keys a lease loses at most at one revision; 0: all that it has.
	KeysPerExpiry int
	// HealthySince is from when on nothing was disturbed any more; 0: not known.
	HealthySince time.Duration
}

// Issue says which revision was the last one issued at a moment.
type Issue struct {
	At       time.Duration
	Revision kv.Revision
}

// Commit is one entry of the log that changed something that clients can see.
type Commit struct {
	At        time.Duration // when the first replica had applied it
	From      kv.Revision   // its first revision, if the history is sparse
	Revision  kv.Revision   // of the store after it; if the history is sparse, of its shard
	Compacted kv.Revision   // the compacted revision after it, if it compacted; else 0
}

// EffectOverheadBytes is what an effect counts beside its key and value.
const EffectOverheadBytes = 48

// serializable tells whether a read may be answered from an older state.
func (o *Operation) serializable() bool {
	switch o.Request.Kind {
	case kv.KindRange:
		return o.Request.Range.Serializable
	case kv.KindTxn:
		t := o.Request.Txn
		return len(t.Success)+len(t.Failure) > 0 && allSerializable(t.Success) && allSerializable(t.Failure)
	case kv.KindMemberList:
		return !o.Request.MemberList.Linearizable
	}
	return false
}

func allSerializable(ops []kv.Op) bool {
	for i := range ops {
		if ops[i].Range == nil || !ops[i].Range.Serializable {
			return false
		}
	}
	return true
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

// OutcomeOf says what a client knows from an error of a node or of its own side; nil is none.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Acknowledged
	}
	switch kv.CodeOf(err) {
	case 0, kv.ErrTimeout.Code, kv.ErrOutcomeUnknown.Code, kv.ErrStopped.Code,
		kv.ErrUnhealthy.Code, kv.ErrCanceled.Code, kv.ErrLeaseWaits.Code:
		return Unknown
	}
	return Refused
}

// eachOp calls fn with every operation of the request, at any depth, whether it ran or not.
func eachOp(r *kv.Request, fn func(*kv.Op)) {
	if r.Kind == kv.KindTxn {
		eachOpOfTxn(r.Txn, fn)
		return
	}
	fn(&kv.Op{Range: r.Range, Put: r.Put, DeleteRange: r.DeleteRange})
}

func eachOpOfTxn(t *kv.TxnRequest, fn func(*kv.Op)) {
	for _, ops := range [][]kv.Op{t.Success, t.Failure} {
		for i := range ops {
			if ops[i].Txn != nil {
				eachOpOfTxn(ops[i].Txn, fn)
			} else {
				fn(&ops[i])
			}
		}
	}
}

// eachPut calls fn with every put that the request may do.
func eachPut(r *kv.Request, fn func(*kv.PutRequest)) {
	eachOp(r, func(op *kv.Op) {
		if op.Put != nil {
			fn(op.Put)
		}
	})
}
