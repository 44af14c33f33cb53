package main

import "github.com/quoratedb/quorate/sim"

var raftMutations = []Mutation{
	{
		Name: "raft/acknowledged-before-durable", Breaks: "a follower's acknowledgements and votes leave before the write they rest on is durable",
		File: "consensus/raft/ready.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 100,
		Old: "\t\tout.Append.AfterSync = after\n",
		New: "\t\tout.Messages = append(out.Messages, after...)\n",
	},
	{
		Name: "raft/leader-counts-undurable", Breaks: "a leader counts itself before its own disk has the entry",
		File: "consensus/raft/ready.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 400,
		Old: "toSelf: toSelf, snapshot: out.Append.Snapshot})\n\t\treturn nil",
		New: "snapshot: out.Append.Snapshot})\n\t\treturn toSelf",
	},
	{
		Name: "raft/hard-state-not-written", Breaks: "term and vote are not written",
		File: "consensus/raft/ready.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 400,
		Old: "\tif c.hard != before {\n",
		New: "\tif c.hard.Commit != before.Commit {\n",
	},
	{
		Name: "raft/vote-forgotten-at-restart", Breaks: "a restart forgets for whom the replica voted in its term",
		File: "consensus/raft/core.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 400,
		Old: "\tif hard.Term < lastTerm { // an entry",
		New: "\thard.Vote = 0\n\tif hard.Term < lastTerm { // an entry",
	},
	{
		Name: "raft/barrier-by-ticks", Breaks: "read barriers rely on the election timer instead of asking a quorum",
		File: "consensus/raft/core.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 250,
		Old: "etcdraft.ReadOnlySafe,",
		New: "etcdraft.ReadOnlyLeaseBased,",
	},
	{
		Name: "raft/votes-twice", Breaks: "a replica votes for several candidates in one term (in the library)",
		File: raftModule + "/raft.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 100,
		Old: "(r.Vote == None && r.lead == None) ||",
		New: "r.lead == None ||",
	},
	{
		Name: "raft/votes-for-shorter-logs", Breaks: "a replica votes for candidates whose log ends before its own (in the library)",
		File: raftModule + "/log.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 100,
		Old: "their.term == our.term && their.index >= our.index",
		New: "their.term == our.term",
	},
	{
		Name: "raft/votes-for-older-logs", Breaks: "a replica votes for candidates whose log is longer, though it ends in an older term (in the library)",
		File: raftModule + "/log.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 400,
		Old: "return their.term > our.term || their.term == our.term && their.index >= our.index",
		New: "return their.index >= our.index",
	},
	{
		Name: "raft/commits-earlier-terms", Breaks: "a leader counts replicas of entries of earlier terms, and commits them by that (in the library)",
		File: raftModule + "/log.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 400,
		Old: "at.index > l.committed && l.matchTerm(at) {",
		New: "at.index > l.committed {",
	},
	{
		Name: "raft/commit-quorum-too-small", Breaks: "a minority of the voters commits an entry (in the library)",
		File: raftModule + "/quorum/majority.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 100,
		Old: "pos := n - (n/2 + 1)",
		New: "pos := n - (n+1)/2 + n%2",
	},
	{
		Name: "raft/lease-after-transfer", Breaks: "a leader that hands over reads from memory until it hears of its successor, which was elected in spite of all promises",
		File: "consensus/raft/status.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 400,
		Old: "b.LeaseForbidden = c.lead.transferred",
		New: "b.LeaseForbidden = false",
	},
	{
		Name: "raft/answer-before-an-earlier-write", Breaks: "an answer that rests on a write in flight and needs none of its own leaves at once: entries are acknowledged that a crash takes away",
		File: "consensus/raft/ready.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 200,
		Old: "\t\tlast.others = append(last.others, after...)\n",
		New: "\t\tout.Messages = append(out.Messages, after...)\n",
	},
	{
		Name: "raft/quiet-before-all-know", Breaks: "a leader falls quiet although a follower has not said that it knows the last entry to be committed: that one stays behind until somebody writes",
		File: "consensus/raft/status.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 3000,
		Old:    "\t\t\tconsensus.Index(p.Match) == c.last && c.lead.commits[replica] >= c.hard.Commit)\n",
		New:    "\t\t\tconsensus.Index(p.Match) == c.last)\n",
		Unseen: "TestRaftScenarios of package consensus/raft finds it; simulated leaders hardly ever fall quiet before all know",
	},
}
