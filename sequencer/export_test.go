package sequencer

// Pokes break rules of a sequencer while it is given an input.

// PokeIssueAboveLimit issues up to a limit that is not committed.
func PokeIssueAboveLimit(s *Sequencer) func() {
	c := &s.count
	limit := c.limit
	if limit != 0 {
		c.limit = max(limit, c.pending)
	}
	return func() {
		if c.limit == max(limit, c.pending) {
			c.limit = limit
		}
	}
}

// PokeManyBeforeCommit issues to other shards while the first limit is not committed.
func PokeManyBeforeCommit(s *Sequencer) func() {
	c := &s.count
	pending := c.pending
	if c.limit != 0 || pending == 0 {
		return func() {}
	}
	c.limit = pending
	return func() {
		if c.pending == pending {
			c.limit = 0
		}
	}
}

// PokeUnboundedWhilePending issues without a bound while the first limit is not committed.
func PokeUnboundedWhilePending(s *Sequencer) func() {
	c := &s.count
	pending := c.pending
	if c.limit != 0 {
		return func() {}
	}
	c.pending = 0
	return func() {
		if c.pending == 0 {
			c.pending = pending
		}
	}
}

// PokeHandOverGoesOn goes on issuing while a hand-over is under way.
func PokeHandOverGoesOn(s *Sequencer) func() {
	c := &s.count
	before := c.phase
	c.phase = issuing
	return func() {
		if c.phase == issuing {
			c.phase = before
		}
	}
}

// PokeForgetLeaderships takes the word of a shard's leader for no more than it says, and gives numbers to leaders that it follows.
func PokeForgetLeaderships(s *Sequencer) func() {
	for _, known := range s.shards {
		known.leadership, known.of = 0, ^Leadership(0)
	}
	return func() {}
}

// PokeMultiOfNoLeadership takes a transaction's number for one of a leadership before all others.
func PokeMultiOfNoLeadership(s *Sequencer) func() {
	for _, known := range s.shards {
		if known.multi > known.last {
			known.last, known.of = known.multi, 0
		}
		known.multi = 0
	}
	return func() {}
}

// PokeOneLast takes a transaction's number for one of a leadership after all others. So only a Clean as of it clears it, but a later batch takes its
// place.
func PokeOneLast(s *Sequencer) func() {
	for _, known := range s.shards {
		if known.multi > known.last {
			known.last, known.of = known.multi, ^Leadership(0)
		}
		known.multi = 0
	}
	return func() {}
}
