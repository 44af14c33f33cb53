package main

import "github.com/quoratedb/quorate/sim"

var shardMutations = []Mutation{
	{
		Name: "shard/leases-forgotten", Breaks: "a new leader begins without leases",
		File: "shard/machine.go", Verdicts: noticed, Seeds: 100,
		Old: "\tm.Follow()\n\tm.lead = &leadership{\n",
		New: "\tm.Follow()\n\tm.leases = newLeaseTable()\n\tm.lead = &leadership{\n",
	},
	{
		Name: "shard/lease-clock-jumps", Breaks: "a change of leader puts the lease clock a minute ahead, so that leases end early",
		File: "shard/machine.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tclockBase: m.applied.LeaseClock,\n",
		New: "\t\tclockBase: m.applied.LeaseClock + 60_000,\n",
	},
	{
		Name: "shard/lease-half-as-long", Breaks: "leases last half of their time",
		File: "shard/lease.go", Verdicts: noticed, Seeds: 100,
		Old: "return now + ttlSeconds*1000 }",
		New: "return now + ttlSeconds*500 }",
	},
	{
		Name: "shard/renewal-lost", Breaks: "keeping a lease alive is answered and has no effect",
		File: "shard/lease.go", Verdicts: noticed, Seeds: 100,
		Old: "\tl.deadline = now + millis\n",
		New: "",
	},
	{
		Name: "shard/keys-outlive-lease", Breaks: "a new key is not attached to its lease, and stays when the lease ends",
		File: "shard/apply.go", Verdicts: noticed, Seeds: 100,
		Old: "c.Lease != c.PrevLease {",
		New: "c.PrevLive && c.Lease != c.PrevLease {",
	},
	{
		Name: "shard/leases-never-end", Breaks: "leases do not expire",
		File: "shard/lease_evaluate.go", Verdicts: noticed, Seeds: 100,
		Old: "return l.end(m.lead.clockBase) <= m.lead.clock()",
		New: "return l.end(m.lead.clockBase) <= 0",
	},
	{
		Name: "shard/promise-without-log", Breaks: "a leader renews a lease by itself as long as it lives, whatever later leaders will know",
		File: "shard/lease.go", Verdicts: noticed, Seeds: 200,
		Old: "return deadlineAfter(now, l.ttl) <= l.deadline }",
		New: "return now <= l.deadline }",
	},
	{
		Name: "shard/promise-forgotten", Breaks: "a leader does not remember the renewals that it answered without the log",
		File: "shard/lease_evaluate.go", Verdicts: noticed, Seeds: 100,
		Old: "\tl.promise(now)\n\treturn keepAliveAnswer(r.ID, l.ttl, m.applied.Revision), true\n",
		New: "\treturn keepAliveAnswer(r.ID, l.ttl, m.applied.Revision), true\n",
	},
	{
		Name: "shard/promise-from-last-tick", Breaks: "a leader that renews a lease without the log counts from the moment of its last tick",
		File: "shard/lease_evaluate.go", Verdicts: noticed, Seeds: 300,
		Old: "\tm.lead.advance(at, m.options.MaxClockStep)\n",
		New: "\t_ = at\n",
	},
	{
		Name: "shard/promise-of-others-forgotten", Breaks: "a new leader ends leases by what it read in the log, not by what the one before may have promised",
		File: "shard/lease.go", Verdicts: noticed, Seeds: 300,
		Old: "return max(l.promised, min(l.deadline, deadlineAfter(leaderSince, l.ttl)))",
		New: "return max(l.promised, min(l.deadline, leaderSince))",
	},
	{
		Name: "shard/revision-reused", Breaks: "a new leader gives out the last revision again",
		File: "shard/machine.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\t\trevision:    m.applied.Revision,\n",
		New: "\t\t\trevision:    m.applied.Revision - 1,\n",
	},
	{
		Name: "shard/chain-not-checked", Breaks: "an entry applies although the one that it was evaluated on top of was lost",
		File: "shard/apply.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 300,
		Old: "e.seq != m.applied.ChainSeq+1 {",
		New: "e.seq <= m.applied.ChainSeq {",
	},
	{
		Name: "shard/applied-twice", Breaks: "the state remembers one applied entry less than it contains, so that a restart applies that one again",
		File: "shard/flush.go", Verdicts: noticed, Seeds: 100,
		Old: "\tb.Set(keys.State(m.options.Shard), appendState(nil, &f.state))\n\treturn true, nil\n",
		New: "\tf.state.Index--\n\tb.Set(keys.State(m.options.Shard), appendState(nil, &f.state))\n\treturn true, nil\n",
	},
	{
		Name: "shard/version-not-reset", Breaks: "a key that was deleted comes back at version 2",
		File: "shard/evaluation.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif found {\n\t\te.Prev = meta.At\n\t}\n",
		New: "\tif found {\n\t\te.Prev = meta.At\n\t\te.Version = 2\n\t}\n",
	},
	{
		Name: "shard/create-revision-moves", Breaks: "every put moves a key's create revision",
		File: "shard/evaluation.go", Verdicts: noticed, Seeds: 100,
		Old: "e.Create, e.Version, e.PrevLive, e.PrevLease = meta.Create, ",
		New: "e.Create, e.Version, e.PrevLive, e.PrevLease = at.Rev, ",
	},
	{
		Name: "shard/ignore-value-drops-value", Breaks: "a put that is to keep the value writes an empty one",
		File: "shard/evaluation.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\t\tvalue = previous.Value\n",
		New: "\t\t\tvalue = nil\n",
	},
	{
		Name: "shard/compare-off-by-one", Breaks: "the compare \"greater\" holds for equal values too",
		File: "shard/txn.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\treturn order > 0\n",
		New: "\t\treturn order >= 0\n",
	},
	{
		Name: "shard/txn-on-stale-state", Breaks: "transactions compare with the applied state and do not see what is in flight",
		File: "shard/txn.go", Verdicts: noticed, Seeds: 100,
		Old: "p, err := decide(ev, t)",
		New: "p, err := decide(appliedReading{ev.base, &ev.tally}, t)",
	},
	{
		Name: "shard/delete-range-misses", Breaks: "deleting a range misses keys that are in flight after the last applied one",
		File: "shard/evaluation.go", Verdicts: noticed, Seeds: 100,
		Old: "\tfor len(over) > 0 {\n\t\tgiveOver()\n\t}\n\treturn err\n",
		New: "\treturn err\n",
	},
	{
		Name: "shard/count-ignores-in-flight", Breaks: "the count of a range in a transaction ignores deletions in flight",
		File: "shard/reading.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\t\tresponse.Count--\n",
		New: "",
	},
	{
		Name: "shard/compaction-wrong-error", Breaks: "compacting what is compacted already is refused with another error than etcd's",
		File: "shard/evaluate.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif r.Revision <= state.compactedAt() {\n\t\treturn nil, kv.ErrCompacted\n",
		New: "\tif r.Revision <= state.compactedAt() {\n\t\treturn nil, kv.ErrFutureRevision\n",
	},
	{
		Name: "shard/answer-one-revision-early", Breaks: "a write's answer carries the revision before it",
		File: "shard/evaluate.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tm.endRevision()\n\t\tif response.Revision == 0 {\n\t\t\tresponse.Revision = l.revision\n\t\t}\n",
		New: "\t\tif response.Revision == 0 {\n\t\t\tresponse.Revision = l.revision\n\t\t}\n\t\tm.endRevision()\n",
	},
	{
		Name: "shard/latches-ignored", Breaks: "requests for keys of one that is decided beside the rounds go on",
		File: "shard/evaluate.go", Verdicts: noticed, Seeds: 100,
		Old: "if l.latches.Len() > 0 && l.conflicts(r) {",
		New: "if false && l.conflicts(r) {",
	},
	{
		Name: "shard/beside-what-is-in-flight", Breaks: "a request is decided beside the rounds on a view that lacks what was in flight before",
		File: "shard/beside.go", Verdicts: noticed, Seeds: 100,
		Old: "if b.granted && l.appliedSeq() >= b.after {",
		New: "if b.granted {",
	},
	{
		Name: "shard/latches-kept", Breaks: "a request that was decided beside the rounds keeps its latches",
		File: "shard/beside.go", Verdicts: noticed, Seeds: 100,
		Old: "if err := m.lead.latches.Remove(b.latches); err != nil {",
		New: "if b.latches == 0 {\n\t\tvar err error",
	},
	{
		Name: "shard/revision-of-the-view", Breaks: "what a request beside the rounds wrote is reported at the revision after its view",
		File: "shard/beside.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tshift.response(b.response)\n",
		New: "",
	},
	{
		Name: "shard/looks-not-bounded", Breaks: "a request may look at any number of keys in a round",
		File: "shard/evaluate.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif aboutKeys(r.Kind) {\n\t\tl.tally.Bound",
		New: "\tif false {\n\t\tl.tally.Bound",
	},
}
