package driver

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// The driver's part in the sequencer of a store of several shards. It tells what happens to groups here, and does what it is told; nothing is decided here
// but when a shard may be called clean. docs/protocols/sequencer.md has the rules that are named.

// Sequencing hears what becomes of the groups of a node that are shards of one store. Its methods are called in the driver's goroutine, with no lock held. They
// do not block, and call nothing of the driver at once but what says that it may be.
type Sequencing interface {
	// Lead: the node leads the group in the term, and has applied the barrier. limit is what the state says of it in the system shard (rule 3).
	Lead(group consensus.GroupID, term consensus.Term, applied, limit kv.Revision)
	// StepDown ends what Lead began.
	StepDown(group consensus.GroupID)
	// Target: the node leads the system shard in the term, as far as is known here; 0: nobody does.
	Target(node kv.NodeID, term consensus.Term)
	// Applied: the replica of the group here has come to the revision. Open tells it, too.
	Applied(group consensus.GroupID, revision kv.Revision)
	// LimitApplied: an entry of the term has set the limit. It is told everywhere.
	LimitApplied(term consensus.Term, limit kv.Revision)
	// HandOver: the leadership of the system shard, which is here, is to be moved. When no revision can be issued here any more, and the limit in the log
	// is the last one that was, Driver.MayHandOver follows (rule 6).
	HandOver()
	// HandOverFailed: it stays here for now.
	HandOverFailed()
	// Voided: revisions that the group got, up to the last one, will never be used.
	Voided(group consensus.GroupID, last kv.Revision)
	// BeginClean begins to call a group clean that is led here: the present is looked at (rule 16). false: there is no reason to any more, or nobody to hear it;
	// Driver.CallClean follows when there is.
	BeginClean(group consensus.GroupID) bool
	// EndClean ends it: after BeginClean this node has made sure that it leads the group, and then found nothing open that was issued up to the present that
	// was looked at. top is how far the group has come.
	EndClean(group consensus.GroupID, top kv.Revision)
}

// sequenced is what a replica does for Sequencing.
type sequenced struct {
	// limit is to be proposed in the log of the system shard; 0: none is.
	limit kv.Revision
	// unclean: the leader is to be called clean; above 0 only if revisions up to there were issued that are not applied. listed: it is in agenda.unclean.
	unclean, listed bool
	above           kv.Revision
	cleaning        cleaning
	// behind: the shard has, perhaps, not followed a compaction of the store. It does in the next batch.
	behind  bool
	handing handing
}

// cleaning is a Clean that was begun and is not ended.
type cleaning struct {
	begun, asked, confirmed bool // asked: a quorum is, whether this replica leads
	// behind is the last proposal of what was evaluated when it was begun; 0: nothing is in flight of that.
	behind uint64
	// highest is the highest revision that was applied when it was begun.
	highest kv.Revision
}

// handing is a hand-over of leadership that is being prepared; to is 0 if there is none.
type handing struct {
	to consensus.ReplicaID
	// until is how long revisions that were asked for are waited for: if they come when leadership is gone, they are a gap.
	until time.Duration
	// stopped: nothing is issued here any more, and prepared: the limit says so (rule 6). Both in the system shard only.
	stopped, prepared bool
}

func (s *sequenced) due() bool { return s.limit != 0 || s.handing.to != 0 || s.behind }

// system tells whether the replica is of the shard beside which the sequencer is.
func (r *Replica) system() bool { return r.group == consensus.GroupID(kv.SystemShard) }

// unheard is Sequencing where nobody wants to hear it.
type unheard struct{}

func (unheard) Lead(consensus.GroupID, consensus.Term, kv.Revision, kv.Revision) {}
func (unheard) StepDown(consensus.GroupID)                                       {}
func (unheard) Target(kv.NodeID, consensus.Term)                                 {}
func (unheard) Applied(consensus.GroupID, kv.Revision)                           {}
func (unheard) LimitApplied(consensus.Term, kv.Revision)                         {}
func (unheard) HandOver()                                                        {}
func (unheard) HandOverFailed()                                                  {}
func (unheard) Voided(consensus.GroupID, kv.Revision)                            {}
func (unheard) BeginClean(consensus.GroupID) bool                                { return false }
func (unheard) EndClean(consensus.GroupID, kv.Revision)                          {}

func (r *driven) tellStepDown() {
	listed := r.sequenced.listed
	r.sequenced = sequenced{listed: listed}
	r.driver.opts.Sequencing.StepDown(r.group)
}

// leads returns the replica of a group that is led here, nil otherwise.
func (d *Driver) leads(group consensus.GroupID) *driven {
	if r, err := d.replica(group); err == nil && r.leading {
		return r
	}
	return nil
}

