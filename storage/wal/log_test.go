package wal

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quoratedb/quorate/storage/storagetest"
)

// tiny makes segments so small that a short test recycles many.
func tiny(fs vfs.FS) Options {
	return Options{Dir: "log", FS: fs, SegmentBytes: 12 << 10, CacheBytes: 2000, RetainBytes: 40 << 10, RewriteBytes: 1000, FillBytes: 5000, Inline: true}
}

func mustOpen(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func crash(random *rand.Rand) vfs.CrashCloneCfg {
	if random == nil {
		return vfs.CrashCloneCfg{}
	}
	return vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random}
}

func world(t *testing.T, fs *vfs.MemFS, o Options) storagetest.LogWorld {
	o.FS = fs
	l := mustOpen(t, o)
	return storagetest.LogWorld{
		Log: l,
		Crash: func(t *testing.T, random *rand.Rand) storagetest.LogWorld {
			after := fs.CrashClone(crash(random))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return world(t, after, o)
		},
		Reopen: func(t *testing.T) storagetest.LogWorld {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return world(t, fs, o)
		},
	}
}

func TestLog(t *testing.T) {
	storagetest.RunLog(t, func(t *testing.T) storagetest.LogWorld {
		fs := vfs.NewCrashableMem()
		return world(t, fs, tiny(fs))
	})
}

func TestLogInBackground(t *testing.T) {
	storagetest.RunLog(t, func(t *testing.T) storagetest.LogWorld {
		fs := vfs.NewCrashableMem()
		o := tiny(fs)
		o.Inline = false
		return world(t, fs, o)
	})
}
