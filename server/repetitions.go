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

// repetitions remembers when log lines were last written. The zero value is ready.
type repetitions struct {
	mu   sync.Mutex
	last map[[2]string]time.Duration
}

// allows tells whether the line of this kind and reason is due.
func (r *repetitions) allows(kind, reason string, now time.Duration) bool {
	key := [2]string{kind, reason}
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, known := r.last[key]; known && now-last < repeatInterval {
		return false
	}
	if r.last == nil || len(r.last) >= maxRepetitions {
		r.last = make(map[[2]string]time.Duration)
	}
	r.last[key] = now
	return true
}
