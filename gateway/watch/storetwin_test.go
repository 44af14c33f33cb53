package watch

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// TestStoreAgainstList runs, step by step and in any order: a store of several shards whose logs reach the node late and in snapshots, transactions that are
// resolved late and in each shard at another time, questions that are answered late, wrongly or by nobody, compactions, and streams with slow consumers. Every watch gets exactly its part of one list of all
// events, in order, with no revision split; progress is true, comes, and never goes back.
func TestStoreAgainstList(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 40
	}
	sum, kept, missing, ordered := Metrics{}, 0, 0, 0
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := newStoreRun(t, seed)
			for range 1500 {
				r.step()
			}
			m := r.finish()
			kept, missing, ordered = kept+r.kept, missing+r.missing, ordered+r.ordered
			sum.GapCount += m.GapCount
			sum.LaggingCount += m.LaggingCount
			sum.RingReadCount += m.RingReadCount
			sum.HistoryReadCount += m.HistoryReadCount
			sum.QuestionCount += m.QuestionCount
		})
	}
	t.Logf("%d times something was kept aside, %d times it was dropped, and %d times resolved in another order", kept, missing, ordered)
	if kept == 0 || missing == 0 || ordered == 0 || sum.GapCount == 0 || sum.LaggingCount == 0 || sum.RingReadCount == 0 || sum.HistoryReadCount == 0 || sum.QuestionCount == 0 {
		t.Errorf("something never happened: %+v", sum)
	}
}

type storeRun struct {
	t *testing.T
	*store
	random  *rand.Rand
	streams []*storeStream
	watches int

	open                   []*transaction // that some shard does not have the decision of in its log
	kept, missing, ordered int            // how often something was kept aside, missed, and decided before an older one
}

// storeStream is a stream and what its client knows.
type storeStream struct {
	*Stream
	observers map[ID]*storeObserver
	asked     []askedProgress // that has not come
	answers   int             // that may come
	told      kv.Revision
}

// askedProgress is a request: the answer to it is not below what was issued then. Those to requests before it may come first.
type askedProgress struct {
	issued kv.Revision
	before int
}

type storeObserver struct {
	observer
	created bool // the client has been told so; what came before says nothing of it
	told    kv.Revision
}

func newStoreRun(t *testing.T, seed uint64) *storeRun {
	random := rand.New(rand.NewPCG(seed, 11))
	options := Options{
		StreamBytes: 300 + random.IntN(5000), RingBytes: 1 + random.IntN(8000),
		ChunkBytes: 1 + random.IntN(500), BatchBytes: 1 + random.IntN(3000), MaxMergers: 1 + random.IntN(4), ProgressInterval: 100 * time.Millisecond,
	}
	r := &storeRun{t: t, store: newStore(t, 1+random.IntN(3), options), random: random}
	r.atOnce = random.IntN(3) == 0
	return r
}

func (r *storeRun) anyShard() kv.ShardID { return kv.ShardID(1 + r.random.IntN(len(r.parts))) }

// changes returns changes of different keys of a shard that nobody has a lock on; perhaps there are none.
func (r *storeRun) changes(id kv.ShardID) (out []change) {
	first := r.parts[id].first
	for _, i := range r.random.Perm(4)[:1+r.random.IntN(3)] {
		c := change{key: string(rune(first + byte(i)))}
		if r.parts[id].locked[c.key] {
			continue
		}
		if r.random.IntN(3) > 0 {
			c.value = fmt.Appendf(nil, "%d", r.random.IntN(1000))
		}
		out = append(out, c)
	}
	return out
}

