package gateway

import (
	"sync"
	"time"
)

// deadlines ends calls in time. Safe for concurrent use; its lock comes after those of links.
type deadlines struct {
	mu     sync.Mutex
	wheel  wheel
	closed bool // no call is taken any more
}

// begin tells what time it is.
func (d *deadlines) begin(now time.Duration) { d.wheel.now = now }

// add enters the call, to expire at c.expires. false: closed.
func (d *deadlines) add(c *Call) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.wheel.add(c)
	}
	return !d.closed
}

func (d *deadlines) remove(c *Call) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wheel.remove(c)
}

// advance takes out and returns the calls that have expired.
func (d *deadlines) advance(now time.Duration) []*Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wheel.advance(now)
}

// close takes no call any more, and returns all that are in.
func (d *deadlines) close() []*Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return d.wheel.all()
}
