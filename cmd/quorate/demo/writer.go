package demo

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// store is what the writer writes to.
type store interface {
	put(ctx context.Context, key, value string) error
	list(ctx context.Context, prefix string) (map[string]string, error)
}

const (
	writePrefix = "demo/writer/"
	// slots is over how many keys the writes go round, so that a demonstration
	// that runs for days does not fill the disk.
	slots = 500
	// writePause keeps the load small; it is also the resolution of the gap that
	// is measured.
	writePause   = 10 * time.Millisecond
	writeTimeout = 2 * time.Second
	// inFlight is how many writes may wait at once: more than are sent within
	// writeTimeout, so that those caught by a fail-over do not hide when others
	// are served again; and fewer than slots, so that they go to different slots.
	inFlight = 300
)

// writer writes the numbers 1, 2, 3, ... into slots and remembers what was
// acknowledged.
//
// Invariant: the store holds in each slot a number that is at least the last
// one acknowledged there, or one whose outcome is unknown: that may take effect
// late.
type writer struct {
	store store

	mu           sync.Mutex
	acknowledged int64            // how many writes were
	failed       int64            // how many were not
	lastAcked    [slots]int64     // the last number acknowledged in each slot; 0: none
	lastSent     [slots]int64     // the last number sent to each slot
	lastUnknown  [slots]int64     // the last number whose write failed
	begun        time.Time        // when the latest write that was acknowledged was sent
	served       time.Time        // when it was acknowledged
	changed      chan struct{}    // closed, and replaced, at every acknowledgement
	now          func() time.Time // the clock
}

func newWriter(s store) *writer {
	return &writer{store: s, changed: make(chan struct{}), now: time.Now}
}

func slotKey(slot int64) string { return fmt.Sprintf("%s%03d", writePrefix, slot) }

// run writes until ctx ends, and returns when all writes have ended.
func (w *writer) run(ctx context.Context) {
	ticker := time.NewTicker(writePause)
	defer ticker.Stop()
	places := make(chan struct{}, inFlight)
	var wait sync.WaitGroup
	defer wait.Wait()
	for number := int64(1); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		select {
		case places <- struct{}{}:
		default:
			continue // all wait: the cluster does not serve at the moment
		}
		sent := number
		number++
		wait.Go(func() {
			w.write(ctx, sent)
			<-places
		})
	}
}

func (w *writer) write(ctx context.Context, number int64) {
	slot := number % slots
	w.mu.Lock()
	w.lastSent[slot] = number
	w.mu.Unlock()
	begun := w.now()
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	err := w.store.put(ctx, slotKey(slot), strconv.FormatInt(number, 10))
	cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failed++
		w.lastUnknown[slot] = number
		return
	}
	w.acknowledged++
	w.lastAcked[slot] = number
	if begun.After(w.begun) {
		w.begun, w.served = begun, w.now()
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *writer) failures() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// nextAfter waits for an acknowledged write that was sent after the moment, and
// returns when it was acknowledged. One that was under way at the moment may have
// been done by the old leader.
func (w *writer) nextAfter(ctx context.Context, moment time.Time) (time.Time, error) {
	for {
		w.mu.Lock()
		begun, served, changed := w.begun, w.served, w.changed
		w.mu.Unlock()
		if begun.After(moment) {
			return served, nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case <-changed:
		}
	}
}

// check reads everything back. A slot counts as lost when it holds less than
// what was acknowledged before the read began, or something never sent to it.
func (w *writer) check(ctx context.Context) (acknowledged, lost int64, err error) {
	w.mu.Lock()
	acknowledged = w.acknowledged
	expected := w.lastAcked
	w.mu.Unlock()
	values, err := w.store.list(ctx, writePrefix)
	if err != nil {
		return 0, 0, err
	}
	w.mu.Lock()
	sent, unknown := w.lastSent, w.lastUnknown
	w.mu.Unlock()
	for slot, least := range expected {
		if least == 0 {
			continue
		}
		found, err := strconv.ParseInt(values[slotKey(int64(slot))], 10, 64)
		plausible := err == nil && found >= least && found <= sent[slot]
		if !plausible && (err != nil || found != unknown[slot]) {
			lost++
		}
	}
	return acknowledged, lost, nil
}
