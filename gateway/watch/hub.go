package watch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// Hub fans changes out to the streams of a node. Safe for concurrent use.
//
// Locks, in this order: mu, then one or more streams' mu (several only by the dispatcher), then feedMu or that of starved, then that of the inquiry.
type Hub struct {
	options Options

	mu         sync.Mutex
	shards     map[kv.ShardID]*Shard // never changed
	inOrder    []*Shard              // of their IDs; never changed
	only       *Shard                // if there is one
	mergers    mergers
	inquiry    *inquiry // nil: there is one shard, which closes itself
	streams    map[*Stream]struct{}
	lastNumber uint64 // of streams, groups and waiters; the order of their making
	watches    int
	periodic   periodic
	closed     bool

	// Scratch of the dispatcher.
	work    []*feed
	records []*record
	spots   []*spot
	held    []*Stream
	touched []*Stream

	feedMu sync.Mutex // of the rings
	pool   pool
	fresh  []*feed     // that the dispatcher has to look at
	heard  kv.Revision // the highest at which some shard was closed

	starved starved
	readers readers

	doubted atomic.Bool // Reauthorize was called

	wake chan struct{}
	stop chan struct{}
	done sync.WaitGroup

	metrics counters
}

// NewHub returns a running hub; Close ends it.
func NewHub(options Options) (*Hub, error) {
	h, err := newHub(options)
	if err != nil || options.Wake != nil {
		return h, err
	}
	if options.WakeIn == nil {
		h.options.WakeIn = func(d time.Duration) { time.AfterFunc(d, h.signal) }
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
		options: options, streams: map[*Stream]struct{}{}, periodic: newPeriodic(), pool: pool{limitBytes: options.RingBytes},
		readers: make(readers, options.MaxReaders), wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	h.openShards()
	return h, nil
}

func (h *Hub) openShards() {
	if h.options.Shards == nil {
		h.only = newShard(h, 0, h.options.Source)
		h.inOrder, h.shards = []*Shard{h.only}, map[kv.ShardID]*Shard{0: h.only}
		return
	}
	h.inquiry, h.shards = &inquiry{}, make(map[kv.ShardID]*Shard, len(h.options.Sources))
	for _, id := range slices.Sorted(maps.Keys(h.options.Sources)) {
		h.shards[id] = newShard(h, id, h.options.Sources[id])
		h.inOrder = append(h.inOrder, h.shards[id])
	}
	h.mergers = newMergers(h)
}

// shardsOf returns the shards that a watch of the span is about.
func (h *Hub) shardsOf(span kv.Span) ([]*Shard, error) {
	if h.only != nil {
		return h.inOrder, nil
	}
	ids := h.options.Shards(span)
	shards := make([]*Shard, len(ids))
	for i, id := range ids {
		if shards[i] = h.shards[id]; shards[i] == nil {
			return nil, fmt.Errorf("watch keys of shard %d: %w", id, kv.ErrShardNotHere)
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("watch keys of no shard: %w", kv.ErrShardNotHere)
	}
	return shards, nil
}

// feedOf returns the feed of the shards, or nil and what makes it. The hub's lock is held.
func (h *Hub) feedOf(shards []*Shard) (f *feed, open func() *feed) {
	if len(shards) == 1 {
		return &shards[0].feed, nil
	}
	m, open := h.mergers.find(shards)
	if m == nil {
		return nil, open
	}
	return &m.feed, nil
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

// Shard returns what the hub has of a shard, to be told what it applies; nil: it is none of the shards.
func (h *Hub) Shard(id kv.ShardID) *Shard { return h.shards[id] }

// Applied is that of the only shard.
func (h *Hub) Applied(applied *shard.Applied) { h.only.Applied(applied) }

// Restored is that of the only shard.
func (h *Hub) Restored(closed kv.Revision) { h.only.Restored(closed) }

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

// dispatch hands out what is new, and tells whether there may be more.
func (h *Hub) dispatch() (more bool) {
	h.mu.Lock()
	if h.doubted.Swap(false) {
		h.reauthorize()
	}
	h.conclude()
	for _, f := range h.takeFresh() {
		if f.gone() || !f.advance() {
			continue
		}
		more = true
		h.feedMu.Lock()
		h.freshen(f)
		h.feedMu.Unlock()
	}
	clear(h.work)
	touched := h.touched
	for i, s := range touched {
		s.touched = false
		s.signal()
		touched[i] = nil
	}
	h.touched = touched[:0]
	ask, wait := h.nextQuestion()
	h.mu.Unlock()
	h.ask(ask, wait)
	return more
}

// freshen has the dispatcher look at the feed when it works next. The lock of the rings is held.
func (h *Hub) freshen(f *feed) {
	if !f.fresh {
		f.fresh = true
		h.fresh = append(h.fresh, f)
	}
}

// takeFresh returns the feeds that have to be looked at: first shards, then mergers, those of the shards among them. The hub's lock is held.
func (h *Hub) takeFresh() []*feed {
	h.feedMu.Lock()
	defer h.feedMu.Unlock()
	work := h.work[:0]
	for i := 0; i < len(h.fresh); i++ {
		f := h.fresh[i]
		if f.merger != nil {
			continue
		}
		work = append(work, f)
		for _, m := range f.shards[0].mergers {
			h.freshen(&m.feed)
		}
	}
	for i, f := range h.fresh {
		if f.merger != nil {
			work = append(work, f)
		}
		f.fresh = false
		h.fresh[i] = nil
	}
	h.work, h.fresh = work, h.fresh[:0]
	return work
}

// touch has the stream woken when the dispatcher has done its piece.
func (h *Hub) touch(s *Stream) {
	if !s.touched {
		s.touched = true
		h.touched = append(h.touched, s)
	}
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

// present is the newest revision that a header may tell, and after which a watch begins that names none.
func (h *Hub) present() kv.Revision {
	if h.only != nil {
		return h.only.source.Revision()
	}
	known := h.options.Known()
	h.feedMu.Lock()
	defer h.feedMu.Unlock()
	return max(known, h.heard)
}

// nextQuestion returns what is to be asked now, or how long that must wait. The hub's lock is held.
func (h *Hub) nextQuestion() (ask *question, wait time.Duration) {
	if h.inquiry == nil {
		return nil, 0
	}
	h.feedMu.Lock()
	defer h.feedMu.Unlock()
	return h.inquiry.next(h.options.Clock)
}

// tickInquiry is nextQuestion after a while.
func (h *Hub) tickInquiry() (ask *question, wait time.Duration) {
	if h.inquiry != nil {
		h.feedMu.Lock()
		h.inquiry.tick()
		h.feedMu.Unlock()
	}
	return h.nextQuestion()
}

// ask asks a question, or has that done later. No lock is held: the answer may come at once.
func (h *Hub) ask(ask *question, wait time.Duration) {
	if wait > 0 && h.options.WakeIn != nil {
		h.options.WakeIn(wait)
	}
	if ask == nil {
		return
	}
	h.metrics.questions.Add(1)
	h.options.Learn(ask.shards, func(present kv.Present, err error) {
		h.inquiry.got(&answer{ask.number, present, err})
		h.signal()
	})
}

// conclude closes what can be by the answer to the last question, and has those who waited for it wait for their feeds. The hub's lock is held.
func (h *Hub) conclude() {
	if h.inquiry == nil {
		return
	}
	h.feedMu.Lock()
	present, waiters := h.inquiry.take()
	h.feedMu.Unlock()
	for _, w := range waiters {
		w.want = present
		w.stream.mu.Lock()
		w.resume()
		w.stream.mu.Unlock()
	}
}

// Check returns an error if the hub contradicts itself.
func (h *Hub) Check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.feedMu.Lock()
	defer h.feedMu.Unlock()
	used, rings := 0, 0
	for _, s := range h.inOrder {
		if err := s.check(); err != nil {
			return fmt.Errorf("watch: shard %d: %w", s.id, err)
		}
		used, rings = used+s.ring.sizeBytes+s.ring.asideBytes, rings+1
	}
	for _, m := range h.mergers.byKey { // the first that is found is told, whichever it is
		if err := m.check(); err != nil {
			return fmt.Errorf("watch: %d shards, merged: %w", len(m.shards), err)
		}
		used, rings = used+m.ring.sizeBytes, rings+1
	}
	if used != h.pool.usedBytes || rings != h.pool.rings {
		return fmt.Errorf("watch: %d rings hold %d bytes, noted are %d and %d", rings, used, h.pool.rings, h.pool.usedBytes)
	}
	if h.inquiry == nil {
		return nil
	}
	return h.inquiry.check()
}
