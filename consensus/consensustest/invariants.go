package consensustest

import (
	"bytes"

	"github.com/quoratedb/quorate/consensus"
)

// ledger is what an observer of all replicas knows.
type ledger struct {
	// entries[i] was applied at consensus.BootstrapIndex+1+i by some replica; every other must apply the same.
	entries []consensus.Entry
	configs []consensus.Config // the first one, and each chosen one
	leaders map[consensus.Term]consensus.ReplicaID
}

func (l *ledger) last() consensus.Index {
	return consensus.BootstrapIndex + consensus.Index(len(l.entries))
}

func (l *ledger) at(i consensus.Index) (consensus.Entry, bool) {
	if i <= consensus.BootstrapIndex || i > l.last() {
		return consensus.Entry{}, false
	}
	return l.entries[i-consensus.BootstrapIndex-1], true
}

// laterLeader tells whether somebody has led in a later term. Who begins to lead only then, because its votes came late, need not
// have what was chosen meanwhile.
func (l *ledger) laterLeader(term consensus.Term) bool {
	for other := range l.leaders {
		if other > term {
			return true
		}
	}
	return false
}

func same(a, b consensus.Entry) bool {
	return a.Index == b.Index && a.Kind == b.Kind && bytes.Equal(a.Data, b.Data)
}

// check verifies what must hold after every event at the replica.
func (c *Cluster) check(n *node) {
	if c.violation != nil || n.core == nil {
		return
	}
	if err := n.core.Check(); err != nil {
		c.violated("replica %d: %w", n.id, err)
		return
	}
	status := n.core.Status()
	switch {
	case status.Applied > n.machine.index:
		c.violated("replica %d believes entry %d applied, applied is %d", n.id, status.Applied, n.machine.index)
	case status.Applied == n.machine.index && !status.Config.Equal(n.machine.config):
		c.violated("replica %d: core and state machine disagree on the membership at %d: %s, %s", n.id, status.Applied, status.Config, n.machine.config)
	}
	if c.opts.RaftLogs {
		c.checkLogMatching(n)
	}
}

// roleTaken: there is at most one leader in a term, and it has everything chosen before.
func (c *Cluster) roleTaken(n *node) {
	if n.role.Role != consensus.RoleLeader {
		return
	}
	if other, ok := c.ledger.leaders[n.role.Term]; ok && other != n.id {
		c.violated("replicas %d and %d both lead in term %d", other, n.id, n.role.Term)
	}
	c.ledger.leaders[n.role.Term] = n.id
	if !c.opts.RaftLogs || c.ledger.laterLeader(n.role.Term) {
		return
	}
	for i := n.log.First(); i <= c.ledger.last(); i++ {
		chosen, ok := c.ledger.at(i)
		if !ok {
			continue
		}
		got, ok := n.log.entry(i)
		if ok && chosen.Kind == consensus.EntryConfig {
			got.Data = chosen.Data // the log holds the change, the ledger its result
		}
		// The first entry of the new leadership may be in the same Ready, so the end of the log is still open.
		if i <= n.log.Last() && !same(got, chosen) || i > n.log.Last() && n.log.First() <= i {
			c.violated("replica %d leads in term %d without the chosen entry %d", n.id, n.role.Term, i)
			return
		}
	}
}

// chosen takes note of an entry that a replica applied: all must apply the same, and when it is applied for
// the first time a quorum must have it on disk.
func (c *Cluster) chosen(n *node, e consensus.Entry) {
	if known, ok := c.ledger.at(e.Index); ok {
		if !same(known, e) {
			c.violated("replica %d applies %q at %d, another one applied %q", n.id, e.Data, e.Index, known.Data)
		}
		return
	}
	if e.Index != c.ledger.last()+1 {
		c.violated("replica %d applies entry %d, but nobody entry %d", n.id, e.Index, c.ledger.last()+1)
		return
	}
	c.ledger.entries = append(c.ledger.entries, e)
	c.checkDurable(n, e)
	if e.Kind == consensus.EntryConfig {
		if config, err := consensus.DecodeConfig(e.Data); err == nil {
			c.ledger.configs = append(c.ledger.configs, config)
		}
	}
}

