package main

var gatewayMutations = []Mutation{
	{
		Name: "gateway/unknown-write-repeated", Breaks: "a write whose outcome is unknown, because the connection to the leader broke, is sent again",
		File: "gateway/forwarder.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tif c.read {\n\t\t\tagain = append(again, c)\n",
		New: "\t\tif c.sentTo == node {\n\t\t\tagain = append(again, c)\n",
	},
	{
		Name: "gateway/unknown-answer-repeated", Breaks: "a write that the leader answered with \"outcome unknown\" is sent again",
		File: "gateway/peer.go", Verdicts: noticed, Seeds: 500,
		Old: "\tcase o.err != nil && c.again(o.err):\n",
		New: "\tcase o.err != nil && (c.again(o.err) || kv.CodeOf(o.err) == kv.ErrOutcomeUnknown.Code):\n",
	},
	{
		Name: "gateway/barrier-shared-late", Breaks: "a read that comes while a barrier is on its way shares that barrier",
		File: "gateway/barriers.go", Verdicts: noticed, Seeds: 400,
		Old: "\tc.state = callBarrier\n\tplace(&b.waiting, c, false)\n",
		New: "\tc.state = callBarrier\n\tif b.flying {\n\t\tplace(&b.asked, c, true)\n\t\treturn\n\t}\n\tplace(&b.waiting, c, false)\n",
	},
	{
		Name: "gateway/barrier-not-awaited", Breaks: "a read goes ahead when its barrier is answered, before the local replica has applied what the barrier names",
		File: "gateway/peer.go", Verdicts: noticed, Seeds: 100,
		Old: "g.shard.WaitApplied(index, func(err error) { g.barrierApplied(calls, err) })",
		New: "g.barrierApplied(calls, nil)",
	},
	{
		Name: "gateway/serializable-for-linearizable", Breaks: "every range is served from the local state as it is",
		File: "gateway/route.go", Verdicts: noticed, Seeds: 100,
		Old: "\tcase shard.IsSerializable(c.Req):\n",
		New: "\tcase shard.IsSerializable(c.Req) || c.Req.Range != nil:\n",
	},
	{
		Name: "gateway/read-without-lease", Breaks: "a node that takes itself for the leader reads without a lease",
		File: "gateway/route.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif !g.shard.LeaseValid() {\n\t\treturn false\n\t}\n\tresp, err := g.shard.Read(c.Req)\n\tif !g.shard.LeaseValid() {\n",
		New: "\tif !g.shard.IsLeader() {\n\t\treturn false\n\t}\n\tresp, err := g.shard.Read(c.Req)\n\tif !g.shard.IsLeader() {\n",
	},
	{
		Name: "gateway/call-dropped", Breaks: "calls that did not leave, because there is no connection to the leader, are forgotten",
		File: "gateway/forwarder.go", Verdicts: noticed, Seeds: 600,
		Old: "\t\t\tback = append(back, c)\n",
		New: "",
	},
	{
		Name: "gateway/answered-twice", Breaks: "a call that has ended can be answered again",
		File: "gateway/route.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif c.answered.Swap(true) {\n\t\treturn\n\t}\n",
		New: "\tc.answered.Store(true)\n",
	},
	{
		Name: "gateway/stale-leader-renews", Breaks: "a node that takes itself for the leader renews leases",
		File: "gateway/route.go", Verdicts: noticed, Seeds: 300,
		Old: "if req.Kind != kv.KindLeaseKeepAlive || !g.shard.LeaseValid() {\n\t\treturn nil, false\n\t}\n\tresp, renewed := g.shard.Renew(req.LeaseKeepAlive)\n\tif !renewed || !g.shard.LeaseValid() {\n",
		New: "if req.Kind != kv.KindLeaseKeepAlive {\n\t\treturn nil, false\n\t}\n\tresp, renewed := g.shard.Renew(req.LeaseKeepAlive)\n\tif !renewed {\n",
	},
	{
		Name: "gateway/stale-leader-tells-ttl", Breaks: "a deposed leader answers what is left of a lease",
		File: "gateway/forwarded.go", Verdicts: noticed, Seeds: 300,
		Old: "\tif g.shard.LeaseValid() {\n\t\tresp, err := g.shard.Read(req)\n\t\tif g.shard.LeaseValid() {\n",
		New: "\tif g.shard.IsLeader() {\n\t\tresp, err := g.shard.Read(req)\n\t\tif g.shard.IsLeader() {\n",
	},
}