func (r *storeRun) step() {
	r.clock += time.Duration(r.random.IntN(300)) * time.Microsecond
	switch n := r.random.IntN(100); {
	case n < 20:
		r.write()
	case n < 45:
		if p := r.parts[r.anyShard()]; len(p.log) > 0 {
			r.apply(p.id, false)
		}
	case n < 47:
		p := r.parts[r.anyShard()]
		for range r.random.IntN(len(p.log) + 1) {
			r.apply(p.id, true)
		}
		if r.random.IntN(3) > 0 || len(p.log) > 0 || p.silent || len(p.stamps) > 0 { // or the hub finds out by itself
			r.jump(p.id)
		}
	case n < 50:
		r.transact()
	case n < 60:
		r.hub.Dispatch()
	case n < 63:
		r.clock += 5 * time.Millisecond
		r.hub.Tick(r.clock)
	case n < 71:
		r.reply()
	case n < 73:
		p := r.parts[r.anyShard()]
		p.unclean = !p.unclean
	case n < 74:
		r.compactTo(r.compacted + kv.Revision(r.random.IntN(int(r.lowest()-r.compacted)+1)))
	case n < 75:
		r.known = max(r.known, r.now-kv.Revision(r.random.IntN(4)))
	case n < 77 && len(r.streams) < 5:
		s, err := r.hub.NewStream(nil, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		r.streams = append(r.streams, &storeStream{Stream: s, observers: map[ID]*storeObserver{}})
	case len(r.streams) > 0:
		r.use(r.streams[r.random.IntN(len(r.streams))])
	}
	for _, s := range r.hub.inOrder {
		if s.aside.changes.size() > 0 {
			r.kept++
		} else if s.aside.missing > s.ring.last {
			r.missing++
		}
	}
	if r.random.IntN(20) == 0 {
		if err := r.hub.verify(); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *storeRun) write() {
	id := r.anyShard()
	if other := r.anyShard(); other != id && r.random.IntN(3) == 0 {
		all, then := r.changes(id), r.changes(other)
		if n := r.random.IntN(len(all) + 1); len(all) > 0 && len(then) > 0 {
			r.issueTogether(id, other, inOrder(all[:n]), inOrder(then), inOrder(all[n:]))
		}
		return
	}
	r.issue(id, r.revisions(id)...)
}

// revisions are changes of a shard, each of a revision of its own.
func (r *storeRun) revisions(id kv.ShardID) (revisions [][]change) {
	for range 1 + r.random.IntN(3) {
		if changes := r.changes(id); len(changes) > 0 {
			revisions = append(revisions, changes)
		}
	}
	return revisions
}

// inOrder has changes in the order of their keys, as those of one operation are.
func inOrder(changes []change) []change {
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.key, b.key) })
	return changes
}

// transact begins a transaction, gives one a number, or puts a decision into a log.
func (r *storeRun) transact() {
	if n := len(r.open); n == 0 || n < 4 && r.random.IntN(3) == 0 {
		r.begin()
		return
	}
	at := r.random.IntN(len(r.open))
	tx := r.open[at]
	switch {
	case tx.revision == 0 && r.random.IntN(8) == 0, tx.revision > 0 && len(tx.shards) == tx.participants && r.random.IntN(8) == 0:
		tx.aborted = true
	case tx.revision == 0 && !tx.aborted:
		r.number(tx)
		return
	}
	r.decideIn(tx, tx.shards[r.random.IntN(len(tx.shards))])
	if at > 0 {
		r.ordered++
	}
}

// begin prepares a transaction of some operations, each over all shards.
func (r *storeRun) begin() {
	var ops [][]change
	written := map[string]bool{}
	for range 1 + r.random.IntN(3) {
		var op []change
		for _, id := range r.ids() {
			if r.random.IntN(3) == 0 {
				continue
			}
			for _, c := range r.changes(id) {
				if !written[c.key] {
					written[c.key] = true
					op = append(op, c)
				}
			}
		}
		ops = append(ops, inOrder(op))
	}
	if len(written) == 0 {
		return
	}
	tx := r.prepare(ops)
	tx.participants = len(tx.shards)
	r.open = append(r.open, tx)
}

// decideIn puts the decision into the log of a shard, perhaps with writes behind it.
func (r *storeRun) decideIn(tx *transaction, id kv.ShardID) {
	decided := []*transaction{tx}
	for _, other := range r.parts[id].open {
		if other != tx && other.revision > 0 && !other.aborted && r.random.IntN(3) == 0 {
			decided = append(decided, other)
		}
	}
	var revisions [][]change
	if r.random.IntN(3) == 0 {
		revisions = r.revisions(id)
	}
	r.issueWith(id, decided, revisions...)
	r.open = slices.DeleteFunc(r.open, func(tx *transaction) bool { return len(tx.shards) == 0 })
}

// lowest is what all shards have applied here.
func (r *storeRun) lowest() kv.Revision {
	lowest := r.now
	for _, p := range r.parts {
		lowest = min(lowest, p.Revision())
	}
	return max(lowest, r.compacted)
}

