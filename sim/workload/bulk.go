package workload

import (
	"fmt"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// bulkWorkload: transactions of several writes over few keys, with leases, of which some are refused only when a part is written, between puts and
// reads that would see what is left of such a part.
var bulkWorkload = Workload{Name: "bulk", Special: true, Check: checkLeases, Client: func(c Client) {
	u := newUser(c, "bulk")
	u.loop([...]time.Duration{2 * time.Millisecond, 20 * time.Millisecond}[u.Rand().IntN(2)], func() {
		// Two clients share a lease, and take another one every few seconds.
		lease := kv.LeaseID(800_000_000 + 1000*int(c.Now()/(4*time.Second)) + c.Number()/2)
		switch u.Rand().IntN(11) {
		case 0: // it is refused while the lease lives
			_, _ = u.do(&kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: lease, TTLSeconds: 3}})
		case 1, 2, 3, 4:
			_, _ = u.do(txn(nil, u.several(lease), nil))
		case 5:
			_, _ = u.do(u.attached(bulkKey(u.Rand().IntN(bulkKeys)), lease))
		case 6:
			_, _ = u.do(&kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: lease, Keys: true}})
		case 7:
			r := remove(prefix("b/"))
			r.DeleteRange.PrevKV = u.one(2)
			if u.one(3) {
				r.DeleteRange.Span = single(bulkKey(u.Rand().IntN(bulkKeys)))
			}
			_, _ = u.do(r)
		case 8:
			if u.one(4) {
				_, _ = u.do(&kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: lease}})
			}
		case 9:
			_, _ = u.do(&kv.Request{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: lease}})
		default:
			// Evaluated by the leader, on top of everything in flight.
			_, _ = u.do(txn([]kv.Compare{{Span: single(bulkKey(0)), Target: kv.CompareVersion, Integer: -1}}, []kv.Op{opPut(bulkKey(0), u.value())}, []kv.Op{opGet(prefix("b/"))}))
		}
	})
}}

const bulkKeys = 8

func bulkKey(i int) []byte { return fmt.Appendf(nil, "b/%d", i) }

// attached is a put that may attach the key to the lease.
func (u *user) attached(key []byte, lease kv.LeaseID) *kv.Request {
	r := put(key, u.value())
	r.Put.PrevKV = u.one(2)
	if u.one(2) {
		r.Put.Lease = lease
	}
	return r
}

// several are writes of different keys.
func (u *user) several(lease kv.LeaseID) (ops []kv.Op) {
	for _, i := range u.Rand().Perm(bulkKeys)[:1+u.Rand().IntN(bulkKeys)] {
		if u.one(5) {
			ops = append(ops, kv.Op{DeleteRange: &kv.DeleteRangeRequest{Span: single(bulkKey(i))}})
			continue
		}
		ops = append(ops, kv.Op{Put: u.attached(bulkKey(i), lease).Put})
	}
	return ops
}
