package chaos

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
	"github.com/quoratedb/quorate/sim/history"
)

// transferred is the history of a store of several shards that does everything right: transfers of two clients, reads of all accounts between, and a watcher.
func transferred() *history.History {
	w := &worker{random: rand.New(rand.NewPCG(1, 2))}
	store, h, now := model.New(), &history.History{Sparse: true}, time.Second
	do := func(r *kv.Request) *kv.Response {
		now += 10 * time.Millisecond
		response, err := store.Apply(r)
		o := history.Operation{Client: len(h.Operations), Process: 1, Request: r, Response: response, Invoke: now - 4*time.Millisecond, Return: now + 4*time.Millisecond}
		if err != nil {
			o.Outcome, o.Err = history.Refused, err
		}
		h.Operations = append(h.Operations, o)
		return response
	}
	do(w.opening())
	for n := range 60 {
		read := do(readAccounts()).Range.KVs
		if n%3 == 2 { // another client was faster, perhaps with the same accounts
			do(w.transferOf(read))
		}
		do(w.transferOf(read))
	}
	do(readAccounts())
	h.Full, h.Final = store.Events(kv.Everything(), 1, store.Revision()), store.Revision()
	watcher := history.Watcher{Name: "all", Span: kv.Everything(), Start: 2}
	for first := 0; first < len(h.Full); {
		last := lastOf(h.Full, first)
		watcher.Batches = append(watcher.Batches, history.Batch{At: time.Hour, Revision: h.Full[first].KV.ModRevision, Events: slices.Clone(h.Full[first:last])})
		first = last
	}
	watcher.Batches = append(watcher.Batches, history.Batch{At: time.Hour, Revision: h.Final, Progress: true})
	h.Watchers = []history.Watcher{watcher}
	return h
}

// lastOf is where the events end that have the revision of one.
func lastOf(events []kv.Event, first int) int {
	last := first
	for last < len(events) && events[last].KV.ModRevision == events[first].KV.ModRevision {
		last++
	}
	return last
}

// aTransfer is where the events of some transfer begin and end: neither the first nor the last one, of two accounts which both have less or more money afterwards,
// and which somebody read before anything else changed.
func aTransfer(t *testing.T, h *history.History) (first, last int) {
	t.Helper()
	for first = len(h.Full) / 2; first < len(h.Full); first = last {
		e := &h.Full[first]
		if last = lastOf(h.Full, first); last-first != 2 || last == len(h.Full) || e.KV.ModRevision == h.Full[first-1].KV.ModRevision || e.Prev == nil {
			continue
		}
		before, _ := balance(e.Prev.Value)
		if after, _ := balance(e.KV.Value); after != before && readAt(h, e.KV.ModRevision) >= 0 {
			return first, last
		}
	}
	t.Fatal("no transfer")
	return 0, 0
}

// readAt finds a read at a revision; -1: there is none.
func readAt(h *history.History, at kv.Revision) int {
	return slices.IndexFunc(h.Operations, func(o history.Operation) bool { return o.Request.Kind == kv.KindRange && o.Response.Revision == at })
}

// by finds the transaction that took effect at a revision.
func by(t *testing.T, h *history.History, at kv.Revision) *history.Operation {
	t.Helper()
	i := slices.IndexFunc(h.Operations, func(o history.Operation) bool {
		return o.Request.Kind == kv.KindTxn && o.Response.Revision == at && o.Response.Txn.Succeeded
	})
	if i < 0 {
		t.Fatalf("no transaction at revision %d", at)
	}
	return &h.Operations[i]
}

