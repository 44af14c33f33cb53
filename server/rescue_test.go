package server

import (
	"errors"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/partition"
)

// Two of three are lost for good. What the third had is all there, in a cluster of one, which does not talk with who comes back of the old one, and grows again.
func TestRescue(t *testing.T) {
	for _, shards := range []int{1, 3} {
		for _, consensus := range []Consensus{ConsensusRaft, ConsensusPaxos} {
			if testing.Short() && (shards > 1) != (consensus == ConsensusPaxos) {
				continue
			}
			t.Run(fmt.Sprint(shards, consensus), func(t *testing.T) {
				cluster := ClusterOptions{Consensus: consensus}
				if shards > 1 {
					cluster.Partition = partition.Scheme{Shards: shards}
				}
				testRescue(t, newShardCluster(t, cluster), shards)
			})
		}
	}
}

func testRescue(t *testing.T, c *shardCluster, shards int) {
	c.start(0, 1, 2)
	for i := range 30 {
		c.spread(0, fmt.Sprint("k", i))
	}
	last := int64(0)
	c.until("a revision", func() error {
		r, err := c.client(2).Get(c.context(), "k1")
		if err == nil {
			last = r.Header.Revision
		}
		return err
	})
	dir := c.options[2].Node.DataDir
	for listening, node := range []int{2, 1, 0} { // they are killed one after the other: who still runs?
		c.kill(node)
		if node == 2 {
			continue
		}
		r, err := OpenRescue(dir)
		if err != nil {
			t.Fatal(err)
		}
		there, needless := r.Listening(t.Context())
		if err := r.Close(); err != nil || len(there) != 2-listening || needless != (len(there) > 0) {
			t.Errorf("with %d others that run: %d listen, no rescue is needed: %v; %v", 2-listening, len(there), needless, err)
		}
	}
	for range 2 { // to look changes nothing
		r, err := OpenRescue(dir)
		if err != nil {
			t.Fatal(err)
		}
		report := r.Report()
		if len(report.Shards) != shards || len(report.Lost) != 2 || report.Alone || int64(report.Revision) < last {
			t.Errorf("the report: %+v", report)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r, err := OpenRescue(dir)
	if err != nil {
		t.Fatal(err)
	}
	begun := *r.known // a rescue ends after its first step
	begun.Cluster, begun.List, begun.Rescued = 77, r.plan.List.Append(nil), true
	if err := errors.Join(r.dir.Refound(&begun), r.Close()); err != nil {
		t.Fatal(err)
	}
	for i := range 2 { // the second time there is nothing to be done
		r, err := OpenRescue(dir)
		if err != nil {
			t.Fatal(err)
		}
		before := r.Report().Cluster
		cluster, err := r.Carry(t.Context())
		if err != nil || (i == 0) == (cluster == before) || r.Report().Alone != (i == 1) {
			t.Errorf("cluster %s became %s: %v", before, cluster, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}

	c.options[2].Node.ForceNewCluster = true // there is nothing to be done any more
	c.start(2)
	c.until("all keys are there", func() error {
		r, err := c.client(2).Get(c.context(), "k", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && r.Count != 30 {
			err = fmt.Errorf("%d keys are there", r.Count)
		}
		return err
	})
	put, err := c.client(2).Put(c.context(), "after", "v")
	if err != nil || put.Header.Revision <= last {
		t.Fatalf("revision %d was seen before, and then %v: %v", last, put, err)
	}
	list, err := c.client(2).MemberList(c.context())
	if err != nil || len(list.Members) != 1 || list.Header.MemberId != list.Members[0].ID {
		t.Fatalf("the members are %v: %v", list, err)
	}
	// Those that counted as lost come back. They are the old cluster, and keep what they have; neither hears of the other, and nobody takes itself for removed.
	c.start(0, 1)
	old, rescued := c.servers[0].options.Cluster.ID(), c.servers[2].options.Cluster.ID()
	if old == rescued || c.servers[1].options.Cluster.ID() != old {
		t.Errorf("the old ones are of cluster %s, and the rescued one of cluster %s", old, rescued)
	}
	for _, node := range []int{0, 2} {
		c.until("a write in each of them", func() error {
			_, err := c.client(node).Put(c.context(), fmt.Sprint("of node ", node), "v")
			return err
		})
	}
	for node, other := range map[int]int{0: 2, 2: 0} {
		r, err := c.client(node).Get(c.context(), fmt.Sprint("of node ", other))
		if err != nil || r.Count != 0 {
			t.Errorf("node %d has what was written in the other cluster: %v, %v", node, r, err)
		}
	}
	for i := range 2 {
		if list := c.servers[i].roster.newest(); c.servers[i].outside.Load() || len(list.Members) != 3 || list.Version != 0 {
			t.Errorf("node %d of the old cluster knows the list %+v", i, list)
		}
	}
}