// checkDurable: the entry is on the disks of a quorum. The leader may have counted by the membership before
// the last change, because it follows a change only when that is applied.
func (c *Cluster) checkDurable(n *node, e consensus.Entry) {
	has := func(id consensus.ReplicaID) bool {
		peer := c.nodes[id]
		if peer == nil {
			return false
		}
		if peer.durable.index >= e.Index || peer.log.durable.base >= e.Index {
			return true
		}
		stored, ok := peer.log.durable.entry(e.Index)
		return ok && stored.Term == e.Term && stored.Kind&^privateKind == e.Kind
	}
	configs := c.ledger.configs
	for i := len(configs) - 1; i >= max(0, len(configs)-3); i-- {
		if c.enough(configs[i], has) {
			return
		}
	}
	c.violated("replica %d applies entry %d, which is not on the disks of a quorum", n.id, e.Index)
}

// privateKind is the bit of an entry's kind that a core may use in its log.
const privateKind consensus.EntryKind = 1 << 7

// enough tells whether the replicas decide.
func (c *Cluster) enough(config consensus.Config, has func(consensus.ReplicaID) bool) bool {
	if c.opts.Phase2Quorum == 0 {
		return config.HasQuorum(has)
	}
	n := 0
	for _, id := range config.Voters {
		if has(id) {
			n++
		}
	}
	return n >= c.opts.Phase2Quorum
}

// installed: a snapshot holds nothing but what was chosen.
func (c *Cluster) installed(n *node) {
	var values []string
	for i := consensus.BootstrapIndex + 1; i <= n.machine.index; i++ {
		if e, ok := c.ledger.at(i); ok && e.Kind == consensus.EntryCommand {
			values = append(values, string(e.Data))
		}
	}
	if len(values) != len(n.machine.values) {
		c.violated("replica %d installs a snapshot at %d with %d values instead of %d", n.id, n.machine.index, len(n.machine.values), len(values))
	}
	c.counts.Snapshots++
	c.event("%d: snapshot with %d values", n.id, len(n.machine.values))
}

// matchWindow is how many of the last entries checkLogMatching compares; earlier ones were compared before.
const matchWindow = 24

// checkLogMatching: where two logs agree on the term of an entry they agree on the entry and all before.
func (c *Cluster) checkLogMatching(n *node) {
	for _, id := range c.ids {
		peer := c.nodes[id]
		if id == n.id {
			continue
		}
		agreed := false
		last := min(n.log.Last(), peer.log.Last())
		for i := last; i > 0 && i+matchWindow > last; i-- {
			a, ok := n.log.entry(i)
			b, ok2 := peer.log.entry(i)
			if !ok || !ok2 {
				break
			}
			agreed = agreed || a.Term == b.Term
			if agreed && (a.Term != b.Term || !same(a, b)) {
				c.violated("the logs of replicas %d and %d agree on a later entry but differ at %d", n.id, id, i)
				return
			}
		}
	}
}

// askRead asks for a read barrier. A right answer reaches everything anybody has applied by now.
func (c *Cluster) askRead(id consensus.ReplicaID, read consensus.ReadID) error {
	n := c.nodes[id]
	return c.act(id, func(core consensus.Core) error {
		err := core.ReadBarrier(read)
		if err == nil {
			n.reads[read] = c.ledger.last()
		}
		return err
	})
}

func (c *Cluster) readAnswered(n *node, answer consensus.ReadState) {
	least, asked := n.reads[answer.ID]
	delete(n.reads, answer.ID)
	switch {
	case !asked:
		c.violated("replica %d answers read %d, which nobody waits for", n.id, answer.ID)
	case answer.Index == 0:
		c.counts.ReadsFailed++
		c.event("%d: read %d failed", n.id, answer.ID)
	case answer.Index < least:
		c.violated("replica %d answers read %d at %d: stale, %d was applied before", n.id, answer.ID, answer.Index, least)
	default:
		c.counts.ReadsConfirmed++
		c.event("%d: read %d confirmed", n.id, answer.ID)
	}
}
