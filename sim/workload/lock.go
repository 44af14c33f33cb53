package workload

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// candidate is one try at a lock or at an election, by the recipe of etcd's concurrency package: a key under the common
// prefix that lives as long as a lease; whose create revision is the lowest has it.
type candidate struct {
	*user
	prefix string
	lease  kv.LeaseID
	key    []byte
	// token is the create revision of the key: it fences off everybody who had the lock before.
	token kv.Revision
}

// enter makes the key. It returns nil if that did not work out.
func (u *user) enter(p string) *candidate {
	ttl := int64(2 + u.Rand().IntN(4))
	granted, err := u.do(&kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{TTLSeconds: ttl}})
	if err != nil {
		return nil // a lease that nobody knows of expires
	}
	a := &candidate{user: u, prefix: p, lease: granted.LeaseGrant.ID}
	a.key = fmt.Appendf(nil, "%s%x", p, int64(a.lease))
	op := opPut(a.key, u.value())
	op.Put.Lease = a.lease
	answer, err := u.insist(txn([]kv.Compare{ifCreated(a.key, 0)}, []kv.Op{op}, []kv.Op{opGet(single(a.key))}))
	switch {
	case err != nil:
		return nil
	case answer.Txn.Succeeded:
		a.token = answer.Revision
	default: // an earlier try had arrived
		a.token = answer.Txn.Responses[0].Range.KVs[0].CreateRevision
	}
	return a
}

// first returns the key with the lowest create revision; nil if there is none.
func (u *user) first(p string) (*kv.KeyValue, error) {
	r := get(prefix(p))
	r.Range.SortTarget, r.Range.SortOrder, r.Range.Limit = kv.SortByCreate, kv.SortAscend, 1
	answer, err := u.insist(r)
	if err != nil || len(answer.Range.KVs) == 0 {
		return nil, err
	}
	return &answer.Range.KVs[0], nil
}

// await waits until the candidate has it. It keeps its lease alive, more or less.
func (a *candidate) await() bool {
	for range 100 {
		first, err := a.first(a.prefix)
		switch {
		case err != nil || first == nil || first.CreateRevision > a.token:
			return false // the lease has ended
		case first.CreateRevision == a.token:
			return true
		}
		a.keepAlive()
		if a.Ended() || a.Sleep(a.between(50*time.Millisecond, 500*time.Millisecond)) != nil {
			return false
		}
	}
	return false
}

func (a *candidate) keepAlive() {
	_, _ = a.do(&kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: a.lease}})
}

// leave gives up what the candidate has, in one of the ways there are; one is to vanish.
func (a *candidate) leave() {
	switch a.Rand().IntN(4) {
	case 0:
	case 1:
		_, _ = a.do(remove(single(a.key)))
	default:
		_, _ = a.do(&kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: a.lease}})
	}
}

// owned makes a transaction that works only while the candidate's key lives.
func (a *candidate) owned(ops ...kv.Op) *kv.Request {
	return txn([]kv.Compare{ifCreated(a.key, a.token)}, ops, nil)
}

// lockWorkload: whoever has the lock writes its token into one key. Tokens there never go back.
var lockWorkload = Workload{Name: "lock", Client: func(c Client) {
	u := newUser(c, "lock")
	u.loop(4*u.pause(), func() {
		a := u.enter("lock/")
		if a == nil {
			return
		}
		if a.await() {
			a.guarded()
		}
		a.leave()
	})
}}

// guarded is the critical section.
func (a *candidate) guarded() {
	for range 1 + a.Rand().IntN(4) {
		op := opPut([]byte("guarded"), a.amount(int(a.token)))
		op.Put.PrevKV = true
		answer, err := a.do(a.owned(op))
		if err != nil {
			continue
		}
		if !answer.Txn.Succeeded {
			a.Mark("lock lost")
			return
		}
		a.Mark("lock held")
		if before := answer.Txn.Responses[0].Put.Prev; before != nil && amountOf(before.Value) > int(a.token) {
			a.Fail("at revision %d the holder of the lock with token %d wrote after the one with token %d", answer.Revision, a.token, amountOf(before.Value))
		}
		switch {
		case a.one(10): // asleep, for longer than the lease lives
			_ = a.Sleep(a.between(time.Second, 8*time.Second))
		case a.one(2):
			a.keepAlive()
		}
	}
}

// electionWorkload: a leader proclaims, and observers never see a leader from before the one they saw.
var electionWorkload = Workload{Name: "election", Client: func(c Client) {
	u := newUser(c, "election")
	if c.Number()%3 == 0 {
		observe(u)
		return
	}
	u.loop(4*u.pause(), func() {
		a := u.enter("election/")
		if a == nil {
			return
		}
		if a.await() {
			for range u.Rand().IntN(4) {
				op := opPut(a.key, u.value())
				op.Put.IgnoreLease = true
				if answer, err := u.do(a.owned(op)); err == nil && answer.Txn.Succeeded {
					u.Mark("proclaimed")
				}
				a.keepAlive()
			}
		}
		a.leave()
	})
}}

func observe(u *user) {
	var last kv.KeyValue
	u.loop(u.pause(), func() {
		leader, err := u.first("election/")
		if errors.Is(err, ErrEnded) || leader == nil {
			return
		}
		if leader.CreateRevision < last.CreateRevision || leader.ModRevision < last.ModRevision && leader.CreateRevision == last.CreateRevision {
			u.Fail("the observer saw leader %q of revision %d (%d) after leader %q of revision %d (%d)",
				leader.Key, leader.CreateRevision, leader.ModRevision, last.Key, last.CreateRevision, last.ModRevision)
		}
		last = *leader
	})
}
