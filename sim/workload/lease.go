package workload

import (
	"errors"
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// leaseWorkload: leases are granted, get keys, are renewed, also at the last moment, asked about, revoked, or forgotten. The oracle judges when
// they end.
var leaseWorkload = Workload{
	Name: "lease",
	Client: func(c Client) {
		u := newUser(c, "lease")
		lives := 0
		u.loop(4*u.pause(), func() {
			lives++
			u.leaseLife(lives)
		})
	},
	Check: checkLeases,
}

func checkLeases(c Client) {
	u := newUser(c, "lease check")
	u.untilDone("the end of all leases that nobody renews", 25*time.Second, func() error { return allLeasesEnded(u) })
}

func (u *user) leaseLife(life int) {
	r := &kv.LeaseGrantRequest{TTLSeconds: int64(1 + u.Rand().IntN(6))}
	if u.one(2) {
		r.ID = kv.LeaseID(u.Number()*1_000_000 + life)
	}
	granted, err := u.do(&kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: r})
	if err != nil {
		return
	}
	id := granted.LeaseGrant.ID
	for i := range u.Rand().IntN(4) {
		u.attach(id, i)
	}
	if u.one(2) {
		u.renewLate(id, time.Duration(granted.LeaseGrant.TTLSeconds)*time.Second)
		return
	}
	for range u.Rand().IntN(6) {
		if u.Ended() {
			return
		}
		if !u.useLease(id) {
			return
		}
		if u.Sleep(u.between(0, time.Duration(r.TTLSeconds)*700*time.Millisecond)) != nil {
			return
		}
	}
	if u.one(2) {
		_, _ = u.do(&kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: id}})
	}
}

// renewLate keeps a lease alive, now and then so late that the renewal meets the end of the lease on its way. Between those it renews early, so that
// the leader has promised more than the log says, or the log more than anybody was promised.
func (u *user) renewLate(id kv.LeaseID, ttl time.Duration) {
	since := u.Now()
	for range 2 + u.Rand().IntN(5) {
		late := u.one(2)
		at := since + u.between(ttl/10, ttl*7/10)
		if late {
			at = since + ttl + u.between(-250*time.Millisecond, 350*time.Millisecond)
		}
		if u.Ended() || u.Sleep(max(0, at-u.Now())) != nil {
			return
		}
		since = u.Now()
		answer, err := u.do(&kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: id}})
		switch {
		case err != nil:
		case answer.LeaseKeepAlive.TTLSeconds == 0:
			if late {
				u.Mark("lease renewed too late")
			}
			return
		case late:
			u.Mark("lease renewed late")
		default:
			u.Mark("lease renewed")
		}
	}
}

// dueWorkload: leases with keys that are renewed so late that they are due while the renewal is on its way or in the log and not decided.
var dueWorkload = Workload{Name: "due", Special: true, Check: checkLeases, Client: func(c Client) {
	u := newUser(c, "due")
	for life := 1; !u.Ended(); life++ {
		id, since := kv.LeaseID(u.Number()*1_000_000+500_000+life), u.Now()
		_, err := u.do(&kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: id, TTLSeconds: 1}})
		if err == nil {
			u.attach(id, 0)
			u.attach(id, 1)
			u.renewDue(id, since)
		}
		if u.Sleep(u.between(time.Millisecond, 50*time.Millisecond)) != nil {
			return
		}
	}
}}

// renewDue renews a lease of a second again and again when it is due, until it comes too late.
func (u *user) renewDue(id kv.LeaseID, since time.Duration) {
	for !u.Ended() {
		if u.Sleep(max(0, since+u.between(880*time.Millisecond, 1010*time.Millisecond)-u.Now())) != nil {
			return
		}
		since = u.Now()
		answer, err := u.do(&kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: id}})
		if err != nil || answer.LeaseKeepAlive.TTLSeconds == 0 {
			return
		}
		u.Mark("lease renewed late")
	}
}

