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

// AskWith says who has the leaders of other shards asked about leases; see shard.Ask. Until then they are not.
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

// await keeps a request until something is decided about a lease.
func (r *Replica) await(q request, out shard.Outcome) {
	q.begun = q.begun || out.Ends
	if r.asking.waiting == nil {
		r.asking.waiting = make(map[kv.LeaseID][]awaiting)
	}
	r.asking.waiting[out.Awaits] = append(r.asking.waiting[out.Awaits], awaiting{request: q, ends: out.Ends, since: r.driver.clock()})
	r.leaseWork = true // it may have to be given up
}

// sendAsks asks what the machine wants to know.
func (r *Replica) sendAsks() {
	if !r.isSequenced() || !r.leading {
		return
	}
	for _, a := range r.machine.Asks() {
		waiting := r.asking.waiting[a.Lease()]
		for i := range waiting {
			waiting[i].covered = true
		}
		answer := askAnswer{term: r.role.Term, ask: a}
		done := func(resp *kv.Response, err error) {
			answer.resp, answer.err = resp, err
			r.driver.call(func() { r.askAnswered(answer) })
		}
		if ask := r.driver.asker.Load(); ask != nil {
			(*ask)(a.Request, done)
		} else {
			done(nil, kv.ErrNoLeader)
		}
	}
}

// askAnswered has an answer heard in this round.
func (r *Replica) askAnswered(a askAnswer) {
	if r.leading && r.role.Term == a.term && !r.ended {
		r.asking.answers = append(r.asking.answers, a)
		r.driver.markWorking(r)
	}
}

// hearAnswers lets requests go on that waited for an answer.
func (r *Replica) hearAnswers() error {
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

// leaseWaits says of which shards an answer about a lease is missing.
func (r *Replica) leaseWaits(lease kv.LeaseID) error {
	of := r.machine.AskedOf(lease)
	if len(of) == 1 {
		return fmt.Errorf("lease %x waits for shard %d: %w", int64(lease), of[0], kv.ErrLeaseWaits)
	}
	return fmt.Errorf("lease %x waits for shards %d: %w", int64(lease), of, kv.ErrLeaseWaits)
}

// dropUnwanted ends requests that nobody waits for any more, or will wait for when another round comes.
func (r *Replica) dropUnwanted(now time.Duration) {
	for _, lease := range slices.Sorted(maps.Keys(r.asking.waiting)) {
		kept := slices.DeleteFunc(r.asking.waiting[lease], func(w awaiting) bool {
			q := w.request
			switch {
			case !q.wanted():
				q.err = kv.ErrTimeout
			case q.by != nil && q.by.Left() < answerEarly && now-w.since >= answerEarly:
				q.begun, q.err = false, r.leaseWaits(lease) // the error itself says that there may yet be an effect
			case q.req.Kind == kv.KindTxnPrepare && now-w.since >= prepareWaits:
				q.begun, q.err = false, r.leaseWaits(lease)
			default:
				return false
			}
			r.machine.Withdraw(q.req)
			r.finish(q, 0)
			return true
		})
		if r.asking.waiting[lease] = kept; len(kept) == 0 {
			delete(r.asking.waiting, lease)
		}
	}
}

// refuseAsking fails all that wait.
func (r *Replica) refuseAsking(err error) {
	for _, lease := range slices.Sorted(maps.Keys(r.asking.waiting)) {
		for _, w := range r.asking.waiting[lease] {
			w.request.err = err
			r.finish(w.request, 0)
		}
	}
	r.asking = asking{}
}
