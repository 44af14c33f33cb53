package watch

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// Options of a Hub.
type Options struct {
	Source Source
	// Encode appends the encoding of an event, with its previous version or without; Event.Encoded caches it.
	Encode func(dst []byte, event *kv.Event, withPrev bool) []byte

	// StreamBytes bounds the outbox of a stream: keys, values and some overhead of what waits,
	// counted for each group. A revision that alone is larger passes, when it is read from history.
	StreamBytes int
	// RingBytes bounds the recent changes that are held. Encodings of those that somebody watched come on top, and previous
	// versions that are no larger than they are, so count with up to five times as much.
	RingBytes int
	// ChunkBytes is how much history is read in one step of catching up.
	ChunkBytes int
	// BatchBytes: a batch that has reached it takes no further revision.
	BatchBytes int
	// MaxControl bounds the answers (created, canceled, progress) that wait in an outbox; beyond it the
	// stream's requests wait.
	MaxControl int
	// MaxWatches bounds the watches of the node.
	MaxWatches int

	// ProgressInterval is how often an idle watch that asked for it is told the progress; at least 100 ms.
	ProgressInterval time.Duration
	// Jitter returns a number in [0, n); added to the interval so that streams do not act in step.
	Jitter func(n int64) int64

	// Wake is called, from any goroutine and with locks held, when Dispatch has something to do. Default: it wakes
	// the hub's own goroutine. Whoever sets it calls Dispatch.
	Wake func()

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
	o.MaxWatches = cmp.Or(o.MaxWatches, 1_000_000)
	if o.ProgressInterval == 0 {
		o.ProgressInterval = 10 * time.Minute
	}
	o.ProgressInterval = max(o.ProgressInterval, minProgressInterval)
	if o.Jitter == nil {
		o.Jitter = rand.Int64N
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
	case o.Source == nil:
		return errors.New("watch: Options.Source is missing")
	case o.Encode == nil:
		return errors.New("watch: Options.Encode is missing")
	case o.StreamBytes < 0 || o.RingBytes < 0 || o.ChunkBytes < 0 || o.BatchBytes < 0:
		return fmt.Errorf("watch: a bound is negative (stream %d, ring %d, chunk %d, batch %d bytes)",
			o.StreamBytes, o.RingBytes, o.ChunkBytes, o.BatchBytes)
	}
	return nil
}

// Hub fans changes out to the streams of a node. Safe for concurrent use.
//
// Locks, in this order: mu, then one or more streams' mu (several only by the dispatcher), then feedMu or that of starved.
type Hub struct {
	options Options

	mu         sync.Mutex
	live       liveGroups
	dispatched kv.Revision // every change up to here is in the outboxes of the live groups
	streams    map[*Stream]struct{}
	lastNumber uint64    // of streams and groups; the order of their making
	asking     list.List // streams whose progress request waits for dispatched, in the order of what they wait for
	watches    int
	periodic   periodic
	closed     bool

	// Scratch of the dispatcher.
	records []*record
	spots   []*spot
	held    []*Stream
	touched []*Stream

	feedMu sync.Mutex
	feed   ring

	starved starved

	// listening: somebody waits for changes, so the dispatcher is to be woken.
	listening atomic.Bool
	wake      chan struct{}
	stop      chan struct{}
	done      sync.WaitGroup

	staleRevision kv.Revision // of the last Tick: the applied revision, when the feed was behind it
	metrics       counters
}

// NewHub returns a running hub; Close ends it.
func NewHub(options Options) (*Hub, error) {
	h, err := newHub(options)
	if err != nil || options.Wake != nil {
		return h, err
	}
	h.done.Add(1)
	go h.run()
	return h, nil
}

