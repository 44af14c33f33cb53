package main

// commitMutations are mistakes in transactions over several shards.
var commitMutations = []Mutation{
	{
		Name: "commit/accepted-goes-to-the-end", Breaks: "a record that is accepted goes behind those with higher stamps, so that the closed revision is above what may commit",
		File: "shard/record.go", Partition: "hash", Verdicts: noticed, Seeds: 100,
		Old: "before.standing() == kv.StandingPrepared && r.standing() == kv.StandingPrepared {",
		New: "before.standing() == kv.StandingPrepared && r.standing() == kv.StandingPrepared && r.participants == nil {",
	},
	{
		Name: "commit/stamp-of-before", Breaks: "a prepared transaction does not hold back the closed revision",
		File: "shard/record.go", Partition: "hash", Verdicts: noticed, Seeds: 60,
		Old: "\t\treturn min(highest, stamp)\n",
		New: "\t\treturn max(highest, stamp)\n",
	},
	{
		Name: "commit/commits-without-all", Breaks: "a transaction is numbered when its first participant is prepared",
		File: "txn/transaction.go", Partition: "hash", Verdicts: noticed, Seeds: 60,
		Old: "\t\tif t.parts[n].state != isPrepared {\n\t\t\treturn\n\t\t}\n",
		New: "\t\tif t.parts[n].state != isPrepared {\n\t\t\tcontinue\n\t\t}\n",
	},
	{
		Name: "commit/number-for-the-anchor-only", Breaks: "the revision of a transaction is asked for one of the shards that write, and the others do not hear of it (rule 5)",
		File: "txn/transaction.go", Partition: "hash", Verdicts: noticed, Seeds: 60,
		Old: "Number{ID: t.id, Writers: writers})",
		New: "Number{ID: t.id, Writers: writers[:min(1, len(writers))]})",
	},
	{
		Name: "commit/busy-is-prepared", Breaks: "locks of prepared transactions are not looked at",
		File: "shard/prepare.go", Partition: "hash", Verdicts: noticed, Seeds: 60,
		Old: "\tif l.free(c.ID, accesses) && !l.contention.attaches(c.Share) {\n",
		New: "\tif (l.free(c.ID, accesses) || c.Patient) && !l.contention.attaches(c.Share) {\n",
	},
	{
		Name: "commit/never-told", Breaks: "participants are not told of a commit by its coordinator",
		File: "txn/transaction.go", Partition: "hash", Verdicts: noticed, Seeds: 60,
		Old: "\tif t.parts[i].state == absent {\n\t\tc.settle(t, i)\n\t\treturn\n\t}\n\tc.pass(t, i)\n",
		New: "\tif t.parts[i].state == absent || t.decision.Verdict == kv.Commit {\n\t\tc.settle(t, i)\n\t\treturn\n\t}\n\tc.pass(t, i)\n",
	},
	{
		Name: "commit/no-participants-no-end", Breaks: "the record of an abort without participants is never finished",
		File: "txn/recovery.go", Partition: "hash", Verdicts: noticed, Seeds: 100,
		Old: "\tif step == telling && len(j.participants) == 0 {",
		New: "\tif step == telling && len(j.participants) == 1 {",
	},
	{
		Name: "commit/finished-is-taken-for-heard", Breaks: "whoever answers a prepare has heard what is finished, even if it took no note",
		File: "txn/coordinator.go", Partition: "hash", Verdicts: noticed, Seeds: 100,
		Old: "\t\treturn answer.Standing == kv.StandingPrepared\n",
		New: "\t\treturn true\n",
	},
}
