package server

import (
	"errors"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/partition"
	"github.com/quoratedb/quorate/storage"
)

// continuation is what another leader of a shard would have written, and what came to one node before all others were lost.
type continuation struct {
	t      *testing.T
	r      *Rescue
	shard  kv.ShardID
	append storage.GroupAppend
}

// write has the node's log of a shard go on with what a leader makes of requests, each in an entry of its own. The revisions up to present were issued before.
func (c *continuation) write(present kv.Revision, requests ...*kv.Request) {
	c.t.Helper()
	fail := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatalf("shard %d: %v", c.shard, err)
		}
	}
	machine, log, err := c.r.open(c.shard)
	fail(err)
	batch := c.r.engine.NewBatch()
	defer batch.Close()
	term, err := c.r.replay(machine, log, batch, func() error { batch.Reset(); return nil })
	fail(err)
	term++
	took := func(kind consensus.EntryKind, data []byte) {
		c.t.Helper()
		entry := consensus.Entry{Index: machine.AppliedIndex() + 1, Term: term, Kind: kind, Data: data}
		_, err := machine.Apply(entry, batch)
		fail(err)
		c.append.Entries = append(c.append.Entries, entry)
	}
	took(consensus.EntryBarrier, nil)
	fail(machine.Lead(term, 0))
	for _, req := range requests {
		fail(machine.Begin(kv.Present{Revision: present}, false))
		if outcome := machine.Evaluate(req); outcome.Err != nil || outcome.Fatal != nil || outcome.Blocked {
			c.t.Fatalf("shard %d: %+v", c.shard, outcome)
		}
		fail(machine.Number(present+1, 0))
		data, seq := machine.TakeProposal(0)
		if seq == 0 {
			c.t.Fatalf("shard %d: %+v changes nothing", c.shard, req.Commit)
		}
		took(consensus.EntryCommand, data)
	}
	hard := log.HardState()
	hard.Term = term
	c.append.Group, c.append.HardState = consensus.GroupID(c.shard), &hard
	fail(c.r.log.Write([]storage.GroupAppend{c.append}, nil))
	fail(c.r.log.Sync())
}

// Nodes are lost while transactions over several shards are under way. After the rescue nothing stays locked: what one shard knows to be committed is so in all,
// and everything else is undone, whether the shard that was to decide has heard of it or not.
func TestRescueOfUndecided(t *testing.T) {
	for _, protocol := range []CommitProtocol{Commit2PC, Commit3PC} {
		t.Run(string(protocol), func(t *testing.T) {
			c := newShardCluster(t, ClusterOptions{Partition: partition.Scheme{Kind: partition.Hash, Shards: 2}, CommitProtocol: protocol})
			testRescueOfUndecided(t, c)
		})
	}
}

func testRescueOfUndecided(t *testing.T, c *shardCluster) {
	c.start(0, 1, 2)
	keys := c.keys()
	byCase := func(i int) map[kv.ShardID]string {
		return map[kv.ShardID]string{1: keys[1][0] + fmt.Sprint(i), 2: keys[2][0] + fmt.Sprint(i)}
	}
	const cases = 4
	of := func(i int, id kv.ShardID) string { // a key of the case's, in the shard
		for j := 0; ; j++ {
			key := fmt.Sprintf("/%s/%d", byCase(i)[id], j)
			if c.table.Overlapping(kv.Span{Start: []byte(key)})[0].Shard == id {
				return key
			}
		}
	}
	for i := range cases {
		for id := range keys {
			c.spread(0, of(i, id))
		}
	}
	c.until("the third node has all", func() error {
		for i := range cases {
			for id := range keys {
				if r, err := c.client(2).Get(c.context(), of(i, id), clientv3.WithSerializable()); err != nil || r.Count != 1 {
					return fmt.Errorf("%v, %w", r, err)
				}
			}
		}
		return nil
	})
	for i := range c.servers {
		c.kill(i)
	}
	dir := c.options[2].Node.DataDir
	r, err := OpenRescue(dir)
	if err != nil {
		t.Fatal(err)
	}
	anchorTerm := uint64(r.node.Shards[0].Term) + 1 // that in which the log of shard 1 goes on
	present := r.Report().Revision + 20
	ids := []kv.TransactionID{
		{Anchor: 1, Term: anchorTerm + 7, Number: 1}, // of a leader that shard 1 here has never heard of
		{Anchor: 1, Term: anchorTerm, Number: 900},   // prepared in both
		{Anchor: 1, Term: anchorTerm, Number: 901},   // which shard 1 has committed
		{Anchor: 1, Term: anchorTerm, Number: 902},   // which shard 2 has committed
	}
	prepare := func(i int, id kv.ShardID) *kv.Request {
		put := &kv.PutRequest{Key: []byte(of(i, id)), Value: []byte("new")}
		return &kv.Request{Kind: kv.KindTxnPrepare, AuthVersion: kv.Unjudged, Commit: &kv.CommitRequest{ID: ids[i], Shard: id, Participants: []kv.ShardID{1, 2},
			Share: &kv.Share{Ops: []kv.PlacedOp{{Op: kv.Op{Put: put}}}}}}
	}
	commit := func(i int, id kv.ShardID) *kv.Request {
		return &kv.Request{Kind: kv.KindTxnResolve, AuthVersion: kv.Unjudged, Commit: &kv.CommitRequest{ID: ids[i], Shard: id, Participants: []kv.ShardID{1, 2},
			Decision: kv.Decision{Verdict: kv.Commit, Revision: present - kv.Revision(i)}}}
	}
	(&continuation{t: t, r: r, shard: 1}).write(present, prepare(1, 1), prepare(2, 1), prepare(3, 1), commit(2, 1))
	(&continuation{t: t, r: r, shard: 2}).write(present, prepare(0, 2), prepare(1, 2), prepare(2, 2), prepare(3, 2), commit(3, 2))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}

	if r, err = OpenRescue(dir); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{2, 3} { // of shards 1 and 2
		if got := r.Report().Shards[i].Undecided; len(got) != want {
			t.Errorf("shard %d has %v undecided, want %d", i+1, got, want)
		}
	}
	_, err = r.Carry(t.Context())
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	c.start(2)
	client := c.client(2)
	for i, want := range []string{"", "", "new", "new"} {
		for id := range keys {
			if i == 0 && id == 1 {
				continue // it had no part in that
			}
			got, err := client.Get(c.context(), of(i, id)) // a linearizable read waits for locks
			if err != nil || got.Count != 1 || (string(got.Kvs[0].Value) == "new") != (want == "new") {
				t.Errorf("transaction %d, shard %d: %v, %v", i, id, got, err)
			}
			if want == "new" && err == nil && got.Count == 1 && got.Kvs[0].ModRevision != int64(present)-int64(i) {
				t.Errorf("transaction %d, shard %d: at revision %d", i, id, got.Kvs[0].ModRevision)
			}
			if _, err := client.Put(c.context(), of(i, id), "after"); err != nil {
				t.Errorf("transaction %d left its key locked in shard %d: %v", i, id, err)
			}
		}
	}
	for range 3 { // new ones are told apart from the old ones
		txn := client.Txn(c.context()).Then(clientv3.OpPut(of(0, 1), "both"), clientv3.OpPut(of(0, 2), "both"))
		if r, err := txn.Commit(); err != nil || !r.Succeeded {
			t.Fatalf("a transaction after the rescue: %v", err)
		}
	}
	c.until("nothing is undecided", func() error {
		if list := (localNode{c.servers[2]}).Transactions(); len(list.Transactions) > 0 {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
}