// What Sequencing may call at any time, from any goroutine. All of it returns at once.

// Later has something done in the driver's goroutine in the next round, with no lock held.
func (d *Driver) Later(do func()) { d.call(do) }

// SystemLeaseHolds tells whether at the moment of the call nobody else can lead the system shard.
func (d *Driver) SystemLeaseHolds() bool {
	r := d.Replica(consensus.GroupID(kv.SystemShard))
	return r != nil && r.leaseHolds()
}

// SystemNotice is what the applied state of the system shard says of compaction, and of alarms: bit n is about type n, and from bit
// shard.AuthVersionBit on how often users and roles have changed.
func (d *Driver) SystemNotice() (compacted kv.Revision, alarms uint64) {
	r := d.Replica(consensus.GroupID(kv.SystemShard))
	if r == nil {
		return 0, 0
	}
	for _, a := range r.Alarms() {
		alarms |= 1 << (a.Type & 63)
	}
	alarms |= r.Auth().Version << shard.AuthVersionBit
	return r.Compacted(), alarms
}

// ConfirmSystem asks a quorum whether this node still leads the system shard. done is called once, from the driver's goroutine, with nil if it did at some
// moment after the call; never if the driver has stopped.
func (d *Driver) ConfirmSystem(done func(error)) {
	taken := d.inbox.addCall(call{refused: done, do: func() {
		r := d.leads(consensus.GroupID(kv.SystemShard))
		if r == nil {
			done(kv.ErrNotLeader)
			return
		}
		r.askBarrier(func(_ consensus.Index, err error) { done(err) })
	}})
	if taken {
		d.kick()
	}
}

// ProposeLimit has the limit put into the log of the system shard, if that is led here in the term. LimitApplied follows, or StepDown.
func (d *Driver) ProposeLimit(term consensus.Term, limit kv.Revision) {
	d.call(func() {
		if r := d.leads(consensus.GroupID(kv.SystemShard)); r != nil && r.role.Term == term {
			r.sequenced.limit = limit
			d.markWorking(r)
		}
	})
}

// MayHandOver says that what Sequencing.HandOver asked for is done, by the sequencer of the term.
func (d *Driver) MayHandOver(term consensus.Term) {
	d.call(func() {
		if r := d.leads(consensus.GroupID(kv.SystemShard)); r != nil && r.role.Term == term {
			r.sequenced.handing.prepared = true
			d.markWorking(r)
		}
	})
}

// Relocate moves the leadership of groups that cannot get revisions here: to the node of the sequencer if that answers, or to whichever other does.
func (d *Driver) Relocate(groups []kv.ShardID, sequencer kv.NodeID) {
	d.call(func() {
		for _, group := range groups {
			r := d.leads(consensus.GroupID(group))
			if r == nil || r.system() || r.leadership.Transferring() {
				continue
			}
			to := sequencer
			if !d.live.Alive(to) {
				to, _ = r.successor()
			}
			if to != 0 && to != d.opts.Self {
				until := &r.sequenced.handing.until // what was asked for does not come
				*until = d.clock()
				r.transfer(to, func(error) { *until = 0 })
			}
		}
	})
}

// CallClean has a group that is led here called clean as soon as nothing is open there that was evaluated before. above is the last revision that was issued to it, if that is why; then
// it is only if the group has not come to that.
func (d *Driver) CallClean(group kv.ShardID, above kv.Revision) {
	d.call(func() {
		r := d.leads(consensus.GroupID(group))
		if r == nil {
			return
		}
		s := &r.sequenced
		if above == 0 {
			s.unclean = true
		}
		s.above = max(s.above, above)
		if !s.listed {
			s.listed = true
			d.unclean = append(d.unclean, r)
		}
	})
}

// callClean looks, at the end of a round, at the groups that are to be called clean.
func (d *Driver) callClean() {
	if len(d.unclean) == 0 || d.Err() != nil {
		return
	}
	kept := d.unclean[:0]
	for _, r := range d.unclean {
		if r.sequenced.listed = r.callClean(); r.sequenced.listed {
			kept = append(kept, r)
		}
	}
	clear(d.unclean[len(kept):])
	d.unclean = kept
}

// open counts what was evaluated in this leadership and is neither applied nor void. What waits for its revisions counts, too: they may be on their way.
func (r *driven) open() (n int) {
	if r.numbering.open || r.numbering.waiting {
		n++
	}
	if r.refused.seq != 0 {
		n++
	}
	return n + r.inflight
}

