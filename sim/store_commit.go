package sim

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/txn"
)

// Transactions over several shards of a store: what is known of them, and what must be so when a run ends.

// CommitProtocol names how the shards of a transaction agree on what becomes of it.
type CommitProtocol string

// The commit protocols.
const (
	TwoPhase   CommitProtocol = "2pc"
	ThreePhase CommitProtocol = "3pc"
)

// product is the protocol as the product has it.
func (p CommitProtocol) product() txn.Protocol {
	if p == ThreePhase {
		return txn.ThreePhase
	}
	return txn.TwoPhase
}

// numbered is a revision that a coordinator has got for a transaction.
type numbered struct {
	writers []kv.ShardID
	by      life
}

// Multi is of gateway.Revisions. It notes which shards a revision is for.
func (c *clerk) Multi(writers []kv.ShardID, got func(kv.Revision, error)) {
	w, by := c.node.w, c.node.thisLife()
	writers = slices.Clone(writers)
	c.Issuer.Multi(writers, func(revision kv.Revision, err error) {
		if err == nil {
			w.mark("transaction numbered")
			r := w.ledger.find(revision)
			if r == nil || r.first != revision || r.last != revision || r.to != (reign{}) || r.arrived {
				w.fail(Correctness, "node %d gets revision %d for a transaction, which was not issued for one: %s", c.node.id, revision, w.describeRun(r))
			} else {
				r.arrived = true
			}
			w.ledger.multis[revision] = numbered{writers, by}
		}
		got(revision, err)
	})
}

// placeBits is how many bits of a locator's place within a revision tell the changes of one operation of a transaction apart.
const placeBits = 22

// storeEvents are the events of all shards: by revision, then as the operations of the request come, then by key.
func (w *world) storeEvents() []kv.Event {
	type placed struct {
		event *kv.Event
		shard int
		sub   uint64
	}
	var all []placed
	for _, g := range w.groups {
		for i := range g.truth.events {
			all = append(all, placed{&g.truth.events[i], g.index, g.truth.subs[i]})
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int {
		if by := cmp.Compare(a.event.KV.ModRevision, b.event.KV.ModRevision); by != 0 {
			return by
		}
		if a.shard == b.shard {
			return cmp.Compare(a.sub, b.sub)
		}
		return cmp.Or(cmp.Compare(a.sub>>placeBits, b.sub>>placeBits), bytes.Compare(a.event.KV.Key, b.event.KV.Key))
	})
	events := make([]kv.Event, len(all))
	for i := range all {
		events[i] = *all[i].event
	}
	return events
}

// checkWhole: a revision is of one shard, or of a transaction that all who write in it have, or none.
func (w *world) checkWhole() {
	of := map[kv.Revision][]kv.ShardID{}
	for _, g := range w.groups {
		for i := range g.truth.events {
			at := g.truth.events[i].KV.ModRevision
			if shards := of[at]; len(shards) == 0 || shards[len(shards)-1] != g.id {
				of[at] = append(shards, g.id)
			}
		}
	}
	for at := kv.Revision(2); at <= w.groups[0].history.Final; at++ {
		shards, of := of[at], w.ledger.multis[at]
		switch {
		case of.writers == nil && len(shards) > 1:
			w.fail(Correctness, "revision %d is in the shards %v", at, shards)
		case of.writers != nil && len(shards) > 0 && !slices.Equal(shards, slices.Sorted(slices.Values(of.writers))):
			w.fail(Correctness, "revision %d is of a transaction that writes in the shards %v, and took effect in the shards %v", at, of.writers, shards)
		case of.writers != nil && len(shards) > 1:
			w.mark("transaction in several shards")
		}
	}
}

// undecided tells of transactions that are not over yet: once everything is well each ends soon. While nobody else leads than in the beginning no record is
// kept of one, either; a later leader may not know who has some of an earlier one's, and they go with the next transaction.
func (p *part) undecided() error {
	m, ok := p.machine.(*shard.Machine)
	if !ok {
		return nil
	}
	open, records := p.replica.Undecided(), m.Metrics().TransactionRecords
	if calm := p.group.w.marks["leader elected"] == len(p.group.w.groups); len(open) > 0 || calm && records > 0 {
		return fmt.Errorf("%s has %d records of transactions, and not decided or not finished are %v", p.name(), records, open)
	}
	return nil
}

// sameTransactions holds what the replica has of transactions over several shards against what another one had, or this one before a restart, after the same entry:
// a promise, a lock or something finished that one of them has forgotten is seen before it is missed. It is asked after each round, and looks once at each state.
func (p *part) sameTransactions() {
	m, ok := p.machine.(*shard.Machine)
	if !ok || !p.up() || p.failed != nil {
		return
	}
	at, g := m.AppliedIndex(), p.group
	if p.compared == m && p.comparedAt == at {
		return
	}
	p.compared, p.comparedAt = m, at
	sum := fnv.New64a()
	p.group.w.transactions = m.AppendTransactions(p.group.w.transactions[:0])
	sum.Write(p.group.w.transactions) // never fails
	if known, seen := g.transactions[at]; seen && known != sum.Sum64() {
		g.fail(Correctness, "%s has other transactions after entry %d than a replica had before: %x", p.name(), at, p.group.w.transactions)
	}
	if g.transactions == nil {
		g.transactions = map[consensus.Index]uint64{}
	}
	g.transactions[at] = sum.Sum64()
}
