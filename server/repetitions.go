package server

import (
	"sync"
	"time"
)

// repeatInterval is how often a log line is repeated while its reason lasts. What others try again
// every second must neither flood the log nor be said only once.
const repeatInterval = time.Minute

// maxRepetitions bounds the memory that callers with ever new names could use.
const maxRepetitions = 1000

// maxLinesOfKind is how many lines of one kind are written per repeatInterval, whatever their reasons: who connects under ever new names
// must not fill the disk with the log.
const maxLinesOfKind = 30

// repetitions remembers when log lines were last written. The zero value is ready.
type repetitions struct {
	mu   sync.Mutex
	last map[[2]string]time.Duration
	// kinds counts the lines of a kind; there are a few of them.
	kinds map[string]kindLines
}

type kindLines struct {
	since time.Duration
	count int
}

// allows tells whether the line of this kind and reason is due.
func (r *repetitions) allows(kind, reason string, now time.Duration) bool {
	key := [2]string{kind, reason}
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, known := r.last[key]; known && now-last < repeatInterval {
		return false
	}
	if r.kinds == nil {
		r.kinds = make(map[string]kindLines)
	}
	lines, known := r.kinds[kind]
	if !known || now-lines.since >= repeatInterval {
		lines = kindLines{since: now}
	}
	if lines.count == maxLinesOfKind {
		return false
	}
	lines.count++
	r.kinds[kind] = lines
	if r.last == nil || len(r.last) >= maxRepetitions {
		r.last = make(map[[2]string]time.Duration)
	}
	r.last[key] = now
	return true
}
