package txn

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/shard/model"
)

var twinSeeds = flag.Int("twin-seeds", 300, "stores that are compared with one that is not cut")

// TestTwin: whatever is asked, shares of several stores make the answer and the state of one store that has all keys.
func TestTwin(t *testing.T) {
	seeds := *twinSeeds
	if testing.Short() {
		seeds = 60
	}
	seen := map[string]int{}
	for seed := range seeds {
		w := newTwin(t, uint64(seed))
		w.seen = seen
		for range 120 {
			w.step()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		w.checkState()
	}
	t.Log(seen)
	for _, what := range []string{"guessed", "probed", "read", "refused", "other path", "cannot be", "shared compare", "past", "no effect", "wrong path"} {
		if seen[what] < seeds/10 {
			t.Errorf("%q was seen %d times only", what, seen[what])
		}
	}
}

// twin is one store, and one for each shard.
type twin struct {
	t         testing.TB
	random    *rand.Rand
	generator model.Generator
	table     *partition.Table
	scheme    partition.Scheme
	one       *model.Store
	many      map[kv.ShardID]*model.Store
	seen      map[string]int
}

func newTwin(t testing.TB, seed uint64) *twin {
	random := rand.New(rand.NewPCG(seed, 7))
	w := &twin{t: t, random: random, one: model.New(), many: map[kv.ShardID]*model.Store{}}
	w.generator = model.Generator{Rand: random, Keys: 3 + random.IntN(25), Leases: 3}
	w.scheme = partition.Scheme{Kind: partition.Hash, Shards: 2 + random.IntN(4)}
	if random.IntN(2) == 0 {
		w.scheme = partition.Scheme{Kind: partition.Range, Shards: 1}
		for range 1 + random.IntN(4) {
			w.scheme.SplitKeys = append(w.scheme.SplitKeys, fmt.Appendf(nil, "k%02d", random.IntN(w.generator.Keys)))
		}
		slices.SortFunc(w.scheme.SplitKeys, bytes.Compare)
		w.scheme.SplitKeys = slices.CompactFunc(w.scheme.SplitKeys, bytes.Equal)
		w.scheme.Shards += len(w.scheme.SplitKeys)
	}
	var err error
	if w.table, err = partition.New(w.scheme); err != nil {
		t.Fatal(err)
	}
	w.one.AnyLease = true
	for _, id := range w.scheme.ShardIDs() {
		w.many[id] = model.New()
		w.many[id].AnyLease = true
	}
	return w
}

func (w *twin) step() {
	w.generator.Revision = w.one.Revision()
	req := w.generator.Request()
	if w.random.IntN(3) == 0 {
		req = w.generator.Nested()
	}
	if shard.Validate(req, shard.Limits{}) != nil {
		return
	}
	switch req.Kind {
	case kv.KindPut:
		if _, err := w.one.Apply(req); err == nil {
			s := w.many[w.table.Overlapping(kv.Span{Start: req.Put.Key})[0].Shard]
			s.Advance(w.one.Revision() - 1)
			if _, err := s.Apply(req); err != nil {
				w.t.Errorf("%+v: %v", *req.Put, err)
			}
		}
	case kv.KindDeleteRange:
		w.write(req)
	case kv.KindTxn:
		w.write(req)
	case kv.KindCompact:
		if _, err := w.one.Apply(req); err == nil {
			for _, s := range w.many {
				s.Advance(w.one.Compacted())
				s.CompactTo(w.one.Compacted())
			}
		}
	}
}

// write does a request by shares and compares the answer.
func (w *twin) write(req *kv.Request) {
	before := w.one.Revision()
	probe := w.probe(req)
	want, wantErr := w.one.Apply(req)
	writes := w.one.Revision() > before
	got, err := w.shares(req, probe, w.one.Revision(), writes)
	if (err == nil) != (wantErr == nil) {
		w.t.Errorf("%v: %s: %v, want %v", w.scheme, describeRequest(req), err, wantErr)
		return
	}
	if err != nil {
		w.seen["refused"]++
		return
	}
	if g, x := describeResponse(got), describeResponse(want); g != x {
		w.t.Errorf("%v: %s\n%s\nwant\n%s", w.scheme, describeRequest(req), g, x)
	}
}

// probe reads what a request's compares say, from the whole store.
func (w *twin) probe(req *kv.Request) func() (View, error) {
	if req.Kind != kv.KindTxn {
		return func() (View, error) { return View{}, errNotProbe }
	}
	r := Probe(req.Txn)
	if !shard.IsReadOnly(&kv.Request{Kind: kv.KindTxn, Txn: r}) {
		w.t.Errorf("a probe writes: %s", describeRequest(&kv.Request{Kind: kv.KindTxn, Txn: r}))
	}
	answer, err := w.one.Clone().Apply(&kv.Request{Kind: kv.KindTxn, Txn: r})
	return func() (View, error) {
		if err != nil {
			return View{}, err
		}
		return See(req.Txn, answer.Txn)
	}
}

func (w *twin) shares(req *kv.Request, probe func() (View, error), at kv.Revision, writes bool) (*kv.Response, error) {
	view, probed := View{}, false
	if req.Kind == kv.KindTxn && (ReadsPast(req.Txn) || !MayWrite(req, nil) || w.random.IntN(4) == 0) {
		w.seen["probed"]++
		var err error
		if view, err = probe(); err != nil {
			return nil, err
		}
		probed = true
	}
	if v, err := probe(); err == nil {
		w.checkWrong(req, v)
	}
	for range 2 {
		if view.Answer != nil {
			w.seen["read"]++
			if writes || MayWrite(req, view.Path) {
				w.t.Errorf("the answer is taken from a read, and the request may write: %s", describeRequest(req))
			}
			return &kv.Response{Kind: req.Kind, Txn: view.Answer, Revision: at}, nil
		}
		plan, possible := Cut(w.table, req, view.Path)
		if !possible {
			w.seen["cannot be"]++
		} else if answer, met, err := w.prepare(plan, view.Past, at, writes); met {
			if !probed {
				w.seen["guessed"]++
			}
			if len(view.Past) > 0 {
				w.seen["past"]++
			}
			return answer, nil
		} else if err != nil && (probed || !plan.Compares()) {
			return nil, err
		}
		if probed {
			w.t.Errorf("what a probe says does not come out: %s, path %v", describeRequest(req), view.Path)
			return nil, nil
		}
		w.seen["other path"]++
		var err error
		if view, err = probe(); err != nil {
			return nil, err
		}
		probed = true
	}
	w.t.Errorf("no path is left: %s", describeRequest(req))
	return nil, nil
}

// checkWrong tries a path at random: it comes out only if it takes the branches that the request takes.
func (w *twin) checkWrong(req *kv.Request, view View) {
	path := make(Path, len(view.Path))
	for i := range path {
		if path[i] = view.Path[i]; w.random.IntN(2) == 0 {
			path[i] = w.random.IntN(3) - 1
		}
	}
	plan, possible := Cut(w.table, req, path)
	if !possible {
		return
	}
	answers := make([]*kv.CommitResponse, len(plan.Shares))
	for i, id := range plan.Participants {
		var err error
		if answers[i], err = evaluate(w.many[id], plan.Shares[i]); err != nil || answers[i].Met != nil {
			w.seen["wrong path"]++
			return
		}
	}
	if !plan.Met(answers) {
		w.seen["wrong path"]++
		return
	}
	for i := range path {
		if (path[i] == Holds) != (view.Path[i] == Holds) {
			w.t.Errorf("path %v comes out, and the way is %v: %s", path, view.Path, describeRequest(req))
			return
		}
	}
}

// prepare has all participants evaluate their shares, and then do them.
func (w *twin) prepare(plan *Plan, past []kv.OpResponse, at kv.Revision, writes bool) (*kv.Response, bool, error) {
	w.checkPlan(plan)
	answers := make([]*kv.CommitResponse, len(plan.Shares))
	someWrites, refused := false, error(nil)
	for i, id := range plan.Participants {
		answer, err := evaluate(w.many[id], plan.Shares[i])
		if err == nil && answer.Met != nil {
			return nil, false, nil
		}
		if err != nil {
			refused = err
			continue
		}
		if err := plan.Check(i, answer); err != nil {
			w.t.Error(err)
		}
		answers[i], someWrites = answer, someWrites || answer.Writes
	}
	if refused != nil {
		return nil, false, refused
	}
	if len(plan.compares) > 0 {
		w.seen["shared compare"]++
	}
	if !plan.Met(answers) {
		return nil, false, nil
	}
	if !someWrites {
		w.seen["no effect"]++
	}
	if someWrites != writes {
		w.t.Errorf("participants write: %v, one store: %v", someWrites, writes)
	}
	for i, id := range plan.Participants {
		if answers[i].Writes {
			w.many[id].Advance(at - 1)
			if _, err := w.many[id].Apply(opsOf(plan.Shares[i])); err != nil {
				w.t.Error(err)
			}
		}
	}
	return plan.Join(answers, past, at, writes), true, nil
}

func opsOf(share *kv.Share) *kv.Request {
	t := &kv.TxnRequest{}
	for _, o := range share.Ops {
		t.Success = append(t.Success, o.Op)
	}
	return &kv.Request{Kind: kv.KindTxn, Txn: t}
}

// evaluate is what a participant does with a share.
func evaluate(s *model.Store, share *kv.Share) (*kv.CommitResponse, error) {
	s = s.Clone()
	answer := &kv.CommitResponse{Standing: kv.StandingPrepared}
	met, all := make([]bool, len(share.Compares)), true
	for i, e := range share.Compares {
		compared, err := s.Apply(&kv.Request{Kind: kv.KindTxn, Txn: &kv.TxnRequest{Compare: []kv.Compare{e.Compare}}})
		if err != nil {
			return nil, err
		}
		met[i] = compared.Txn.Succeeded == e.Holds
		all = all && met[i]
	}
	if !all {
		return &kv.CommitResponse{Met: met}, nil
	}
	s.Advance(kv.Unnumbered - 1)
	done, err := s.Apply(opsOf(share))
	if err != nil {
		return nil, err
	}
	answer.Results, answer.Writes = done.Txn.Responses, done.Revision == kv.Unnumbered
	return answer, nil
}

// checkPlan: participants ascend, the anchor is among them, and shares hold only what is of their shard.
func (w *twin) checkPlan(p *Plan) {
	anchor := Anchor(w.table, p.request)
	if !slices.IsSorted(p.Participants) || !slices.Contains(p.Participants, anchor) {
		w.t.Errorf("participants are %v, the anchor is %d", p.Participants, anchor)
	}
	places := map[uint32]int{}
	for i, s := range p.Shares {
		last := -1
		for _, o := range s.Ops {
			places[o.Place]++
			if int(o.Place) <= last {
				w.t.Error("places do not ascend")
			}
			last = int(o.Place)
			if o.Op.Range != nil && o.Op.Range.Revision != 0 {
				w.t.Error("a participant is asked for the past")
			}
			of := w.table.Overlapping(spanOf(&o.Op))
			if !slices.ContainsFunc(of, func(d partition.Descriptor) bool { return d.Shard == p.Participants[i] }) {
				w.t.Errorf("shard %d has an operation that is not for it", p.Participants[i])
			}
			if o.Op.Put != nil && o.Op.Put.Key == nil {
				w.t.Error("a put without key")
			}
		}
	}
}

// checkState: the shards have what the one store has.
func (w *twin) checkState() {
	var all []kv.KeyValue
	for _, id := range w.scheme.ShardIDs() {
		r, err := w.many[id].Apply(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}})
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, r.Range.KVs...)
	}
	slices.SortFunc(all, func(a, b kv.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	one, err := w.one.Apply(&kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Everything()}})
	if err != nil {
		w.t.Fatal(err)
	}
	if g, x := describeKVs(all), describeKVs(one.Range.KVs); g != x {
		w.t.Errorf("the shards have\n%s\nwant\n%s", g, x)
	}
}