func (u *user) attach(id kv.LeaseID, i int) {
	r := put(fmt.Appendf(nil, "l/%d/%d", u.Number(), i), u.value())
	r.Put.Lease = id
	_, _ = u.do(r)
}

// useLease does one thing with the lease and tells whether the store knows it.
func (u *user) useLease(id kv.LeaseID) bool {
	switch u.Rand().IntN(8) {
	case 0:
		u.attach(id, u.Rand().IntN(4))
	case 1:
		_, _ = u.do(&kv.Request{Kind: kv.KindLeaseLeases})
	case 2, 3:
		answer, err := u.do(&kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: id, Keys: u.one(2)}})
		return err != nil || answer.LeaseTimeToLive.TTLSeconds >= 0
	case 4: // a key may move to another lease, or to none
		_, _ = u.do(put(fmt.Appendf(nil, "l/%d/%d", u.Number(), u.Rand().IntN(4)), u.value()))
	default:
		answer, err := u.do(&kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: id}})
		if err == nil && answer.LeaseKeepAlive.TTLSeconds > 0 {
			u.Mark("lease renewed")
		}
		return err != nil || answer.LeaseKeepAlive.TTLSeconds > 0
	}
	return true
}

func allLeasesEnded(u *user) error {
	answer, err := u.insist(&kv.Request{Kind: kv.KindLeaseLeases})
	if err != nil {
		return err
	}
	if ids := answer.LeaseLeases.IDs; len(ids) > 0 {
		return fmt.Errorf("%d leases live, the first is %x", len(ids), int64(ids[0]))
	}
	answer, err = u.insist(get(kv.Everything()))
	if err != nil {
		return err
	}
	for _, e := range answer.Range.KVs {
		if e.Lease != 0 {
			return fmt.Errorf("key %q is attached to lease %x, which has ended", e.Key, int64(e.Lease))
		}
	}
	return nil
}

// compactionWorkload: history is compacted close to the present. What was compacted away must not be read any more.
var compactionWorkload = Workload{Name: "compaction", Client: func(c Client) {
	u := newUser(c, "compaction")
	u.loop(10*u.pause(), func() {
		for range 1 + u.Rand().IntN(5) {
			_, _ = u.do(put(registerKey(u.Rand().IntN(registers)), u.value()))
		}
		if answer, err := u.insist(get(single(registerKey(u.Rand().IntN(registers))))); err != nil || answer.Revision < 3 {
			return
		}
		at := max(1, u.newest-kv.Revision(u.Rand().IntN(40)))
		if u.one(10) {
			at = u.newest + kv.Revision(u.Rand().IntN(3))
		}
		_, err := u.do(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: at, Physical: u.one(4)}})
		if err != nil {
			return
		}
		u.Mark("compacted")
		checkCompacted(u, at)
	})
}}

// CompactAll writes something and has the history compacted at that revision, on a healthy cluster. The client fails unless that succeeds within the limit.
func CompactAll(c Client, limit time.Duration) {
	u := newUser(c, "background")
	u.untilDone("a compaction at the newest revision", limit, u.compactAll)
}

func (u *user) compactAll() error {
	answer, err := u.insist(put([]byte("background"), u.value()))
	if err != nil {
		return err
	}
	_, err = u.do(&kv.Request{Kind: kv.KindCompact, Compact: &kv.CompactRequest{Revision: answer.Revision}})
	if errors.Is(err, kv.ErrCompacted) {
		return nil
	}
	return err
}

// checkCompacted reads at the revision of a compaction and below.
func checkCompacted(u *user, at kv.Revision) {
	for _, revision := range []kv.Revision{at, max(1, at-1)} {
		r := get(registerSpan)
		r.Range.Revision = revision
		_, err := u.insist(r)
		if revision < at && err == nil {
			u.Fail("revision %d was read, although the history below %d had been compacted", revision, at)
		}
		if revision == at && err != nil && !errors.Is(err, kv.ErrCompacted) && !errors.Is(err, ErrEnded) {
			u.Fail("revision %d could not be read right after the compaction at it: %v", at, err)
		}
	}
}
