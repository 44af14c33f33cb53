package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// pings knows how often a client pings: each ping costs a frame and wakes a processor. The rules are those of gRPC's servers: a client may ping each
// Options.PingMinInterval while it has a call, and each idleInterval while it has none. Data that was sent to it forgives what was.
type pings struct {
	last    time.Duration
	any     bool
	strikes int
}

const (
	maxStrikes   = 2
	idleInterval = 2 * time.Hour
)

func (c *Conn) ping(f *http2.PingFrame, now time.Duration) error {
	if f.IsAck() {
		return nil
	}
	c.control = appendPing(c.control, true, f.Data)
	p := &c.pings
	interval := c.options.PingMinInterval
	if c.active == 0 {
		interval = idleInterval
	}
	if p.any && now-p.last < interval {
		p.strikes++
	}
	p.any, p.last = true, now
	if p.strikes > maxStrikes {
		return c.fail(http2.ErrCodeEnhanceYourCalm, "too_many_pings") // clients know these words
	}
	return nil
}

// forgive is called when something is sent to the client.
func (p *pings) forgive() { *p = pings{} }

// Ping asks the client whether it lives: the shell calls it when nothing has come for long. Any frame is an answer.
func (c *Conn) Ping() { c.control = appendPing(c.control, false, [8]byte{'q'}) }
