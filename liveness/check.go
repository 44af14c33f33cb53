package liveness

import "fmt"

// Check verifies the invariants of the core.
func (c *Core) Check() error {
	for _, p := range c.peers {
		if err := c.checkPeer(p); err != nil {
			return fmt.Errorf("liveness: node %s about node %s: %w", c.options.Self, p.id, err)
		}
	}
	return nil
}

func (c *Core) checkPeer(p *peer) error {
	gain := c.options.PromiseDuration - c.options.DriftMargin
	switch {
	case max(p.promised, p.former) > c.now+c.options.PromiseDuration:
		return fmt.Errorf("bound until %v, more than a promise after %v", p.promised, c.now)
	case p.supported > c.now+gain:
		return fmt.Errorf("counts on a promise until %v, more than any heartbeat sent by %v can justify", p.supported, c.now)
	case p.lapsed && c.now < max(p.promised, p.former):
		return fmt.Errorf("taken for dead at %v although bound until %v", c.now, p.promised)
	case (p.promised > 0) != (p.epoch > 0):
		return fmt.Errorf("epoch %d does not fit a promise until %v", p.epoch, p.promised)
	case p.lastHeard > c.now:
		return fmt.Errorf("heard at %v, which is after %v", p.lastHeard, c.now)
	}
	if most := int(2*c.options.PromiseDuration/c.options.HeartbeatInterval) + 2; len(p.sent) > most {
		return fmt.Errorf("%d heartbeats are remembered, of which %d can justify anything", len(p.sent), most)
	}
	for i, s := range p.sent {
		if s.seq >= p.nextSeq || s.at > c.now {
			return fmt.Errorf("heartbeat %d of %v is not sent yet at %v, where %d is next", s.seq, s.at, c.now, p.nextSeq)
		}
		if i > 0 && (p.sent[i-1].seq >= s.seq || p.sent[i-1].at > s.at) {
			return fmt.Errorf("heartbeats %d and %d are out of order", p.sent[i-1].seq, s.seq)
		}
	}
	return nil
}
