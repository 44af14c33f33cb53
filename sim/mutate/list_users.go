package main

// userMutations are mistakes in who may do what, and in what becomes of that when it changes.
var userMutations = []Mutation{
	{
		Name: "users/nested-put", Breaks: "what is in a transaction in a transaction is not looked at",
		File: "auth/decide.go", Verdicts: noticed, Seeds: 200,
		Old: "\tcase op.Txn != nil:\n\t\treturn r.txn(op.Txn, leases)\n",
		New: "",
	},
	{
		Name: "users/previous-value", Breaks: "a put tells the value before to who may only write",
		File: "auth/decide.go", Verdicts: noticed, Seeds: 200,
		Old: "\tif p.PrevKV {\n\t\tif err := r.mayRead(key); err != nil {\n",
		New: "\tif p.PrevKV && p.Lease != 0 {\n\t\tif err := r.mayRead(key); err != nil {\n",
	},
	{
		Name: "users/one-branch", Breaks: "of a transaction only the branch for the case that its compares hold is looked at",
		File: "auth/decide.go", Verdicts: noticed, Seeds: 200,
		Old: "\tfor _, ops := range [2][]kv.Op{t.Success, t.Failure} {\n\t\tfor i := range ops {\n\t\t\tif err",
		New: "\tfor _, ops := range [1][]kv.Op{t.Success} {\n\t\tfor i := range ops {\n\t\t\tif err",
	},
	{
		Name: "users/compared", Breaks: "what a transaction compares is not looked at",
		File: "auth/decide.go", Verdicts: noticed, Seeds: 400,
		Old: "\t\tif err := r.mayRead(t.Compare[i].Span); err != nil {\n",
		New: "\t\tif err := r.mayRead(t.Compare[i].Span); err != nil && r.name == \"\" {\n",
	},
	{
		Name: "users/open-end", Breaks: "a range or watch with an open end is allowed to who may read its first key",
		File: "auth/rights.go", Verdicts: noticed, Seeds: 200,
		Old: "\tcase len(span.End) == 1 && span.End[0] == 0:\n\t\treturn false\n",
		New: "\tcase len(span.End) == 1 && span.End[0] == 0:\n\t\treturn true\n",
	},
	{
		Name: "users/old-token", Breaks: "a token is good although the password was changed",
		File: "auth/rights.go", Verdicts: noticed, Seeds: 200,
		Old: "\tcase proof.Account != 0 && proof.Account != r.account:\n",
		New: "\tcase proof.Account != 0 && !r.known:\n",
	},
	{
		Name: "users/version-not-carried", Breaks: "a request does not carry the version of the users and roles that it was allowed by",
		File: "gateway/permit.go", Verdicts: noticed, Seeds: 400,
		Old: "\t\tc.Req.AuthVersion = rights.Version()\n",
		New: "\t\tc.Req.AuthVersion = kv.Unjudged\n",
	},
	{
		Name: "users/stale-write", Breaks: "a leader evaluates what a follower allowed by an older state of users and roles",
		File: "shard/evaluate.go", Verdicts: noticed, Seeds: 400,
		Old: "\tif r.AuthVersion < m.authEvaluated() && judged(r.Kind) {\n",
		New: "\tif r.AuthVersion < m.authEvaluated() && r.AuthVersion == 0 && judged(r.Kind) {\n",
	},
	{
		Name: "users/system-shard-only", Breaks: "only the system shard looks whether users or roles have changed",
		File: "shard/auth.go", Partition: "hash", Verdicts: noticed, Seeds: 400,
		Old: "\t\treturn m.lead.toldAlarms >> AuthVersionBit\n",
		New: "\t\treturn 0\n",
	},
	{
		Name: "users/watch-goes-on", Breaks: "a watch goes on when the right to read is taken away",
		File: "gateway/watch/reauthorize.go", Verdicts: noticed, Seeds: 400,
		Old: "\t\tif refusal == nil {\n",
		New: "\t\tif refusal == nil || len(s.watchers) > 0 {\n",
	},
	{
		Name: "users/refused-too-early", Breaks: "a request is refused by a state that is older than the right to it",
		File: "gateway/permit.go", Verdicts: noticed, Seeds: 400,
		Old: "\tcase !c.confirmed: // perhaps",
		New: "\tcase !c.confirmed && c.Req.Principal == \"\": // perhaps",
	},
	{
		Name: "users/unknown", Breaks: "a node that has keys and has heard of no users yet answers whoever asks",
		File: "gateway/permit.go", Partition: "hash", Verdicts: noticed, Seeds: 1000,
		Old:    "\tcase !known:\n\t\tg.learnUsers(c)\n\t\treturn false\n",
		New:    "\tcase !known && c.RequireLeader:\n\t\tg.learnUsers(c)\n\t\treturn false\n\tcase state == nil:\n\t\treturn true\n",
		Unseen: "TestUsersUnknown of package gateway finds it",
	},
}
