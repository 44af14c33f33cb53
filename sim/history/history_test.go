package history

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
)

var errRefused = errors.New("refused")

// world makes histories of a store that does everything right: requests take effect one after the other, on the model, at
// moments within the time that their clients see.
type world struct {
	random *rand.Rand
	store  *model.Store
	now    time.Duration
	count  int
	made   History
	sparse *rand.Rand // leaves revisions out, as a store of several shards may; nil: none is
}

func key(i int) string { return fmt.Sprintf("r/%d", i) }

func testKeys() (keys []string) {
	for i := range 4 {
		keys = append(keys, key(i))
	}
	return keys
}

func (w *world) value() []byte { w.count++; return fmt.Appendf(nil, "v%d", w.count) }

func (w *world) request() *kv.Request {
	k := []byte(key(w.random.IntN(4)))
	switch w.random.IntN(7) {
	case 0, 1:
		return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: k, Value: w.value(), PrevKV: w.random.IntN(2) == 0}}
	case 2:
		return &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: k}}}
	case 3:
		return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("r/"), End: []byte("r0")}}}
	case 4:
		var expected []byte
		if e, ok := w.store.At(k, w.store.Revision()); ok {
			expected = e.Value
		}
		return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{
			Compare: []kv.Compare{{Span: kv.Span{Start: k}, Target: kv.CompareValue, Result: kv.CompareEqual, Value: expected}},
			Success: []kv.Op{{Put: &kv.PutRequest{Key: k, Value: w.value()}}, {Put: &kv.PutRequest{Key: []byte("x"), Value: w.value()}}},
			Failure: []kv.Op{{Range: &kv.RangeRequest{Span: kv.Span{Start: k}}}},
		}}
	}
	return &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: k}}}
}

// do lets a request take effect.
func (w *world) do(r *kv.Request) *Operation {
	w.now += 10 * time.Millisecond
	o := Operation{Client: len(w.made.Operations), Node: w.random.IntN(3), Process: 1, Request: r,
		Invoke: w.now - time.Duration(w.random.IntN(40))*time.Millisecond, Return: w.now + time.Duration(w.random.IntN(40))*time.Millisecond}
	w.leaveOut()
	response, err := w.store.Apply(r)
	w.applied()
	if err != nil {
		o.Outcome, o.Err = Refused, err
	} else {
		o.Response = response
	}
	w.made.Operations = append(w.made.Operations, o)
	return &w.made.Operations[len(w.made.Operations)-1]
}

// leaveOut has revisions issued that never take effect.
func (w *world) leaveOut() {
	if w.sparse != nil && w.sparse.IntN(4) == 0 {
		w.store.Advance(w.store.Revision() + 1 + kv.Revision(w.sparse.IntN(5)))
	}
}

// applied notes what the logs did, as far as a store of several shards has it.
func (w *world) applied() {
	if w.sparse == nil {
		return
	}
	at, h := w.store.Revision(), &w.made
	if n := len(h.Commits); n == 0 || h.Commits[n-1].Revision < at {
		h.Commits = append(h.Commits, Commit{At: w.now, From: at, Revision: at})
	}
	h.Issued = append(h.Issued, Issue{w.now, at})
}

// perfect returns a history without faults, with operations of unknown outcome, watches and leases.
func perfect(seed uint64) *History { return made(seed, nil) }

// perfectSparse is a history of a store of several shards.
func perfectSparse(seed uint64) *History { return made(seed, rand.New(rand.NewPCG(seed, 2))) }

func made(seed uint64, sparse *rand.Rand) *History {
	w := &world{random: rand.New(rand.NewPCG(seed, 1)), store: model.New(), now: time.Second, sparse: sparse}
	w.made.Sparse = sparse != nil
	for i := range 300 {
		switch {
		case i%40 == 20:
			w.lease(kv.LeaseID(i))
		case w.random.IntN(12) == 0:
			w.unknown()
		default:
			w.do(w.request())
		}
	}
	h := &w.made
	h.Full, h.Final = w.store.Events(kv.Everything(), 1, w.store.Revision()), w.store.Revision()
	h.Watchers = []Watcher{watcher(h, "all", kv.Everything(), 2), watcher(h, "late", kv.Span{Start: []byte("r/"), End: []byte("r0")}, 20)}
	return h
}

