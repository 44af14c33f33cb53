package oracle

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/gateway/watch"
	"github.com/quoratedb/quorate/kv"
)

// instead makes lies that answer requests of a kind in place of the store.
func instead(kind kv.Kind, in int, do func(f *fake, r *kv.Request) (*kv.Response, error, bool)) lies {
	return lies{instead: func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		if r.Kind != kind || f.calm || !f.one(in) {
			return nil, nil, false
		}
		answer, err, lied := do(f, r)
		if lied {
			f.told++
		}
		return answer, err, lied
	}}
}

// answers makes lies that change answers of a kind.
func answers(kind kv.Kind, in int, do func(f *fake, r *kv.Request, a *kv.Response) bool) lies {
	return lies{answer: func(f *fake, r *kv.Request, a *kv.Response) bool {
		if r.Kind != kind || f.calm || !f.one(in) || !do(f, r, a) {
			return false
		}
		f.told++
		return true
	}}
}

// ofRange makes lies about ranges with keys in them.
func ofRange(in int, do func(f *fake, r *kv.RangeRequest, a *kv.RangeResponse) bool) lies {
	return answers(kv.KindRange, in, func(f *fake, r *kv.Request, a *kv.Response) bool {
		return len(a.Range.KVs) > 0 && do(f, r.Range, a.Range)
	})
}

// ofEvents makes lies about messages of events.
func ofEvents(in int, do func(s *fakeStream, m *fakeMessage) []*fakeMessage) lies {
	return lies{message: func(s *fakeStream, m *fakeMessage) []*fakeMessage {
		if m.Kind != watch.KindEvents || s.f.calm || !s.f.one(in) {
			return []*fakeMessage{m}
		}
		messages := do(s, m)
		if messages == nil {
			return []*fakeMessage{m}
		}
		s.f.told++
		return messages
	}}
}

// old answers a range from an older state.
func old(f *fake, r *kv.Request) *kv.Response {
	past := *r.Range
	past.Revision = max(f.store.Compacted(), f.store.Revision()-4, 1)
	answer, err := f.store.Apply(&kv.Request{Kind: kv.KindRange, Range: &past})
	if err != nil {
		return nil
	}
	answer.Revision = past.Revision
	return answer
}

func present(r *kv.Request, serializable bool) bool {
	return r.Range.Revision == 0 && r.Range.Serializable == serializable && len(r.Range.Span.Start) > 0
}

// half cuts a message in two.
func half(m *fakeMessage, at int) []*fakeMessage {
	first, second := *m, *m
	first.events, second.events = m.events[:at], m.events[at:]
	first.Revision = first.events[at-1].KV.ModRevision
	return []*fakeMessage{&first, &second}
}

// inside finds a place between two events of one revision.
func inside(events []kv.Event) int {
	for i := 1; i < len(events); i++ {
		if events[i].KV.ModRevision == events[i-1].KV.ModRevision {
			return i
		}
	}
	return 0
}

