package server

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/quoratedb/quorate/gateway"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
)

// readers is how many gets are under way at a time.
const readers = 256

// getAll has so many clients get keys of all shards at a node, so many gets in all.
func (c *shardCluster) getAll(node, clients, gets int, keys []string) {
	c.t.Helper()
	g := c.servers[node].gateway
	var left atomic.Int64
	left.Store(int64(gets))
	var failed atomic.Pointer[error]
	var wait sync.WaitGroup
	for i := range clients {
		wait.Go(func() {
			answered := make(chan error, 1)
			for at := i; left.Add(-1) >= 0; at++ {
				req := &kv.Request{Kind: kv.KindRange, Range: &kv.RangeRequest{Span: kv.Span{Start: []byte(keys[at%len(keys)])}}}
				g.Submit(&gateway.Call{Req: req, MoreFollow: true, Done: func(resp *kv.Response, err error) {
					if err == nil && len(resp.Range.KVs) != 1 {
						err = errors.New("the key is missing")
					}
					answered <- err
				}})
				if err := <-answered; err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wait.Wait()
	if err := failed.Load(); err != nil {
		c.t.Fatal(*err)
	}
}

// TestReadsShareQuestions: of many readers at a time, most share what one of them asks for.
func TestReadsShareQuestions(t *testing.T) {
	c, leader, keys := readCluster(t, 16)
	for place, node := range map[string]int{"leader": leader, "follower": (leader + 1) % 3} {
		const gets = 40 * readers
		before := c.servers[node].gateway.Metrics()
		c.getAll(node, readers, gets, keys)
		after := c.servers[node].gateway.Metrics()
		questions, barriers := after.QuestionCount-before.QuestionCount, after.BarrierCount-before.BarrierCount
		if asked := questions + barriers; asked > gets/4 || asked == 0 && place == "follower" {
			t.Errorf("%s: %d questions and %d barriers for %d reads", place, questions, barriers, gets)
		}
	}
}

// readCluster is a cluster of so many shards with keys, led by one node, which is returned.
func readCluster(t testing.TB, shards int) (c *shardCluster, leader int, keys []string) {
	cluster := ClusterOptions{}
	if shards > 1 {
		cluster.Partition = partition.Scheme{Kind: partition.Hash, Shards: shards}
	}
	c = newShardCluster(t, cluster)
	c.start(0, 1, 2)
	c.until("one node leads", func() error {
		leaders, err := c.leaders()
		leader = c.indexOf(leaders[kv.SystemShard])
		for _, node := range leaders {
			if node != leaders[kv.SystemShard] {
				return errors.New("there are several leaders")
			}
		}
		return err
	})
	client := c.client(leader)
	for _, of := range c.keys() {
		for _, key := range of {
			c.put(client, key, "value")
			keys = append(keys, key)
		}
	}
	return c, leader, keys
}

// processorNanoseconds of this process.
func processorNanoseconds(t testing.TB) int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// BenchmarkGet: linearizable gets of one key each, with one shard and with several, at the leader of all of them and at another node. cpu-ns/op is processor
// time of all three nodes.
func BenchmarkGet(b *testing.B) {
	for _, shards := range []int{1, 16} {
		c, leader, keys := readCluster(b, shards)
		for _, clients := range []int{64, readers} {
			for place, node := range map[string]int{"leader": leader, "follower": (leader + 1) % 3} {
				b.Run(fmt.Sprintf("shards=%d/%s/clients=%d", shards, place, clients), func(b *testing.B) {
					b.ReportAllocs()
					before, began := c.servers[node].gateway.Metrics(), processorNanoseconds(b)
					c.getAll(node, clients, b.N, keys)
					after := c.servers[node].gateway.Metrics()
					b.ReportMetric(float64(processorNanoseconds(b)-began)/float64(b.N), "cpu-ns/op")
					b.ReportMetric(float64(after.QuestionCount-before.QuestionCount)/float64(b.N)*1000, "questions/1000")
					b.ReportMetric(float64(after.BarrierCount-before.BarrierCount)/float64(b.N)*1000, "barriers/1000")
				})
			}
		}
		c.close(0, 1, 2)
	}
}