// unknown does a request whose answer is lost, or that never arrives.
func (w *world) unknown() {
	r := w.request()
	if w.random.IntN(2) == 0 {
		o := w.do(r)
		if o.Outcome == Acknowledged {
			o.Outcome, o.Response, o.Err = Unknown, nil, errors.New("timeout")
		}
		return
	}
	w.made.Operations = append(w.made.Operations, Operation{Request: r, Outcome: Unknown, Invoke: w.now, Return: w.now + time.Second})
}

// lease grants one, attaches two keys, renews it, and lets it end.
func (w *world) lease(id kv.LeaseID) {
	w.do(&kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: id, TTLSeconds: 2}})
	for i := range 2 {
		w.do(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: fmt.Appendf(nil, "l/%d/%d", id, i), Value: w.value(), Lease: id}})
	}
	w.do(&kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: id}})
	revoke := &kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: id}}
	if id%80 == 20 {
		w.do(revoke)
		return
	}
	w.now += 2 * time.Second
	w.leaveOut()
	if _, err := w.store.Apply(revoke); err != nil {
		panic(err)
	}
	w.applied()
	w.do(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("r/0")}}})
}

func watcher(h *History, name string, span kv.Span, start kv.Revision) Watcher {
	made := Watcher{Name: name, Span: span, Start: start, PrevKV: true}
	for _, e := range h.Full {
		if e.KV.ModRevision < start || !span.Contains(e.KV.Key) {
			continue
		}
		n := len(made.Batches)
		if n == 0 || made.Batches[n-1].Events[0].KV.ModRevision != e.KV.ModRevision {
			made.Batches = append(made.Batches, Batch{At: time.Hour})
			n++
		}
		b := &made.Batches[n-1]
		b.Events, b.Revision = append(b.Events, e), e.KV.ModRevision
	}
	made.Batches = append(made.Batches, Batch{At: time.Hour, Revision: h.Final, Progress: true})
	return made
}

func TestPerfectHistoriesPass(t *testing.T) {
	for seed := range uint64(30) {
		h := perfect(seed)
		report := Check(h)
		if len(report.Problems) > 0 {
			t.Fatalf("seed %d: %s", seed, strings.Join(report.Problems, "\n"))
		}
		if report.Writes < 50 || report.Reads < 50 || report.Recovered == 0 || report.LeaseEnds < 4 {
			t.Fatalf("seed %d: the history is too thin: %+v", seed, report)
		}
		if problems, undecided := Registers(h, testKeys(), 10*time.Second); len(problems)+undecided > 0 {
			t.Fatalf("seed %d: porcupine: %v, %d undecided", seed, problems, undecided)
		}
		if report = Check(perfectSparse(seed)); len(report.Problems) > 0 || report.Writes < 50 || report.Recovered == 0 || report.Gaps < 50 {
			t.Fatalf("seed %d, sparse: %+v, %s", seed, report, strings.Join(report.Problems, "\n"))
		}
	}
}

// first returns the index of the first operation, from a position on, that fits.
func first(t *testing.T, h *History, from int, fits func(*Operation) bool) int {
	t.Helper()
	for i := from; i < len(h.Operations); i++ {
		if fits(&h.Operations[i]) {
			return i
		}
	}
	t.Fatal("the history has no such operation")
	return 0
}

func answered(o *Operation) bool     { return o.Outcome == Acknowledged }
func acknowledged(o *Operation) bool { return answered(o) && o.Request.Kind == kv.KindPut }
func readValue(o *Operation) bool {
	return answered(o) && o.Request.Kind == kv.KindRange && o.Request.Range.Span.Single() && len(o.Response.Range.KVs) == 1
}

// without returns the events but those of a revision; later ones keep their numbers, or move down by one.
func without(events []kv.Event, at kv.Revision) []kv.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e kv.Event) bool { return e.KV.ModRevision == at })
}