// lieCases are everything that the store must not do, one at a time. says is a part of what somebody must say about it.
var lieCases = []struct {
	name      string
	workloads []string
	says      string
	lies      lies
}{
	{"a read of an older state", []string{"register", "counter"}, "stale", instead(kv.KindRange, 20, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		answer := old(f, r)
		return answer, nil, present(r, false) && answer != nil
	})},
	{"an old value under a new revision", []string{"register"}, "it must be", instead(kv.KindRange, 10, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		answer := old(f, r)
		if answer == nil || !present(r, false) {
			return nil, nil, false
		}
		answer.Revision = f.store.Revision()
		return answer, nil, true
	})},
	{"a node that goes back", []string{"register"}, "went back", instead(kv.KindRange, 10, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		answer := old(f, r)
		return answer, nil, present(r, true) && answer != nil
	})},
	{"an answer from the future", []string{"register"}, "from the future", answers(kv.KindRange, 20, func(f *fake, r *kv.Request, a *kv.Response) bool {
		a.Revision++
		return r.Range.Revision == 0 && f.store.Revision() > 3
	})},
	{"a lost write", []string{"register"}, "", instead(kv.KindPut, 50, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		return &kv.Response{Kind: kv.KindPut, Revision: f.store.Revision() + 1, Put: &kv.PutResponse{}}, nil, true
	})},
	{"a write that takes effect after it was answered", []string{"register"}, "", instead(kv.KindPut, 30, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		if r.Put.PrevKV {
			return nil, nil, false
		}
		at := f.store.Revision() + 1
		f.after(20*time.Millisecond, func() { _, _ = f.apply(r) })
		return &kv.Response{Kind: kv.KindPut, Revision: at, Put: &kv.PutResponse{}}, nil, true
	})},
	{"a write that takes effect twice", []string{"register"}, "took effect", instead(kv.KindPut, 50, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		answer, err := f.apply(r)
		f.after(300*time.Millisecond, func() { _, _ = f.apply(r) })
		return answer, err, true
	})},
	{"a deletion that takes effect twice", []string{"register"}, "nobody asked", instead(kv.KindDeleteRange, 10, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		answer, err := f.apply(r)
		f.after(time.Second, func() { _, _ = f.apply(r) })
		return answer, err, true
	})},
	{"a write that was refused and takes effect", []string{"register"}, "was refused", instead(kv.KindPut, 50, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		_, _ = f.apply(r)
		return nil, kv.ErrTooManyRequests, true
	})},
	{"a deletion that was refused and takes effect", []string{"register"}, "nobody asked", instead(kv.KindDeleteRange, 10, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		_, _ = f.apply(r)
		return nil, kv.ErrNoLeader, true
	})},
	{"a revision given twice", []string{"register"}, "given to both", answers(kv.KindPut, 30, func(f *fake, _ *kv.Request, a *kv.Response) bool {
		a.Revision--
		return a.Revision > 2
	})},
	{"a compare that was decided wrongly", []string{"counter"}, "it must", answers(kv.KindTxn, 30, func(_ *fake, _ *kv.Request, a *kv.Response) bool {
		a.Txn.Succeeded = !a.Txn.Succeeded
		return true
	})},
	{"a lock that does not fence", []string{"lock"}, "wrote after the one with token", instead(kv.KindTxn, 1, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		if len(r.Txn.Success) != 1 || r.Txn.Success[0].Put == nil || string(r.Txn.Success[0].Put.Key) != "guarded" {
			return nil, nil, false
		}
		free := *r.Txn
		free.Compare = nil
		answer, err := f.apply(&kv.Request{Kind: kv.KindTxn, Txn: &free})
		return answer, err, true
	})},
	{"half a transaction", []string{"bank"}, "it must be", instead(kv.KindTxn, 10, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		if len(r.Txn.Success) != 2 {
			return nil, nil, false
		}
		partial := *r.Txn
		partial.Success = r.Txn.Success[:1]
		answer, err := f.apply(&kv.Request{Kind: kv.KindTxn, Txn: &partial})
		if err == nil && answer.Txn.Succeeded {
			answer.Txn.Responses = append(answer.Txn.Responses, answer.Txn.Responses[0])
		}
		return answer, err, true
	})},
	{"a sweep that forgets a key", []string{"sweep"}, "", instead(kv.KindDeleteRange, 5, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		less := *r.DeleteRange
		less.Span.Start = append(bytes.Clone(less.Span.Start), '1')
		answer, err := f.apply(&kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &less})
		return answer, err, true
	})},
	{"a wrong number of deleted keys", []string{"sweep"}, "it must be", answers(kv.KindDeleteRange, 10, func(_ *fake, _ *kv.Request, a *kv.Response) bool {
		body := *a.DeleteRange
		a.DeleteRange = &body
		body.Deleted += 4
		return body.Deleted > 4
	})},
	{"a wrong count", []string{"register"}, "it must be", ofRange(20, func(_ *fake, r *kv.RangeRequest, a *kv.RangeResponse) bool {
		a.Count = int64(len(a.KVs))
		return a.More
	})},
	{"keys left out without a word", []string{"pages", "register"}, "it must be", ofRange(20, func(_ *fake, _ *kv.RangeRequest, a *kv.RangeResponse) bool {
		a.More = !a.More
		return true
	})},
	{"a wrong order", []string{"register"}, "it must be", ofRange(20, func(_ *fake, _ *kv.RangeRequest, a *kv.RangeResponse) bool {
		slices.Reverse(a.KVs)
		return len(a.KVs) > 1
	})},
	{"a key outside of the bounds on revisions", []string{"register"}, "it must be", instead(kv.KindRange, 2, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		free := *r.Range
		free.MinMod = 0
		answer, err := f.store.Apply(&kv.Request{Kind: kv.KindRange, Range: &free})
		return answer, err, r.Range.MinMod > 0
	})},
	{"a wrong version", []string{"register"}, "it must be", ofRange(20, func(_ *fake, _ *kv.RangeRequest, a *kv.RangeResponse) bool {
		a.KVs[0].Version++
		return true
	})},
	{"a wrong create revision", []string{"register"}, "it must be", ofRange(20, func(_ *fake, _ *kv.RangeRequest, a *kv.RangeResponse) bool {
		a.KVs[0].CreateRevision--
		return true
	})},
	{"a key without its lease", []string{"lease", "register", "election"}, "it must be", ofRange(1, func(_ *fake, _ *kv.RangeRequest, a *kv.RangeResponse) bool {
		was := a.KVs[0].Lease
		a.KVs[0].Lease = 0
		return was != 0
	})},
	{"a wrong previous version", []string{"register"}, "it must be", answers(kv.KindPut, 5, func(_ *fake, _ *kv.Request, a *kv.Response) bool {
		if a.Put.Prev == nil {
			return false
		}
		before := *a.Put.Prev
		before.Value = []byte("wrong")
		a.Put.Prev = &before
		return true
	})},
	{"a wrong answer in a nested transaction", []string{"nested"}, "it must be", answers(kv.KindTxn, 3, func(_ *fake, _ *kv.Request, a *kv.Response) bool {
		for i := range a.Txn.Responses {
			if nested := a.Txn.Responses[i].Txn; nested != nil {
				wrong := *nested
				wrong.Succeeded = !wrong.Succeeded
				a.Txn.Responses[i].Txn = &wrong
				return true
			}
		}
		return false
	})},
	{"compacted history that is read", []string{"compaction", "register"}, "had been compacted", lies{refusal: func(f *fake, r *kv.Request, err error) (*kv.Response, error) {
		if errors.Is(err, kv.ErrCompacted) && r.Kind == kv.KindRange {
			f.told++
			return &kv.Response{Kind: kv.KindRange, Revision: f.store.Revision(), Range: &kv.RangeResponse{}}, nil
		}
		return nil, err
	}}},
	{"a compaction that is answered and never done", []string{"compaction", "register"}, "lost", instead(kv.KindCompact, 3, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		at := r.Compact.Revision
		return &kv.Response{Kind: kv.KindCompact, Revision: f.store.Revision()}, nil, at > f.store.Compacted() && at <= f.store.Revision()
	})},
	{"a compaction that nobody asked for", []string{"compaction", "register"}, "nobody asked for the compaction", instead(kv.KindCompact, 3, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		_, err := f.apply(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: f.store.Revision() - 1}})
		return nil, kv.ErrCompacted, err == nil && r.Compact.Revision != f.store.Revision()-1
	})},
	{"a revision that is said to be compacted", []string{"compaction", "register"}, "as compacted", instead(kv.KindRange, 5, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		return nil, kv.ErrCompacted, r.Range.Revision > 0 && r.Range.Revision >= f.store.Compacted()
	})},
	{"a revision that is said to be in the future", []string{"register"}, "was refused", instead(kv.KindRange, 20, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		return nil, kv.ErrFutureRevision, !r.Range.Serializable && r.Range.Revision > 0 && r.Range.Revision < f.store.Revision()-20
	})},
	{"the present in place of the future", []string{"register", "random"}, "it must fail", lies{refusal: func(f *fake, r *kv.Request, err error) (*kv.Response, error) {
		if errors.Is(err, kv.ErrFutureRevision) && r.Kind == kv.KindRange {
			f.told++
			return &kv.Response{Kind: kv.KindRange, Revision: f.store.Revision(), Range: &kv.RangeResponse{}}, nil
		}
		return nil, err
	}}},
	{"a key that is said not to be there", []string{"random", "nested"}, "was refused", lies{instead: func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		if r.Kind != kv.KindPut || !r.Put.IgnoreLease || f.calm {
			return nil, nil, false
		}
		_, _, err := f.store.Try(r)
		return nil, kv.ErrKeyNotFound, err == nil && f.lie(1)
	}}},
	{"a put that is refused for its form", []string{"register"}, "well formed", instead(kv.KindPut, 50, func(*fake, *kv.Request) (*kv.Response, error, bool) { return nil, kv.ErrEmptyKey, true })},
	{"a transaction without form that is answered", []string{"random"}, "it must be refused", lies{refusal: func(f *fake, r *kv.Request, err error) (*kv.Response, error) {
		if errors.Is(err, kv.ErrDuplicateKey) {
			f.told++
			return &kv.Response{Kind: kv.KindTxn, Revision: f.store.Revision(), Txn: &kv.TxnResponse{}}, nil
		}
		return nil, err
	}}},
	{"a lease that ends early", []string{"lease"}, "ended early", lies{lasts: func(f *fake, d time.Duration) time.Duration {
		if f.lie(4) {
			return d / 3
		}
		return d
	}}},
	{"leases that are never ended", []string{"lease"}, "", lies{expire: func(f *fake, _ kv.LeaseID) bool { f.told++; return true }}},
	{"keys of a lease deleted one after the other", []string{"lease"}, "nobody asked", lies{expire: func(f *fake, id kv.LeaseID) bool {
		answer, err := f.store.Apply(&kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: id, Keys: true}})
		if err != nil || len(answer.LeaseTimeToLive.Keys) < 2 {
			return false
		}
		f.told++
		for _, key := range answer.LeaseTimeToLive.Keys {
			_, _ = f.apply(&kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: key}}})
		}
		_, _ = f.apply(&kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: id}})
		return true
	}}},
	{"a lease that is renewed after its end", []string{"lease"}, "lease", answers(kv.KindLeaseKeepAlive, 1, func(_ *fake, _ *kv.Request, a *kv.Response) bool {
		if a.LeaseKeepAlive.TTLSeconds > 0 {
			return false
		}
		a.LeaseKeepAlive = &kv.LeaseKeepAliveResponse{ID: a.LeaseKeepAlive.ID, TTLSeconds: 2}
		return true
	})},
	{"a renewal without effect", []string{"lease"}, "ended early", instead(kv.KindLeaseKeepAlive, 3, func(f *fake, r *kv.Request) (*kv.Response, error, bool) {
		answer, err := f.store.Apply(r)
		return answer, err, err == nil && answer.LeaseKeepAlive.TTLSeconds > 0
	})},
	{"a lease that is said to be missing", []string{"lease"}, "does not exist", answers(kv.KindLeaseTimeToLive, 4, func(_ *fake, _ *kv.Request, a *kv.Response) bool {
		was := a.LeaseTimeToLive.TTLSeconds
		a.LeaseTimeToLive = &kv.LeaseTimeToLiveResponse{ID: a.LeaseTimeToLive.ID, TTLSeconds: -1}
		return was > 0
	})},
	{"a lease with too little time left", []string{"lease"}, "are left", answers(kv.KindLeaseTimeToLive, 2, func(_ *fake, _ *kv.Request, a *kv.Response) bool {
		body := *a.LeaseTimeToLive
		a.LeaseTimeToLive = &body
		body.TTLSeconds /= 2
		return body.TTLSeconds > 0
	})},
	{"a list without a lease", []string{"lease"}, "was not told of lease", answers(kv.KindLeaseLeases, 1, func(_ *fake, _ *kv.Request, a *kv.Response) bool {
		n := len(a.LeaseLeases.IDs)
		a.LeaseLeases = &kv.LeaseLeasesResponse{IDs: a.LeaseLeases.IDs[:max(0, n-1)]}
		return n > 0
	})},
	{"a list with a lease too much", []string{"lease"}, "never granted", answers(kv.KindLeaseLeases, 1, func(_ *fake, _ *kv.Request, a *kv.Response) bool {
		a.LeaseLeases = &kv.LeaseLeasesResponse{IDs: append(slices.Clone(a.LeaseLeases.IDs), math.MaxInt64)}
		return true
	})},
	{"a lease without a key", []string{"lease"}, "are attached", answers(kv.KindLeaseTimeToLive, 1, func(_ *fake, _ *kv.Request, a *kv.Response) bool {
		body := *a.LeaseTimeToLive
		a.LeaseTimeToLive = &body
		n := len(body.Keys)
		body.Keys = body.Keys[:max(0, n-1)]
		return n > 0
	})},
	{"a revocation without effect", []string{"lease"}, "", instead(kv.KindLeaseRevoke, 3, func(f *fake, _ *kv.Request) (*kv.Response, error, bool) {
		return &kv.Response{Kind: kv.KindLeaseRevoke, Revision: f.store.Revision()}, nil, true
	})},
	{"a lease that is granted twice", []string{"lease", "random"}, "granted", lies{refusal: func(f *fake, r *kv.Request, err error) (*kv.Response, error) {
		if errors.Is(err, kv.ErrLeaseExists) {
			f.told++
			return &kv.Response{Kind: kv.KindLeaseGrant, Revision: f.store.Revision(),
				LeaseGrant: &kv.LeaseGrantResponse{ID: r.LeaseGrant.ID, TTLSeconds: max(1, r.LeaseGrant.TTLSeconds)}}, nil
		}
		return nil, err
	}}},
	{"an identifier that is said to be taken", []string{"lease"}, "nobody was granted it", instead(kv.KindLeaseGrant, 4, func(_ *fake, r *kv.Request) (*kv.Response, error, bool) {
		return nil, kv.ErrLeaseExists, r.LeaseGrant.ID != 0
	})},
	{"an event that a watch misses", []string{"watch", "register"}, "the next event is", ofEvents(10, func(_ *fakeStream, m *fakeMessage) []*fakeMessage {
		m.events = m.events[1:]
		if len(m.events) == 0 {
			return []*fakeMessage{}
		}
		return []*fakeMessage{m}
	})},
	{"an event that a watch gets twice", []string{"watch", "register"}, "repetition", ofEvents(10, func(_ *fakeStream, m *fakeMessage) []*fakeMessage {
		return []*fakeMessage{m, m}
	})},
	{"events in the wrong order", []string{"watch", "register"}, "the next event is", ofEvents(3, func(_ *fakeStream, m *fakeMessage) []*fakeMessage {
		if len(m.events) < 2 || inside(m.events) > 0 {
			return nil
		}
		slices.Reverse(m.events)
		m.Revision = m.events[0].KV.ModRevision
		return []*fakeMessage{m}
	})},
	{"a revision split over two messages", []string{"watch", "sweep"}, "the rest is missing", ofEvents(3, func(_ *fakeStream, m *fakeMessage) []*fakeMessage {
		if at := inside(m.events); at > 0 {
			return half(m, at)
		}
		return nil
	})},
	{"half a revision", []string{"watch", "sweep"}, "the rest is missing", ofEvents(3, func(_ *fakeStream, m *fakeMessage) []*fakeMessage {
		if at := inside(m.events); at > 0 {
			return half(m, at)[:1]
		}
		return nil
	})},
	{"a wrong value in an event", []string{"watch", "register"}, "the next event is", ofEvents(10, func(_ *fakeStream, m *fakeMessage) []*fakeMessage {
		m.events[0].KV.Value = []byte("wrong")
		return []*fakeMessage{m}
	})},
	{"a wrong previous version in an event", []string{"watch", "register"}, "was", ofEvents(3, func(_ *fakeStream, m *fakeMessage) []*fakeMessage {
		if m.events[0].Prev == nil {
			return nil
		}
		before := *m.events[0].Prev
		before.Version++
		m.events[0].Prev = &before
		return []*fakeMessage{m}
	})},
	{"no previous version in an event", []string{"watch", "register"}, "was", ofEvents(3, func(_ *fakeStream, m *fakeMessage) []*fakeMessage {
		if m.events[0].Prev == nil {
			return nil
		}
		m.events[0].Prev = nil
		return []*fakeMessage{m}
	})},
	{"an event under an older header", []string{"watch", "register"}, "under the header", ofEvents(10, func(_ *fakeStream, m *fakeMessage) []*fakeMessage {
		m.Revision--
		return []*fakeMessage{m}
	})},
	{"an event that was filtered out", []string{"watch", "register"}, "", lies{message: func(s *fakeStream, m *fakeMessage) []*fakeMessage {
		if m.Kind == watch.KindCreated && m.watch != nil && m.watch.request.Filters != 0 {
			s.f.told++
			m.watch.request.Filters = 0
		}
		return []*fakeMessage{m}
	}}},
	{"a watch that starts too late", []string{"watch", "register"}, "the next event is", lies{message: func(s *fakeStream, m *fakeMessage) []*fakeMessage {
		if m.Kind == watch.KindCreated && m.watch != nil && !s.f.calm && m.watch.request.StartRevision > 0 && m.watch.request.StartRevision < s.f.store.Revision() {
			s.f.told++
			m.watch.next++
		}
		return []*fakeMessage{m}
	}}},
	{"progress that comes too early", []string{"watch", "register"}, "progress up to", ofEvents(5, func(_ *fakeStream, m *fakeMessage) []*fakeMessage {
		if !m.watch.request.ProgressNotify {
			return nil
		}
		early := &fakeMessage{Batch: watch.Batch{Kind: watch.KindProgress, IDs: m.IDs, Revision: m.Revision}}
		return []*fakeMessage{early, m}
	})},
	{"progress for a watch of the future", []string{"watch", "register"}, "which starts at", lies{message: func(s *fakeStream, m *fakeMessage) []*fakeMessage {
		if now := s.f.store.Revision(); m.Kind == watch.KindCreated && m.watch != nil && m.watch.request.StartRevision > now && m.watch.request.ProgressNotify {
			s.f.told++
			return []*fakeMessage{m, {Batch: watch.Batch{Kind: watch.KindProgress, IDs: []watch.ID{m.watch.id}, Revision: now}}}
		}
		return []*fakeMessage{m}
	}}},
	{"progress beyond the present", []string{"watch", "register"}, "carries revision", lies{message: func(s *fakeStream, m *fakeMessage) []*fakeMessage {
		if m.Kind == watch.KindProgress && !s.f.calm {
			s.f.told++
			m.Revision += 100
		}
		return []*fakeMessage{m}
	}}},
	{"a watch that ends for no reason", []string{"watch", "register"}, "nobody asked for it", ofEvents(20, func(_ *fakeStream, m *fakeMessage) []*fakeMessage {
		return []*fakeMessage{m, {Batch: watch.Batch{Kind: watch.KindCanceled, IDs: m.IDs, Revision: m.Revision}}}
	})},
	{"a watch that ends for a compaction that does not concern it", []string{"watch", "register"}, "because of", ofEvents(20, func(_ *fakeStream, m *fakeMessage) []*fakeMessage {
		return []*fakeMessage{m, {Batch: watch.Batch{Kind: watch.KindCanceled, IDs: m.IDs, Revision: m.Revision, CompactRevision: m.Revision}}}
	})},
	{"events after the end of a watch", []string{"watch", "register", "compaction"}, "does not run", lies{message: func(s *fakeStream, m *fakeMessage) []*fakeMessage {
		if m.Kind == watch.KindCanceled && !s.f.calm {
			s.f.told++
			return []*fakeMessage{m, {events: s.f.store.Events(kv.Everything(), 2, 2), Batch: watch.Batch{Kind: watch.KindEvents, IDs: m.IDs, Revision: m.Revision}}}
		}
		return []*fakeMessage{m}
	}}},
	{"a watch of nothing that is created", []string{"watch"}, "must be refused", lies{message: func(s *fakeStream, m *fakeMessage) []*fakeMessage {
		if m.Err != nil {
			s.f.told++
			m.Err, m.IDs = nil, []watch.ID{77}
		}
		return []*fakeMessage{m}
	}}},
}

// TestLiesAreFound: whatever a store does wrong, the oracle or a workload says so, within some seeds.
func TestLiesAreFound(t *testing.T) {
	const seeds = 40
	for _, test := range lieCases {
		t.Run(test.name, func(t *testing.T) {
			told, said := 0, ""
			for seed := range uint64(seeds) {
				f, problems := fakeRun(seed, test.workloads, 8, test.lies)
				told += f.told
				if f.failed != "" {
					problems = append(problems, f.failed)
				}
				if f.told > 0 && len(problems) > 0 {
					said += strings.Join(problems, "\n") + "\n"
					if strings.Contains(said, test.says) {
						t.Logf("seed %d: %d lies, %s", seed, f.told, problems[0])
						return
					}
				}
				if f.told == 0 && len(problems) > 0 {
					t.Fatalf("seed %d: no lie was told, but: %s", seed, strings.Join(problems, "\n"))
				}
			}
			t.Fatalf("in %d seeds %d lies were told, and nobody said %q, but:\n%s", seeds, told, test.says, said[:min(len(said), 3000)])
		})
	}
}
