package main

// groupMutations are mistakes that only a node with several shards shows.
var groupMutations = []Mutation{
	{
		Name: "group/rows-shared", Breaks: "two shards have the same rows",
		File: "storage/keys/keys.go", Shards: 4, Verdicts: noticed, Seeds: 20,
		Old: "func Of(shard kv.ShardID) Lineage {\n",
		New: "func Of(shard kv.ShardID) Lineage {\n\tif shard == 3 {\n\t\tshard = 2\n\t}\n",
	},
	{
		Name: "group/snapshot-of-neighbours", Breaks: "a snapshot carries, and its installation replaces, the rows of the next shard, too",
		File: "storage/keys/rows.go", Shards: 4, Verdicts: noticed, Seeds: 40,
		Old: "Upper: appendHeader(nil, Of(shard)+1, 0)",
		New: "Upper: appendHeader(nil, Of(shard)+2, 0)",
	},
	{
		Name: "group/flush-of-another", Breaks: "of several groups that share a flush of the engine all take the index of the first for theirs",
		File: "driver/flush.go", Shards: 4, Verdicts: noticed, Seeds: 100,
		Old: "run.replica.flushed(run.machine, run.index)",
		New: "run.replica.flushed(run.machine, runs[0].index)",
	},
	{
		Name: "group/log-cut-for-all", Breaks: "a group that cuts its log cuts that of the node's first group as well, which may need it",
		File: "driver/maintain.go", Shards: 4, Verdicts: noticed, Seeds: 100,
		Old: "\treturn r.driver.opts.Log.Compact(r.group, upTo)\n",
		New: "\tif err := r.driver.opts.Log.Compact(r.driver.order[0].group, upTo); err != nil {\n\t\treturn err\n\t}\n\treturn r.driver.opts.Log.Compact(r.group, upTo)\n",
	},
	{
		Name: "group/failure-stops-node", Breaks: "a replica that cannot go on stops its node, and with it all others",
		File: "driver/life.go", Shards: 4, Verdicts: noticed, Seeds: 100,
		Old: "\tif ofNode(err) {\n",
		New: "\tif ofNode(err) || len(d.order) > 0 {\n",
	},
	{
		Name: "group/failure-at-start-stops-node", Breaks: "a node of which one replica cannot be opened does not start",
		File: "driver/open.go", Shards: 4, Verdicts: noticed, Seeds: 200,
		Old: "\t\tif ofNode(err) || errors.Is(err, errOtherShard) {\n",
		New: "\t\tif ofNode(err) || errors.Is(err, errOtherShard) || len(d.order) > 0 {\n",
	},
	{
		Name: "group/failure-not-told", Breaks: "nobody is told that a replica cannot go on",
		File: "driver/life.go", Shards: 4, Verdicts: noticed, Seeds: 100,
		Old: "\tif d.opts.Listener.GroupFailed != nil {\n",
		New: "\tif d.opts.Listener.GroupFailed != nil && d.Err() != nil {\n",
	},
	{
		Name: "group/failure-not-counted", Breaks: "the metric does not count a replica that cannot go on",
		File: "driver/life.go", Shards: 4, Verdicts: noticed, Seeds: 100,
		Old: "\td.metrics.groupsFailed.Add(1)\n",
		New: "",
	},
	{
		Name: "group/failed-serves", Breaks: "a leader that cannot go on says that it leads, and reads from what it has as long as its lease lasts",
		File: "driver/life.go", Shards: 4, Verdicts: noticed, Seeds: 100,
		Old: "\tr.ended = true\n\tr.serving.Store(false)\n\tr.lease.Store(nil)\n\tr.leader.Store(&knownLeader{})\n",
		New: "\tr.ended = true\n",
	},
	{
		Name: "group/budget-not-given-back", Breaks: "what a replica held in memory counts on when it is gone",
		File: "driver/life.go", Shards: 4, Verdicts: noticed, Seeds: 100,
		Old: "\td.memory, r.memory = d.memory.Minus(r.memory), mvcc.Memory{}\n",
		New: "",
	},
	{
		Name: "group/add-syncs-in-round", Breaks: "the round in which a group is added waits for the disk, however slow it is",
		File: "driver/life.go", Shards: 4, Verdicts: noticed, At: 2135,
		Old: "func() error { written = true; return nil }",
		New: "func() error { written = false; return d.opts.Log.Sync() }",
	},
	{
		Name: "group/removed-goes-on", Breaks: "a replica that was removed takes part in the rounds as before",
		File: "driver/remove.go", Shards: 4, Verdicts: noticed, Seeds: 200,
		Old: "\t\tr.end(kv.ErrStopped, \"removed\")\n",
		New: "",
	},
	{
		Name: "group/message-of-another", Breaks: "consensus messages of one group are given to another",
		File: "driver/replica.go", Shards: 4, Verdicts: noticed, Seeds: 20,
		Old: "\t\tr, err := d.replica(m.group)\n",
		New: "\t\tr, err := d.replica(max(m.group&^1, 1))\n",
	},
	{
		Name: "group/only-first-gets-ticks", Breaks: "only the first group of a node hears that time passes",
		File: "driver/agenda.go", Shards: 4, Verdicts: noticed, Seeds: 20,
		Old: "\tif on && !r.in.ticking {\n",
		New: "\tif on && !r.in.ticking && r == r.driver.order[0] {\n",
	},
	{
		Name: "group/asked-of-another", Breaks: "a request for a shard that the node does not hold is given to one that it holds",
		File: "gateway/gateway.go", Shards: 4, Verdicts: noticed, Seeds: 20,
		Old: "\tl := g.links.byShard[shard]\n\tif l == nil {\n\t\treturn nil, notHere(shard)\n\t}\n\treturn l, nil\n",
		New: "\tif l := g.links.byShard[shard]; l != nil {\n\t\treturn l, nil\n\t}\n\treturn g.links.byShard[g.options.Watched], nil\n",
	},
	{
		Name: "group/watched-of-another", Breaks: "a watch of a shard that the node does not hold is given one that it holds",
		File: "gateway/gateway.go", Shards: 4, Verdicts: noticed, Seeds: 20,
		Old: "\t\tl, err := g.linkOf(req)\n\t\tif err == nil && l.shard != g.options.Watched {\n\t\t\terr = notHere(l.shard) // not for watches\n\t\t}\n\t\treturn err\n",
		New: "\t\t_ = req\n\t\treturn nil\n",
	},
	{
		Name: "group/leases-of-the-replaced", Breaks: "leases of a state that a snapshot replaced stay counted",
		File: "driver/install.go", Verdicts: noticed, Seeds: 200,
		Old: "\tr.driver.metrics.reckonReplaced(&r.figures)\n",
		New: "\tr.figures = shard.Metrics{}\n",
	},
}
