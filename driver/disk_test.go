package driver

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/storage/lsm"
	"github.com/quoratedb/quorate/storage/wal"
)

// openFiles gives options the real log and the real engine on a file system.
func openFiles(t *testing.T, fs vfs.FS) func(*Options) {
	t.Helper()
	log, err := wal.Open(wal.Options{Dir: "log", FS: fs, SegmentBytes: 16 << 10, Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := lsm.Open(lsm.Options{Dir: "state", FS: fs, MemTableBytes: 32 << 10, CacheBytes: 1 << 20, Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(log.Close(), engine.Close()) }) // they may be on a disk that is broken
	return func(o *Options) {
		o.Log, o.Engine, o.RetainLogEntries, o.FlushLogBytes, o.FlushChunkRows = log, engine, 5, 4<<10, 4
		o.OpenMachine = func(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
			return openShard(engine, kv.ShardID(group), logEnd)
		}
	}
}

// TestDiskErrors lets one operation on the disk fail: the node stops, says so, answers everybody, and acknowledges
// nothing afterwards. A restart finds everything that was acknowledged.
func TestDiskErrors(t *testing.T) {
	for _, directory := range []string{"log", "state"} {
		for seed := range 8 {
			t.Run(fmt.Sprint(directory, seed), func(t *testing.T) { breakDisk(t, directory, 1+2*seed) })
		}
	}
}

// breakDisk fails the operations on the directory from the given one on.
func breakDisk(t *testing.T, directory string, operation int) {
	broken := errors.New("injected")
	disk, armed := vfs.NewCrashableMem(), false
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if armed && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasPrefix(op.Path, directory) && op.Kind != errorfs.OpFileClose {
			if operation--; operation <= 0 {
				return broken
			}
		}
		return nil
	}))
	var failed error
	l := newLone(t, 1, func(o *Options) {
		openFiles(t, fs)(o)
		o.Listener.Failed = func(err error) { failed = err }
	})
	armed = true
	acknowledged, open := kv.Revision(0), 0
	for i := 0; failed == nil && i < 30_000; i++ {
		open++
		req := &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: fmt.Appendf(nil, "k%d", i%10), Value: fmt.Appendf(nil, "%0300d", i)}}
		l.Replica(1).Propose(req, nil, func(resp *kv.Response, _ uint64, err error) {
			if open--; err == nil {
				acknowledged = resp.Revision
			} else if kv.CodeOf(err) == 0 {
				t.Errorf("put %d: %v", i, err)
			}
		})
		l.now += time.Millisecond
		l.rounds()
	}
	if !errors.Is(failed, broken) || !errors.Is(l.Err(), broken) || open != 0 {
		t.Fatalf("did not stop: %v, %d requests are not answered", failed, open)
	}
	refusesEverything(t, l.Replica(1))
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	again := newLone(t, 1, openFiles(t, crashed))
	if found := again.Replica(1).Revision(); found < acknowledged || acknowledged == 0 && directory == "state" {
		t.Errorf("%d was acknowledged, the restart found %d", acknowledged, found)
	}
}

// refusesEverything: the replica of a node that has stopped answers whatever is asked of it with an error, once.
func refusesEverything(t *testing.T, r *Replica) {
	t.Helper()
	if r.IsLeader() || r.LeaseValid() {
		t.Error("serves although it stopped")
	}
	for what, ask := range map[string]func(done func(error)){
		"a barrier": func(done func(error)) { r.ReadIndex(func(_ uint64, err error) { done(err) }) },
		"an index":  func(done func(error)) { r.WaitApplied(1<<40, done) },
		"a read": func(done func(error)) {
			r.Propose(rangeRequest("k1"), nil, func(_ *kv.Response, _ uint64, err error) { done(err) })
		},
	} {
		answers := 0
		ask(func(err error) {
			if answers++; err == nil {
				t.Errorf("%s: a stopped node answered", what)
			}
		})
		if answers != 1 {
			t.Errorf("%s: %d answers", what, answers)
		}
	}
}