func describeKVs(kvs []kv.KeyValue) string {
	var b strings.Builder
	for _, e := range kvs {
		fmt.Fprintf(&b, " %q=%q created %d mod %d version %d lease %d\n", e.Key, e.Value, e.CreateRevision, e.ModRevision, e.Version, e.Lease)
	}
	return b.String()
}

func describeResponse(r *kv.Response) string {
	if r.Txn != nil {
		return fmt.Sprintf("at %d: %s", r.Revision, describeTxn(r.Txn))
	}
	return fmt.Sprintf("at %d: %s", r.Revision, describeOp(&kv.OpResponse{DeleteRange: r.DeleteRange}))
}

func describeTxn(r *kv.TxnResponse) string {
	s := fmt.Sprint(r.Succeeded, "\n")
	for i := range r.Responses {
		s += describeOp(&r.Responses[i])
	}
	return s
}

func describeOp(o *kv.OpResponse) string {
	switch {
	case o.Txn != nil:
		return fmt.Sprintf("at %d: (%s)\n", o.Revision, describeTxn(o.Txn))
	case o.Range != nil:
		return fmt.Sprintf("at %d: %d keys, more %v\n%s", o.Revision, o.Range.Count, o.Range.More, describeKVs(o.Range.KVs))
	case o.Put != nil && o.Put.Prev != nil:
		return fmt.Sprintf("at %d: put over%s\n", o.Revision, describeKVs([]kv.KeyValue{*o.Put.Prev}))
	case o.Put != nil:
		return fmt.Sprintf("at %d: put\n", o.Revision)
	case o.DeleteRange != nil:
		return fmt.Sprintf("at %d: %d deleted\n%s", o.Revision, o.DeleteRange.Deleted, describeKVs(o.DeleteRange.Prev))
	}
	return "nothing"
}

