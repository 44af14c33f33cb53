package main

// What the real log and engine do, in the seeds that run on them.
var diskMutations = []Mutation{
	{
		Name: "wal/segment-before-not-synced", Breaks: "what a segment holds counts as durable when the log goes on in the next one",
		File: "storage/wal/succession.go", Verdicts: noticed, Seeds: 3000,
		Old: "\tif err := old.file.SyncData(); err != nil {\n",
		New: "\tif err := error(nil); err != nil {\n",
	},
	{
		Name: "lsm/little-not-flushed", Breaks: "a flush of less than a megabyte says that it is done, and is not",
		File: "storage/lsm/flush.go", Verdicts: noticed, Seeds: 3000,
		Old: "\tif e.dirty {\n\t\tflushed, err",
		New: "\tif e.dirty && e.activeBytes > 1<<20 {\n\t\tflushed, err",
	},
	{
		Name: "wal/recycled-one-record-early", Breaks: "a segment is used again before the record is durable that says that it is not needed: a power cut leaves a log whose oldest segment is gone",
		File: "storage/wal/succession.go", Verdicts: noticed, Seeds: 3000,
		Old:    "\t\tl.retired = append(l.retired, retired{s, l.sequence + 1})\n",
		New:    "\t\tl.retired = append(l.retired, retired{s, l.sequence})\n",
		Unseen: "TestCrashEverywhere of package storage/wal finds it; simulated power cuts hardly ever come between the two records",
	},
	{
		Name: "wal/scrub-keeps-segments", Breaks: "a segment that was scrubbed counts as being read for ever: it is never used again, and the log grows",
		File: "storage/wal/scrub.go", Verdicts: noticed, Seeds: 3000,
		Old:    "\tsegment.readers--\n",
		New:    "\t_ = segment\n",
		Unseen: "nothing finds it: a simulated log is too short for its unused segments to be missed",
	},
	{
		Name: "lsm/read-error-ends-a-list", Breaks: "an iterator that could not read a block says that there is nothing more: a list is cut short and looks complete",
		File: "storage/lsm/iterator.go", Verdicts: noticed, Seeds: 3000,
		Old:    "\tif err := it.iter.Error(); err != nil {\n\t\treturn it.engine.readError(err)\n\t}\n",
		New:    "",
		Unseen: "TestCorruptTable of package storage/lsm finds it; simulated disks refuse writes and syncs, not reads",
	},
}
