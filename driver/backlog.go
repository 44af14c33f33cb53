package driver

import (
	"fmt"
	"sync/atomic"
)

// backlog is what other nodes have sent to the groups of this one and is not durable here: it waits for a round, or for a sync. Each leader bounds
// what it has on the way to a replica; the sum of that over many groups is too much for a node whose disk is slow.
type backlog struct {
	bytes atomic.Int64
	// stepped is the part of it that the running round has given to cores, which have not given it to the log.
	stepped int64
}

// takesIn tells whether a message is taken: not if the backlog would be too large with its entries. It is then as if it had been lost on the way, and the
// leader sends it again. One that comes when there is no backlog is taken whatever its size. The inbox is locked.
func (d *Driver) takesIn(m *groupMessage) bool {
	bytes := entriesBytes(m.message.Entries)
	if now := d.backlog.bytes.Add(bytes); bytes == 0 || now == bytes || now <= d.opts.MaxBacklogBytes {
		return true
	}
	d.backlog.bytes.Add(-bytes)
	d.metrics.messagesPutOff.Add(1)
	return false
}

// step notes that a core got the message, if it wanted it.
func (b *backlog) step(m *groupMessage) { b.stepped += entriesBytes(m.message.Entries) }

// write notes that a follower's entries go into the log; they stay in the backlog until they are durable.
func (b *backlog) write(bytes int64) {
	known := min(b.stepped, bytes)
	b.stepped -= known
	b.bytes.Add(bytes - known)
}

// endRound lets go of what no core has given to the log.
func (b *backlog) endRound() {
	b.bytes.Add(-b.stepped)
	b.stepped = 0
}

// durable notes that entries are.
func (b *backlog) durable(bytes int64) { b.bytes.Add(-bytes) }

// checkBacklog verifies between rounds that the backlog is what waits.
func (d *Driver) checkBacklog() error {
	d.inbox.mu.Lock()
	defer d.inbox.mu.Unlock()
	want := int64(0)
	for i := range d.inbox.contents.messages {
		want += entriesBytes(d.inbox.contents.messages[i].message.Entries)
	}
	for _, acks := range [][]pendingAck{d.unsynced, d.syncing} {
		for i := range acks {
			want += acks[i].backlogBytes
		}
	}
	if now := d.backlog.bytes.Load(); now != want {
		return fmt.Errorf("a backlog of %d bytes is counted, and there are %d", now, want)
	}
	return nil
}
