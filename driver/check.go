package driver

import (
	"errors"
	"fmt"
)

// check verifies what must be true of a replica between rounds.
func (r *Replica) check() error {
	own := 0
	for i := range r.rounds.len() {
		if r.rounds.at(i).term == r.role.Term {
			own++
		}
	}
	if err := errors.Join(r.checkLeadership(), r.checkMembership(), r.checkBulks()); err != nil {
		return err
	}
	switch {
	case r.leading && (own != r.inflight || r.inflight > max(1, r.driver.opts.MaxInflight)), !r.leading && r.inflight > 0:
		return fmt.Errorf("%d rounds in flight, counted %d", own, r.inflight)
	case len(r.round) > 0 && r.refused.seq == 0:
		return fmt.Errorf("%d requests are evaluated but not proposed", len(r.round))
	case r.expected.Load() != r.awaitsService():
		return fmt.Errorf("expected to serve %v, as %v, leading %v", r.expected.Load(), r.role.Role, r.leading)
	case r.serving.Load() != r.leading:
		return fmt.Errorf("serving %v, leading %v", r.serving.Load(), r.leading)
	case !r.leading && (r.depends.len() > 0 || r.lease.Load() != nil || !r.barriers.empty() || len(r.waits.proposals) > 0):
		return errors.New("something waits for a leader that does not lead")
	case r.queue.len() > 0 && !r.in.working:
		return errors.New("requests are queued but nobody looks")
	case !r.held() && r.installing == nil && r.core.HasReady() && !r.in.dirty:
		return errors.New("the core has work but is not marked")
	case len(r.toApply) > 0 && r.installing == nil && !r.in.dirty && !r.in.maintaining:
		return fmt.Errorf("%d entries are to be applied but nobody looks", len(r.toApply))
	case r.installing != nil && r.installing.done && !r.in.dirty:
		return errors.New("a snapshot is installed but nobody looks")
	case r.beside.unfinished() && !r.in.working:
		return errors.New("requests beside the rounds have to be seen to, but nobody looks")
	case len(r.beside.blocked) > 0 && !r.beside.underWay() && !r.machine.Contended():
		return fmt.Errorf("%d requests wait for one that takes long, and there is none", len(r.beside.blocked))
	case len(r.beside.parked) > 0 && !r.machine.Contended():
		return fmt.Errorf("requests wait for locks in %d places, and there are none", len(r.beside.parked))
	case r.flush.syncing < 0:
		return fmt.Errorf("%d runs are becoming durable", r.flush.syncing)
	case r.log.First() > r.flush.durable+1:
		return fmt.Errorf("the log begins at entry %d, and the state is durable up to %d", r.log.First(), r.flush.durable)
	case len(r.waits.indices) > 0 && r.waits.indices[0].until <= uint64(r.machine.AppliedIndex()):
		return fmt.Errorf("somebody waits for index %d, applied is %d", r.waits.indices[0].until, r.machine.AppliedIndex())
	case len(r.waits.revisions) > 0 && r.waits.revisions[0].until <= uint64(r.machine.Closed()):
		return fmt.Errorf("somebody waits for revision %d, applied is %d", r.waits.revisions[0].until, r.machine.Closed())
	case len(r.waits.proposals) > 0 && r.waits.proposals[0].until <= r.appliedSeq:
		return fmt.Errorf("somebody waits for proposal %d, applied is %d", r.waits.proposals[0].until, r.appliedSeq)
	}
	return nil
}

// checkLeadership verifies the core of leadership, and that it was told what it goes by.
func (r *Replica) checkLeadership() error {
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
	if len(r.fates) > 0 && r.rounds.len() == 0 {
		return fmt.Errorf("%d wait for the fate of proposals, and none awaits it", len(r.fates))
	}
	if len(r.elected) > 0 && !r.awaitsService() {
		return fmt.Errorf("%d wait to hand over what was elected, and nothing is to serve", len(r.elected))
	}
	return r.leadership.Check()
}

// checkBulks counts the requests whose bulk is to take effect with a proposal that is not applied.
func (r *Replica) checkBulks() error {
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
		if d.Replica(group) != m.replica { // it has ended
			jobs += m.replica.jobs
		}
	}
	if taken := d.besides + d.shipping; d.besides < 0 || d.shipping < 0 || taken > jobs {
		return fmt.Errorf("%d requests and %d snapshots have a place beside the rounds, and %d goroutines are at work", d.besides, d.shipping, jobs)
	}
	return nil
}