// TestFaultsAreFound breaks a perfect history in every way the store must not, and expects the checker to say so.
func TestFaultsAreFound(t *testing.T) {
	faults := []struct {
		name, says string
		inject     func(*testing.T, *History)
	}{
		{"a read at an old revision", "stale", func(t *testing.T, h *History) {
			// The answer was right some writes ago, and carries that revision.
			i := first(t, h, 150, readValue)
			o := &h.Operations[i]
			for j := i - 1; j > 0; j-- {
				old := &h.Operations[j]
				if readValue(old) && old.Return < o.Invoke && string(old.Request.Range.Span.Start) == string(o.Request.Range.Span.Start) &&
					old.Response.Revision < o.Response.Revision-8 {
					o.Response = old.Response
					return
				}
			}
			t.Fatal("no older read")
		}},
		{"an old value under a new revision", "must be", func(t *testing.T, h *History) {
			o := &h.Operations[first(t, h, 100, readValue)]
			clone := *o.Response.Range
			clone.KVs = slices.Clone(clone.KVs)
			clone.KVs[0].Value = []byte("old")
			o.Response = &kv.Response{Kind: kv.KindRange, Revision: o.Response.Revision, Range: &clone}
		}},
		{"a lost write", "lost", func(t *testing.T, h *History) {
			o := &h.Operations[first(t, h, 100, acknowledged)]
			h.Full = without(h.Full, o.Response.Revision)
		}},
		{"a lost tail", "lost", func(t *testing.T, h *History) {
			h.Full = without(h.Full, h.Final)
			h.Final--
			h.Operations = append(h.Operations, Operation{Invoke: time.Hour, Return: 2 * time.Hour,
				Request:  &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("z"), Value: []byte("z")}},
				Response: &kv.Response{Kind: kv.KindPut, Revision: h.Final + 1, Put: &kv.PutResponse{}}})
		}},
		{"a revision given twice", "given to both", func(t *testing.T, h *History) {
			i := first(t, h, 100, acknowledged)
			j := first(t, h, i+1, acknowledged)
			h.Operations[j].Response = &kv.Response{Kind: kv.KindPut, Put: h.Operations[j].Response.Put, Revision: h.Operations[i].Response.Revision}
		}},
		{"a read at a revision that nobody issued yet", "from the future", func(t *testing.T, h *History) {
			if !h.Sparse {
				h.Issued, h.Commits = nil, []Commit{{At: time.Second, Revision: 2}, {At: time.Hour, Revision: h.Final}}
				return
			}
			h.Issued = []Issue{{time.Second, 2}, {time.Hour, h.Final}}
		}},
		{"a gap in the revisions", "missing in the history", func(t *testing.T, h *History) {
			at := h.Full[60].KV.ModRevision
			h.Full = without(h.Full, at)
			for i := range h.Operations {
				if o := &h.Operations[i]; answered(o) && o.wrote() && o.Response.Revision == at {
					o.Outcome, o.Response = Unknown, nil
				}
			}
		}},
		{"a write that nobody asked for", "nobody put", func(t *testing.T, h *History) {
			h.Final++
			h.Full = append(h.Full, kv.Event{KV: kv.KeyValue{Key: []byte("k"), Value: []byte("ghost"), CreateRevision: h.Final, ModRevision: h.Final, Version: 1}})
		}},
		{"a deletion that nobody asked for", "nobody asked", func(t *testing.T, h *History) {
			h.Final++
			e := h.Full[len(h.Full)-1]
			h.Full = append(h.Full, kv.Event{Type: kv.EventDelete, KV: kv.KeyValue{Key: e.KV.Key, ModRevision: h.Final}})
			for i := range h.Operations {
				if h.Operations[i].Outcome == Unknown && h.Operations[i].Request.Kind == kv.KindDeleteRange {
					h.Operations[i].Outcome, h.Operations[i].Err = Refused, errRefused
				}
			}
		}},
		{"a write that took effect twice", "took effect", func(t *testing.T, h *History) {
			o := &h.Operations[first(t, h, 250, acknowledged)]
			h.Final++
			h.Full = append(h.Full, kv.Event{KV: kv.KeyValue{Key: o.Request.Put.Key, Value: o.Request.Put.Value, ModRevision: h.Final}})
		}},
		{"a write that was refused and took effect", "was refused", func(t *testing.T, h *History) {
			o := &h.Operations[first(t, h, 100, acknowledged)]
			o.Outcome, o.Err = Refused, errRefused
		}},
		{"an answer from before the write began", "began only at", func(t *testing.T, h *History) {
			o := &h.Operations[first(t, h, 100, acknowledged)]
			o.Invoke, o.Return = o.Invoke+time.Minute, o.Return+time.Minute
		}},
		{"a write below what was seen before it began", "had been seen before it began", func(t *testing.T, h *History) {
			o := &h.Operations[first(t, h, 100, acknowledged)]
			o.Invoke += time.Minute
			o.Return += time.Minute
		}},
		{"a wrong previous version", "must be", func(t *testing.T, h *History) {
			o := &h.Operations[first(t, h, 50, func(o *Operation) bool { return acknowledged(o) && o.Response.Put.Prev != nil })]
			prev := *o.Response.Put.Prev
			prev.Version++
			o.Response = &kv.Response{Kind: kv.KindPut, Revision: o.Response.Revision, Put: &kv.PutResponse{Prev: &prev}}
		}},
		{"a compare that was decided wrongly", "must be", func(t *testing.T, h *History) {
			o := &h.Operations[first(t, h, 50, func(o *Operation) bool {
				return answered(o) && o.Request.Kind == kv.KindTxn && !o.Response.Txn.Succeeded
			})]
			o.Response = &kv.Response{Kind: kv.KindTxn, Revision: o.Response.Revision, Txn: &kv.TxnResponse{Succeeded: true}}
		}},
		{"half a transaction", "must be", func(t *testing.T, h *History) {
			o := &h.Operations[first(t, h, 50, func(o *Operation) bool { return answered(o) && o.Request.Kind == kv.KindTxn && o.wrote() })]
			h.Full = slices.DeleteFunc(slices.Clone(h.Full), func(e kv.Event) bool {
				return e.KV.ModRevision == o.Response.Revision && string(e.KV.Key) == "x"
			})
		}},
		{"a process that went back", "went back", func(t *testing.T, h *History) {
			o := h.Operations[first(t, h, 200, readValue)]
			h.Operations = append(h.Operations, Operation{Node: o.Node, Process: 1, Invoke: o.Return + time.Second, Return: o.Return + 2*time.Second,
				Request:  &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("none")}, Serializable: true}},
				Response: &kv.Response{Kind: kv.KindRange, Revision: o.Response.Revision - 1, Range: &kv.RangeResponse{}}})
		}},
		{"a lease that ended early", "ended early", func(t *testing.T, h *History) {
			// The renewal of a lease that expired is answered a second later than it was.
			i := first(t, h, 0, func(o *Operation) bool {
				return answered(o) && o.Request.Kind == kv.KindLeaseKeepAlive && o.Request.LeaseKeepAlive.ID%80 != 20
			})
			o := &h.Operations[i]
			o.Invoke, o.Return = o.Invoke+1500*time.Millisecond, o.Return+1500*time.Millisecond
		}},
		{"a lease that was said to be missing", "does not exist", func(t *testing.T, h *History) {
			i := first(t, h, 0, func(o *Operation) bool {
				return answered(o) && o.Request.Kind == kv.KindLeaseKeepAlive && o.Request.LeaseKeepAlive.ID%80 != 20
			})
			o := h.Operations[i]
			o.Response = &kv.Response{Kind: kv.KindLeaseKeepAlive, Revision: o.Response.Revision, LeaseKeepAlive: &kv.LeaseKeepAliveResponse{}}
			o.Invoke, o.Return = o.Return+1, o.Return+2
			h.Operations = append(h.Operations, o)
		}},
		{"an acknowledged revocation without effect", "still attached", func(t *testing.T, h *History) {
			i := first(t, h, 0, func(o *Operation) bool { return answered(o) && o.Request.Kind == kv.KindLeaseRevoke })
			h.Operations[i].Response = &kv.Response{Kind: kv.KindLeaseRevoke, Revision: h.Operations[i].Response.Revision - 1}
		}},
		{"an event that a watch missed", "the next event is", func(t *testing.T, h *History) {
			w := &h.Watchers[0]
			w.Batches = slices.Delete(slices.Clone(w.Batches), 30, 31)
		}},
		{"the last events that a watch missed", "missing at the end", func(t *testing.T, h *History) {
			w := &h.Watchers[1]
			w.Batches = w.Batches[:len(w.Batches)-2]
		}},
		{"an event delivered twice", "repetition", func(t *testing.T, h *History) {
			w := &h.Watchers[0]
			w.Batches = slices.Insert(slices.Clone(w.Batches), 31, w.Batches[30])
		}},
		{"events out of order", "the next event is", func(t *testing.T, h *History) {
			b := h.Watchers[0].Batches
			b[30], b[31] = b[31], b[30]
		}},
		{"a revision split over two messages", "split", func(t *testing.T, h *History) {
			w := &h.Watchers[0]
			i := slices.IndexFunc(w.Batches, func(b Batch) bool { return len(b.Events) == 2 })
			b := w.Batches[i]
			half := b
			half.Events = b.Events[1:]
			w.Batches[i].Events = b.Events[:1]
			w.Batches = slices.Insert(w.Batches, i+1, half)
		}},
		{"progress that lies", "progress up to", func(t *testing.T, h *History) {
			w := &h.Watchers[0]
			w.Batches = slices.Insert(slices.Clone(w.Batches), 30, Batch{Progress: true, Revision: w.Batches[30].Revision})
		}},
		{"a wrong previous version in a watch", "the next event is", func(t *testing.T, h *History) {
			w := &h.Watchers[0]
			for i := range w.Batches {
				if events := w.Batches[i].Events; len(events) == 1 && events[0].Prev != nil {
					prev := *events[0].Prev
					prev.Value = []byte("wrong")
					event := events[0]
					event.Prev = &prev
					w.Batches[i].Events = []kv.Event{event}
					return
				}
			}
		}},
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			for _, h := range []*History{perfect(7), perfectSparse(7)} {
				if h.Sparse && slices.Contains(fineIfSparse, fault.name) {
					continue
				}
				fault.inject(t, h)
				report := Check(h)
				if !slices.ContainsFunc(report.Problems, func(p string) bool { return strings.Contains(p, fault.says) }) {
					t.Fatalf("sparse %v: the checker did not say %q, but:\n%s", h.Sparse, fault.says, strings.Join(report.Problems, "\n"))
				}
			}
		})
	}
}

