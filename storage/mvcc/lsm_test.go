package mvcc

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/storage/lsm"
)

// diskEngine is the engine on disk over a file system that can lose power.
type diskEngine struct {
	*lsm.Engine
	fs *vfs.MemFS
	t  testing.TB
}

func newDiskEngine(t testing.TB) worldEngine {
	return openDisk(t, vfs.NewCrashableMem())
}

func openDisk(t testing.TB, fs *vfs.MemFS) diskEngine {
	e, err := lsm.Open(lsm.Options{Dir: "state", FS: fs, MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return diskEngine{e, fs, t}
}

func (d diskEngine) crash(pick byte) worldEngine {
	after := d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(pick) % 101, RNG: rand.New(rand.NewPCG(uint64(pick), 3))})
	if err := d.Close(); err != nil {
		d.t.Fatal(err)
	}
	return openDisk(d.t, after)
}

func (d diskEngine) exportDir() string {
	dir := fmt.Sprintf("export%d", rand.Uint64())
	if err := d.fs.MkdirAll(dir, 0o755); err != nil {
		d.t.Fatal(err)
	}
	return dir
}

// TestStoreOnDisk runs the random worlds on the engine on disk.
func TestStoreOnDisk(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, newDiskEngine(t), randomInput(seed+1000, 1500))
		w.run()
		w.must(w.engine.Close())
	}
}
