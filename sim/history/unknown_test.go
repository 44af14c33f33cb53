package history

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard/model"
)

// deletions returns a history in which two keys are put, and then deleted one after the other by operations of unknown outcome.
func deletions(spans ...kv.Span) *History {
	w := &world{store: model.New(), now: time.Second}
	put := func(key string) {
		r := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: w.value()}}
		response, err := w.store.Apply(r)
		if err != nil {
			panic(err)
		}
		w.now += time.Second
		w.made.Operations = append(w.made.Operations, Operation{Request: r, Response: response, Invoke: w.now, Return: w.now + 1})
	}
	remove := func(key string) {
		if _, err := w.store.Apply(&kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: kv.Span{Start: []byte(key)}}}); err != nil {
			panic(err)
		}
	}
	put("a")
	for _, span := range spans {
		w.made.Operations = append(w.made.Operations, Operation{Request: &kv.Request{Kind: kv.KindDeleteRange, DeleteRange: &kv.DeleteRangeRequest{Span: span}},
			Outcome: Unknown, Err: errors.New("timeout"), Invoke: w.now, Return: w.now + time.Second})
	}
	remove("a")
	put("b")
	remove("b")
	put("c")
	h := &w.made
	h.Full, h.Final = w.store.Events(kv.Everything(), 1, w.store.Revision()), w.store.Revision()
	return h
}

// TestDeletionsAreMatched: the deletion that fits first need not be the one that took effect first.
func TestDeletionsAreMatched(t *testing.T) {
	both, first := kv.Span{Start: []byte("a"), End: []byte("c")}, kv.Span{Start: []byte("a")}
	if report := Check(deletions(both, first)); len(report.Problems) > 0 {
		t.Errorf("one of a and b, one of a alone: %s", strings.Join(report.Problems, "\n"))
	}
	if report := Check(deletions(first, both)); len(report.Problems) > 0 {
		t.Errorf("the other way round: %s", strings.Join(report.Problems, "\n"))
	}
	if report := Check(deletions(both)); len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "took effect twice") {
		t.Errorf("one deletion for two revisions: %q", report.Problems)
	}
	if report := Check(deletions(first, first)); len(report.Problems) == 0 {
		t.Error("nobody deleted b, but nothing was said")
	}
}
