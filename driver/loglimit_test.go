package driver

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage/wal"
)

// segmented has the node keep its log in segments of 16 KiB, of which it may have 16.
func segmented(t *testing.T) func(*Options) {
	const segment = 16 << 10
	log, err := wal.Open(wal.Options{Dir: "log", FS: vfs.NewMem(), SegmentBytes: segment, RetainBytes: 1 << 30, Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return func(o *Options) { o.Log, o.MaxLogBytes, o.RetainLogEntries = log, 16*segment, 100 }
}

// TestIdleGroupsLetLogGo: groups that are written to seldom, and never so much that they would be flushed, do not keep what others write.
func TestIdleGroupsLetLogGo(t *testing.T) {
	l := newLone(t, 30, segmented(t))
	limit := l.opts.MaxLogBytes
	for round := range 10 {
		for group := range consensus.GroupID(29) {
			l.put(2+group, "k", 10)
		}
		for i := range 100 {
			l.put(1, fmt.Sprintf("k%d", i), 500)
		}
		if m := l.opts.Log.Metrics(); m.SizeBytes > limit+limit/4 {
			t.Fatalf("after %d rounds the log has %d bytes, should have %d; group %d needs the oldest", round, m.SizeBytes, limit, m.OldestPinning)
		}
	}
	if m := l.opts.Log.Metrics(); m.WriteBytes < 2*limit {
		t.Fatalf("only %d bytes were written", m.WriteBytes)
	}
	if flushes := l.Metrics().EngineFlushes; flushes == 0 || flushes > 20 {
		t.Errorf("the engine was flushed %d times", flushes)
	}
}

// TestLogKeptForFollowersIsLimited: what all groups keep for followers is bounded together, too.
func TestLogKeptForFollowersIsLimited(t *testing.T) {
	l := newLone(t, 10, segmented(t))
	limit := l.opts.MaxLogBytes
	for i := range 1200 {
		l.put(consensus.GroupID(1+i%10), fmt.Sprintf("k%d", i), 500)
		if i%200 == 199 {
			for _, r := range l.order {
				r.flush.asked = true
				l.needsMaintenance(r)
			}
			l.rounds()
		}
	}
	if m := l.opts.Log.Metrics(); m.SizeBytes > limit+limit/4 || m.SizeBytes < limit/2 {
		t.Errorf("the log has %d bytes, may have %d", m.SizeBytes, limit)
	}
}
