package sim

import (
	"fmt"
	"iter"
	"runtime/debug"
	"time"
)

// coroutine is code that stops in the middle to let virtual time pass. Exactly one of all coroutines and the event loop runs at
// a time, and the runtime switches between them directly, so their order is that of the events.
type coroutine struct {
	next  func() (time.Duration, bool)
	stop  func()
	yield func(time.Duration) bool
	// What the code panicked with, if it did.
	panicked any
	stack    []byte
}

// abandoned is what code panics with when it is ended in the middle: its process died, or the run is over.
type abandoned struct{}

func newCoroutine(run func(c *coroutine)) *coroutine {
	c := &coroutine{}
	c.next, c.stop = iter.Pull(func(yield func(time.Duration) bool) {
		defer func() {
			r := recover()
			switch r.(type) {
			case nil, abandoned:
			case crashed:
				c.panicked = r
			default:
				c.panicked, c.stack = r, debug.Stack()
			}
		}()
		c.yield = yield
		run(c)
	})
	return c
}

// wait gives way to the event loop; the value says what for. Called by the coroutine's own code.
func (c *coroutine) wait(value time.Duration) {
	if !c.yield(value) {
		panic(abandoned{})
	}
}

// productPanic is a panic of the code under test, on its way out of the event loop.
type productPanic struct {
	value any
	stack []byte
}

func (p productPanic) String() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }
