package sim

import (
	"slices"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/shard"
	"github.com/quoratedb/quorate/sim/history"
	"github.com/quoratedb/quorate/storage/mvcc"
)

func nodeID(number int) kv.NodeID { return kv.NodeID(number) }

// truth is what really happened: what the first node to apply an entry made of it, and that all others made the same.
type truth struct {
	w     *world
	group *group
	// log holds the entries from the one after BootstrapIndex on.
	log      []entryRecord
	revision kv.Revision
	events   []kv.Event // all, in order of revisions
	subs     []uint64   // of the events: their order within a revision
	closed   kv.Revision
	live     map[string]kv.KeyValue
	commits  []history.Commit // the entries that changed something
	// compaction is the last entry that compacted; 0: none did.
	compaction consensus.Index
}

type entryRecord struct {
	term      consensus.Term
	seq       uint64
	void      bool
	revision  kv.Revision
	closed    kv.Revision // nothing takes effect at or below it after the entry
	effects   uint64
	compacted kv.Revision // as of the entry
}

func newTruth(g *group) *truth {
	return &truth{w: g.w, group: g, revision: 1, live: map[string]kv.KeyValue{}, commits: []history.Commit{}}
}

// applied compares what a node made of an entry with what the first one did.
func (t *truth) applied(p *part, a *shard.Applied) {
	at := int(a.Index) - int(consensus.BootstrapIndex) - 1
	t.w.happened(traceApplied, p.number(), uint64(a.Index), uint64(a.Revision))
	if a.Jump {
		if at >= len(t.log) || at >= 0 && (t.log[at].revision != a.Revision || t.log[at].closed != a.Closed || t.log[at].term != a.Term) {
			t.group.fail(Correctness, "node %d jumped to entry %d of term %d at revision %d, which is not what was applied elsewhere", p.node.id, a.Index, a.Term, a.Revision)
		}
		p.next = a.Index + 1
		return
	}
	if a.Bulk != nil {
		t.w.mark("bulk in force")
	}
	if a.Index != p.next {
		t.group.fail(Correctness, "node %d announced entry %d, %d was next", p.node.id, a.Index, p.next)
	}
	p.next = a.Index + 1
	record := entryRecord{term: a.Term, seq: a.Seq, void: a.Void, revision: a.Revision, closed: a.Closed, effects: t.sum(a.AllEffects())}
	record.compacted = max(a.Compacted, t.compactedAt(a.Index-1))
	switch {
	case at < len(t.log):
		if t.log[at] != record {
			t.group.fail(Correctness, "node %d applied entry %d as %+v, another as %+v", p.node.id, a.Index, record, t.log[at])
		}
	case at > len(t.log):
		t.group.fail(Correctness, "node %d applied entry %d, nobody applied entry %d", p.node.id, a.Index, uint64(len(t.log))+uint64(consensus.BootstrapIndex)+1)
	default:
		t.log = append(t.log, record)
		t.first(p, a)
	}
}

// first takes an entry that no other node has applied yet.
func (t *truth) first(p *part, a *shard.Applied) {
	p.firsts++
	if a.Void {
		t.w.mark("void entry")
	}
	if a.Compacted != 0 {
		t.w.mark("compaction")
		t.compaction = a.Index
	}
	effects, from := a.Effects, a.Revision+1
	if a.Bulk != nil {
		effects = slices.Concat(a.Bulk...)
	}
	t.resolved(a)
	if len(effects) > 0 {
		from = effects[0].At.Rev
	}
	for i := range effects {
		e := &effects[i]
		if e.At.Rev < t.revision || e.At.Rev > t.revision+1 && !t.w.shared() || e.At.Rev == t.revision && i == 0 {
			t.group.fail(Correctness, "entry %d writes revision %d after %d", a.Index, e.At.Rev, t.revision)
		}
		t.revision = e.At.Rev
		t.record(e)
	}
	t.close(a)
	if len(effects) > 0 || a.Compacted != 0 {
		t.commits = append(t.commits, history.Commit{At: t.w.now, From: from, Revision: a.Revision, Compacted: a.Compacted})
	}
	if t.w.shared() && a.Compacted != 0 {
		t.revision = max(t.revision, a.Revision) // a compaction may be above all that this shard has
	}
	if t.revision != a.Revision {
		t.group.fail(Correctness, "entry %d ends at revision %d, its effects at %d", a.Index, a.Revision, t.revision)
	}
	if t.w.reading() && len(effects) > 0 {
		t.w.line("%s | first to apply entry %d of term %d: revisions %d to %d", p.name(), a.Index, a.Term, effects[0].At.Rev, a.Revision)
	}
}

