package replica

import (
	"fmt"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/shard"
)

// What a message may claim. Whoever reaches the port for nodes can say anything, so what one message says must not undo a replica: what it claims
// about its sender is judged before anything in it is acted upon, and what it claims about this node has to agree with what this node knows
// itself. Disk IDs are random and told to the other nodes only, on connections to the addresses that this node has for them; so who does not know
// the ID of a sender's disk is not that sender. Terms and indexes the cores judge, see consensus.Known.Judge.

// judgeSender tells why nothing of a message is acted upon, by the form in which it names its sender. version is the one of the frames that are
// spoken with the node; 0 if this node was never connected to it.
func judgeSender(s sender, version uint16) error {
	switch {
	case s.disk == 0:
		return fmt.Errorf("replica: a message does not say which disk its sender is on, as messages of all versions do")
	case s.instance == 0 && version == 0:
		return fmt.Errorf("replica: a message came in the form of version %d before this node could find out whether its sender is that old: it comes again", FormatOldest)
	case s.instance == 0 && version >= formatMarks:
		return fmt.Errorf("replica: a message came in the form of version %d, and its sender speaks version %d: it is late, or not of that node", FormatOldest, version)
	}
	return nil
}

// lossClaim is the word of a leader that entries are gone which this replica had acknowledged.
type lossClaim struct {
	from      consensus.ReplicaID
	term      consensus.Term
	since, at time.Duration // of the first and of the last time
}

// repeated notes that it was said again, and tells whether the same leader has kept to it for so long: one message is no proof, and a leader that
// has reason says so with every heartbeat.
func (c *lossClaim) repeated(from consensus.ReplicaID, term consensus.Term, now, patience time.Duration) bool {
	if c.from != from || c.term != term || now-c.at > patience/2 {
		*c = lossClaim{from: from, term: term, since: now}
	}
	c.at = now
	return now-c.since >= patience
}

// pending tells whether somebody has said so recently. Until it is clear, this replica votes for nobody: it might be true.
func (c *lossClaim) pending(now, patience time.Duration) bool {
	return c.from != 0 && now-c.at <= patience/2
}

// mayBeNewer tells whether a replica that is newer than the newest one known may be on the node. The table may lag behind here, so it often is. But
// IDs are given out one by one, to disks that have none: what the table has on the sender's disk is not followed by another one there.
func mayBeNewer(id consensus.ReplicaID, nodes int, placed shard.Placement, disk uint64) bool {
	return id > consensus.ReplicaID(nodes) && id <= shard.MaxReplicaID && (placed.Disk == 0 || placed.Disk != disk)
}
