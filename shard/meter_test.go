package shard

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// room is a Memory with a limit that knows the most that was reserved, and can refuse one reservation.
type room struct {
	limit, used, most int64
	refuseAt, asked   int // refuseAt 0: never
}

func (r *room) Reserve(bytes int64) bool {
	if r.asked++; r.asked == r.refuseAt || r.used+bytes > r.limit {
		return false
	}
	r.used += bytes
	r.most = max(r.most, r.used)
	return true
}

func (r *room) Release(bytes int64) { r.used -= bytes }

var (
	allKeys   = kv.Everything()
	wholeList = kv.Op{Range: &kv.RangeRequest{Span: allKeys}}
)

// fill puts n keys with values of so many bytes; apply says whether they are applied or stay in flight.
func (g *group) fill(t *testing.T, n, valueBytes int, apply bool) {
	t.Helper()
	for i := range n {
		put := &kv.PutRequest{Key: fmt.Appendf(nil, "key/%06d", i), Value: bytes.Repeat([]byte{byte(i)}, valueBytes)}
		if out := g.leader.Evaluate(&kv.Request{Kind: kv.KindPut, Put: put}); out.Err != nil {
			t.Fatal(out.Err)
		}
		if apply && i%100 == 0 || apply && i == n-1 {
			g.propose()
			for g.leader.AppliedIndex() < g.log[len(g.log)-1].Index {
				if _, err := g.leader.apply(g.log[g.leader.AppliedIndex()]); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func txnOf(ops ...kv.Op) *kv.Request {
	return &kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Success: ops}}
}

func repeated(op kv.Op, n int) []kv.Op {
	ops := make([]kv.Op, n)
	for i := range ops {
		ops[i] = op
	}
	return ops
}

// What the issue saw: a small transaction whose answer is many times the store made a node hold gigabytes.
func TestAnswersAreReserved(t *testing.T) {
	const storeBytes, limit = 20 << 20, 64 << 20
	nested := func(n int, op kv.Op) kv.Op {
		return kv.Op{Txn: &kv.TxnRequest{Success: repeated(op, n)}}
	}
	mebibyte := kv.Op{Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("key/"), End: []byte("key/000256")}}}
	for _, inFlight := range []bool{false, true} {
		g := newGroup(t, inRounds(1<<40))
		g.fill(t, storeBytes/(4<<10), 4<<10, !inFlight)
		for name, r := range map[string]*kv.Request{
			"100 ranges of 20 MB":     txnOf(repeated(wholeList, 100)...),
			"60 x 60 ranges of 1 MB":  txnOf(repeated(nested(60, mebibyte), 60)...),
			"100 ranges in a branch":  {Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: []kv.Compare{{Span: kv.Span{Start: []byte("x")}, Target: kv.CompareVersion, Integer: 1}}, Failure: repeated(wholeList, 100)}},
			"by value, then by value": txnOf(repeated(kv.Op{Range: &kv.RangeRequest{Span: allKeys, SortTarget: kv.SortByValue, SortOrder: kv.SortDescend}}, 20)...),
		} {
			evaluate := func() error { return g.leader.Evaluate(r).Err }
			g.refused(t, fmt.Sprintf("%s, in flight: %v", name, inFlight), r, limit, evaluate)
			if !inFlight && IsReadOnly(r) {
				g.refused(t, name+", read", r, limit, func() error { _, err := g.leader.Read(nil, 0, r); return err })
				view := g.leader.store.View()
				g.refused(t, name+", from a view", r, limit, func() error { _, err := g.leader.Read(view, 0, r); return err })
				view.Close()
			}
		}
		one := txnOf(wholeList)
		memory := &room{limit: limit}
		one.Memory = memory
		out := g.leader.Evaluate(one)
		if out.Err != nil {
			t.Fatal(out.Err)
		}
		if size := kv.MemoryBytes(out.Response.Txn.Responses[0].Range.KVs); memory.used < size || memory.used > size+256<<10 {
			t.Errorf("an answer of %d bytes is in memory, %d are reserved", size, memory.used)
		}
	}
}

// refused: there is no room for the answer; no more was taken than there was, and nothing is left.
func (g *group) refused(t *testing.T, what string, r *kv.Request, limit int64, evaluate func() error) {
	t.Helper()
	memory := &room{limit: limit}
	r.Memory = memory
	defer func() { r.Memory = nil }()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := evaluate()
	runtime.ReadMemStats(&after)
	if !errors.Is(err, kv.ErrTooManyRequests) || memory.used != 0 {
		t.Errorf("%s: %v, %d bytes stay reserved", what, err, memory.used)
	}
	// All that was allocated, what is garbage already included.
	if allocated := int64(after.TotalAlloc - before.TotalAlloc); allocated > 2*limit {
		t.Errorf("%s: %d MiB were allocated, %d are allowed", what, allocated>>20, limit>>20)
	}
	if err := g.leader.Check(); err != nil || g.leader.lead.nextSub != 0 {
		t.Errorf("%s: %v, next change %d", what, err, g.leader.lead.nextSub)
	}
}

