package main

var gatewayMutations = []Mutation{
	{
		Name: "gateway/unknown-write-repeated", Breaks: "a write whose outcome is unknown, because the connection to the leader broke, is sent again",
		File: "gateway/link/forwarder.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tif i.Read {\n\t\t\tagain = append(again, i)\n",
		New: "\t\tif i.sentTo == node {\n\t\t\tagain = append(again, i)\n",
	},
	{
		Name: "gateway/unknown-answer-repeated", Breaks: "a write that the leader answered with \"outcome unknown\" is sent again",
		File: "gateway/peer.go", Verdicts: noticed, Seeds: 500,
		Old: "\tcase o.Err != nil && c.again(o.Err):\n",
		New: "\tcase o.Err != nil && (c.again(o.Err) || kv.CodeOf(o.Err) == kv.ErrOutcomeUnknown.Code):\n",
	},
	{
		Name: "gateway/barrier-shared-late", Breaks: "a read that comes while a barrier is on its way shares that barrier",
		File: "gateway/link/barriers.go", Verdicts: noticed, Seeds: 400,
		Old: "\ti.state = barrier\n\tplace(&b.waiting, i, false)\n",
		New: "\ti.state = barrier\n\tif b.flying {\n\t\tplace(&b.asked, i, true)\n\t\treturn\n\t}\n\tplace(&b.waiting, i, false)\n",
	},
	{
		Name: "gateway/barrier-not-awaited", Breaks: "a read goes ahead when its barrier is answered, before the local replica has applied what the barrier names",
		File: "gateway/peer.go", Verdicts: noticed, Seeds: 100,
		Old: "l.local.WaitApplied(index, func(err error) { l.barrierApplied(reads, err) })",
		New: "l.barrierApplied(reads, nil)",
	},
	{
		Name: "gateway/serializable-for-linearizable", Breaks: "every range is served from the local state as it is",
		File: "gateway/submit.go", Verdicts: noticed, Seeds: 100,
		Old: "\tcase shard.IsSerializable(c.Req):\n",
		New: "\tcase shard.IsSerializable(c.Req) || c.Req.Range != nil:\n",
	},
	{
		Name: "gateway/read-without-lease", Breaks: "a node that takes itself for the leader reads without a lease",
		File: "gateway/submit.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif !l.local.LeaseValid() {\n\t\treturn false\n\t}\n\tresp, err := l.local.Read(c.Req)\n\tif !l.local.LeaseValid() {\n",
		New: "\tif !l.local.IsLeader() {\n\t\treturn false\n\t}\n\tresp, err := l.local.Read(c.Req)\n\tif !l.local.IsLeader() {\n",
	},
	{
		Name: "gateway/call-dropped", Breaks: "calls that did not leave, because there is no connection to the leader, are forgotten",
		File: "gateway/link/forwarder.go", Verdicts: noticed, Seeds: 600,
		Old: "\t\t\tback = append(back, i)\n",
		New: "",
	},
	{
		Name: "gateway/answered-twice", Breaks: "a call that has ended can be answered again",
		File: "gateway/call.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif c.answered.Swap(true) {\n\t\treturn\n\t}\n",
		New: "\tc.answered.Store(true)\n",
	},
	{
		Name: "gateway/stale-leader-renews", Breaks: "a node that takes itself for the leader renews leases",
		File: "gateway/submit.go", Verdicts: noticed, Seeds: 300,
		Old: "if req.Kind != kv.KindLeaseKeepAlive || !l.local.LeaseValid() {\n\t\treturn nil, 0, false\n\t}\n\tresp, applied, renewed = l.local.Renew(req.LeaseKeepAlive, elsewhere)\n\tif !renewed || !l.local.LeaseValid() {\n",
		New: "if req.Kind != kv.KindLeaseKeepAlive {\n\t\treturn nil, 0, false\n\t}\n\tresp, applied, renewed = l.local.Renew(req.LeaseKeepAlive, elsewhere)\n\tif !renewed {\n",
	},
	{
		Name: "gateway/stale-leader-tells-ttl", Breaks: "a deposed leader answers what is left of a lease",
		File: "gateway/forwarded.go", Verdicts: noticed, Seeds: 300,
		Old: "\tif l.local.LeaseValid() {\n\t\tresp, err := l.local.Read(req)\n\t\tif l.local.LeaseValid() {\n",
		New: "\tif l.local.IsLeader() {\n\t\tresp, err := l.local.Read(req)\n\t\tif l.local.IsLeader() {\n",
	},
	{
		Name: "gateway/new-frames-for-old-nodes", Breaks: "frames say which shard they are of, whatever the version of the node that they are for",
		File: "gateway/peer.go", Verdicts: noticed, Seeds: 100,
		Old: "Numbered: to.Shards}",
		New: "Numbered: true}",
	},
	{
		Name: "gateway/answer-taken-twice", Breaks: "a call that was answered goes on waiting for its answer, and takes another one",
		File: "gateway/link/forwarder.go", Verdicts: noticed, Seeds: 100,
		Old: "\tf.remove(i)\n\treturn i\n",
		New: "\treturn i\n",
	},
	{
		Name: "gateway/answer-of-another-shard", Breaks: "an answer about any shard is taken for one about the system shard",
		File: "gateway/peer.go", Verdicts: noticed, Seeds: 100,
		Old:    "\tl := g.links.byShard[a.Shard]\n",
		New:    "\tl := g.links.byShard[kv.SystemShard]\n",
		Unseen: "simulated gateways have one shard; TestShardsAreToldApart of package gateway finds it",
	},
	{
		Name: "gateway/question-about-another-shard", Breaks: "requests and barriers of any shard are taken for those of the system shard",
		File: "gateway/forwarded.go", Verdicts: noticed, Seeds: 100,
		Old:    "\tl := g.links.byShard[q.Shard]\n",
		New:    "\tl := g.links.byShard[kv.SystemShard]\n",
		Unseen: "simulated gateways have one shard; TestShardsAreToldApart and TestShardNotHere of package gateway find it",
	},
	{
		Name: "gateway/leader-without-limits", Breaks: "a leader has room for whatever other nodes forward",
		File: "gateway/forwarded.go", Verdicts: noticed, Seeds: 100,
		Old:    "if !g.options.Space.Admit(bytes) {",
		New:    "if g.options.Space.Admit(bytes); false {",
		Unseen: "simulated nodes have no quota; TestLimitsOfTheLeader of package gateway finds it",
	},
}
