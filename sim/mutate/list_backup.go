package main

// backupMutations are mistakes of backups and restores. The simulator makes none: each of these is tried with the test that it names.
var backupMutations = []Mutation{
	{
		Name: "backup/revision-of-the-newest-shard", Breaks: "a backup is as of the newest revision of any shard: others are not complete up to that, or have transactions that wait for their end",
		File: "gateway/backup.go", Verdicts: noticed, Seeds: 1,
		Old:    "b.states, b.revision = states, read.At.Revision\n",
		New:    "b.states, b.revision = states, read.At.Revision\n\t\tfor _, s := range states {\n\t\t\tb.revision = max(b.revision, s.Revision())\n\t\t}\n",
		Unseen: "TestBackupAmongTransactions of package gateway finds it",
	},
	{
		Name: "backup/does-not-wait-for-transactions", Breaks: "a backup takes the states of shards as they are, and does not wait for the end of a transaction that is prepared: one shard may have its part, and another one not yet",
		File: "gateway/backup.go", Verdicts: noticed, Seeds: 1,
		Old:    "states, read, err := b.gateway.freezeMany(ctx, req, links)\n",
		New:    "states, read, err := b.gateway.freezeMany(ctx, req, links)\n\t\tfor i, l := range links {\n\t\t\tif read != nil {\n\t\t\t\tstates[i], read.At.Revision = l.local.View(), b.gateway.options.Revisions.Known()\n\t\t\t}\n\t\t}\n",
		Unseen: "TestBackupAmongTransactions of package gateway finds it",
	},
	{
		Name: "backup/stale", Breaks: "a backup is of what its node knows, and may lack what was answered before",
		File: "gateway/backup.go", Verdicts: noticed, Seeds: 1,
		Old:    "Range: &kv.RangeRequest{Span: kv.Everything()}}",
		New:    "Range: &kv.RangeRequest{Span: kv.Everything(), Serializable: true}}",
		Unseen: "TestBackupAmongTransactions of package gateway finds it",
	},
	{
		Name: "backup/without-the-last-shard", Breaks: "the last shard is not in a backup",
		File: "gateway/backup.go", Verdicts: noticed, Seeds: 1,
		Old:    "b.states, b.revision = states, read.At.Revision\n",
		New:    "b.states, b.revision = states[:len(states)-1], read.At.Revision\n",
		Unseen: "TestBackupAmongTransactions of package gateway finds it",
	},
	{
		Name: "backup/without-its-revision", Breaks: "the newest revision is not in a backup",
		File: "gateway/gather/versions.go", Verdicts: noticed, Seeds: 1,
		Old:    "compacted: Compacted(states), to: at, bytes",
		New:    "compacted: Compacted(states), to: at - 1, bytes",
		Unseen: "TestTwin of package gateway/gather finds it",
	},
	{
		Name: "backup/order-of-keys", Breaks: "what a transaction over several shards has changed is in the order of keys, and not in that of its operations",
		File: "gateway/gather/versions.go", Verdicts: noticed, Seeds: 1,
		Old:    "cmp.Compare(a.At.Rev, b.At.Rev), cmp.Compare(a.At.Place(), b.At.Place()), ",
		New:    "cmp.Compare(a.At.Rev, b.At.Rev), ",
		Unseen: "TestTwin of package gateway/gather finds it",
	},
	{
		Name: "backup/deletions-before-the-history", Breaks: "a deletion from before the history is in a backup if it is the last that happened to its key",
		File: "storage/mvcc/versions.go", Verdicts: noticed, Seeds: 1,
		Old:    "\tcase v.number == 0:\n\t\treturn false, nil\n",
		New:    "",
		Unseen: "TestStoreAgainstModel of package storage/mvcc finds it",
	},
	{
		Name: "backup/lease-that-ended-meanwhile", Breaks: "a lease that ends between the state and the list of leases is not in a backup, and its keys are",
		File: "gateway/backup.go", Verdicts: noticed, Seeds: 1,
		Old:    "b.leases = union(before, after)\n",
		New:    "b.leases = union(before[:0], after)\n",
		Unseen: "TestBackupOfLeases of package gateway finds it",
	},
	{
		Name: "restore/shard-not-registered", Breaks: "a restored lease does not know which shards have its keys: it ends without them",
		File: "shard/restore.go", Verdicts: noticed, Seeds: 1,
		Old:    "\t\t\tm.leases.register(id, in)\n",
		New:    "",
		Unseen: "TestSnapshotAndRestore of package server finds it",
	},
	{
		Name: "restore/note-of-a-later-lease", Breaks: "a shard takes the keys of a restored lease for those of a later one with the same ID: they outlive it",
		File: "shard/restore.go", Verdicts: noticed, Seeds: 1,
		Old:    "r.machine.leases.note(id, r.incarnation())",
		New:    "r.machine.leases.note(id, r.incarnation()+1)",
		Unseen: "TestSnapshotAndRestore of package server finds it",
	},
}
