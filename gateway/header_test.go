package gateway

import (
	"testing"

	"github.com/quoratedb/quorate/kv"
)

// aboutNoKeys are requests whose answers have the store's revision, and come from the leader of the system shard, in an order in which they succeed.
func aboutNoKeys() []*kv.Request {
	return []*kv.Request{
		{Kind: kv.KindLeaseGrant, LeaseGrant: &kv.LeaseGrantRequest{ID: 7, TTLSeconds: 10}},
		{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: 7}}, // in the log
		{Kind: kv.KindLeaseKeepAlive, LeaseKeepAlive: &kv.LeaseKeepAliveRequest{ID: 7}}, // in memory
		{Kind: kv.KindLeaseTimeToLive, LeaseTimeToLive: &kv.LeaseTimeToLiveRequest{ID: 7}},
		{Kind: kv.KindLeaseLeases},
		{Kind: kv.KindMemberList, MemberList: &kv.MemberListRequest{Linearizable: true}},
		{Kind: kv.KindAlarm, Alarm: &kv.AlarmRequest{Action: kv.AlarmGet}},
		{Kind: kv.KindLeaseRevoke, LeaseRevoke: &kv.LeaseRevokeRequest{ID: 7}},
	}
}

// TestHeadersOfTheStore: what is not about keys has a revision in its header that is not below any that was answered before, whatever the system shard has
// come to, and whoever is asked; also without a lease. None of it costs a question. Afterwards the node knows the revision that it told: what it says of
// itself does not run backwards.
func TestHeadersOfTheStore(t *testing.T) {
	for at := kv.NodeID(1); at <= 3; at++ {
		for _, lease := range []bool{true, false} {
			first, second, c := storeWith(t, Options{}, 1, 2, 1)
			g := first.nodes[at].gateway
			for i, req := range aboutNoKeys() {
				writeKey(t, first, second, "2a", "new") // of shard 2
				c.issue(2, 1)                           // and another one is on its way
				first.lease, c.asked = lease, 0
				r := submit(g, req)
				exchangeBoth(first, second)
				g.reading.wait()
				first.lease = true
				if r.answers != 1 || r.err != nil || r.resp.Revision != c.last {
					t.Errorf("request %d at node %v, lease %v: %d answers, %+v, %v; want revision %d", i, at, lease, r.answers, r.resp, r.err, c.last)
				}
				if known := g.options.Revisions.Known(); known < c.last || c.asked != 0 {
					t.Errorf("request %d at node %v, lease %v: revision %d is known, %d questions", i, at, lease, known, c.asked)
				}
				exchangeBoth(first, second)
			}
		}
	}
}

// TestStaleHeaders: a serializable list of members has what this node has heard of.
func TestStaleHeaders(t *testing.T) {
	first, _, c := storeWith(t, Options{}, 1, 2, 1)
	g := first.nodes[3].gateway
	g.options.Revisions.Hear(4)
	c.issue(2, 3)
	says(t, "members", submit(g, &kv.Request{Kind: kv.KindMemberList, MemberList: &kv.MemberListRequest{}}), "revision 4")
}