// fineIfSparse are no faults of a store of several shards.
var fineIfSparse = []string{"a gap in the revisions", "a process that went back"}

// TestPorcupineFindsFaults: the second opinion notices without looking at revisions.
func TestPorcupineFindsFaults(t *testing.T) {
	faults := map[string]func(*testing.T, *History){
		"a value long overwritten": func(t *testing.T, h *History) {
			i := first(t, h, 150, readValue)
			o := &h.Operations[i]
			j := first(t, h, 0, func(old *Operation) bool {
				return readValue(old) && string(old.Request.Range.Span.Start) == string(o.Request.Range.Span.Start)
			})
			o.Response = h.Operations[j].Response
		},
		"a lost write": func(t *testing.T, h *History) {
			i := first(t, h, 100, readValue)
			o := &h.Operations[i]
			o.Response = &kv.Response{Kind: kv.KindRange, Revision: o.Response.Revision, Range: &kv.RangeResponse{}}
		},
		"two winners of one compare": func(t *testing.T, h *History) {
			i := first(t, h, 50, func(o *Operation) bool {
				return answered(o) && o.Request.Kind == kv.KindTxn && o.wrote() && len(o.Request.Txn.Compare[0].Value) > 0
			})
			again := h.Operations[i]
			again.Invoke, again.Return = again.Return+1, again.Return+2
			h.Operations = append(h.Operations, again)
		},
	}
	for name, inject := range faults {
		t.Run(name, func(t *testing.T) {
			h := perfect(7)
			inject(t, h)
			if problems, _ := Registers(h, testKeys(), 10*time.Second); len(problems) == 0 {
				t.Fatal("porcupine found nothing")
			}
		})
	}
}