func describeRequest(r *kv.Request) string {
	if r.Txn == nil {
		return fmt.Sprintf("delete %+v", r.DeleteRange)
	}
	return describeTransaction(r.Txn)
}

func describeTransaction(t *kv.TxnRequest) string {
	s := "if"
	for _, c := range t.Compare {
		s += fmt.Sprintf(" %q..%q target %d relation %d %d %q;", c.Span.Start, c.Span.End, c.Target, c.Result, c.Integer, c.Value)
	}
	for i, ops := range [2][]kv.Op{t.Success, t.Failure} {
		s += [2]string{" then", " else"}[i]
		for _, o := range ops {
			switch {
			case o.Range != nil:
				s += fmt.Sprintf(" range %+v;", *o.Range)
			case o.Put != nil:
				s += fmt.Sprintf(" put %+v;", *o.Put)
			case o.DeleteRange != nil:
				s += fmt.Sprintf(" delete %+v;", *o.DeleteRange)
			case o.Txn != nil:
				s += " (" + describeTransaction(o.Txn) + ");"
			}
		}
	}
	return s
}

func TestSeeRefusesOtherAnswers(t *testing.T) {
	asked := &kv.TxnRequest{Compare: make([]kv.Compare, 2), Failure: []kv.Op{{Range: &kv.RangeRequest{}}}}
	held := kv.OpResponse{Txn: &kv.TxnResponse{Succeeded: true}}
	missed := kv.OpResponse{Txn: &kv.TxnResponse{}}
	found := kv.OpResponse{Range: &kv.RangeResponse{}}
	for _, answer := range []*kv.TxnResponse{
		nil,
		{},
		{Responses: []kv.OpResponse{held, held}},
		{Responses: []kv.OpResponse{found, held, held}},
		{Responses: []kv.OpResponse{held, missed}},
		{Responses: []kv.OpResponse{held, held, missed}},
		{Responses: []kv.OpResponse{found, found, held, missed}},
		{Succeeded: true, Responses: []kv.OpResponse{found}},
	} {
		if _, err := See(asked, answer); !errors.Is(err, errNotProbe) {
			t.Errorf("%+v: %v", answer, err)
		}
	}
	if v, err := See(asked, &kv.TxnResponse{Responses: []kv.OpResponse{found, held, missed}}); err != nil || !slices.Equal(v.Path, Path{1}) || v.Answer == nil {
		t.Errorf("%+v, %v", v, err)
	}
}

