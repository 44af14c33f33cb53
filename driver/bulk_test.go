package driver

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
)

// bulkKeys is how many keys bulkTxn writes.
const bulkKeys = 60

// bulky has a node decide whatever looks at more than a few keys beside the rounds, and stage it in parts of a few effects; and flush often, with nothing kept
// in the log for followers.
func (n *clusterNode) bulky(o *Options) {
	o.FlushLogEntries, o.RetainLogEntries = 20, 1
	_, config := n.c.config()
	o.OpenMachine = func(group consensus.GroupID, logEnd consensus.Index) (Machine, error) {
		options := shard.Options{
			Shard: kv.ShardID(group), Rand: rand.New(rand.NewPCG(uint64(n.id), uint64(group))), LogEnd: logEnd, RoundLooks: 5, PartBytes: 500,
		}
		return OpenMachine(n.memory, options, Founding{Members: config})
	}
}

func bulkTxn(value string) *kv.Request {
	txn := &kv.TxnRequest{}
	for i := range bulkKeys {
		put := &kv.PutRequest{Key: fmt.Appendf(nil, "bulk%02d", i), Value: []byte(value)}
		txn.Success = append(txn.Success, kv.Op{Put: put})
	}
	return &kv.Request{Kind: kv.KindTxn, Txn: txn}
}

func putRequest(key string) *kv.Request {
	return &kv.Request{Kind: kv.KindPut, Put: &kv.PutRequest{Key: []byte(key), Value: []byte("v")}}
}

// bulkyCluster serves, with nodes that are bulky.
func bulkyCluster(t *testing.T, paxos bool, change func(*clusterNode, *Options)) *cluster {
	c := newCluster(t, 3, paxos)
	for _, n := range c.nodes {
		n.start(func(o *Options) {
			n.bulky(o)
			if change != nil {
				change(n, o)
			}
		})
	}
	c.await("a leader", func() bool { return c.leader() != nil && c.leader().replica.LeaseValid() })
	return c
}

// propose begins a request, whose answer the result gives; errOpen: none yet.
func (n *clusterNode) propose(req *kv.Request) func() error {
	answer := errOpen
	n.replica.Propose(req, nil, func(_ *kv.Response, _ uint64, err error) { answer = err })
	return func() error { return answer }
}

func (c *cluster) do(req *kv.Request) {
	c.tb.Helper()
	answer := c.leader().propose(req)
	c.await("an answer", func() bool { return answer() != errOpen })
	if err := answer(); err != nil {
		c.tb.Fatal(err)
	}
}

// TestSnapshotBesideABulk: the rest of a bulk waits for a voter, and the voter for a snapshot. The snapshot does not wait for the bulk.
func TestSnapshotBesideABulk(t *testing.T) {
	for _, paxos := range []bool{false, true} {
		t.Run(fmt.Sprintf("paxos=%v", paxos), func(t *testing.T) { snapshotBesideABulk(t, paxos) })
	}
}

func snapshotBesideABulk(t *testing.T, paxos bool) {
	c := bulkyCluster(t, paxos, nil)
	leader := c.leader()
	behind, dies := c.nodes[(leader.index+1)%3], c.nodes[(leader.index+2)%3]
	behind.cut = true
	for i := range 100 {
		c.do(putRequest(fmt.Sprint("k", i)))
	}
	if first := leader.replica.log.First(); first <= behind.replica.machine.AppliedIndex()+1 {
		t.Fatalf("the log begins at entry %d, and who is behind has applied up to %d", first, behind.replica.machine.AppliedIndex())
	}
	bulk := leader.propose(bulkTxn("in parts"))
	staged := func(n *clusterNode) int { staged, _ := n.replica.machine.Bulk(); return staged }
	c.await("a part of the bulk", func() bool { return staged(leader) > 0 })
	if staged(leader) == bulkKeys {
		t.Fatal("the bulk has one part")
	}
	dies.crash()
	behind.cut = false
	c.await("the end of the bulk", func() bool { return bulk() != errOpen })
	c.do(putRequest("after"))
	installed := behind.replica.machine
	c.await("the state at who was behind", func() bool {
		_, pending := installed.Bulk()
		return behind.replica.machine.AppliedIndex() == c.leader().replica.machine.AppliedIndex() && pending == 0
	})
	for _, key := range []string{"k99", "bulk00", "bulk59", "after"} {
		if got, want := behind.read(key), leader.read(key); got != want {
			t.Errorf("%s is %q, at the leader %q", key, got, want)
		}
	}
	// What it holds from entries that it had not applied when it was installed is taken for that, also by the next process.
	behind.crash()
	behind.start(behind.bulky)
	c.do(putRequest("again"))
}

func (n *clusterNode) read(key string) string {
	n.c.tb.Helper()
	resp, err := n.replica.Read(rangeRequest(key))
	if err != nil {
		n.c.tb.Fatal(err)
	}
	return fmt.Sprint(resp.Range.KVs)
}

// TestFlushBetweenBulks: one bulk follows the other, and a follower writes what is pending more slowly than the leader. All flush nevertheless,
// and let the log go.
func TestFlushBetweenBulks(t *testing.T) {
	for _, paxos := range []bool{false, true} {
		t.Run(fmt.Sprintf("paxos=%v", paxos), func(t *testing.T) {
			c := bulkyCluster(t, paxos, nil)
			slow := c.nodes[(c.leader().index+1)%3]
			slow.driver.opts.FlushChunkRows = 1
			for i := range 30 {
				c.do(bulkTxn(fmt.Sprint("value ", i)))
				for _, n := range c.nodes {
					if held := n.replica.log.Last() + 1 - n.replica.log.First(); held > 100 {
						t.Fatalf("after %d bulks node %d, which leads: %v, has %d entries in its log, durable is %d of %d", i, n.id, n.replica.leading, held, n.replica.flush.durable, n.replica.machine.AppliedIndex())
					}
				}
			}
			c.run(time.Second, nil)
		})
	}
}

// TestLogLimitBetweenBulks: the same if nothing but the limit of the node's log asks for a flush.
func TestLogLimitBetweenBulks(t *testing.T) {
	c := bulkyCluster(t, false, func(_ *clusterNode, o *Options) {
		segmentedLog(t, 128<<10)(o) // what a node remembers of others is in its log, too
		o.FlushLogEntries = 1 << 20
	})
	slow := c.nodes[(c.leader().index+1)%3]
	slow.driver.opts.FlushChunkRows = 1
	for i := range 100 {
		c.do(bulkTxn(strings.Repeat("v", 100+i)))
		for _, n := range c.nodes {
			if m, limit := n.driver.opts.Log.Metrics(), n.driver.opts.MaxLogBytes; m.SizeBytes > limit+limit/2 {
				t.Fatalf("after %d bulks the log of node %d, which leads: %v, has %d bytes, should have %d", i, n.id, n.replica.leading, m.SizeBytes, limit)
			}
		}
	}
	if m := slow.driver.opts.Log.Metrics(); m.WriteBytes < 3*slow.driver.opts.MaxLogBytes {
		t.Errorf("only %d bytes were written", m.WriteBytes)
	}
}