// callClean tells whether the group is still to be called clean.
func (r *driven) callClean() (still bool) {
	s, to := &r.sequenced, r.driver.opts.Sequencing
	switch {
	case r.ended || !r.leading:
		return false
	case s.cleaning.begun:
		return r.goOnCleaning()
	case s.above > r.machine.Highest() && r.open() > 0:
		return true // it may be on its way
	case s.above > r.machine.Highest():
		to.Voided(r.group, s.above) // what was issued and is not applied will never be, unless it is that of a transaction; those are waited for below
	case !s.unclean:
		s.above = 0
		return false
	}
	s.above, s.unclean = 0, false
	// The order is that of rule 16: now, the confirmation, and then nothing open that was issued up to that now.
	if !to.BeginClean(r.group) {
		return false
	}
	s.cleaning = cleaning{begun: true, behind: r.machine.Settles(anyRevision), highest: r.machine.Highest()}
	return r.goOnCleaning()
}

// anyRevision is above all that are ever issued.
const anyRevision kv.Revision = 1 << 62

// goOnCleaning ends a Clean when this replica is confirmed to lead, and nothing is open that was evaluated before it was begun. Whatever was evaluated since
// asked for its revisions later, and has such above the now that was learnt. So a group in which something is always in flight is called clean, too. A batch
// that waits for its revisions when the Clean is begun is waited for: they may have come to this node, and be at or below that now. So is a transaction over
// several shards that was prepared by then and may write: it may have its revision. One that is prepared later has a higher one, and the shard is called clean
// beside it: up to the highest revision applied, not only to where it is closed.
func (r *driven) goOnCleaning() (still bool) {
	s := &r.sequenced
	switch c := &s.cleaning; {
	case c.confirmed:
	case c.asked:
		return true
	case r.leaseHolds():
		c.confirmed = true
	default:
		r.confirmCleaning()
		return true
	}
	if s.cleaning.behind > r.appliedSeq || r.machine.PreparedSince(s.cleaning.highest) {
		return true
	}
	s.cleaning = cleaning{}
	r.driver.opts.Sequencing.EndClean(r.group, r.machine.Highest())
	return s.unclean || s.above != 0
}

// confirmCleaning asks a quorum whether this replica leads.
func (r *driven) confirmCleaning() {
	r.sequenced.cleaning.asked = true
	term := r.role.Term
	r.askBarrier(func(_ consensus.Index, err error) {
		s := &r.sequenced
		switch {
		case r.ended || !r.leading || r.role.Term != term:
		case err == nil:
			s.cleaning.confirmed = true
		default:
			s.cleaning, s.unclean = cleaning{}, true
		}
	})
}

// proposeLimit proposes the limit that is to be. It does not wait for the batch, which may wait for it.
func (r *driven) proposeLimit() error {
	s := &r.sequenced
	if s.limit == 0 {
		return nil
	}
	err := r.core.Propose([][]byte{shard.AppendLimit(nil, r.role.Term, s.limit)})
	if errors.Is(err, consensus.ErrOverloaded) || errors.Is(err, consensus.ErrTransferring) {
		return nil // there will be room, or another leader
	}
	if err != nil {
		return fmt.Errorf("group %d: limit %d refused by a leader: %w", r.group, s.limit, err)
	}
	s.limit = 0
	r.driver.markDirty(r)
	return nil
}

// prepareHandOver tells whether something is to be done before the consensus core hands over.
func (r *driven) prepareHandOver(to consensus.ReplicaID) bool {
	if _, nobody := r.driver.opts.Sequencing.(unheard); nobody {
		return false
	}
	h := &r.sequenced.handing
	h.to = to
	if h.until == 0 {
		h.until = r.driver.clock() + r.driver.opts.ElectionTimeout/2
	}
	r.driver.setTicking(r, true)
	r.driver.markWorking(r)
	return true
}

// goOnHandingOver has the consensus core hand over when all is prepared. If that takes too long, package leadership gives the hand-over up.
func (r *driven) goOnHandingOver() {
	h := &r.sequenced.handing
	switch {
	case h.to == 0 || h.stopped && !h.prepared:
		return
	case (r.numbering.waiting || r.numbering.first != 0 || r.refused.seq != 0) && r.driver.clock() < h.until:
		return
	case r.system() && !h.stopped:
		h.stopped = true
		r.driver.opts.Sequencing.HandOver()
		return
	}
	to := h.to
	h.to = 0
	r.haveTransferred(to)
}

// handedOver: a hand-over has ended.
func (r *driven) handedOver(err error) {
	h := r.sequenced.handing
	if r.sequenced.handing = (handing{}); h.stopped && r.leading && err != nil {
		r.driver.opts.Sequencing.HandOverFailed()
	}
}
