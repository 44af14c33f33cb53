package shard

import (
	"errors"
	"fmt"

	"github.com/quoratedb/quorate/kv"
)

// A lease has its record in the system shard, and its keys in any shards. So leaders ask each other; docs/protocols/leases.md has the protocol. The leader of a
// keys' shard asks for a registration (KindLeaseAttach) before the first of the keys is put there, the leader of the system shard for their end when the lease
// has ended: of the shard that has them (KindLeaseRelease), or with several of the coordinator of a transaction over all (KindLeaseEnd). A machine only says what
// it asks (Asks), and hears the answer (Answered).

// Ask is what a leader wants to know of the leader of another shard, or wants done in several.
type Ask struct {
	// Request is to be answered by the leader of the shard that it is for; KindLeaseEnd by the coordinator beside the leader that asks.
	Request *kv.Request
	serial  uint64 // later ones have higher numbers
}

// Lease is the one that it is about.
func (a *Ask) Lease() kv.LeaseID { return a.Request.LeaseBinding.Lease }

// asking is what a leader has asked.
type asking struct {
	next []Ask // that Asks has not returned
	// underWay is, by lease, the last thing that was asked and is neither answered nor void, and ofShard of how many of them a shard is asked; 0: how many are
	// asked of the coordinator.
	underWay map[kv.LeaseID]asked
	ofShard  map[kv.ShardID]int
	// pieces are the leases with too many keys for one transaction. They are released in one shard after the other: by lease, how many are done.
	pieces map[kv.LeaseID]int
	// awaited is the lease that the request under evaluation has to wait for, ends whether that request itself ends it.
	awaited kv.LeaseID
	ends    bool
}

// asked is something that was asked of a shard.
type asked struct {
	serial uint64
	of     kv.ShardID
}

// maxReleases is of how many leases the end is asked for in one shard at one time. Others wait for their turn. A shard without a leader holds up none but its
// own.
const maxReleases = 256

// maxEndings is how many leases with keys in several shards end at one time. Each is a transaction over these shards, so that a shard without a leader may hold up
// others, until the transaction's time is over.
const maxEndings = 64

func mostAsked(kind kv.Kind) int {
	if kind == kv.KindLeaseEnd {
		return maxEndings
	}
	return maxReleases
}

// end is called when what was asked about a lease is answered, or void.
func (a *asking) end(id kv.LeaseID) {
	if was, open := a.underWay[id]; open {
		delete(a.underWay, id)
		if a.ofShard[was.of]--; a.ofShard[was.of] == 0 {
			delete(a.ofShard, was.of)
		}
	}
}

// AskedOf returns which shards have to answer before requests that wait for a lease (Outcome.Awaits) can go on; none if that is not known. Driver.
func (m *Machine) AskedOf(id kv.LeaseID) []kv.ShardID {
	if m.lead == nil {
		return nil
	}
	if m.remote() {
		return []kv.ShardID{kv.SystemShard}
	}
	bound, _ := m.boundEvaluated(id)
	return bound
}

// errAwaits ends an evaluation that depends on what another shard says about a lease.
var errAwaits = errors.New("the request depends on what another shard says about a lease")

// remote tells whether the records of leases are in another shard.
func (m *Machine) remote() bool { return m.options.Sequenced && m.options.Shard != kv.SystemShard }

// await is the error for a request that has to wait until something is decided about a lease.
func (l *leadership) await(id kv.LeaseID, ends bool) error {
	l.asking.awaited, l.asking.ends = id, ends
	return errAwaits
}

// awaits is the outcome of a request that has to wait for what another shard says. In the shard of the keys that is asked now.
func (m *Machine) awaits() Outcome {
	a := &m.lead.asking
	out := Outcome{Awaits: a.awaited, Ends: a.ends}
	a.awaited, a.ends = 0, false
	if m.remote() {
		m.ask(kv.KindLeaseAttach, kv.LeaseBinding{Lease: out.Awaits, Shard: m.options.Shard})
	}
	return out
}

