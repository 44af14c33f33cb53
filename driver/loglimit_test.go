package driver

import (
	"cmp"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/wal"
)

// segmented has the node keep its log in segments of 16 KiB, of which it may have 16.
func segmented(t *testing.T) func(*Options) { return segmentedLog(t, 1<<30) }

// segmentedLog is segmented with a log that writes what keeps an old segment again by itself, if it is little, when it has so many bytes.
func segmentedLog(t *testing.T, retainBytes int64) func(*Options) {
	const segment = 16 << 10
	log, err := wal.Open(wal.Options{Dir: "log", FS: vfs.NewMem(), SegmentBytes: segment, RetainBytes: retainBytes, Inline: true})
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

// TestFailedGroupLetsLogGo: the log of a group that has failed, and of one that the node does not hold, is carried along; the others' goes as if they were not
// there, and nobody is flushed for it. What the failed group had is there in the next process.
func TestFailedGroupLetsLogGo(t *testing.T) {
	const segment = 16 << 10
	options := wal.Options{Dir: "log", FS: vfs.NewMem(), SegmentBytes: segment, RetainBytes: 20 * segment, Inline: true}
	open := func() *wal.Log {
		log, err := wal.Open(options)
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	log := open()
	stranger := consensus.Entry{Index: 1, Term: 1, Data: make([]byte, 100)}
	if err := log.Write([]storage.GroupAppend{{Group: 99, Entries: []consensus.Entry{stranger}}}, nil); err != nil {
		t.Fatal(err)
	}
	var state storage.Engine
	change := func(o *Options) {
		o.Log, o.MaxLogBytes, o.RetainLogEntries, state = log, 16*segment, 100, cmp.Or(state, o.Engine)
		o.Engine = state
		o.OpenMachine = func(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
			return openShard(state, kv.ShardID(group), logEnd)
		}
	}
	l := newLone(t, 3, change)
	for i := range 80 {
		l.put(2, fmt.Sprintf("k%d", i), 500)
		if i == 40 {
			l.driven(2).flush.asked = true
			l.needsMaintenance(l.driven(2))
			l.rounds()
		}
	}
	last := l.driven(2).log.Last()
	l.driven(2).fail(errBrittle)
	limit := l.opts.MaxLogBytes
	for round := range 10 {
		for i := range 100 {
			l.put(1, fmt.Sprintf("k%d", i), 500)
		}
		if m := log.Metrics(); m.SizeBytes > limit+asideShare*m.AsideBytes+limit/4 {
			t.Fatalf("after %d rounds the log has %d bytes, %d of them are set aside; group %d needs the oldest", round, m.SizeBytes, m.AsideBytes, m.OldestPinning)
		}
	}
	if m := log.Metrics(); m.WriteBytes < 2*limit || m.AsideBytes < 39*500 || m.AsideBytes > 42*600 {
		t.Errorf("%d bytes were written, %d are set aside", m.WriteBytes, m.AsideBytes)
	}
	if flushes := l.Metrics().EngineFlushes; flushes == 0 || flushes > 20 {
		t.Errorf("the engine was flushed %d times", flushes)
	}
	l.Close()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	log = open()
	l = newLone(t, 3, change)
	if r := l.driven(2); r.log.Last() < last || r.machine.AppliedIndex() < last || r.log.First() < 41 {
		t.Errorf("the next process has entries %d to %d of %d, and has applied %d", r.log.First(), r.log.Last(), last, r.machine.AppliedIndex())
	}
	_ = log.Close()
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
