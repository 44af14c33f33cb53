package driver

import (
	"fmt"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

// TestLogIsKeptForASnapshot: while a snapshot is on its way, and until its receiver says that it has it, the leader keeps the log from there on, though it has
// flushed since. Then it lets it go; also if the receiver's node dies.
func TestLogIsKeptForASnapshot(t *testing.T) {
	for name, dies := range map[string]bool{"it arrives": false, "the receiver dies": true} {
		t.Run(name, func(t *testing.T) { logIsKeptForASnapshot(t, dies) })
	}
}

func logIsKeptForASnapshot(t *testing.T, dies bool) {
	sent := 0
	c := servingCluster(t, 3, false, time.Millisecond, func(o *Options) {
		o.FlushLogEntries, o.RetainLogEntries = 20, 1
		o.Listener.SnapshotSent = func(consensus.GroupID, kv.NodeID, consensus.SnapshotMeta, int64, error) { sent++ }
	})
	leader := c.leader()
	behind := c.nodes[(leader.index+1)%3]
	puts := func() {
		for i := range 100 {
			c.do(putRequest(fmt.Sprint("k", i)))
		}
	}
	first := func() consensus.Index { return leader.replica.log.First() }
	behind.cut = true
	puts()
	behind.cut = false
	c.await("a snapshot on its way", func() bool { return leader.driver.shipping > 0 })
	work := leader.jobs
	leader.jobs = nil
	from, flushed := leader.replica.shipments.keptFor[consensus.ReplicaID(behind.id)], leader.replica.flush.durable
	puts()
	if first() > from+1 || leader.replica.flush.durable <= flushed+20 {
		t.Fatalf("the log begins at entry %d while the state of entry %d is on its way; durable is %d, it was %d", first(), from, leader.replica.flush.durable, flushed)
	}
	if dies {
		behind.crash()
	}
	leader.jobs = append(leader.jobs, work...)
	if !dies {
		c.await("the receiver", func() bool { return behind.replica.machine.AppliedIndex() == leader.replica.machine.AppliedIndex() })
	}
	c.run(time.Second, nil)
	if len(leader.replica.shipments.keptFor) > 0 || first()+50 < leader.replica.machine.AppliedIndex() || sent != 1 {
		t.Errorf("afterwards the log begins at %d of %d; it is kept for %v; %d snapshots were sent", first(), leader.replica.machine.AppliedIndex(), leader.replica.shipments.keptFor, sent)
	}
}
