package gateway

import (
	"context"
	"sync"
)

// readers are the goroutines that read what takes long, so many at a time.
type readers struct {
	spawn  func(work func())
	tokens chan struct{} // one for each that reads

	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup
}

func newReaders(most int, spawn func(work func())) *readers {
	return &readers{spawn: spawn, tokens: make(chan struct{}, most)}
}

// read has a reader do it. false: there are none any more.
func (r *readers) read(do func()) bool {
	r.mu.Lock()
	stopped := r.stopped
	if !stopped {
		r.running.Add(1)
	}
	r.mu.Unlock()
	if stopped {
		return false
	}
	r.spawn(func() {
		defer r.running.Done()
		r.tokens <- struct{}{}
		defer func() { <-r.tokens }()
		do()
	})
	return true
}

// stop lets nobody begin to read.
func (r *readers) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
}

// wait waits for those who read.
func (r *readers) wait() { r.running.Wait() }

// turns bound how many lists read at the same time. Their goroutines are their clients': hundreds of them, ready to run at once, would each take a time slice
// before those that make rounds and heartbeats come to run, and a leader that is silent for so long is replaced.
type turns chan struct{}

// turn is one list's, which holds it while it reads and not while it waits for its client. It is for one goroutine.
type turn struct {
	of   turns
	ctx  context.Context
	held bool
}

// take waits for the turn; those who wait get it in their order. An error: the client does not wait any more.
func (t *turn) take() error {
	if t.held {
		return nil
	}
	select {
	case t.of <- struct{}{}: // whether its client still waits is no matter then
		t.held = true
		return nil
	default:
	}
	select {
	case t.of <- struct{}{}:
		t.held = true
		return nil
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}

// giveBack lets the next one read.
func (t *turn) giveBack() {
	if t.held {
		t.held = false
		<-t.of
	}
}

// pass lets those read first who wait already.
func (t *turn) pass() error {
	t.giveBack()
	return t.take()
}