// ask asks, unless that is under way.
func (m *Machine) ask(kind kv.Kind, binding kv.LeaseBinding) {
	a := &m.lead.asking
	if _, open := a.underWay[binding.Lease]; open {
		return
	}
	if a.underWay == nil {
		a.underWay, a.ofShard = make(map[kv.LeaseID]asked), make(map[kv.ShardID]int)
	}
	m.asked++
	of := binding.Shard
	if kind == kv.KindLeaseAttach {
		of = kv.SystemShard
	}
	a.underWay[binding.Lease] = asked{m.asked, of}
	a.ofShard[of]++
	a.next = append(a.next, Ask{Request: &kv.Request{Kind: kind, LeaseBinding: &binding}, serial: m.asked})
}

// Asks returns what the leader has to ask leaders of other shards, once. Driver.
func (m *Machine) Asks() []Ask {
	if m.lead == nil {
		return nil
	}
	asks := m.lead.asking.next
	m.lead.asking.next = nil
	return asks
}

// Answered is told how something that was asked was answered. decided: those that wait for the lease (Outcome.Awaits) need wait no more. Then the outcome has
// either the answer for the one that ended the lease (Outcome.Ends), or the error for those that waited when it was asked; all others are to be
// evaluated again. Something may be in flight then (HasProposal). ended: the one that ended the lease waits. Driver.
func (m *Machine) Answered(a *Ask, answer *kv.Response, err error, ended bool) (out Outcome, decided bool) {
	if m.lead == nil {
		return Outcome{}, false
	}
	if under := &m.lead.asking; under.underWay[a.Lease()].serial != a.serial {
		return Outcome{}, m.remote() // void: whoever waits asks again
	} else {
		under.end(a.Lease())
	}
	if a.Request.Kind == kv.KindLeaseAttach {
		return m.noteAttached(a.Request.LeaseBinding, answer, err), true
	}
	return m.released(a.Request, err, ended)
}

// noteAttached notes a registration in the log, in front of the puts that wait for it.
func (m *Machine) noteAttached(b *kv.LeaseBinding, answer *kv.Response, err error) Outcome {
	if err == nil && (answer == nil || answer.LeaseTimeToLive == nil || answer.LeaseTimeToLive.Binding == nil) {
		err = fmt.Errorf("the registration of lease %x was answered without an incarnation: %w", int64(b.Lease), kv.ErrUnhealthy)
	}
	switch {
	case errors.Is(err, kv.ErrOutcomeUnknown), errors.Is(err, kv.ErrNotLeader), errors.Is(err, kv.ErrCanceled):
		return Outcome{Err: kv.ErrLeaderChanged} // what becomes of the registration does not matter; the request has and will have no effect
	case err != nil:
		return Outcome{Err: err}
	}
	m.lead.overlay.addOp(op{kind: opNote, lease: b.Lease, incarnation: answer.LeaseTimeToLive.Binding.Incarnation})
	return Outcome{}
}

// released removes the record of a lease whose keys are gone. With keys in several shards it may be that they go piece by piece, and that some are left.
func (m *Machine) released(r *kv.Request, err error, ended bool) (out Outcome, decided bool) {
	b, a := r.LeaseBinding, &m.lead.asking
	l := m.leases.byID[b.Lease]
	if l == nil || l.incarnation != b.Incarnation || !l.ending || !m.leaseExists(b.Lease) {
		delete(a.pieces, b.Lease)
		return Outcome{}, false
	}
	at, pieces := a.pieces[b.Lease]
	switch tooLarge := r.Kind == kv.KindLeaseEnd && errors.Is(err, kv.ErrRequestTooLarge); {
	case err != nil && !tooLarge: // it is asked again
		m.leases.postpone(l, m.lead.clock()+expiryRetryMillis/10)
		return Outcome{}, false
	case tooLarge, pieces && at+1 < len(l.shards):
		if a.pieces == nil {
			a.pieces = make(map[kv.LeaseID]int)
		}
		if a.pieces[b.Lease] = at + 1; tooLarge {
			a.pieces[b.Lease] = 0
		}
		m.release(l)
		return Outcome{}, false
	}
	delete(a.pieces, b.Lease)
	m.lead.overlay.addOp(op{kind: opRevoke, lease: b.Lease})
	m.leases.postpone(l, m.lead.clock()+expiryRetryMillis)
	if !ended {
		return Outcome{}, true
	}
	answer := &kv.Response{Kind: kv.KindLeaseRevoke, Revision: m.lead.revision}
	m.lead.told(answer)
	return Outcome{Response: answer, Effects: true, WaitFor: m.lead.waitFor()}, true
}
