package lsm

import "runtime"

// settle waits, with Options.Inline, until the engine does nothing beside the calls, or has failed: Pebble flushes, compacts and removes files in
// goroutines of its own, and what they do to the disk would come in another order each time. Whatever sets them to work ends with it.
func (e *Engine) settle() {
	if !e.options.Inline {
		return
	}
	for e.err() == nil {
		if m := e.db.Metrics(); m.Flush.NumInProgress == 0 && m.Compact.NumInProgress == 0 {
			e.db.TestOnlyWaitForCleaning()
			return
		}
		runtime.Gosched()
	}
}

// afterFlush does what is otherwise left to goroutines: it tells whoever waits, and compacts level 0 when it has many tables.
func (e *Engine) afterFlush(r flushRequest) {
	e.complete(r)
	e.settle()
	if e.err() == nil && e.db.Metrics().Levels[0].Sublevels >= l0CompactionSublevels {
		_ = e.compactAll(e.reclaim.context) // it says what there is to say
		e.settle()
	}
}
