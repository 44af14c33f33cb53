package shard

import (
	"errors"
	"slices"
	"testing"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/timeline"
)

func recordTime(revision kv.Revision, millis int64) *kv.Request {
	return &kv.Request{Kind: kv.KindRecordTime, RecordTime: &kv.RecordTimeRequest{Revision: revision, Millis: millis}}
}

// Points are recorded once for a revision, never go back, go with what is compacted, and are the same after a crash, whatever was flushed.
func TestTimes(t *testing.T) {
	g := newGroup(t, testOptions(1))
	want := func(points ...timeline.Point) {
		t.Helper()
		if got := g.leader.Times().Points(); !slices.Equal(got, points) {
			t.Fatalf("%v, want %v", got, points)
		}
	}
	do := func(r *kv.Request) {
		t.Helper()
		if _, err := g.do(r); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 {
		do(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k"), Value: []byte("v")}})
	}
	do(recordTime(3, 1000))
	entries := len(g.log)
	do(recordTime(3, 2000)) // has a point
	do(recordTime(2, 2000))
	if len(g.log) != entries {
		t.Errorf("%d entries say nothing new", len(g.log)-entries)
	}
	do(recordTime(5, 400)) // a clock that is behind
	do(recordTime(8, 3000))
	all := []timeline.Point{{Revision: 3, Time: 1000}, {Revision: 5, Time: 1000}, {Revision: 8, Time: 3000}}
	want(all...)
	restart := func() {
		t.Helper()
		if err := g.leader.reopen(); err != nil {
			t.Fatal(err)
		}
		if err := g.catchUp(g.leader, consensus.Index(len(g.log))); err != nil {
			t.Fatal(err)
		}
	}
	restart() // the rows are ahead of the state
	want(all...)
	if err := g.elect(g.leader, 2); err != nil {
		t.Fatal(err)
	}
	do(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: 5}})
	want(all[1:]...)
	restart()
	want(all[1:]...)
	if err := g.leader.flushAll(); err != nil {
		t.Fatal(err)
	}
	restart()
	want(all[1:]...)
	if err := g.elect(g.leader, 3); err != nil {
		t.Fatal(err)
	}
	do(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: 9}})
	want()
	if _, err := g.do(recordTime(-1, 5)); !errors.Is(err, kv.ErrInvalidRequest) {
		t.Errorf("revision -1: %v", err)
	}
}

// What is in flight counts: two points of one leader follow on each other before either is applied.
func TestTimesInFlight(t *testing.T) {
	g := newGroup(t, testOptions(1))
	for _, at := range []int64{9000, 4000} {
		if out := g.leader.Evaluate(recordTime(kv.Revision(20-at/1000), at)); out.Err != nil {
			t.Fatal(out.Err)
		}
	}
	if out := g.leader.Evaluate(recordTime(12, 9500)); out.Err != nil {
		t.Fatal(out.Err)
	}
	if ops := g.leader.lead.overlay.otherOps; ops != 2 {
		t.Errorf("%d points are in flight", ops)
	}
	last := timeline.Point{}
	g.leader.lead.overlay.eachOp(func(p *op) { last = p.time })
	if last != (timeline.Point{Revision: 16, Time: 9000}) {
		t.Errorf("the last is %v", last)
	}
}