// newHub returns a hub of which somebody else calls dispatch.
func newHub(options Options) (*Hub, error) {
	options = options.WithDefaults()
	if err := options.Validate(); err != nil {
		return nil, err
	}
	h := &Hub{
		options: options, streams: map[*Stream]struct{}{}, live: newLiveGroups(), periodic: newPeriodic(),
		wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	h.feed = ring{limitBytes: options.RingBytes, last: options.Source.Revision()}
	h.dispatched = h.feed.last
	return h, nil
}

// Close ends the dispatcher and all streams.
func (h *Hub) Close() {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	streams := h.ordered()
	h.mu.Unlock()
	for _, s := range streams {
		s.Close()
	}
	close(h.stop)
	h.done.Wait()
}

// Applied takes what an entry changed. It is called in apply order, from one goroutine at a time, and is quick.
func (h *Hub) Applied(applied *shard.Applied) {
	if applied.Jump {
		h.Restored(applied.Revision)
		return
	}
	if applied.Revision == applied.After {
		return
	}
	rec := newRecord(applied)
	h.feedMu.Lock()
	h.feed.push(rec)
	h.feedMu.Unlock()
	if h.listening.Load() {
		h.signal()
	}
}

// Restored says that the state was replaced by a snapshot at the revision: watches catch up from history.
// Without the call Tick finds out.
func (h *Hub) Restored(revision kv.Revision) {
	h.feedMu.Lock()
	if revision > h.feed.last {
		h.feed.reset(revision)
	}
	h.feedMu.Unlock()
	h.signal()
}

func (h *Hub) signal() {
	if h.options.Wake != nil {
		h.options.Wake()
		return
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run is the dispatcher's goroutine.
func (h *Hub) run() {
	defer h.done.Done()
	for {
		select {
		case <-h.wake:
		case <-h.stop:
			return
		}
		for h.dispatch() {
		}
	}
}

// Dispatch hands out what is new, a bounded piece, and tells whether there may be more. Call it only if you set Options.Wake.
func (h *Hub) Dispatch() (more bool) { return h.dispatch() }

// dispatchRecords is how many records are handed out under one hold of the lock.
const dispatchRecords = 256

// dispatch hands out what is new, and tells whether there may be more.
func (h *Hub) dispatch() (more bool) {
	h.mu.Lock()
	more = h.dispatchLocked()
	h.answerProgress()
	h.listen()
	touched := h.touched
	for i, s := range touched {
		s.touched = false
		s.signal()
		touched[i] = nil
	}
	h.touched = touched[:0]
	h.mu.Unlock()
	return more
}

func (h *Hub) dispatchLocked() (more bool) {
	h.feedMu.Lock()
	first, last := h.feed.first(), h.feed.last
	records, ok := h.feed.from(h.dispatched+1, dispatchRecords, h.records[:0])
	h.feedMu.Unlock()
	if h.live.size() == 0 {
		h.dispatched = max(h.dispatched, last)
		return false
	}
	if !ok {
		h.gap(first - 1)
		return true
	}
	for _, rec := range records {
		for at := (position{}); at.part < len(rec.parts); {
			at = h.dispatchRevision(rec, at)
		}
		h.dispatched = rec.last
	}
	clear(records)
	h.records = records[:0]
	return h.dispatched < last
}

// dispatchRevision hands out the changes of one revision, beginning with the one at a spot, and returns where the next
// one begins. Streams it touches stay locked until all are in: a consumer never sees a part.
func (h *Hub) dispatchRevision(rec *record, begin position) (next position) {
	revision, _ := rec.revisionAt(begin)
	h.live.begin(revision)
	next = rec.eachOfRevision(begin, func(p *part, i int) {
		if revision <= h.dispatched {
			return
		}
		h.metrics.events.Add(1)
		h.spots = h.live.index.match(p.effects[i].Key, h.spots[:0])
		for _, spot := range h.spots {
			event := p.event(h, i)
			// From the end: a group that falls behind is replaced by the last one.
			h.walked(len(spot.groups))
			for at := len(spot.groups) - 1; at >= 0; at-- {
				h.offer(spot.groups[at], event)
			}
		}
	})
	for at, s := range h.held {
		s.held = false
		s.mu.Unlock()
		if !s.touched {
			s.touched = true
			h.touched = append(h.touched, s)
		}
		h.held[at] = nil
	}
	h.held = h.held[:0]
	return next
}

// offer puts the event into the outbox of the group's stream, or detaches the group when that is full or there is no memory.
func (h *Hub) offer(g *group, event *Event) {
	if g.rejects(event) {
		return
	}
	s := g.stream
	if !s.held {
		s.held = true
		s.mu.Lock()
		h.held = append(h.held, s)
	}
	full := !s.outbox.empty() && s.outbox.sizeBytes+event.sizeBytes() > h.options.StreamBytes
	if full || !s.meter.fits(s.outbox.heldBytes+s.outbox.costOf(g, event, h.options.BatchBytes)) {
		s.outbox.retract(g, event.Revision())
		h.detach(g, event.Revision())
		return
	}
	s.outbox.append(g, event, h.options.BatchBytes)
	h.metrics.deliveries.Add(1)
}

// detach takes a live group out of the feed: it lags, and needs everything from the revision on.
// The locks of the hub and of its stream are held.
func (h *Hub) detach(g *group, from kv.Revision) {
	h.live.remove(g)
	g.stream.groups.unlist(g)
	g.open, g.next = nil, max(g.next, from)
	g.stream.lag(g)
	h.metrics.lagging.Add(1)
	h.options.Listener.Lagging(len(g.watchers))
}

// gap detaches all live groups, because the feed does not hold what comes after dispatched any
// more; it continues after last.
func (h *Hub) gap(last kv.Revision) {
	h.metrics.gaps.Add(1)
	h.options.Listener.Gap(h.dispatched+1, last)
	for _, s := range h.ordered() {
		s.mu.Lock()
		for _, g := range s.liveGroups() {
			if g.next <= last {
				h.detach(g, h.dispatched+1)
			}
		}
		s.mu.Unlock()
		if !s.touched {
			s.touched = true
			h.touched = append(h.touched, s)
		}
	}
	h.dispatched = last
}

// ordered returns the streams in the order of their making, so that equal inputs have equal outputs.
func (h *Hub) ordered() []*Stream {
	streams := make([]*Stream, 0, len(h.streams))
	for s := range h.streams { // sorted below
		streams = append(streams, s)
	}
	h.walked(len(streams))
	slices.SortFunc(streams, func(a, b *Stream) int { return cmp.Compare(a.number, b.number) })
	return streams
}

// listen decides whether the dispatcher must hear of changes. The hub's lock is held. A change that came just
// before the decision woke nobody, so the dispatcher looks once.
func (h *Hub) listen() {
	listening := h.live.size() > 0 || h.asking.Len() > 0
	if h.listening.Swap(listening) != listening && listening {
		h.signal()
	}
}

// sync lets dispatched follow the feed when nobody watches live. The hub's lock is held.
func (h *Hub) sync() {
	if h.live.size() > 0 {
		return
	}
	h.feedMu.Lock()
	h.dispatched = max(h.dispatched, h.feed.last)
	h.feedMu.Unlock()
}

// findReplacedState compares the applied revision with the feed: when the feed has not reached what was
// applied one tick ago, it never will.
func (h *Hub) findReplacedState() {
	applied := h.options.Source.Revision()
	h.feedMu.Lock()
	last := h.feed.last
	stale := h.staleRevision
	h.staleRevision = 0
	if last < applied {
		h.staleRevision = applied
	}
	h.feedMu.Unlock()
	if stale > last {
		h.Restored(stale)
	}
}