// Whatever collects keys or changes, and wherever on its way it is refused: it ends there, has done nothing, and what it had reserved is given back.
// With room it succeeds.
func TestRefusedAnywhere(t *testing.T) {
	const n, value = 2000, 400
	puts := make([]kv.Op, n)
	for i := range puts {
		puts[i].Put = &kv.PutRequest{Key: fmt.Appendf(nil, "key/%06d", i), Value: []byte("new"), PrevKV: true}
	}
	delete := kv.Op{DeleteRange: &kv.DeleteRangeRequest{Span: allKeys, PrevKV: true}}
	requests := map[string]*kv.Request{
		"list":                 {Kind: kv.KindRange, Range: wholeList.Range},
		"list of keys":         {Kind: kv.KindRange, Range: &kv.RangeRequest{Span: allKeys, KeysOnly: true}},
		"old list":             {Kind: kv.KindRange, Range: &kv.RangeRequest{Span: allKeys, Revision: n / 2}},
		"delete":               {Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: allKeys}},
		"delete with values":   {Kind: kv.KindDeleteRange, DeleteRange: delete.DeleteRange},
		"puts":                 txnOf(puts...),
		"puts, then all":       txnOf(append(puts[:n:n], wholeList)...),
		"deleted in a nest":    txnOf(kv.Op{Txn: &kv.TxnRequest{Success: []kv.Op{puts[0], delete}}}, puts[1]),
		"compare of values":    {Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: []kv.Compare{{Span: allKeys, Target: kv.CompareValue, Result: kv.CompareGreater}}, Success: puts[:1]}},
		"revoke":               {Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: 1}},
		"keys of a lease":      {Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: 1, Keys: true}},
		"leases":               {Kind: kv.KindLeaseLeases},
		"transactions in one":  txnOf(repeated(kv.Op{Txn: &kv.TxnRequest{}}, n)...),
		"put over a large one": {Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("large"), PrevKV: true}},
		"large value kept":     {Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("large"), IgnoreValue: true}},
		"large one deleted":    {Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: []byte("large")}, PrevKV: true}},
	}
	for name, r := range requests {
		for where, options := range map[string]Options{"in flight": inRounds(1 << 40), "applied": inRounds(1 << 40), "beside": inRounds(n / 4)} {
			t.Run(name+"/"+where, func(t *testing.T) {
				g := newGroup(t, options)
				for lease := range 3000 {
					g.leader.Evaluate(&kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: kv.LeaseID(lease + 1), TTLSeconds: 100}})
				}
				for i := range n {
					put := &kv.PutRequest{Key: fmt.Appendf(nil, "key/%06d", i), Value: bytes.Repeat([]byte{1}, value), Lease: 1}
					g.leader.Evaluate(&kv.Request{Kind: kv.KindPut, Put: put})
				}
				g.leader.Evaluate(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("large"), Value: make([]byte, 1<<20)}})
				if where != "in flight" {
					g.propose()
					if _, err := g.leader.apply(g.log[len(g.log)-1]); err != nil {
						t.Fatal(err)
					}
				}
				g.refusedEverywhere(t, r)
			})
		}
	}
}

// inRounds are options with which a request may look at so many keys in a round.
func inRounds(looks int64) Options {
	options := testOptions(1)
	options.RoundLooks = looks
	return options
}

func (g *group) refusedEverywhere(t *testing.T, r *kv.Request) {
	defer func() { r.Memory = nil }()
	o := g.leader.lead.overlay
	revision, changes, ops, pending := g.leader.Evaluated(), o.changes.end(), o.ops.end(), o.untakenBytes
	for refuseAt := 1; ; refuseAt++ {
		memory := &room{limit: 1 << 30, refuseAt: refuseAt}
		r.Memory = memory
		out := g.decide(r)
		if memory.asked < refuseAt {
			if out.Err != nil || refuseAt == 1 {
				t.Fatalf("with room: %v, %d reservations", out.Err, memory.asked)
			}
			return
		}
		if !errors.Is(out.Err, kv.ErrTooManyRequests) || out.Response != nil || out.Effects || memory.used != 0 || memory.asked != refuseAt {
			t.Fatalf("refused at %d: %+v, %d bytes stay reserved, %d reservations", refuseAt, out, memory.used, memory.asked)
		}
		if g.leader.Evaluated() != revision || o.changes.end() != changes || o.ops.end() != ops || o.untakenBytes != pending {
			t.Fatalf("refused at %d, and left at revision %d: %d changes, %d ops", refuseAt, g.leader.Evaluated(), o.changes.end()-changes, o.ops.end()-ops)
		}
		if err := g.leader.Check(); err != nil {
			t.Fatalf("refused at %d: %v", refuseAt, err)
		}
	}
}

