package driver

import (
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/leadership"
)

// The driver's part in who leads: it tells the core of leadership what happens, and does what that decides.

// carryOut does what the core of leadership has decided. It follows each call of it that may decide something.
func (r *driven) carryOut() {
	d := r.driver
	ready := r.leadership.Ready()
	if ready.LeaderLost {
		r.core.LeaderLost()
		d.setTicking(r, true)
	}
	if ready.Campaign {
		r.core.Campaign()
	}
	if ready.LeaderLost || ready.Campaign {
		d.markDirty(r)
	}
	if ready.Transfer != 0 {
		r.beginTransfer(ready.Transfer)
	}
	if ready.Transferred != nil {
		r.transferEnded(ready.Transferred.Err)
	}
	if due := r.leadership.Due(); due != 0 && (d.nextDue == 0 || due < d.nextDue) {
		d.nextDue = due
	}
}

// membershipApplied tells which replica this is, and the membership that it has applied.
func (r *driven) membershipApplied() {
	r.leadership.Configure(r.membership.Self(), r.machine.Config())
}

// takePart begins to campaign if there is no leader.
func (r *driven) takePart() {
	r.leadership.Start(r.driver.opened)
	r.carryOut()
}

// mayTick tells whether time may pass for the consensus core.
func (r *driven) mayTick(now time.Duration) bool {
	if r.held() {
		return false
	}
	leader := r.role.Leader
	if r.role.Role != consensus.RoleLeader {
		leader = r.core.Brief().Leader
	}
	may := r.leadership.Tick(now, leader)
	r.carryOut()
	return may
}

// hearCandidate tells whether a request for a vote or promise may reach the consensus core.
func (r *driven) hearCandidate(now time.Duration, from kv.NodeID, term consensus.Term) bool {
	may := r.leadership.HearCandidate(now, leadership.Process{Node: from, Instance: r.driver.node.HeardInstance(from)}, term, r.core.Brief().Term)
	r.carryOut()
	return may
}

// nodeLost tells every group that a process of the node is gone. restarted: another process has its place.
func (d *Driver) nodeLost(now time.Duration, node kv.NodeID, restarted bool) {
	if d.opts.Listener.NodeLost != nil {
		d.opts.Listener.NodeLost(node)
	}
	for _, r := range d.order {
		r.leadership.NodeLost(now, node, restarted)
		r.carryOut()
	}
}

// advanceLeadership lets the time pass for those groups that have something due. They all have ticks.
func (d *Driver) advanceLeadership(now time.Duration) {
	if d.nextDue == 0 || now < d.nextDue {
		return
	}
	d.nextDue = 0
	for _, r := range d.ticking {
		if !r.ended && r.leadership.Due() != 0 {
			r.leadership.Advance(now)
			r.carryOut()
		}
	}
}
