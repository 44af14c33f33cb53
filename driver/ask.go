package driver

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// Asker has a request answered by the leader of the shard that it is for, wherever that is. done is called once, from any goroutine. It may be called in a
// round, without a lock, and must not wait for one.
type Asker func(req *kv.Request, done func(*kv.Response, error))

// askNobody is the Asker until AskWith says which.
func askNobody(_ *kv.Request, done func(*kv.Response, error)) { done(nil, kv.ErrNoLeader) }

// AskWith says who has the leaders of other shards asked about leases; see shard.Ask. Until then they are not. It is no option: whoever asks needs the replicas.
func (d *Driver) AskWith(ask Asker) { d.asker.Store(&ask) }

// asking are the requests of a replica that wait for what leaders of other shards say about leases.
type asking struct {
	waiting map[kv.LeaseID][]awaiting
	answers []askAnswer // to be heard in the next round
}

// awaiting is a request that waits.
type awaiting struct {
	request request
	ends    bool // it ended the lease
	covered bool // what was asked was asked after it had come
	since   time.Duration
}

// askAnswer is what was answered.
type askAnswer struct {
	term consensus.Term // of the leadership that asked
	ask  shard.Ask
	resp *kv.Response
	err  error
}

// add keeps a request until something is decided about a lease.
func (a *asking) add(q request, out shard.Outcome, now time.Duration) {
	q.begun = q.begun || out.Ends
	if a.waiting == nil {
		a.waiting = make(map[kv.LeaseID][]awaiting)
	}
	a.waiting[out.Awaits] = append(a.waiting[out.Awaits], awaiting{request: q, ends: out.Ends, since: now})
}

// cover notes that what is asked now is asked after all who wait for the lease had come.
func (a *asking) cover(lease kv.LeaseID) {
	waiting := a.waiting[lease]
	for i := range waiting {
		waiting[i].covered = true
	}
}

// drop forgets those that end, in the order of the leases that they wait for.
func (a *asking) drop(ends func(lease kv.LeaseID, w awaiting) bool) {
	for _, lease := range slices.Sorted(maps.Keys(a.waiting)) {
		kept := slices.DeleteFunc(a.waiting[lease], func(w awaiting) bool { return ends(lease, w) })
		if a.waiting[lease] = kept; len(kept) == 0 {
			delete(a.waiting, lease)
		}
	}
}

// sendAsks asks what the machine wants to know.
func (r *driven) sendAsks() {
	if !r.isSequenced() || !r.leading {
		return
	}
	for _, a := range r.machine.Asks() {
		r.asking.cover(a.Lease())
		answer := askAnswer{term: r.role.Term, ask: a}
		done := func(resp *kv.Response, err error) {
			answer.resp, answer.err = resp, err
			r.driver.call(func() { r.askAnswered(answer) })
		}
		(*r.driver.asker.Load())(a.Request, done)
	}
}

// askAnswered has an answer heard in this round.
func (r *driven) askAnswered(a askAnswer) {
	if r.leading && r.role.Term == a.term && !r.ended {
		r.asking.answers = append(r.asking.answers, a)
		r.driver.markWorking(r)
	}
}

// hearAnswers lets requests go on that waited for an answer.
func (r *driven) hearAnswers() error {
	answers := r.asking.answers
	r.asking.answers = nil
	for i := range answers {
		a := &answers[i]
		lease := a.ask.Lease()
		waiting := r.asking.waiting[lease]
		ended := slices.ContainsFunc(waiting, func(w awaiting) bool { return w.ends })
		out, decided := r.machine.Answered(&a.ask, a.resp, a.err, ended)
		if !decided {
			continue
		}
		delete(r.asking.waiting, lease)
		for _, w := range waiting {
			if out.Err == nil && !(w.ends && out.Response != nil) || out.Err != nil && !w.covered {
				r.queue.push(w.request)
				continue
			}
			r.machine.Withdraw(w.request.req) // a prepare that is refused does not wait for locks any more
			if err := r.decide(w.request, out); err != nil {
				return err
			}
		}
	}
	return nil
}

// answerEarly is how long before its deadline a request that waits for another shard is answered, so that whoever asked hears what it waited for. One that
// does not wait as long as that is not.
const answerEarly = 300 * time.Millisecond

// prepareWaits is how long the share of a transaction over several shards waits for what another shard says about a lease. It may hold up that shard's answer: the
// transaction has locks elsewhere, on keys of a lease that ends.
const prepareWaits = time.Second

// tooLong tells whether a request has to be answered before it is known what it waits for.
func (w *awaiting) tooLong(now time.Duration) bool {
	q, waited := &w.request, now-w.since
	return q.by != nil && q.by.Left() < answerEarly && waited >= answerEarly || q.req.Kind == kv.KindTxnPrepare && waited >= prepareWaits
}

// leaseWaits says of which shards an answer about a lease is missing.
func leaseWaits(lease kv.LeaseID, of []kv.ShardID) error {
	if len(of) == 1 {
		return fmt.Errorf("lease %x waits for shard %d: %w", int64(lease), of[0], kv.ErrLeaseWaits)
	}
	return fmt.Errorf("lease %x waits for shards %d: %w", int64(lease), of, kv.ErrLeaseWaits)
}

// dropUnwanted ends requests that nobody waits for any more, or will wait for when another round comes.
func (r *driven) dropUnwanted(now time.Duration) {
	r.asking.drop(func(lease kv.LeaseID, w awaiting) bool {
		q := w.request
		switch {
		case !q.wanted():
			q.err = kv.ErrTimeout
		case w.tooLong(now):
			q.begun, q.err = false, leaseWaits(lease, r.machine.AskedOf(lease)) // the error itself says that there may yet be an effect
		default:
			return false
		}
		r.machine.Withdraw(q.req)
		r.finish(q, 0)
		return true
	})
}

// refuseAsking fails all that wait.
func (r *driven) refuseAsking(err error) {
	r.asking.drop(func(_ kv.LeaseID, w awaiting) bool {
		w.request.err = err
		r.finish(w.request, 0)
		return true
	})
	r.asking = asking{}
}
