package main

var mvccMutations = []Mutation{
	{
		Name: "mvcc/read-one-revision-early", Breaks: "a read at an old revision misses the version written at that very revision",
		File: "storage/mvcc/reader.go", Verdicts: noticed, Seeds: 600,
		Old: "\t\tif from.Rev <= at {\n",
		New: "\t\tif from.Rev < at {\n",
	},
	{
		Name: "mvcc/read-below-compaction", Breaks: "reads below the compacted revision are answered",
		File: "storage/mvcc/reader.go", Verdicts: noticed, Seeds: 100,
		Old: "\tcase at < r.compacted:\n",
		New: "\tcase at < r.compacted/2:\n",
	},
	{
		Name: "mvcc/compaction-drops-live", Breaks: "compaction deletes live versions, not only tombstones",
		File: "storage/mvcc/compact.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif v.number != 0 || v.at.Rev >= p.target {\n",
		New: "\tif v.at.Rev >= p.target {\n",
	},
	{
		Name: "mvcc/compaction-drops-boundary", Breaks: "compaction deletes a tombstone at the compacted revision itself, which a watch may start at",
		File: "storage/mvcc/compact.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif v.number != 0 || v.at.Rev >= p.target {\n",
		New: "\tif v.number != 0 || v.at.Rev > p.target {\n",
	},
	{
		Name: "mvcc/history-skips", Breaks: "the history leaves out the first change of the revision it starts at",
		File: "storage/mvcc/history.go", Verdicts: noticed, Seeds: 100,
		Old: "r.visitVersions(Locator{Rev: from}, Locator{Rev: to + 1},",
		New: "r.visitVersions(Locator{Rev: from, Sub: 1}, Locator{Rev: to + 1},",
	},
	{
		Name: "mvcc/dirty-row-lost", Breaks: "the last row of each piece of a flush is not written",
		File: "storage/mvcc/flush.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tif err := run.write(e.key, &e.value, e.weight); err != nil {\n",
		New: "\t\tvar err error\n\t\tif rows+1 < maxRows {\n\t\t\terr = run.write(e.key, &e.value, e.weight)\n\t\t}\n\t\tif err != nil {\n",
	},
	{
		Name: "mvcc/frozen-before-active", Breaks: "during a flush, ranges show the version that is being written instead of a newer one",
		File: "storage/mvcc/merge.go", Verdicts: noticed, Seeds: 400,
		Old: "\t\tm.dirty = &m.active.entry().value\n",
		New: "\t\tif m.dirty == nil {\n\t\t\tm.dirty = &m.active.entry().value\n\t\t}\n",
	},
	{
		Name: "mvcc/deletion-not-cached", Breaks: "a deletion does not reach the cache of newest versions",
		File: "storage/mvcc/store.go", Verdicts: noticed, Seeds: 100,
		Old: "\t}\n\ts.cache.put(key, m)\n}\n",
		New: "\t}\n\tif !m.Deleted() {\n\t\ts.cache.put(key, m)\n\t}\n}\n",
	},
	{
		Name: "mvcc/value-not-moved", Breaks: "a flush that replaces a value by key does not keep it behind its version",
		File: "storage/mvcc/flush.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif err != nil || !found || !of.Less(newest) {\n",
		New: "\tif err != nil || found || !of.Less(newest) {\n",
	},
	{
		Name: "mvcc/replaced-value-lost", Breaks: "a value that is replaced before any flush wrote it is not kept behind its version",
		File: "storage/mvcc/store.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif old.byKey {\n\t\ts.keyBuffer = s.appendVersionValueKey(",
		New: "\tif old.byKey && old.Deleted() {\n\t\ts.keyBuffer = s.appendVersionValueKey(",
	},
	{
		Name: "mvcc/flush-number-not-checked", Breaks: "latest rows that an interrupted flush left count as if it had ended",
		File: "storage/mvcc/counts.go", Verdicts: noticed, Seeds: 3000,
		Old: "func (f flushes) has(flush uint64) bool { return flush > f.after && flush <= f.upTo }",
		New: "func (f flushes) has(flush uint64) bool { return flush > f.after && flush <= f.upTo && f.after > f.upTo }",
	},
	{
		Name: "mvcc/count-overwrites", Breaks: "overwriting a live key counts as a new key",
		File: "storage/mvcc/row.go", Verdicts: noticed, Seeds: 100,
		Old: "\tcase live && !before:\n",
		New: "\tcase live:\n",
	},
	{
		Name: "mvcc/count-limited", Breaks: "the count of a range with a limit is that of the page",
		File: "storage/mvcc/ranges.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tcount = limit + after\n",
		New: "\t\tcount = min(limit, limit+after)\n",
	},
	{
		Name: "mvcc/flush-of-half-a-bulk", Breaks: "a flush may begin while a bulk is staged or pending",
		File: "storage/mvcc/flush.go", Verdicts: noticed, Seeds: 1000,
		Old: "if s.flushing || s.Staged() > 0 || s.Pending() > 0 {",
		New: "if s.flushing {",
	},
	{
		Name: "mvcc/bulk-not-seen", Breaks: "the newest version of a key is not looked for in a bulk that is pending",
		File: "storage/mvcc/reader.go", Verdicts: noticed, Seeds: 1000,
		Old: "if e := r.bulk.pending(key); e != nil {",
		New: "if e := r.bulk.pending(key); e != nil && false {",
	},
	{
		Name: "mvcc/bulk-not-listed", Breaks: "lists do not know what is pending of a bulk",
		File: "storage/mvcc/merge.go", Verdicts: noticed, Seeds: 1000,
		Old: "if r.bulk.committed {",
		New: "if false {",
	},
	{
		Name: "mvcc/bulk-not-counted", Breaks: "counts do not know what is pending of a bulk",
		File: "storage/mvcc/counts.go", Verdicts: noticed, Seeds: 1000,
		Old: " + weightBetween(&r.bulk.keys, text(lower), upper)",
		New: "",
	},
	{
		Name: "mvcc/bulk-not-in-history", Breaks: "history has only what is written of a bulk",
		File: "storage/mvcc/visit.go", Verdicts: noticed, Seeds: 1000,
		Old: "if !r.bulk.committed || !first.Less(to) || !from.Less(next) {",
		New: "if true {",
	},
	{
		Name: "mvcc/value-under-a-bulk", Breaks: "a watch does not find the value that a bulk replaced",
		File: "storage/mvcc/store.go", Verdicts: noticed, Seeds: 1000,
		Old: "\t\tvalue, ok = under.value(v.key, v.at)\n",
		New: "",
	},
}
