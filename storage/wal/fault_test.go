package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/storage"
	"github.com/quoratedb/quorate/storage/storagetest"
)

// TestCrashEverywhere cuts the power before every operation on the file system that changes something,
// recovers, goes on, and cuts it again: what was left out by one recovery must not come back in the next.
func TestCrashEverywhere(t *testing.T) {
	for seed := range uint64(3) {
		random := rand.New(rand.NewPCG(seed, 1))
		fs := vfs.NewCrashableMem()
		var trace *storagetest.LogTrace
		crashes := 0
		hook := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if trace != nil && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				crashes++
				crashTwice(t, fs, trace, random)
			}
			return nil
		})
		l := mustOpen(t, tiny(errorfs.Wrap(fs, hook)))
		trace = storagetest.NewLogTrace(l, random)
		for range 150 {
			if err := trace.Step(); err != nil {
				t.Fatal(err)
			}
		}
		trace = nil
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		t.Logf("seed %d: %d crashes", seed, crashes)
	}
}

func crashTwice(t *testing.T, fs *vfs.MemFS, trace *storagetest.LogTrace, random *rand.Rand) {
	t.Helper()
	after := fs.CrashClone(crash(random))
	l := mustOpen(t, tiny(after))
	next, err := trace.CheckRecovered(l, trace.Synced, trace.Units())
	if err != nil {
		t.Fatal(err)
	}
	for range random.IntN(12) {
		if err := next.Step(); err != nil {
			t.Fatal(err)
		}
	}
	again := after.CrashClone(crash(random))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, tiny(again))
	if _, err := next.CheckRecovered(l, next.Synced, next.Units()); err != nil {
		t.Fatal("after the second crash: ", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestEveryIOError lets each operation fail once: the caller gets an error, the log stays
// unusable after a failed write or sync, and a restart finds what was synced.
func TestEveryIOError(t *testing.T) {
	broken := errors.New("injected")
	for index := int32(0); ; index++ {
		fs := vfs.NewCrashableMem()
		injected := false
		operation := int32(-1)
		injector := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileClose || op.Kind == errorfs.OpGetDiskUsage {
				return nil
			}
			if operation++; operation == index {
				injected = true
				return broken
			}
			return nil
		})
		random := rand.New(rand.NewPCG(uint64(index), 1))
		failOnce(t, fs, tiny(errorfs.Wrap(fs, injector)), random, func() bool { return injected }, broken)
		if !injected {
			t.Logf("%d operations", index)
			return
		}
	}
}

func failOnce(t *testing.T, fs *vfs.MemFS, o Options, random *rand.Rand, injected func() bool, broken error) {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		if !errors.Is(err, broken) {
			t.Fatal(err)
		}
		l = mustOpen(t, tiny(fs.CrashClone(crash(random))))
		if len(l.Groups()) != 0 {
			t.Fatal("groups from nowhere")
		}
		_ = l.Close()
		return
	}
	trace := storagetest.NewLogTrace(l, random)
	for range 100 {
		if err = trace.Step(); err == nil {
			err = trace.CheckLive() // reads from disk may fail; what they return must be right
		}
		if err != nil && !injected() {
			t.Fatal(err)
		}
		if err != nil {
			break
		}
	}
	l.mu.Lock()
	failed := l.failed
	l.mu.Unlock()
	if failed != nil {
		if !errors.Is(failed, broken) || !errors.Is(failed, storage.ErrUnusable) {
			t.Fatal(failed)
		}
		again := l.Write([]storage.GroupAppend{{Group: 1, HardState: &consensus.HardState{}}}, nil)
		if again != failed || l.Sync() != failed || l.Compact(1, 1) != failed || l.Drop(1) != failed {
			t.Fatalf("after %v the log goes on: %v", failed, again)
		}
	}
	synced, written := trace.Synced, trace.Units()
	after := fs.CrashClone(crash(random))
	_ = l.Close()
	l = mustOpen(t, tiny(after))
	if _, err := trace.CheckRecovered(l, synced, written); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

// TestDamage flips bytes of a log that was closed in good order: everything is found, or the log is refused.
func TestDamage(t *testing.T) {
	refused := 0
	for seed := range uint64(150) {
		random := rand.New(rand.NewPCG(seed, 1))
		fs, trace := closedLog(t, random, 40)
		damage(t, fs, random, 1+random.IntN(3))
		l, err := Open(tiny(fs))
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, errVersion) {
				t.Fatal(err)
			}
			if refused++; refused == 1 {
				t.Log(err)
			}
			continue
		}
		if _, err := trace.CheckRecovered(l, trace.Units(), trace.Units()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		_ = l.Close()
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

func closedLog(t testing.TB, random *rand.Rand, steps int) (*vfs.MemFS, *storagetest.LogTrace) {
	fs := vfs.NewMem()
	l := mustOpen(t, tiny(fs))
	trace := storagetest.NewLogTrace(l, random)
	for range steps {
		if err := trace.Step(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return fs, trace
}

func segmentFiles(t testing.TB, fs *vfs.MemFS) []string {
	names, err := fs.List("log")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, fileSuffix) })
}

