package driver

import "slices"

// The log of all groups is one, and goes in order: a group that was written to long ago and never flushed keeps everything that all others have
// written since. When the log is too large, whoever needs its oldest part is flushed, and keeps less for followers that are behind. A group that has
// failed, or that the log has and the node does not hold, is set aside instead: the log carries along what the next process needs of it.

// logLimit is where the node stands with the size of its log.
type logLimit struct {
	written  int64 // bytes of entries since Open
	lookedAt int64 // written, when the size was looked at last
}

// maxRelieved is how many groups are flushed, or have their log cut, each time that the size is looked at.
const maxRelieved = 16

// asideShare is how much larger the log may be, in shares of what is set aside: that must not be written again too often.
const asideShare = 4

// setAside tells the log which of its groups this node does not hold.
func (d *Driver) setAside() {
	for _, group := range d.opts.Log.Groups() {
		d.opts.Log.SetAside(group, d.Replica(group) == nil)
	}
}

// leaveLog sets the log of a replica aside that has ended. What the state holds durably the next process does not need.
func (r *driven) leaveLog() error {
	if err := r.driver.opts.Log.Compact(r.group, min(r.flush.durable, r.log.Last())); err != nil {
		return err
	}
	r.driver.opts.Log.SetAside(r.group, true)
	return nil
}

// relieveLog has groups give up what they have in the oldest part of the log, if the log is too large.
func (d *Driver) relieveLog() error {
	limit := d.opts.MaxLogBytes
	if d.logLimit.written-d.logLimit.lookedAt < limit/64 {
		return nil
	}
	d.logLimit.lookedAt = d.logLimit.written
	var relieved []*driven // each once: the log becomes smaller only with the next write
	for len(relieved) < maxRelieved {
		m := d.opts.Log.Metrics()
		r := d.driven(m.OldestPinning)
		if m.SizeBytes <= limit+asideShare*m.AsideBytes || r == nil || r.ended || r.installing != nil || slices.Contains(relieved, r) {
			return nil // the node's own record, if it is that, is written again by the log
		}
		first, last := r.log.First(), r.log.Last()
		if r.flush.durable < first {
			d.flushOldest(r)
			return nil
		}
		if err := r.cutLog(min(r.flush.durable, first+(last-first)/2)); err != nil {
			return err
		}
		relieved = append(relieved, r)
	}
	return nil
}

// flushOldest has a group flushed that needs the oldest part of the log, and with it others that will soon: they share the flush of the engine.
func (d *Driver) flushOldest(r *driven) {
	for n := 0; n < maxRelieved && r != nil; n++ {
		if r.hasToFlush() {
			r.flush.asked = true
			d.needsMaintenance(r)
		}
		r = nil
		for _, other := range d.order {
			if other.hasToFlush() && d.logLimit.written-other.flush.since > d.opts.MaxLogBytes/2 && (r == nil || other.flush.since < r.flush.since) {
				r = other
			}
		}
	}
}

// hasToFlush tells whether there is something to flush that nobody has seen to.
func (r *driven) hasToFlush() bool {
	return r.mayFlush() && !r.flush.asked && r.machine.AppliedIndex() > r.flush.durable
}

// wrote is called for what a group appends to the log. before is how much the node had written until then.
func (f *flushState) wrote(bytes, before int64) {
	if f.logBytes == 0 {
		f.since = before
	}
	f.logBytes += bytes
	f.retainedBytes += bytes
}
