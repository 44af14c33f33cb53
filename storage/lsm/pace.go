package lsm

import (
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Compactions are nobody's hurry, but they take whole processors, for many milliseconds at a time: requests wait for them at each step that they take
// through the node. So a compaction rests between its writes while there are some, as long as it does not fall behind.
const (
	restPerWork = 3                     // so much longer than it worked
	minWork     = time.Millisecond      // a shorter rest is not worth a timer
	maxRest     = 10 * time.Millisecond // it may have waited for a processor, too
	// idleAfter without a batch nobody is in the way.
	idleAfter = 100 * time.Millisecond
	// hurriedSublevels of level 0 are too many: each makes reads slower. Compactions begin at l0CompactionSublevels.
	hurriedSublevels = 3 * l0CompactionSublevels
)

// compactionCategory is how Pebble marks the files that compactions write.
const compactionCategory vfs.DiskWriteCategory = "pebble-compaction"

// pacer says how long a compaction rests.
type pacer struct {
	since   time.Time // it works
	hurried bool
}

// rest returns how long to rest after what was done until now, if the last batch was applied at a moment. 0: not yet.
func (p *pacer) rest(now, applied time.Time) time.Duration {
	worked := now.Sub(p.since)
	if p.hurried || worked < minWork || now.Sub(applied) > idleAfter {
		return 0
	}
	return min(restPerWork*worked, maxRest)
}

// pacedFile is what a compaction writes.
type pacedFile struct {
	vfs.File
	pacer
	engine *Engine
}

func (f *pacedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if rest := f.rest(time.Now(), time.Unix(0, f.engine.lastApply.Load())); rest > 0 {
		time.Sleep(rest)
		f.since = time.Now()
	}
	return n, err
}

// pace returns a file such that writing it leaves processors to others, if it is one of a compaction.
func (e *Engine) pace(f vfs.File, c vfs.DiskWriteCategory) vfs.File {
	if c != compactionCategory || e.options.Inline || !e.failure.opened.Load() {
		return f
	}
	behind := e.db.Metrics().Levels[0].Sublevels > hurriedSublevels
	return &pacedFile{f, pacer{time.Now(), behind}, e}
}
