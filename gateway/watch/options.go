package watch

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// Options of a Hub.
type Options struct {
	// Source is the state of the only shard. With Shards set it is not used.
	Source Source
	// Shards says which shards may have keys of a span, in an order that is the same for all spans. Nil: there is one shard. It is called
	// without and with locks held, from any goroutine, and what it returns is not changed.
	Shards func(span kv.Span) []kv.ShardID
	// Sources are the states of all shards, if Shards is set. Then Known and Learn are needed, too.
	Sources map[kv.ShardID]Source
	// Known is the highest revision that this node has answered or heard of as issued. A watch without a start revision begins after it.
	Known func() kv.Revision
	// Learn calls got once, at once or later, from any goroutine: with how far the store had come at some moment after the call, or with an
	// error; nothing is known then. The present has one progress for each of the shards, in their order. The hub has one question in flight.
	Learn func(shards []kv.ShardID, got func(kv.Present, error))

	// Encode appends the encoding of an event, with its previous version or without; Event.Encoded caches it.
	Encode func(dst []byte, event *kv.Event, withPrev bool) []byte

	// StreamBytes bounds the outbox of a stream: keys, values and some overhead of what waits,
	// counted for each group. A revision that alone is larger passes, when it is read from history.
	StreamBytes int
	// RingBytes bounds the recent changes that are held, of all shards and all mergers of shards together, and those that may not be told yet because a
	// transaction is prepared; while their shares change, up to twice as much. Encodings of those that somebody watched come on top, and previous versions that are no larger than they are, so count with up to
	// five times as much.
	RingBytes int
	// ChunkBytes is how much history is read in one step of catching up.
	ChunkBytes int
	// MaxReaders is how many streams read of the state at the same time, for their watches that are behind and for previous versions; the others
	// wait for their turn. One that reads holds up to 2 ChunkBytes, or a revision that is larger and that it has reserved for, and one change
	// besides. Default: twice the CPUs.
	MaxReaders int
	// BatchBytes: a batch that has reached it takes no further revision.
	BatchBytes int
	// MaxControl bounds the answers (created, canceled, progress) that wait in an outbox; beyond it the
	// stream's requests wait.
	MaxControl int
	// MaxWatches bounds the watches of the node.
	MaxWatches int
	// MaxMergers bounds the sets of several shards whose changes are merged. Watches over further sets get the changes of all shards merged, so
	// that they wait for shards that they have nothing of.
	MaxMergers int

	// ProgressInterval is how often an idle watch that asked for it is told the progress; at least 100 ms.
	ProgressInterval time.Duration
	// Jitter returns a number in [0, n); added to the interval so that streams do not act in step.
	Jitter func(n int64) int64

	// Clock is monotonic; the same as given to Tick. It is asked only if there are several shards.
	Clock func() time.Duration
	// Wake is called, from any goroutine and with locks held, when Dispatch has something to do. Default: it wakes
	// the hub's own goroutine. Whoever sets it calls Dispatch.
	Wake func()
	// WakeIn is Wake for later, and called without locks: a question to Learn must wait for so long. Nil: the hub's own goroutine waits, or with
	// Wake set the question waits for the next call of Dispatch or Tick.
	WakeIn func(time.Duration)

	Listener Listener
}

// Listener is told what happens. Its functions may be nil and must be quick.
type Listener struct {
	// Lagging: watches were detached from the live feed because their stream's outbox is full or their client has no memory left.
	Lagging func(watches int)
	// Gap: the feed skipped revisions (a snapshot was installed, or the hub was too slow).
	Gap func(from, to kv.Revision)
}

const minProgressInterval = 100 * time.Millisecond

// WithDefaults returns a copy with defaults for what is not set.
func (o Options) WithDefaults() Options {
	o.StreamBytes = cmp.Or(o.StreamBytes, 4<<20)
	o.RingBytes = cmp.Or(o.RingBytes, 8<<20)
	o.ChunkBytes = cmp.Or(o.ChunkBytes, 256<<10)
	o.BatchBytes = cmp.Or(o.BatchBytes, 512<<10)
	o.MaxControl = cmp.Or(o.MaxControl, 1024)
	o.MaxReaders = cmp.Or(o.MaxReaders, 2*runtime.GOMAXPROCS(0))
	o.MaxWatches = cmp.Or(o.MaxWatches, 1_000_000)
	o.MaxMergers = cmp.Or(o.MaxMergers, 64)
	if o.ProgressInterval == 0 {
		o.ProgressInterval = 10 * time.Minute
	}
	o.ProgressInterval = max(o.ProgressInterval, minProgressInterval)
	if o.Jitter == nil {
		o.Jitter = rand.Int64N
	}
	if o.Clock == nil {
		start := time.Now()
		o.Clock = func() time.Duration { return time.Since(start) }
	}
	if o.Listener.Lagging == nil {
		o.Listener.Lagging = func(int) {}
	}
	if o.Listener.Gap == nil {
		o.Listener.Gap = func(kv.Revision, kv.Revision) {}
	}
	return o
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case o.Shards == nil && o.Source == nil:
		return errors.New("watch: Options.Source is missing")
	case o.Shards != nil && (len(o.Sources) == 0 || o.Known == nil || o.Learn == nil):
		return errors.New("watch: Options.Shards is set, and Options.Sources, Known or Learn is missing")
	case o.Encode == nil:
		return errors.New("watch: Options.Encode is missing")
	case o.StreamBytes < 0 || o.RingBytes < 0 || o.ChunkBytes < 0 || o.BatchBytes < 0:
		return fmt.Errorf("watch: a bound is negative (stream %d, ring %d, chunk %d, batch %d bytes)",
			o.StreamBytes, o.RingBytes, o.ChunkBytes, o.BatchBytes)
	case o.MaxReaders < 0:
		return fmt.Errorf("watch: Options.MaxReaders is negative (%d)", o.MaxReaders)
	case o.MaxMergers < 0:
		return fmt.Errorf("watch: Options.MaxMergers is negative (%d)", o.MaxMergers)
	}
	return nil
}
