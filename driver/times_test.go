package driver

import (
	"testing"
	"time"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/timeline"
)

// TestRecordTime: a leader records a revision once, and nothing before all others have said that they understand it: a node that does not would stop.
func TestRecordTime(t *testing.T) {
	for _, paxos := range []bool{false, true} {
		c := servingCluster(t, 3, paxos, time.Millisecond, nil)
		leader := c.leader()
		written := false
		write(c, leader, "k", func(_ time.Duration, err error) {
			if err != nil {
				t.Fatal(err)
			}
			written = true
		})
		c.await("write", func() bool { return written })
		entries := func() uint64 { return uint64(leader.replica.log.Last()) }
		revision := leader.replica.Revision()
		record := func(revision kv.Revision, seconds int64) {
			for _, n := range c.nodes {
				if !n.up {
					continue
				}
				n.replica.RecordTime(revision, timeline.Time(seconds*1000)) // those that do not lead do nothing
			}
			c.run(time.Second, nil)
		}
		others := func(format uint16) {
			for _, n := range c.nodes {
				if n != leader {
					leader.driver.PeerUp(n.id, format)
				}
			}
		}
		others(FormatTimes - 1)
		record(revision, 50)
		if points := leader.replica.Times().Points(); len(points) > 0 {
			t.Fatalf("what nobody else understands is proposed: %v", points)
		}
		others(FormatNewest)
		c.run(time.Second, nil)
		before := entries() // those about disks are among them
		for range 3 {
			record(revision, 100)
		}
		if entries() != before+1 {
			t.Errorf("%d entries for one revision", entries()-before)
		}
		if c.leader() != leader {
			t.Fatal("another one leads")
		}
		for _, n := range c.nodes {
			if got := n.replica.Times().Last(); got != (timeline.Point{Revision: revision, Time: 100_000}) {
				t.Errorf("node %v has %v", n.id, got)
			}
		}
		leader.crash()
		leader.start(nil)
		c.await("the point after a crash", func() bool { return leader.replica.Times().Last().Revision == revision })

		// One node stays away when all start again: none of them has heard in its process what that one understands. But it has applied a point, or will.
		for _, n := range c.nodes {
			n.crash()
		}
		for _, n := range c.nodes {
			if n != leader {
				n.start(nil)
			}
		}
		c.await("a leader", func() bool { return c.leader() != nil && c.leader().replica.LeaseValid() })
		if format := c.leader().driver.node.Format(leader.id); format != 0 {
			t.Fatalf("the node that stays away is known to understand version %d", format)
		}
		written = false
		write(c, c.leader(), "k", func(time.Duration, error) { written = true })
		c.await("write", func() bool { return written })
		next := c.leader().replica.Revision()
		record(next, 200)
		if got := c.leader().replica.Times().Last(); next <= revision || got != (timeline.Point{Revision: next, Time: 200_000}) {
			t.Errorf("after a start %v is recorded, want revision %d", got, next)
		}
	}
}
