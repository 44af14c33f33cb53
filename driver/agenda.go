package driver

// agenda is which replicas are to be looked at, and for what. A list may name one that has ended: whoever walks it lets that go.
type agenda struct {
	dirty         []*driven // have work in their core
	spareDirty    []*driven
	working       []*driven // have requests to evaluate, or leases to watch
	ticking       []*driven // need ticks
	attended      []*driven // whose membership core wants ticks
	spareAttended []*driven
	unclean       []*driven // are to be called clean (Sequencing)
	maintaining   []*driven // have a flush or a compaction to do
}

func (a *agenda) markDirty(r *driven) {
	if !r.in.dirty && !r.ended && !r.held() {
		r.in.dirty = true
		a.dirty = append(a.dirty, r)
	}
}

// markWorking makes evaluate look at the replica.
func (a *agenda) markWorking(r *driven) {
	if !r.in.working {
		r.in.working = true
		a.working = append(a.working, r)
	}
}

// setTicking adds or removes the replica from those that get ticks. An idle group whose
// leader is known to be alive gets none, and so costs nothing.
func (a *agenda) setTicking(r *driven, on bool) {
	if on = on && !r.ended; on == r.ticking {
		return
	}
	r.ticking = on
	if on && !r.in.ticking {
		r.in.ticking = true
		a.ticking = append(a.ticking, r)
	} // a replica that stopped ticking leaves the list with the next tick
}

// needsMaintenance puts the replica on the list that maintain walks.
func (a *agenda) needsMaintenance(r *driven) {
	if !r.in.maintaining {
		r.in.maintaining = true
		a.maintaining = append(a.maintaining, r)
	}
}