// The changes of a transaction count, whatever it answers: it takes them through the queue, the log and the overlay.
func TestChangesAreReserved(t *testing.T) {
	const n = 74_000
	ops := make([]kv.Op, n)
	for i := range ops {
		ops[i].Put = &kv.PutRequest{Key: fmt.Appendf(nil, "%06d", i)}
	}
	g := newGroup(t, inRounds(1<<40))
	r := txnOf(ops...)
	memory := &room{limit: 1 << 30}
	r.Memory = memory
	var before, after runtime.MemStats
	runtime.GC() // twice: what was there before is really gone
	runtime.GC()
	runtime.ReadMemStats(&before)
	out := g.leader.Evaluate(r)
	data, _ := g.leader.TakeProposal(0)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	held := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d bytes are reserved, %d held, the entry has %d", memory.used, held, len(data))
	if memory.used < held || memory.used > 3*held {
		t.Errorf("%d bytes are reserved for a transaction that holds %d, its entry of %d included", memory.used, held, len(data))
	}
	runtime.KeepAlive(out)
	runtime.KeepAlive(g)
	runtime.KeepAlive(data)
	runtime.KeepAlive(ops)
}

// What a request of one key collects is free, and needs no reservation.
func TestSmallRequestsReserveNothing(t *testing.T) {
	g := newGroup(t, testOptions(1))
	g.fill(t, 10, 100, true)
	key := []byte("key/000003")
	for _, r := range []*kv.Request{
		{Kind: kv.KindPut, Put: &kv.PutRequest{Key: key, Value: make([]byte, 100), PrevKV: true}},
		{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: key}}},
		{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: key}, PrevKV: true}},
		{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{TTLSeconds: 10}},
	} {
		memory := &room{limit: 1 << 30}
		r.Memory = memory
		if out := g.leader.Evaluate(r); out.Err != nil || memory.asked != 0 {
			t.Errorf("%s: %v, %d reservations", describe(r), out.Err, memory.asked)
		}
	}
}

// What a compare reads is gone when it has been compared, and a deletion's list of keys when its changes have them: many of them need the room of one.
func TestWhatWasNeededOnTheWayIsForgotten(t *testing.T) {
	const n, value = 5000, 1 << 10
	g := newGroup(t, inRounds(1<<40))
	g.fill(t, n, value, true)
	compare := kv.Compare{Span: allKeys, Target: kv.CompareValue, Result: kv.CompareNotEqual}
	counting := kv.Op{Range: &kv.RangeRequest{Span: allKeys, CountOnly: true, Revision: 10}}
	few := kv.Op{Range: &kv.RangeRequest{Span: allKeys, SortTarget: kv.SortByValue, SortOrder: kv.SortDescend, Limit: 1}}
	filtered := kv.Op{Range: &kv.RangeRequest{Span: allKeys, MinCreate: n}}
	put := kv.Op{Put: &kv.PutRequest{Key: []byte("key/x"), Value: []byte("in flight")}}
	compares := make([]kv.Compare, 20)
	for i := range compares {
		compares[i] = compare
	}
	for name, r := range map[string]*kv.Request{
		"compares":             {Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: compares, Success: []kv.Op{{Range: &kv.RangeRequest{Span: kv.Span{Start: []byte("x")}}}}}},
		"counts":               txnOf(repeated(counting, 20)...),
		"few of many":          txnOf(repeated(few, 20)...),
		"filtered":             txnOf(repeated(filtered, 20)...),
		"few, with a change":   txnOf(append([]kv.Op{put}, repeated(few, 20)...)...),
		"filtered, the same":   txnOf(append([]kv.Op{put}, repeated(filtered, 20)...)...),
		"deletions of nothing": txnOf(append(repeated(kv.Op{DeleteRange: &kv.DeleteRangeRequest{Span: allKeys}}, 20), put)...),
	} {
		memory := &room{limit: 14 << 20}
		r.Memory = memory
		out := g.leader.Evaluate(r)
		if out.Err != nil {
			t.Errorf("%s: %v, at most %d bytes were reserved", name, out.Err, memory.most)
			continue
		}
		if memory.most < 4<<20 && name != "counts" && name != "filtered" && name != "deletions of nothing" || memory.used > 2<<20 {
			t.Errorf("%s: at most %d bytes were reserved, in the end %d", name, memory.most, memory.used)
		}
		g.leader.lead.overlay.rollback(g.leader.lead.overlay.takenChanges) // the next one begins with the same keys
		g.leader.lead.revision = g.leader.Closed()
	}
}