// resolved takes the effects of transactions over several shards, whose revisions may be below what the shard has come to.
func (t *truth) resolved(a *shard.Applied) {
	for i := range a.Resolved {
		e := &a.Resolved[i]
		if e.At.Rev <= t.closed {
			t.group.fail(Correctness, "entry %d resolves a transaction at revision %d, and everything up to %d was said to be there", a.Index, e.At.Rev, t.closed)
		}
		if e.At.Rev < t.revision {
			t.w.mark("transaction resolved late")
		}
		t.revision = max(t.revision, e.At.Rev)
		t.record(e)
		if i == 0 || a.Resolved[i-1].At.Rev != e.At.Rev {
			t.w.mark("transaction resolved")
			t.commits = append(t.commits, history.Commit{At: t.w.now, From: e.At.Rev, Revision: e.At.Rev})
		}
	}
}

// close notes up to where everything is there: that is never taken back.
func (t *truth) close(a *shard.Applied) {
	if t.w.shared() && (a.Closed < t.closed || a.Closed > a.Revision) {
		t.group.fail(Correctness, "after entry %d at revision %d everything up to %d is there, before it up to %d", a.Index, a.Revision, a.Closed, t.closed)
	}
	t.closed = a.Closed
	if a.Closed < a.Revision {
		t.w.mark("revision held back")
	}
}

// record turns an effect into the event that watchers see.
func (t *truth) record(e *mvcc.Effect) {
	event := kv.Event{Type: kv.EventPut, KV: kv.KeyValue{Key: e.Key, Value: e.Value, CreateRevision: e.Create,
		ModRevision: e.At.Rev, Version: e.Version, Lease: e.Lease}}
	if before, found := t.live[string(e.Key)]; found {
		event.Prev = &before
		if before.ModRevision > e.At.Rev {
			t.group.fail(Correctness, "%q changes at revision %d after it has changed at %d", e.Key, e.At.Rev, before.ModRevision)
		}
	}
	if e.Version == 0 {
		event.Type, event.KV = kv.EventDelete, kv.KeyValue{Key: e.Key, ModRevision: e.At.Rev}
		delete(t.live, string(e.Key))
	} else {
		t.live[string(e.Key)] = event.KV
	}
	at := len(t.events)
	for at > 0 && (t.events[at-1].KV.ModRevision > e.At.Rev || t.events[at-1].KV.ModRevision == e.At.Rev && t.subs[at-1] > uint64(e.At.Sub)) {
		at--
	}
	t.events, t.subs = slices.Insert(t.events, at, event), slices.Insert(t.subs, at, uint64(e.At.Sub))
}

// sum stands for the effects of an entry.
func (t *truth) sum(effects []mvcc.Effect) uint64 {
	h := tracer{}
	for i := range effects {
		e := &effects[i]
		h.add(uint64(e.At.Rev), uint64(e.At.Sub), uint64(e.Create), uint64(e.Version), uint64(e.Lease), sum(e.Key), sum(e.Value), uint64(e.Prev.Rev))
	}
	return h.hash
}

func (t *truth) compactedAt(index consensus.Index) kv.Revision {
	if at := int(index) - int(consensus.BootstrapIndex) - 1; at >= 0 && at < len(t.log) {
		return t.log[at].compacted
	}
	return 0
}
