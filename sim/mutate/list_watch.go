package main

var watchMutations = []Mutation{
	{
		Name: "watch/gap-at-compaction", Breaks: "a watch that needs compacted changes goes on silently after them instead of ending",
		File: "gateway/watch/catchup.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tif g.next >= compacted {\n\t\t\tcontinue\n\t\t}\n",
		New: "\t\tg.next = max(g.next, compacted)\n\t\tif g.next >= compacted {\n\t\t\tcontinue\n\t\t}\n",
	},
	{
		Name: "watch/compacted-boundary-refused", Breaks: "a watch that starts at the compacted revision is ended",
		File: "gateway/watch/catchup.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tif g.next >= compacted {\n",
		New: "\t\tif g.next > compacted {\n",
	},
	{
		Name: "watch/lost-at-rejoin", Breaks: "a watch that was behind rejoins the live feed one revision too early",
		File: "gateway/watch/catchup.go", Verdicts: noticed, Seeds: 250,
		Old: "g.next > t.feed.dispatched {\n",
		New: "g.next >= t.feed.dispatched {\n",
	},
	{
		Name: "watch/repeated-after-gap", Breaks: "after an interruption of the feed a watch gets the last revision again",
		File: "gateway/watch/feed.go", Verdicts: noticed, Seeds: 600,
		Old: "f.detach(g, f.dispatched+1)",
		New: "f.detach(g, f.dispatched)",
	},
	{
		Name: "watch/gap-after-snapshot", Breaks: "revisions that came with a snapshot are taken for dispatched",
		File: "gateway/watch/aside.go", Verdicts: noticed, Seeds: 400,
		Old: "\t\ts.ring.reset(min(w.missing, closed))\n",
		New: "\t\ts.ring.last = min(w.missing, closed)\n",
	},
	{
		Name: "watch/start-off-by-one", Breaks: "a watch that starts at the newest revision misses it",
		File: "gateway/watch/seat.go", Verdicts: noticed, Seeds: 250,
		Old: "\tlive := next > f.dispatched\n",
		New: "\tlive := next >= f.dispatched\n",
	},
	{
		Name: "watch/progress-too-early", Breaks: "progress is told although some watch of the stream is behind",
		File: "gateway/watch/progress.go", Verdicts: noticed, Seeds: 250,
		Old: "\tif s.seats.lagging > 0 {\n",
		New: "\tif s.seats.lagging < 0 {\n",
	},
	{
		Name: "watch/progress-beyond-dispatched", Breaks: "progress tells the revision of the store, which may be ahead of what was sent",
		File: "gateway/watch/progress.go", Verdicts: noticed, Seeds: 100,
		Old: "Kind: KindProgress, IDs: []ID{NoID}, Revision: reached}",
		New: "Kind: KindProgress, IDs: []ID{NoID}, Revision: s.hub.present() + 1}",
	},
	{
		Name: "watch/revision-split", Breaks: "the changes of one revision are spread over several batches",
		File: "gateway/watch/outbox.go", Verdicts: noticed, Seeds: 100,
		Old: "b.sizeBytes >= batchBytes && b.Revision != revision\n}",
		New: "b.sizeBytes >= batchBytes && b.Revision != revision || len(b.Events) >= 2\n}",
	},
	{
		Name: "watch/wrong-previous", Breaks: "the previous version in an event is the new one",
		File: "gateway/watch/event.go", Verdicts: noticed, Seeds: 100,
		Old: "source.Replaced(e.effect.Prev)",
		New: "source.Replaced(e.effect.At)",
	},
	{
		Name: "watch/filter-swapped", Breaks: "the filter against deletions drops puts",
		File: "gateway/watch/group.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif deletion(event.effect) {\n",
		New: "\tif !deletion(event.effect) {\n",
	},
	{
		Name: "watch/span-end-included", Breaks: "a watch of a span gets the events of the key at its end",
		File: "gateway/watch/index.go", Verdicts: noticed, Seeds: 250,
		Old: "if s.upper == nil || bytes.Compare(key, s.upper) < 0 {",
		New: "if s.upper == nil || bytes.Compare(key, s.upper) <= 0 {",
	},
	{
		Name: "watch/future-start-ignored", Breaks: "a watch that starts in the future gets events from now on",
		File: "gateway/watch/live.go", Verdicts: noticed, Seeds: 100,
		Old: "l.waiting.size() > 0 && l.waiting.first().next <= revision {",
		New: "l.waiting.size() > 0 {",
	},
	{
		Name: "watch/joins-open-batch", Breaks: "a watch that joins equal ones misses what is added to a batch that waits for a slow client",
		File: "gateway/watch/group.go", Verdicts: noticed, Seeds: 600,
		Old: "\tg.watchers = append(g.watchers, w)\n\tg.open, g.ids = nil, nil\n",
		New: "\tg.watchers = append(g.watchers, w)\n\tg.ids = nil\n",
	},
	{
		Name: "watch/joins-too-late", Breaks: "a watch from the past joins equal ones that have got what it wants",
		File: "gateway/watch/group.go", Verdicts: noticed, Seeds: 600,
		Old: "\tif o.live && o.next == dispatched+1 {\n",
		New: "\tif o.next <= dispatched+1 {\n",
	},
	{
		Name: "watch/future-begins-late", Breaks: "a watch that starts at a revision to come begins with the one after it: it misses its first event",
		File: "gateway/watch/live.go", Verdicts: noticed, Seeds: 100,
		Old: "\tfor l.waiting.size() > 0 && l.waiting.first().next <= revision {\n",
		New: "\tfor l.waiting.size() > 0 && l.waiting.first().next < revision {\n",
	},
	{
		Name: "watch/starving-for-ever", Breaks: "a stream that was woken because there may be memory counts as one that waits: it is not woken a second time, and stands still",
		File: "gateway/watch/shortage.go", Verdicts: noticed, Seeds: 3000,
		Old:    "\t\ts.starving = false\n",
		New:    "",
		Unseen: "TestLiveFeedWithoutMemory of package gateway/watch finds it; the simulator looks into every stream again and again, so that none has to be woken",
	},
}
