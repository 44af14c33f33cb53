package gateway

import "sync"

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
