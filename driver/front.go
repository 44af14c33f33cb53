package driver

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// front is what any goroutine may touch of a driver. A Replica knows no more of it.
type front struct {
	opts    Options
	clock   func() time.Duration
	inbox   inbox
	wake    chan struct{}
	support *support
	groups  atomic.Pointer[map[consensus.GroupID]*driven] // the map is never changed in place
	admission
	notices
	runLoop
	// roundHere does a round in the goroutine that calls it, or has one done soon; see Driver.doRoundHere.
	roundHere func()
	failure   atomic.Pointer[error]
	asker     atomic.Pointer[Asker]
	// unwitnessed is what Unwitnessed returns.
	unwitnessed atomic.Pointer[[]kv.NodeID]

	context context.Context // ends with Close
	stop    context.CancelFunc
	workers sync.WaitGroup // run loop, syncs and snapshots
	spawn   func(func())
}

// admission counts the requests that are not answered.
type admission struct {
	queued      atomic.Int64
	queuedBytes atomic.Int64 // their sizes
}

// notices is whether news wait for another message to the same node.
type notices struct {
	holding atomic.Bool // some do
	hurry   atomic.Bool // somebody waits for them
	inRound atomic.Bool
}

// Err returns why the driver stopped by itself; nil while it works.
func (f *front) Err() error {
	if p := f.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// stopped tells why nothing is taken any more; nil while the driver works.
func (f *front) stopped() error {
	switch {
	case f.Err() != nil:
		return kv.ErrUnhealthy
	case f.context.Err() != nil:
		return kv.ErrStopped
	}
	return nil
}

// kick makes the run loop do a round soon.
func (f *front) kick() {
	if f.opts.Wake != nil {
		f.opts.Wake()
		return
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// call runs do in the driver's goroutine in the next round, unless the driver stops before.
func (f *front) call(do func()) {
	if f.inbox.addCall(call{do: do}) {
		f.kick()
	}
}

// ask is call for somebody who waits: exactly one of do and refused is called.
func (f *front) ask(do func(), refused func(error)) {
	if f.inbox.addCall(call{do: do, refused: refused}) {
		f.kick()
		return
	}
	err := f.stopped()
	if err == nil {
		err = kv.ErrStopped
	}
	refused(err)
}

// letIn counts a request that is to be answered, unless there are too many. One may be of any size.
func (f *front) letIn(sizeBytes int64) bool {
	requests, bytes := f.queued.Add(1), f.queuedBytes.Add(sizeBytes)
	if requests > int64(f.opts.MaxQueued) || bytes > f.opts.MaxQueuedBytes && bytes > sizeBytes {
		f.letOut(sizeBytes)
		return false
	}
	return true
}

// letOut is called when the request is answered.
func (f *front) letOut(sizeBytes int64) {
	f.queued.Add(-1)
	f.queuedBytes.Add(-sizeBytes)
}

// tellCommitted makes notices leave at once.
func (f *front) tellCommitted() {
	f.hurry.Store(true)
	if f.holding.Load() && !f.inRound.Load() { // a round looks at its end
		f.kick()
	}
}
