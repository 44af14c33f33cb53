package driver

import (
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/membership"
)

// TestLateMessageOfLostLeader: a leader loses its disk while a message of it is on the way, and a third node is cut off. The message arrives after the
// leader's node runs again, on an empty disk, and sends heartbeats: the follower must not take it for a sign of life and hold still for a leader that
// does not exist any more.
func TestLateMessageOfLostLeader(t *testing.T) {
	for _, paxos := range []bool{false, true} {
		c := servingCluster(t, 3, paxos, time.Millisecond, nil)
		c.run(2*time.Second, nil) // the table has all disks
		leader := c.leader()
		away, follower := c.nodes[(leader.index+1)%3], c.nodes[(leader.index+2)%3]
		away.cut = true
		leader.delay = 150 * time.Millisecond
		leader.replica.Propose(&kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte("k")}}, nil, func(*kv.Response, uint64, error) {})
		c.run(20*time.Millisecond, nil)
		leader.crash()
		leader.empty()
		leader.disk, leader.delay = 4, 0
		leader.start(nil)
		before := follower.driver.Metrics().MessagesRefused
		c.run(400*time.Millisecond, nil)
		if follower.driver.Metrics().MessagesRefused == before {
			t.Errorf("paxos %v: the late message was not refused", paxos)
		}
		away.cut = false
		c.await("a new replica in the place of the lost one", func() bool {
			return leader.replica.membership.Self() == 4 && leader.replica.Standing() == membership.StandingMember
		})
	}
}
