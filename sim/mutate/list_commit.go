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
	{
		Name: "commit/waits-are-not-woken", Breaks: "locks fall, and those who wait for them are not evaluated again",
		File: "shard/contention.go", Partition: "hash", Verdicts: noticed, Seeds: 100,
		Old: "\tc.locks.Release(r.id)\n\tc.stir(r.accesses)\n",
		New: "\tc.locks.Release(r.id)\n",
	},
	{
		Name: "commit/gone-and-still-there", Breaks: "who leaves the queue for locks keeps its place, and others wait behind it",
		File: "shard/contention.go", Partition: "hash", Verdicts: noticed, Seeds: 100,
		Old: "\tc.left = append(c.left, w.Place)\n\tc.stir(c.queue.Remove(w))\n",
		New: "\tc.left = append(c.left, w.Place)\n",
	},
	{
		Name: "commit/granted-while-it-waits", Breaks: "a coordinator is told of locks that a prepare waits for, and asks others before it has them",
		File: "driver/commit.go", Partition: "hash", Verdicts: noticed, Seeds: 3000,
		Unseen: "queues in the order of arrival leave hardly any circle; go test ./txn -run ExploreWaitsFindsMutations finds it",
		Old:    "\tif out.Effects && !q.granted && q.req",
		New:    "\tif !q.granted && q.req",
	},
	{
		Name: "commit/locks-are-not-revoked", Breaks: "a leader that begins anew lets prepares wait again whose locks it has told of",
		File: "driver/number.go", Partition: "hash", Verdicts: noticed, Seeds: 3000,
		Unseen: "a leadership begins anew seldom while locks are not in the log; go test ./txn -run ExploreWaitsFindsMutations finds it",
		Old:    "\tif q.granted {\n",
		New:    "\tif q.granted && q.req == nil {\n",
	},
	{
		Name: "commit/granted-is-logged", Breaks: "a prepare whose locks are in the memory of the anchor counts as prepared",
		File: "txn/transaction.go", Partition: "hash", Verdicts: noticed, Seeds: 100,
		Old: "\t\tc.prepareNext(t, t.anchor)\n\t}\n",
		New: "\t\tt.parts[t.anchor].state, t.answers[t.anchor] = isPrepared, &kv.CommitResponse{Standing: kv.StandingPrepared, Writes: true}\n\t\tc.advance(t, t.anchor)\n\t}\n",
	},
}
