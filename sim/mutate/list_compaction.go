package main

var compactionMutations = []Mutation{
	{
		Name: "compaction/writer-ignores-it", Breaks: "a write that read what was compacted before it got its number takes effect (rule 39)",
		File: "shard/numbers.go", Partition: "range", Verdicts: noticed, Seeds: 600,
		Unseen: "the compaction must be answered, and the request come, within one question for numbers; shard.TestNumbering finds it",
		Old:    "\tif b.readsBelow(l.floor, compacted) {\n",
		New:    "\tif false {\n",
	},
	{
		Name: "compaction/numbers-do-not-tell", Breaks: "what comes with numbers from another node does not say up to where history is compacted (rule 39)",
		File: "issuer/numbers.go", Partition: "range", Verdicts: noticed, Seeds: 600,
		Unseen: "as compaction/writer-ignores-it; issuer.TestConfirmed finds it",
		Old:    "\ta, compacted := l.asked[0], i.compacted\n",
		New:    "\ta, compacted := l.asked[0], kv.Revision(0)\n",
	},
	{
		Name: "compaction/present-does-not-tell", Breaks: "a read beside the sequencer does not learn up to where history is compacted (rule 39)",
		File: "issuer/learn.go", Partition: "hash", Verdicts: noticed, Seeds: 60,
		Old: "\tpresent.Compacted, _ = i.node.SystemNotice()\n",
		New: "",
	},
	{
		Name: "compaction/not-followed", Breaks: "shards do not follow a compaction of the store, and delete no rows (rule 40)",
		File: "shard/compaction.go", Partition: "hash", Verdicts: noticed, Seeds: 60,
		Old: "\tif l.floor > max(m.applied.Compacted, l.overlay.compacted) && m.mayCompact(l.floor) {\n",
		New: "\tif false {\n",
	},
	{
		Name: "compaction/idle-shard-unaware", Breaks: "a shard that nobody writes to does not hear of a compaction of the store",
		File: "driver/compaction.go", Partition: "hash", Verdicts: noticed, Seeds: 60,
		Old: "\t\tother.followCompaction()\n",
		New: "\t\t_ = other\n",
	},
}