func damage(t testing.TB, fs *vfs.MemFS, random *rand.Rand, bytes int) {
	names := segmentFiles(t, fs)
	for range bytes {
		content, err := fs.UnsafeGetFileDataBuffer("log/" + names[random.IntN(len(names))])
		if err != nil {
			t.Fatal(err)
		}
		content[random.IntN(len(content))] ^= byte(1 + random.IntN(255))
	}
}

func write(t testing.TB, l *Log, group consensus.GroupID, first consensus.Index, count, size int) {
	t.Helper()
	for i := range count {
		e := consensus.Entry{Index: first + consensus.Index(i), Term: 1, Data: make([]byte, size)}
		binary.BigEndian.PutUint64(e.Data, uint64(e.Index))
		if err := l.Write([]storage.GroupAppend{{Group: group, Entries: []consensus.Entry{e}}}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// records returns the offsets of the records in the first segment.
func records(t testing.TB, l *Log) []int64 {
	t.Helper()
	r := &recovering{log: l}
	var offsets []int64
	if _, err := r.parse(l.segments[0], func(_ record, offset int64) error {
		offsets = append(offsets, offset)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return offsets
}

// TestTornOrDamaged: the same damaged record in the middle is a torn write while nothing proves that it
// was synced, and a damaged log once something does.
func TestTornOrDamaged(t *testing.T) {
	for _, syncBetween := range []bool{false, true} {
		fs := vfs.NewMem()
		l := mustOpen(t, tiny(fs))
		write(t, l, 1, 1, 3, 100)
		if syncBetween {
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		write(t, l, 1, 4, 1, 100)
		offsets := records(t, l)
		content, err := fs.UnsafeGetFileDataBuffer(l.segments[0].path)
		if err != nil {
			t.Fatal(err)
		}
		content[offsets[3]+50] ^= 1 // the record with entry 3; offsets[0] is the segment's first record
		_ = l.lock.Close()          // as if the process had died

		again, err := Open(tiny(fs))
		switch {
		case syncBetween && !errors.Is(err, storage.ErrCorrupt):
			t.Errorf("a synced record is gone, and Open says %v", err)
		case syncBetween:
			if !strings.Contains(err.Error(), fmt.Sprintf("offset %d", offsets[3])) || !strings.Contains(err.Error(), "00000001.wal") {
				t.Errorf("the error does not say where: %v", err)
			}
		case err != nil:
			t.Errorf("a torn end is not repaired: %v", err)
		default:
			if last := again.Group(1).Last(); last != 2 || again.Recovery().TornBytes == 0 {
				t.Errorf("last entry %d, %+v", last, again.Recovery())
			}
			_ = again.Close()
		}
	}
}

// TestPinnedSegments: a group that needs only a few old entries does not keep the log from being recycled.
func TestPinnedSegments(t *testing.T) {
	fs := vfs.NewMem()
	o := tiny(fs)
	l := mustOpen(t, o)
	write(t, l, 1, 1, 5, 200)
	for i := range 400 {
		write(t, l, 2, consensus.Index(i+1), 1, 300)
		if err := errors.Join(l.Compact(2, consensus.Index(i)), l.Sync()); err != nil {
			t.Fatal(err)
		}
	}
	if m := l.Metrics(); m.SizeBytes > o.RetainBytes+4*o.SegmentBytes {
		t.Errorf("a log of two small groups takes %d bytes in %d segments", m.SizeBytes, m.SegmentCount)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, o)
	found, err := l.Group(1).Entries(1, 6, 1<<20)
	if err != nil || len(found) != 5 || l.Group(2).First() != 400 {
		t.Fatalf("%d entries, %v; group 2 begins at %d", len(found), err, l.Group(2).First())
	}
	for i, e := range found {
		if e.Index != consensus.Index(i+1) || binary.BigEndian.Uint64(e.Data) != uint64(i+1) {
			t.Errorf("entry %d is %+v", i+1, e)
		}
	}
	if m := l.Metrics(); m.OldestPinning == 0 || m.PinnedBytes == 0 {
		t.Errorf("%+v", m)
	}
	_ = l.Close()
}

// TestSetAside: groups that nobody compacts keep the log from being recycled, although most of the oldest segments is theirs, unless they are set aside;
// and then they are written again no more than a third of what is written. Nothing of them is lost.
func TestSetAside(t *testing.T) {
	for _, aside := range []bool{false, true} {
		fs := vfs.NewMem()
		o := tiny(fs)
		l := mustOpen(t, o)
		write(t, l, 1, 1, 60, 200)
		write(t, l, 3, 1, 40, 200)
		for _, group := range []consensus.GroupID{1, 3, 7} {
			l.SetAside(group, aside)
		}
		before := l.Metrics().WriteBytes
		for i := range 1000 {
			write(t, l, 2, consensus.Index(i+1), 1, 300)
			if err := errors.Join(l.Compact(2, consensus.Index(i)), l.Sync()); err != nil {
				t.Fatal(err)
			}
		}
		m := l.Metrics()
		written := m.WriteBytes - before
		if bounded := m.SizeBytes <= max(o.RetainBytes, asideShare*m.AsideBytes+o.RetainBytes/2)+5*o.SegmentBytes; bounded != aside {
			t.Errorf("set aside: %v: a log of %d bytes, of which %d are set aside", aside, m.SizeBytes, m.AsideBytes)
		}
		if most := int64(1000*(300+100)) * 4 / 3; written > most {
			t.Errorf("set aside: %v: %d bytes were written, should be at most %d", aside, written, most)
		}
		if aside && (m.AsideBytes != 100*200 || m.OldestPinning != 2) {
			t.Errorf("set aside: %d bytes; group %d pins the log", m.AsideBytes, m.OldestPinning)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, o)
		for group, count := range map[consensus.GroupID]int{1: 60, 3: 40} {
			found, err := l.Group(group).Entries(1, 100, 1<<20)
			if err != nil || len(found) != count {
				t.Fatalf("set aside: %v: %d entries of group %d, %v", aside, len(found), group, err)
			}
			for i, e := range found {
				if e.Index != consensus.Index(i+1) || binary.BigEndian.Uint64(e.Data) != uint64(i+1) {
					t.Errorf("entry %d of group %d is %+v", i+1, group, e)
				}
			}
		}
		if m := l.Metrics(); m.AsideBytes != 0 {
			t.Errorf("%d bytes are set aside in the next process", m.AsideBytes)
		}
		_ = l.Close()
	}
}

func TestDiskFull(t *testing.T) {
	fs := vfs.NewMem()
	full := false
	o := tiny(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full && op.Kind == errorfs.OpCreate {
			return syscall.ENOSPC
		}
		return nil
	})))
	problems := 0
	o.Listener.Problem = func(error) { problems++ }
	l := mustOpen(t, o)
	full = true
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		e := consensus.Entry{Index: consensus.Index(i + 1), Data: make([]byte, 500)}
		err = l.Write([]storage.GroupAppend{{Group: 1, Entries: []consensus.Entry{e}}}, nil)
	}
	if !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, storage.ErrUnusable) || problems == 0 {
		t.Fatalf("%v, %d problems reported", err, problems)
	}
	t.Log(err)
	last := l.Group(1).Last()
	_ = l.Close()
	full = false
	l = mustOpen(t, o)
	if l.Group(1).Last() != last {
		t.Errorf("%d entries after freeing space, want %d", l.Group(1).Last(), last)
	}
	_ = l.Close()
}

func TestRefusesOtherVersionAndSecondOpen(t *testing.T) {
	fs := vfs.NewMem()
	l := mustOpen(t, tiny(fs))
	if _, err := Open(tiny(fs)); err == nil {
		t.Error("two logs in one directory")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := fs.UnsafeGetFileDataBuffer("log/" + segmentFiles(t, fs)[0])
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint32(content[8:], formatVersion+1)
	binary.BigEndian.PutUint32(content[12:], headerChecksum(content))
	if _, err := Open(tiny(fs)); !errors.Is(err, errVersion) {
		t.Errorf("another version: %v", err)
	}
}

// TestReadChecksData: what is damaged after it was written is not given out.
func TestReadChecksData(t *testing.T) {
	fs := vfs.NewMem()
	o := tiny(fs)
	o.CacheBytes = 1
	l := mustOpen(t, o)
	write(t, l, 1, 1, 3, 100)
	content, err := fs.UnsafeGetFileDataBuffer(l.segments[0].path)
	if err != nil {
		t.Fatal(err)
	}
	content[l.groups[1].slot(2).offset+5] ^= 1
	if _, err := l.Group(1).Entries(1, 4, 1<<20); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("reading a damaged entry: %v", err)
	}
	_ = l.Close()
}
