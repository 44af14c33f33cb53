package watch

import (
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/mvcc"
)

// ID names a watch within its stream.
type ID int64

// Special IDs, as in etcd's protocol.
const (
	AutoID ID = 0  // in a request: the stream chooses
	NoID   ID = -1 // in a batch: no watch in particular (a refused creation, progress of all)
)

// Filter is a set of kinds of events a watch does not want.
type Filter uint8

// Filters.
const (
	FilterNoPut Filter = 1 << iota
	FilterNoDelete
)

// CreateRequest asks for a watch. An empty Span.Start stands for the smallest key; Span.End
// follows kv.Span.
type CreateRequest struct {
	ID             ID
	Span           kv.Span
	StartRevision  kv.Revision // 0: after the current revision
	PrevKV         bool
	Filters        Filter
	ProgressNotify bool
	Fragment       bool
}

// Kind says what a Batch is.
type Kind uint8

// Kinds of batches.
const (
	// KindCreated answers a creation. With Err set the watch was refused and IDs holds NoID.
	KindCreated Kind = iota
	// KindCanceled ends watches: the client asked for it, or CompactRevision is set
	// because changes the watch needs are compacted. No batch of the watch follows.
	KindCanceled
	// KindEvents carries Events for each of IDs.
	KindEvents
	// KindProgress says that each of IDs (or with NoID every watch of the stream) has got all
	// its events up to Revision.
	KindProgress
)

func (k Kind) String() string {
	return [...]string{"created", "canceled", "events", "progress"}[k]
}

// Batch is what the sender of a stream sends next: one message for each of IDs. The
// receiver owns it; the events are shared with other streams and must not be changed.
type Batch struct {
	Kind     Kind
	IDs      []ID
	Revision kv.Revision // for the header
	Events   []*Event    // in revision order; a revision is never split over batches
	PrevKV   bool        // events are to be sent with their previous version
	Fragment bool        // the client accepts a batch in several messages
	// CompactRevision is set when the watches end because of a compaction.
	CompactRevision kv.Revision
	// Err is why a creation was refused: ErrEmptyRange, ErrDuplicateID, kv.ErrCompacted (negative
	// start revision), kv.ErrPermissionDenied, kv.ErrTooManyRequests. Of a watch that ends: it is not allowed any more.
	Err error

	sizeBytes int
	// heldBytes is what the batch takes of the client's memory, prevBytes the part of it for previous versions. An event
	// that several batches of a stream hold counts in the last of them.
	heldBytes, prevBytes int64
	wantedBytes          int64  // there was no memory for so much more that its first revision needs
	number               uint64 // in the order of the outbox
}

// Fragments calls send with the events in portions of less than maxBytes, as etcd does:
// every portion has at least one event. sizeBytes is the encoded size of one event; overheadBytes that of
// the rest of the message. more is false for the last one.
func (b *Batch) Fragments(overheadBytes, maxBytes int, sizeBytes func(*Event) int, send func(events []*Event, more bool) error) error {
	start, size := 0, overheadBytes
	for i, event := range b.Events {
		eventBytes := sizeBytes(event)
		if i > start && size+eventBytes >= maxBytes {
			if err := send(b.Events[start:i], true); err != nil {
				return err
			}
			start, size = i, overheadBytes
		}
		size += eventBytes
	}
	return send(b.Events[start:], false)
}

// Source is where the hub reads what it does not hold: the state of the local replica.
// All methods are safe for concurrent use.
type Source interface {
	// Revision is the revision up to which the applied state is complete; Compacted its compacted revision.
	Revision() kv.Revision
	Compacted() kv.Revision
	// View freezes the applied state.
	View() (View, error)
	// Replaced returns the version at the locator, which is not the newest of its key; found is false when it is compacted.
	Replaced(mvcc.Locator) (row kv.KeyValue, found bool, err error)
}

// View is a frozen applied state.
type View interface {
	// Closed is the revision up to which the state is complete: what it has above is none of its history yet.
	Closed() kv.Revision
	Compacted() kv.Revision
	// History calls fn for changes from revision from up to and including to, which is not above the closed one, in order, with
	// whole revisions, and stops at the end of the revision in which limitBytes of rows were reached.
	// It returns the next revision to ask for, to+1 when nothing is left. fn owns what it gets.
	History(from, to kv.Revision, limitBytes int64, fn func(*mvcc.Effect) error) (next kv.Revision, err error)
	// Changes is History from a place on, for whoever reads several shards: before a value is read, want is told where the change is, its key, which is valid
	// only during the call, and how many bytes it takes, and the reading ends before the first that is not wanted.
	Changes(from mvcc.Locator, to kv.Revision, want func(at mvcc.Locator, key []byte, bytes int64) bool, fn func(*mvcc.Effect) error) error
	Close() error
}
