package driver

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/consensus"
)

// check verifies what must be true of a replica between rounds.
func (r *driven) check() error {
	if err := errors.Join(r.checkLeadership(), r.checkMembership(), r.checkBulks()); err != nil {
		return err
	}
	own := r.own(r.role.Term)
	switch {
	case r.leading && (own != r.inflight || r.inflight > max(1, r.driver.opts.MaxInflight)), !r.leading && r.inflight > 0:
		return fmt.Errorf("%d rounds in flight, counted %d", own, r.inflight)
	case r.expected.Load() != r.awaitsService():
		return fmt.Errorf("expected to serve %v, as %v, leading %v", r.expected.Load(), r.role.Role, r.leading)
	case r.serving.Load() != r.leading:
		return fmt.Errorf("serving %v, leading %v", r.serving.Load(), r.leading)
	case !r.leading && (r.depends.len() > 0 || r.lease.Load() != nil || !r.barriers.empty() || len(r.waits.proposals) > 0):
		return errors.New("something waits for a leader that does not lead")
	case !r.held() && r.installing == nil && r.core.HasReady() && !r.in.dirty:
		return errors.New("the core has work but is not marked")
	case (r.queue.len() > 0 || r.beside.unfinished()) && !r.in.working:
		return fmt.Errorf("%d requests are queued, or some beside the rounds have to be seen to, but nobody looks", r.queue.len())
	}
	return errors.Join(r.proposals.check(), r.arriving.check(r.in), r.beside.check(r.machine.Contended()), r.flush.check(r.log.First()),
		r.waits.check(uint64(r.machine.AppliedIndex()), uint64(r.machine.Closed()), r.appliedSeq))
}

// own counts the rounds of a term.
func (p *proposals) own(term consensus.Term) (n int) {
	for i := range p.rounds.len() {
		if p.rounds.at(i).term == term {
			n++
		}
	}
	return n
}

func (p *proposals) check() error {
	if len(p.round) > 0 && p.refused.seq == 0 {
		return fmt.Errorf("%d requests are evaluated but not proposed", len(p.round))
	}
	return nil
}

func (a *arriving) check(in lists) error {
	switch {
	case len(a.toApply) > 0 && a.installing == nil && !in.dirty && !in.maintaining:
		return fmt.Errorf("%d entries are to be applied but nobody looks", len(a.toApply))
	case a.installing != nil && a.installing.done && !in.dirty:
		return errors.New("a snapshot is installed but nobody looks")
	}
	return nil
}

func (b *beside) check(contended bool) error {
	switch {
	case len(b.blocked) > 0 && !b.underWay() && !contended:
		return fmt.Errorf("%d requests wait for one that takes long, and there is none", len(b.blocked))
	case len(b.parked) > 0 && !contended:
		return fmt.Errorf("requests wait for locks in %d places, and there are none", len(b.parked))
	}
	return nil
}

// check: first is where the log begins.
func (f *flushState) check(first consensus.Index) error {
	switch {
	case f.syncing < 0:
		return fmt.Errorf("%d runs are becoming durable", f.syncing)
	case first > f.durable+1:
		return fmt.Errorf("the log begins at entry %d, and the state is durable up to %d", first, f.durable)
	}
	return nil
}

// check looks for waits that should have ended at what is applied.
func (w *waits) check(index, revision, proposal uint64) error {
	switch {
	case len(w.indices) > 0 && w.indices[0].until <= index:
		return fmt.Errorf("somebody waits for index %d, applied is %d", w.indices[0].until, index)
	case len(w.revisions) > 0 && w.revisions[0].until <= revision:
		return fmt.Errorf("somebody waits for revision %d, applied is %d", w.revisions[0].until, revision)
	case len(w.proposals) > 0 && w.proposals[0].until <= proposal:
		return fmt.Errorf("somebody waits for proposal %d, applied is %d", w.proposals[0].until, proposal)
	}
	return nil
}

// checkLeadership verifies the core of leadership, and that it was told what it goes by.
func (r *driven) checkLeadership() error {
	self, config := r.leadership.Membership()
	switch {
	case r.leadership.Role() != r.role:
		return fmt.Errorf("leadership was told of %+v, and the replica is %+v", r.leadership.Role(), r.role)
	case self != r.membership.Self() || !config.Equal(r.machine.Config()):
		return fmt.Errorf("leadership was told of replica %d in %v, and this is replica %d in %v", self, config, r.membership.Self(), r.machine.Config())
	case r.driver.stopped() == nil && r.lease.Load() != r.leadership.Lease():
		return errors.New("the lease that readers see is not the one of leadership")
	case r.driver.stopped() == nil && (len(r.transfers) > 0) != r.leadership.Transferring():
		return fmt.Errorf("%d wait for the end of a hand-over, under way: %v", len(r.transfers), r.leadership.Transferring())
	}
	return errors.Join(r.handOvers.check(r.rounds.len() > 0, r.awaitsService()), r.leadership.Check())
}

func (h *handOvers) check(proposed, awaitsService bool) error {
	switch {
	case len(h.fates) > 0 && !proposed:
		return fmt.Errorf("%d wait for the fate of proposals, and none awaits it", len(h.fates))
	case len(h.elected) > 0 && !awaitsService:
		return fmt.Errorf("%d wait to hand over what was elected, and nothing is to serve", len(h.elected))
	}
	return nil
}

// checkBulks counts the requests whose bulk is to take effect with a proposal that is not applied.
func (r *driven) checkBulks() error {
	taking := 0
	count := func(requests []request) {
		for i := range requests {
			if requests[i].bulk {
				taking++
			}
		}
	}
	count(r.round)
	for i := range r.numbering.decided { // they wait for their revisions
		if r.numbering.decided[i].request.bulk {
			taking++
		}
	}
	for i := range r.rounds.len() {
		if proposed := r.rounds.at(i); r.leading && proposed.term == r.role.Term {
			count(proposed.requests)
		}
	}
	if taking != r.beside.taking {
		return fmt.Errorf("%d requests take effect with a bulk, counted %d", taking, r.beside.taking)
	}
	return nil
}

// checkPlaces verifies that a place among those that a node has for work beside the rounds is taken only by a goroutine at work.
func (d *Driver) checkPlaces() error {
	jobs := 0
	for _, r := range *d.groups.Load() {
		jobs += r.jobs
	}
	for group, m := range d.removing {
		if d.driven(group) != m.replica { // it has ended
			jobs += m.replica.jobs
		}
	}
	if taken := d.besides + d.shipping; d.besides < 0 || d.shipping < 0 || taken > jobs {
		return fmt.Errorf("%d requests and %d snapshots have a place beside the rounds, and %d goroutines are at work", d.besides, d.shipping, jobs)
	}
	return nil
}