// reply answers a question: with what was true when it was asked, or is now.
func (r *storeRun) reply() {
	switch {
	case r.asked == nil:
	case r.random.IntN(6) == 0:
		r.answer(kv.Present{}, errors.New("no leader"))
	default:
		r.answer(r.present(), nil)
	}
}

func (r *storeRun) use(s *storeStream) {
	var err error
	switch n := r.random.IntN(30); {
	case n < 2 && len(s.observers) < 8:
		r.create(s)
	case n < 3 && len(s.observers) > 0:
		ids := make([]ID, 0, len(s.observers))
		for id := range s.observers {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		err = s.Cancel(r.t.Context(), ids[r.random.IntN(len(ids))])
	case n < 5:
		err = r.ask(s)
	case n < 6 && r.random.IntN(8) == 0:
		r.close(s)
	default:
		_, err = r.poll(s)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *storeRun) ask(s *storeStream) error {
	s.answers++
	asked := askedProgress{issued: r.now}
	for _, b := range s.outbox.batches[s.outbox.head:] {
		if b.Kind == KindProgress && b.IDs[0] == NoID {
			asked.before++
		}
	}
	if s.progress.pending {
		asked.before++
	}
	s.asked = append(s.asked, asked)
	return s.RequestProgress(r.t.Context())
}

func (r *storeRun) close(s *storeStream) {
	s.Close()
	for _, o := range s.observers {
		r.judge(o)
	}
	r.streams = slices.DeleteFunc(r.streams, func(other *storeStream) bool { return other == s })
}

func (r *storeRun) create(s *storeStream) {
	request := CreateRequest{PrevKV: r.random.IntN(2) == 0, Filters: Filter(r.random.IntN(3)), ProgressNotify: r.random.IntN(2) == 0}
	first := r.parts[r.anyShard()].first
	request.Span.Start = []byte{first + byte(r.random.IntN(4))}
	switch r.random.IntN(4) {
	case 0:
		request.Span.End = []byte{request.Span.Start[0] + byte(1+r.random.IntN(15))}
	case 1:
		request.Span.End = []byte{0}
	case 2:
		request.Span = kv.Everything()
	}
	switch r.random.IntN(3) {
	case 0:
		request.StartRevision = max(1, r.now-kv.Revision(r.random.IntN(60)))
	case 1:
		request.StartRevision = r.now + kv.Revision(r.random.IntN(5))
	}
	before := r.known
	id, err := s.Create(r.t.Context(), request)
	if err != nil || id == NoID {
		r.t.Fatalf("create %+v: watch %d, %v", request, id, err)
	}
	o := &storeObserver{observer: observer{request: request, next: request.StartRevision}}
	if o.next == 0 {
		o.next = r.hub.present() + 1
		if o.next <= before || o.next > r.now+1 {
			r.t.Fatalf("a watch begins at %d; %d was answered, and %d is the last number", o.next, before, r.now)
		}
	}
	o.from = o.next
	s.observers[id] = o
}

// poll takes what the stream has, if it has something.
func (r *storeRun) poll(s *storeStream) (got bool, err error) {
	batch, err := s.Poll()
	if err != nil || batch == nil {
		return false, err
	}
	for _, id := range batch.IDs {
		o := s.observers[id]
		if o == nil && id != NoID {
			return false, fmt.Errorf("%s for watch %d, which does not exist", batch.Kind, id)
		}
		switch batch.Kind {
		case KindCreated:
			if batch.Err != nil {
				return false, batch.Err
			}
			o.created = true
		case KindCanceled:
			if batch.CompactRevision > r.compacted || batch.CompactRevision != 0 && o.next >= batch.CompactRevision {
				return false, fmt.Errorf("a watch that needs %d was ended by the compaction at %d", o.next, batch.CompactRevision)
			}
			delete(s.observers, id)
			r.judge(o)
		case KindEvents:
			if last := batch.Events[len(batch.Events)-1].Revision(); last != batch.Revision {
				return false, fmt.Errorf("the header says %d, and the last event is of %d", batch.Revision, last)
			}
			for _, event := range batch.Events {
				if event.Revision() < o.next {
					return false, fmt.Errorf("watch %d got revision %d, and next was %d", id, event.Revision(), o.next)
				}
				o.got = append(o.got, event.Event(batch.PrevKV))
			}
			o.next = batch.Revision + 1
		case KindProgress:
			if id != NoID {
				if err := o.progress(batch.Revision); err != nil {
					return false, err
				}
				continue
			}
			if err := r.progressOfAll(s, batch.Revision); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

func (o *storeObserver) progress(revision kv.Revision) error {
	if revision < o.told {
		return fmt.Errorf("progress of a watch went back from %d to %d", o.told, revision)
	}
	o.told = revision
	o.next = max(o.next, revision+1)
	return nil
}

func (r *storeRun) progressOfAll(s *storeStream, revision kv.Revision) error {
	if revision < s.told || s.answers == 0 || revision > r.now {
		return fmt.Errorf("progress %d after %d, %d may come", revision, s.told, s.answers)
	}
	s.told = revision
	s.answers--
	late := false
	s.asked = slices.DeleteFunc(s.asked, func(a askedProgress) bool {
		late = late || a.before == 0 && revision < a.issued
		return a.before == 0
	})
	if late {
		return fmt.Errorf("progress %d is older than what it was asked for", revision)
	}
	for i := range s.asked {
		s.asked[i].before--
	}
	for _, o := range s.observers {
		if !o.created {
			continue
		}
		if err := o.progress(revision); err != nil {
			return err
		}
	}
	return nil
}

// judge compares what a watch got with the list.
func (r *storeRun) judge(o *storeObserver) {
	r.t.Helper()
	r.watches++
	want := r.expect(o.request, o.from, o.next-1)
	if len(want) != len(o.got) {
		r.t.Fatalf("watch %+v up to %d got %d events instead of %d", o.request, o.next-1, len(o.got), len(want))
	}
	for i, event := range o.got {
		if !sameEvent(event, want[i]) {
			r.t.Fatalf("watch %+v got %q instead of %q", o.request, eventText(event), eventText(want[i]))
		}
		switch {
		case event.Prev == nil && o.request.PrevKV && want[i].Prev != nil && event.KV.ModRevision > r.compacted:
			r.t.Fatalf("watch %+v: %q has no previous version", o.request, eventText(want[i]))
		case event.Prev != nil && (!o.request.PrevKV || want[i].Prev == nil || event.Prev.ModRevision != want[i].Prev.ModRevision):
			r.t.Fatalf("watch %+v got %q instead of %q", o.request, eventText(event), eventText(want[i]))
		}
	}
}

// finish lets everything come, and expects that everything is told.
func (r *storeRun) finish() Metrics {
	for len(r.open) > 0 {
		if tx := r.open[0]; tx.revision == 0 && !tx.aborted {
			r.number(tx)
		}
		r.decideIn(r.open[0], r.open[0].shards[0])
	}
	for _, p := range r.parts {
		p.unclean = false
		for len(p.log) > 0 {
			r.apply(p.id, false)
		}
	}
	for _, s := range r.streams {
		for id, o := range s.observers {
			if o.request.StartRevision > r.now { // it lets no progress through
				if err := s.Cancel(r.t.Context(), id); err != nil {
					r.t.Fatal(err)
				}
			}
		}
	}
	for range 200 {
		r.clock += 20 * time.Millisecond
		r.hub.Tick(r.clock)
		for r.hub.Dispatch() {
		}
		if r.asked != nil {
			r.answer(r.present(), nil)
		}
		for _, s := range r.streams {
			for got := true; got; {
				var err error
				if got, err = r.poll(s); err != nil {
					r.t.Fatal(err)
				}
			}
			if s.told < r.now {
				if err := r.ask(s); err != nil {
					r.t.Fatal(err)
				}
			}
		}
	}
	if err := r.hub.verify(); err != nil {
		r.t.Fatal(err)
	}
	for _, s := range slices.Clone(r.streams) {
		for _, o := range s.observers {
			if o.next <= r.now {
				r.t.Fatalf("watch %+v is at %d, and the last revision is %d; told %d", o.request, o.next, r.now, s.told)
			}
		}
		r.close(s)
	}
	m := r.hub.Metrics()
	if m.Watches != 0 || m.Groups != 0 || m.Mergers != 0 || r.hub.asking() != 0 || m.StalledMergers != 0 {
		r.t.Fatalf("left over: %+v, %d ask", m, r.hub.asking())
	}
	if err := r.hub.verify(); err != nil {
		r.t.Fatal(err)
	}
	return m
}
