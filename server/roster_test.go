package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/datadir"
	"github.com/quoratedb/quorate/partition"
)

// growing prepares a cluster of one node, and two that may join it.
func growing(t *testing.T, cluster ClusterOptions) *shardCluster {
	c := newShardCluster(t, cluster)
	all := c.options[0].Cluster.Members
	for i := range c.options {
		c.options[i].Cluster.Members = all[:i+1]
		if i > 0 {
			c.options[i].Node.InitialClusterState = ClusterExisting
		}
	}
	return c
}

// change has a client change the members, again and again as long as the cluster says that it is not fit for that.
func (c *shardCluster) change(node int, what string, do func(context.Context, *clientv3.Client) error) {
	c.t.Helper()
	client := c.client(node)
	c.until(what, func() error {
		ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
		defer cancel()
		return do(ctx, client)
	})
}

func (c *shardCluster) add(node int, learner bool) (id uint64) {
	c.t.Helper()
	urls := urlStrings(c.options[node].Node.AdvertisePeerURLs)
	c.change(0, fmt.Sprint("add node ", node), func(ctx context.Context, client *clientv3.Client) error {
		add := client.MemberAdd
		if learner {
			add = client.MemberAddAsLearner
		}
		r, err := add(ctx, urls)
		if err == nil {
			id = r.Member.ID
		}
		return err
	})
	return id
}

// write writes, and reads it from all nodes that run.
func (c *shardCluster) spread(node int, key string) {
	c.t.Helper()
	c.until("write "+key, func() error {
		_, err := c.client(node).Put(c.context(), key, "v")
		return err
	})
	for i, s := range c.servers {
		if s == nil {
			continue
		}
		client := c.client(i)
		c.until(fmt.Sprintf("node %d has %s", i, key), func() error {
			r, err := client.Get(c.context(), key, clientv3.WithSerializable())
			if err == nil && len(r.Kvs) == 0 {
				err = errors.New("it has not")
			}
			return err
		})
	}
}

func TestMembersAtRunTime(t *testing.T) {
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
				testMembersAtRunTime(t, growing(t, cluster))
			})
		}
	}
}

func testMembersAtRunTime(t *testing.T, c *shardCluster) {
	c.start(0)
	c.spread(0, "alone")
	// A node that nobody added is not let in, and leaves nothing behind.
	if _, err := Start(t.Context(), c.options[1]); err == nil || !strings.Contains(err.Error(), "error validating peerURLs") || datadir.HasIdentity(c.options[1].Node.DataDir) {
		t.Fatalf("a node that was not added: %v", err)
	}
	second := c.add(1, false)
	c.start(1)
	c.spread(1, "two")
	if got := uint64(c.servers[1].options.NodeID()); got != second {
		t.Fatalf("it is node %x, and was added as %x", got, second)
	}
	third := c.add(2, true)
	c.start(2)
	c.spread(0, "three")
	c.change(0, "promote", func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.MemberPromote(ctx, third)
		return err
	})
	// One is enough to stop, now that there are three votes; which one that began does not matter, nor what --initial-cluster says by then.
	c.kill(0)
	c.spread(1, "without the first")
	c.options[0].Cluster.Members = []Member{{Name: "n1", PeerURLs: c.options[0].Node.AdvertisePeerURLs}, {Name: "other", PeerURLs: []URL{{Host: "other", Port: 1}}}}
	c.options[0].Cluster.Token = "another"
	c.options[2].Cluster.Members = c.options[2].Cluster.Members[2:]
	c.start(0)
	c.close(2)
	c.start(2)
	c.spread(2, "all three")
	for i, s := range c.servers {
		if got := len(s.nodeRecords()); got != 3 {
			t.Errorf("node %d knows %d members", i, got)
		}
	}

	// One that was added, and one that began, lose everything, and get it again.
	for i, node := range []int{2, 0, 0} {
		c.kill(node)
		lost := []string{""}
		if i == 2 {
			lost = []string{datadir.Log, datadir.State} // but not who it is: it must not begin a cluster of one again
		}
		for _, name := range lost {
			if err := os.RemoveAll(filepath.Join(c.options[node].Node.DataDir, name)); err != nil {
				t.Fatal(err)
			}
		}
		own := Member{Name: c.options[node].Node.Name, PeerURLs: c.options[node].Node.AdvertisePeerURLs}
		c.options[node].Cluster.Members = []Member{own, c.options[1].Cluster.Members[1]} // and somebody to ask
		c.options[node].Node.InitialClusterState = ClusterExisting
		c.start(node)
		c.spread(node, fmt.Sprint("back ", i))
		c.until("nobody is missing", func() error { return follower{c.servers[1]}.Settled(c.context(), 0) })
	}
	if got := c.servers[2].options.NodeID(); uint64(got) != third {
		t.Errorf("the third is node %x by now", got)
	}

	// The first is removed while it is away, and told when it comes back.
	c.kill(0)
	first := uint64(c.servers[1].options.Cluster.recalled.founders[0].ID)
	c.change(1, "remove the first", func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.MemberRemove(ctx, first)
		return err
	})
	c.spread(1, "two are left")
	c.ends(0)
	// And the last one that was added, by its own hand while it leads: whoever asks it for that gets the answer.
	c.until("the third leads", func() error {
		leader, _ := c.servers[1].shard.Leader()
		if uint64(leader) == third {
			return nil
		}
		_, err := c.client(1).MoveLeader(c.context(), third)
		return err
	})
	c.change(2, "remove the third", func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.MemberRemove(ctx, third)
		return err
	})
	select {
	case err := <-c.servers[2].Err():
		if !Removed(err) {
			t.Fatal(err)
		}
	case <-time.After(soon):
		t.Fatal("a node that was removed goes on")
	}
	c.close(2)
	c.ends(2)
	c.spread(1, "one is left")
	c.close(1)
	c.start(1)
	c.spread(1, "it knows that it is alone")
}

// ends starts a node that was removed: it finds out, and does not start again.
func (c *shardCluster) ends(node int) {
	c.t.Helper()
	for range 2 {
		s, err := Start(c.t.Context(), c.options[node])
		if err == nil {
			select {
			case err = <-s.Err():
			case <-time.After(soon):
				c.t.Fatalf("node %d, which was removed, does not find out", node)
			}
			if closeErr := s.Close(context.Background()); closeErr != nil {
				c.t.Error(closeErr)
			}
		}
		if !Removed(err) {
			c.t.Fatalf("node %d ended with %v", node, err)
		}
	}
}
