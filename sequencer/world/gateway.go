package world

// The gateway: reads at latest, and one ordered watch over all shards.

func (c *Cluster) readActions(w *world, o int, add func(kind, int, int)) {
	p, s := &w.ops[o], c.Ops[o].Shard
	switch p.status {
	case unborn:
		add(doAsk, o, 0)
	case numbered:
		for term := range w.cur[s] + 1 {
			closed := c.closed(w, s, term)
			if c.mutation == FollowerIgnoresStamp {
				closed = c.top(w, s, term)
			}
			replica := c.Ops[o].Kind == ReplicaRead && (closed >= p.rev || closed >= p.last || c.mutation == FollowerIgnoresLast)
			if replica || c.readable(w, s, term, c.Ops[o].Key, p.rev) {
				add(doServe, o, int(term))
			}
		}
	}
}

// beginRead: the revision is asked for after the read has arrived (rule 17).
func (c *Cluster) beginRead(w *world, o int) {
	p, s := &w.ops[o], c.Ops[o].Shard
	*p = operation{status: queued, floor: w.answered, last: noLast}
	switch {
	case c.mutation == ShardLocalHeader:
		p.status, p.rev = numbered, c.top(w, s, w.cur[s])
	case c.Ops[o].Kind == Read:
		p.wait = uint8(c.ask(w, gateway, input{verb: verbRead}).number)
	default:
		p.wait = uint8(c.ask(w, gateway, input{verb: verbFrontier, number: uint64(c.Shards)}).number)
	}
}

// serve answers a read from what the leader, or any replica, has applied.
func (c *Cluster) serve(w *world, o int, term uint8) {
	p, s := &w.ops[o], c.Ops[o].Shard
	p.status, p.by = applied, term
	p.saw = c.newest(w, s, c.Ops[o].Key, p.rev, w.leaders[s][term].view)
	if c.mutation == StaleReadRev {
		p.floor = w.answered // it arrives only now
	}
	w.answered = max(w.answered, p.rev)
}

// told takes what the gateway's asker has heard.
func (c *Cluster) told(w *world, e *askEffect) {
	f := e.frontier
	for o := range c.Ops {
		p := &w.ops[o]
		switch {
		case p.status != queued || c.isTxn(o):
		case c.Ops[o].Kind == Read && e.told && uint64(p.wait) <= uint64(e.served):
			p.status, p.rev = numbered, uint8(e.now)
		case c.Ops[o].Kind == ReplicaRead && f != nil && uint64(p.wait) <= f.ID:
			p.status, p.rev = numbered, uint8(f.Now)
			if told := f.Shards[c.Ops[o].Shard]; told.Clean {
				p.last = uint8(told.Last)
			}
		}
	}
	if f == nil {
		return
	}
	w.asking = false
	for s, told := range f.Shards {
		clean, last := told.Clean, uint8(told.Last)
		if c.mutation == FrontierUnclean {
			clean = true
		}
		if clean && last <= w.closed[s] && c.Watch { // rule 16
			w.closed[s] = max(w.closed[s], uint8(f.Now))
		}
	}
}

// report: a replica sends what it has applied, in the order of its log, and its closed revision (rules 13 and 15).
func (c *Cluster) report(w *world, s int, term uint8) {
	w.closed[s] = c.closed(w, s, term)
	for o := range c.Ops {
		if at := c.tookEffect(w, s, o); at != 0 && at <= w.closed[s] && w.leaders[s][term].view>>o&1 == 1 {
			w.delivered[s] |= 1 << o
		}
	}
}

// usefulDoubt tells whether asking once more would help a shard: for the first time in any case, and later if nothing happens there without it.
func (c *Cluster) usefulDoubt(w *world) bool {
	raised := c.raisesDoubts(w)
	_, last := c.probe(w)
	for s := range c.Shards {
		if raised>>s&1 == 0 || last[s] <= c.closed(w, s, w.cur[s]) {
			continue
		}
		n := c.nodeOf(s, w.cur[s])
		at := &w.nodes[n]
		stuck := at.up.length+at.down.length == 0 && !c.askers.View(at.asker).wants[s] && c.pending(w, s, w.cur[s]) == 0
		if w.doubted>>s&1 == 0 || stuck {
			return true
		}
	}
	return false
}

// usefulFrontier tells whether the gateway would learn something from asking. A real one does not know, and asks from time to time.
func (c *Cluster) usefulFrontier(w *world) bool {
	if !c.Watch || w.asking {
		return false
	}
	now, last := c.probe(w)
	if c.usefulDoubt(w) {
		return true
	}
	for s := range c.Shards {
		if last[s] == noLast && c.mutation == FrontierUnclean {
			last[s] = 0
		}
		if last[s] != noLast && last[s] <= w.closed[s] && w.closed[s] < now {
			return true
		}
	}
	return false
}
