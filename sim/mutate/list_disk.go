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
}