// TestAuditor breaks a history in each way that a transaction over shards can break one, and has all of what judges a run look at it.
func TestAuditor(t *testing.T) {
	v := auditHistory(transferred())
	if problems := v.problems(); len(problems) > 0 {
		t.Fatalf("nothing is wrong, but:\n%s", strings.Join(problems, "\n"))
	}
	if v.transfers < 30 || v.undecided > 0 {
		t.Fatalf("%d transfers, %d keys undecided", v.transfers, v.undecided)
	}
	report := func(v *verdict) []string { return v.report.Problems }
	registers := func(v *verdict) []string { return v.registers }
	sum := func(v *verdict) []string { return v.sums }
	for _, fault := range []struct {
		name    string
		opinion func(*verdict) []string
		says    string
		inject  func(t *testing.T, h *history.History)
	}{
		{"a transfer that was acknowledged is lost", report, "lost", func(t *testing.T, h *history.History) {
			first, last := aTransfer(t, h)
			h.Full = slices.Delete(h.Full, first, last)
		}},
		{"one shard has lost its part of a transfer", report, "must be", func(t *testing.T, h *history.History) {
			first, _ := aTransfer(t, h)
			h.Full = slices.Delete(h.Full, first, first+1)
		}},
		{"one shard has lost its part of a transfer", sum, "the accounts have", func(t *testing.T, h *history.History) {
			first, _ := aTransfer(t, h)
			h.Full = slices.Delete(h.Full, first, first+1)
		}},
		{"one shard has lost its part of a transfer, whose outcome nobody knows", report, "cannot be the effect", func(t *testing.T, h *history.History) {
			first, _ := aTransfer(t, h)
			o := by(t, h, h.Full[first].KV.ModRevision)
			o.Outcome, o.Response = history.Unknown, nil
			h.Full = slices.Delete(h.Full, first, first+1)
		}},
		{"the parts of a transfer have two revisions", sum, "the accounts have", func(t *testing.T, h *history.History) {
			_, last := aTransfer(t, h)
			for i := last - 1; i < len(h.Full); i++ {
				h.Full[i].KV.ModRevision++
			}
		}},
		{"the parts of a transfer have two revisions", report, "must be", func(t *testing.T, h *history.History) {
			_, last := aTransfer(t, h)
			for i := last - 1; i < len(h.Full); i++ {
				h.Full[i].KV.ModRevision++
			}
		}},
		{"a transfer took effect twice in one shard", sum, "the accounts have", func(t *testing.T, h *history.History) {
			first, _ := aTransfer(t, h)
			again := h.Full[first]
			again.KV.Value = []byte("1 w0-0")
			h.Full = slices.Insert(h.Full, first+1, again)
		}},
		{"a transfer that was refused took effect", report, "was refused", func(t *testing.T, h *history.History) {
			first, _ := aTransfer(t, h)
			o := by(t, h, h.Full[first].KV.ModRevision)
			o.Outcome, o.Response, o.Err = history.Refused, nil, kv.ErrTooManyRequests
		}},
		{"a read between the parts of a transfer", report, "must be", between},
		{"a read between the parts of a transfer", registers, "no order of its", between},
		{"a watcher misses the part of one shard", report, "the next event is", func(t *testing.T, h *history.History) {
			first, last := aTransfer(t, h)
			for i := range h.Watchers[0].Batches {
				if b := &h.Watchers[0].Batches[i]; b.Revision == h.Full[first].KV.ModRevision {
					b.Events = b.Events[:last-first-1]
				}
			}
		}},
		{"a watcher gets a revision in two messages", report, "split", func(t *testing.T, h *history.History) {
			first, _ := aTransfer(t, h)
			batches := h.Watchers[0].Batches
			i := slices.IndexFunc(batches, func(b history.Batch) bool { return b.Revision == h.Full[first].KV.ModRevision })
			second := batches[i]
			batches[i].Events, second.Events = second.Events[:1], second.Events[1:]
			h.Watchers[0].Batches = slices.Insert(batches, i+1, second)
		}},
		{"a watcher gets the parts of a transfer in another order", report, "the next event is", func(t *testing.T, h *history.History) {
			first, _ := aTransfer(t, h)
			for i := range h.Watchers[0].Batches {
				if b := &h.Watchers[0].Batches[i]; b.Revision == h.Full[first].KV.ModRevision {
					slices.Reverse(b.Events)
				}
			}
		}},
		{"a watcher is told too early that it has everything", report, "progress up to", func(t *testing.T, h *history.History) {
			first, _ := aTransfer(t, h)
			batches := h.Watchers[0].Batches
			i := slices.IndexFunc(batches, func(b history.Batch) bool { return b.Revision == h.Full[first].KV.ModRevision })
			h.Watchers[0].Batches = slices.Insert(batches, i, history.Batch{At: time.Hour, Revision: h.Full[first].KV.ModRevision, Progress: true})
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			h := transferred()
			fault.inject(t, h)
			v := auditHistory(h)
			if !slices.ContainsFunc(fault.opinion(&v), func(p string) bool { return strings.Contains(p, fault.says) }) {
				t.Errorf("it does not say %q, but:\n%s", fault.says, strings.Join(v.problems(), "\n"))
			}
		})
	}
}

// between has a read miss one part of a transfer that took effect before it.
func between(t *testing.T, h *history.History) {
	first, _ := aTransfer(t, h)
	e := &h.Full[first]
	i := readAt(h, e.KV.ModRevision)
	kvs := slices.Clone(h.Operations[i].Response.Range.KVs)
	at := slices.IndexFunc(kvs, func(k kv.KeyValue) bool { return string(k.Key) == string(e.KV.Key) })
	kvs[at] = *e.Prev
	h.Operations[i].Response = &kv.Response{Kind: kv.KindRange, Revision: e.KV.ModRevision, Range: &kv.RangeResponse{KVs: kvs, Count: int64(len(kvs))}}
	if err := sums(kvs); err == nil { // whoever adds up while the run goes on sees it, too
		t.Error("the accounts have what they should")
	}
}
