package workload

import (
	"bytes"
	"time"

	"github.com/quoratedb/quorate/kv"
)

// edgeWorkload: keys at the end of all keys, under leases, and transactions that name so many spans that their latches are merged, one of them without
// an end. Whoever looks for what begins with something must not stop at its last byte.
var edgeWorkload = Workload{Name: "edge", Special: true, Check: checkLeases, Client: func(c Client) {
	u := newUser(c, "edge")
	u.loop(10*time.Millisecond, func() {
		lease := kv.LeaseID(700_000_000 + 1000*int(c.Now()/(2*time.Second)) + c.Number()/2)
		switch u.Rand().IntN(8) {
		case 0:
			_, _ = u.do(&kv.Request{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: lease, TTLSeconds: 3}})
		case 1:
			_, _ = u.do(&kv.Request{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: lease, Keys: true}})
		case 2:
			if u.one(3) {
				_, _ = u.do(&kv.Request{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: lease}})
			}
		case 3, 4:
			_, _ = u.do(u.wide())
		default:
			_, _ = u.do(u.attached(edgeKey(u.Rand().IntN(edgeKeys)), lease))
		}
	})
}}

const edgeKeys = 9

// edgeKey returns keys that consist of the byte 0xff, but for the last byte of some.
func edgeKey(i int) []byte {
	key := bytes.Repeat([]byte{0xff}, 1+i/3)
	if last := i % 3; last > 0 {
		key = append(key, byte(last-1))
	}
	return key
}

// wide is a transaction that reads everything from the first of the keys on, and then so many single ones that their latches are merged; the last ones
// it names come early.
func (u *user) wide() *kv.Request {
	ops := []kv.Op{opGet(kv.Span{Start: []byte{0xff}, End: []byte{0}})}
	for range 66 {
		ops = append(ops, opGet(single(edgeKey(u.Rand().IntN(2)))))
	}
	return txn(nil, append(ops, opPut(edgeKey(0), u.value())), nil)
}