// A probe belongs to a request that may write, and is read at latest, whatever its ranges want. One below all revisions is in it: whoever reads refuses it.
func TestProbeIsNotServedFromOlderStates(t *testing.T) {
	at := func(key string, revision kv.Revision) kv.Op {
		return kv.Op{Range: &kv.RangeRequest{Span: kv.Span{Start: []byte(key)}, Revision: revision, Serializable: true}}
	}
	put := kv.Op{Put: &kv.PutRequest{Key: []byte("c")}}
	request := &kv.TxnRequest{
		Success: []kv.Op{put, at("a", 7), at("b", 0)},
		Failure: []kv.Op{at("a", 0), {Txn: &kv.TxnRequest{Success: []kv.Op{at("b", -1)}}}},
	}
	probe := Probe(request)
	for _, test := range []struct {
		got  []kv.Op
		want kv.Revision
	}{{probe.Success, 7}, {probe.Failure[:1], 0}, {probe.Failure[1].Txn.Success, -1}} {
		if len(test.got) != 1 || test.got[0].Range.Revision != test.want || test.got[0].Range.Serializable {
			t.Errorf("the probe has %+v, want one range at revision %d that is not serializable", test.got, test.want)
		}
	}
	if !request.Failure[0].Range.Serializable {
		t.Error("the probe has changed the request")
	}
	if below := (&kv.TxnRequest{Success: []kv.Op{put, at("b", -1)}}); !ReadsPast(below) {
		t.Error("a range at revision -1 is left to the participants")
	}
}
