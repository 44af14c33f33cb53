package main

import "github.com/quoratedb/quorate/sim"

var replicaMutations = []Mutation{
	{
		Name: "replica/skip-sync", Breaks: "the log is not synced",
		File: "replica/round.go", Verdicts: noticed, Seeds: 100,
		Old: "\terr = s.opts.Log.Sync()\n",
		New: "",
	},
	{
		Name: "replica/messages-before-sync", Breaks: "messages that must wait for the sync leave with the others",
		File: "replica/group.go", Verdicts: noticed, Seeds: 250,
		Old: "\ts.unsynced = append(s.unsynced, pendingAck{replica: r, mark: a.Mark, needSync: a.Sync, afterSync: a.AfterSync})\n",
		New: "\tr.send(a.AfterSync)\n\ts.unsynced = append(s.unsynced, pendingAck{replica: r, mark: a.Mark, needSync: a.Sync})\n",
	},
	{
		Name: "replica/answer-before-commit", Breaks: "a write is answered when it is proposed",
		File: "replica/propose.go", Verdicts: noticed, Seeds: 100,
		Old: "\tr.rounds.push(proposedRound{term: r.role.Term, seq: seq, requests: r.round})\n",
		New: "\tfor _, q := range r.round {\n\t\tr.finish(q, r.machine.AppliedIndex())\n\t}\n\tr.rounds.push(proposedRound{term: r.role.Term, seq: seq})\n",
	},
	{
		Name: "replica/lost-write-answered", Breaks: "a write that another leader's entry replaced is answered as done",
		File: "replica/propose.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tapplied := front.term == term && front.seq == seq && !void\n",
		New: "\t\tapplied := true\n",
	},
	{
		Name: "replica/void-write-answered", Breaks: "a write in an entry that applies nothing, because its predecessor was lost, is answered as done",
		File: "replica/propose.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 500,
		Old: "front.seq == seq && !void\n",
		New: "front.seq == seq\n",
	},
	{
		Name: "replica/proposed-refused", Breaks: "a leader that steps down refuses what it has proposed as surely without effect",
		File: "replica/group.go", Verdicts: noticed, Seeds: 100,
		Old: "\tr.refuseDependents(kv.ErrLeaderChanged)\n\tr.failBarriers(kv.ErrLeaderChanged)\n",
		New: "\tr.refuseDependents(kv.ErrLeaderChanged)\n\tr.failBarriers(kv.ErrLeaderChanged)\n" +
			"\tfor r.rounds.len() > 0 {\n\t\tfor _, q := range r.rounds.pop().requests {\n\t\t\tq.resp, q.err = nil, kv.ErrNotLeader\n\t\t\tr.finish(q, 0)\n\t\t}\n\t}\n",
	},
	{
		Name: "replica/snapshot-refuses-proposed", Breaks: "a deposed leader that installs a snapshot refuses what it had proposed, though the snapshot may contain it",
		File: "replica/propose.go", Verdicts: noticed, Seeds: 250,
		Old: "q.resp, q.err = nil, kv.ErrOutcomeUnknown",
		New: "q.resp, q.err = nil, kv.ErrNotLeader",
	},
	{
		Name: "replica/compare-unconfirmed", Breaks: "what changes nothing (a failed compare, say) is answered without making sure that the replica still leads",
		File: "replica/propose.go", Verdicts: noticed, Seeds: 400,
		Old: "\tif r.leaseHolds() { // evaluated on top",
		New: "\tif r.leading { // evaluated on top",
	},
	{
		Name: "replica/compare-on-uncommitted", Breaks: "what was evaluated on top of entries in flight is answered before they are committed",
		File: "replica/propose.go", Verdicts: noticed, Seeds: 100,
		Old: "\tcase out.WaitFor > r.appliedSeq:\n",
		New: "\tcase out.WaitFor > r.appliedSeq+1000:\n",
	},
	{
		Name: "replica/lease-without-quorum", Breaks: "a leader needs nobody's promise for its lease",
		File: "leadership/lease.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tif holding < set.Need {\n",
		New: "\t\tif holding < min(set.Need, 1) {\n",
	},
	{
		Name: "replica/lease-ignores-unapplied", Breaks: "a leader reads under its lease although followers may show what it has not applied yet",
		File: "replica/read.go", Verdicts: noticed, Seeds: 600,
		Old: "return r.committed.Load() <= r.applied.Load() && r.leaseHolds()",
		New: "return r.leaseHolds()",
	},
	{
		Name: "replica/barrier-names-applied", Breaks: "a barrier under a lease names what the leader has applied, not what it has told others to be committed",
		File: "replica/read.go", Verdicts: noticed, Seeds: 600,
		Old: "index := r.Committed()",
		New: "index := r.Applied()",
	},
	{
		Name: "replica/barrier-without-lease", Breaks: "a barrier is answered without a lease and without asking a quorum",
		File: "replica/read.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif r.leaseHolds() {",
		New: "\tif r.serving.Load() {",
	},
	{
		Name: "replica/promises-not-honoured", Breaks: "a replica votes and campaigns although its node is bound by a promise",
		File: "leadership/follow.go", Verdicts: noticed, Seeds: 100,
		Old: "return leader.Node != 0 && c.promises.Supporting(now, leader.Node, leader.Instance)",
		New: "return leader.Node != 0 && false",
	},
	{
		Name: "replica/former-process-guessed", Breaks: "a leader that does not say which process it is counts as gone when a promise to an earlier process of its node ends",
		File: "leadership/follow.go", Verdicts: noticed, At: 771003877,
		Old: "\t\tc.doubtLeader(now)\n",
		New: "\t\tc.leaderGone(now)\n",
	},
	{
		Name: "replica/withdrawal-kept", Breaks: "a promise that was withdrawn, and then made again to a leader that came back, does not bind",
		File: "leadership/follow.go", Verdicts: noticed, Seeds: 4000,
		Old: "\tc.following.orphanedAt, c.following.freeAt = 0, 0\n\treturn true\n",
		New: "\treturn true\n",
	},
	{
		Name: "leadership/lease-while-handing-over", Breaks: "a leader that hands over keeps its lease for reads, although somebody may be elected in spite of the promises",
		File: "leadership/lease.go", Verdicts: noticed, Seeds: 400,
		Old: "if c.forbidden || c.options.ReadQuorum {",
		New: "if c.options.ReadQuorum {",
	},
	{
		Name: "replica/epoch-not-checked", Breaks: "an acknowledgement under an old promise counts for the promise in force",
		File: "replica/lease.go", Verdicts: noticed, Seeds: 300,
		Old: "\tif epoch == (liveness.Epoch{}) || p.epoch != epoch {\n",
		New: "\tif epoch == (liveness.Epoch{}) {\n",
	},
	{
		Name: "replica/votes-after-restart", Breaks: "a restarted node votes at once, though its earlier process may have promised not to",
		File: "leadership/follow.go", Verdicts: noticed, Seeds: 400,
		Old: "return c.promises.MayVote(now) || c.alone()",
		New: "return true",
	},
	{
		Name: "replica/flush-not-awaited", Breaks: "what is written to the engine counts as durable before the engine has flushed",
		File: "replica/flush.go", Verdicts: noticed, Seeds: 600,
		Old: "\ts.opts.Engine.Flush(func(err error) {\n\t\ts.call(func() { s.engineFlushed(runs, err) })\n\t})\n",
		New: "\ts.opts.Engine.Flush(func(error) {})\n\ts.engineFlushed(runs, nil)\n",
	},
	{
		Name: "replica/memory-of-replaced-state", Breaks: "a state that a snapshot replaced is reckoned with for ever",
		File: "replica/maintain.go", Verdicts: noticed, Seeds: 100,
		Old: "\tr.reckonMemory()\n\tr.hashes.opened()\n",
		New: "\tr.hashes.opened()\n",
	},
	{
		Name: "replica/log-cut-too-early", Breaks: "the log is cut up to what is applied, before the state is durable",
		File: "replica/maintain.go", Verdicts: noticed, Seeds: 250,
		Old: "\tupTo := min(r.flush.durable, last)\n",
		New: "\tupTo := min(r.machine.AppliedIndex(), last)\n",
	},
	{
		Name: "replica/snapshot-keeps-log", Breaks: "the log is not reset when a snapshot is installed",
		File: "replica/group.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\twrite.Reset = &storage.LogPosition{Index: a.Snapshot.Index, Term: a.Snapshot.Term}\n",
		New: "",
	},
	{
		Name: "replica/snapshot-unflushed", Breaks: "a snapshot is shipped without what is still dirty in memory",
		File: "replica/snapshot.go", Verdicts: noticed, Seeds: 100,
		Old: "\tif err := r.flushNow(); err != nil {\n",
		New: "\tif err := error(nil); err != nil {\n",
	},
	{
		Name: "replica/refused-proposal-dropped", Breaks: "a proposal that the core has no room for is forgotten",
		File: "replica/propose.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tr.refused = refusedProposal{data: data, seq: seq}\n",
		New: "",
	},
	{
		Name: "replica/newest-format-for-all", Breaks: "nodes of an older version are sent frames of the newest one",
		File: "replica/round.go", Verdicts: noticed, Seeds: 200,
		Old: "channel, marked := ChannelConsensus, s.speaks(node) >= formatMarks",
		New: "channel, marked := ChannelConsensus, s.formats[node] > 0",
	},
	{
		Name: "replica/install-within-a-round", Breaks: "a snapshot is installed within a round",
		File: "replica/install.go", Verdicts: noticed, Seeds: 100,
		Old: "\tr.store.spawn(func() {\n\t\tinstalling.machine",
		New: "\tfunc(install func()) { install() }(func() {\n\t\tinstalling.machine",
	},
	{
		Name: "replica/blocked-forgotten", Breaks: "requests that waited for one beside the rounds are not evaluated when it has ended",
		File: "replica/beside.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\t\tr.queue.push(b.blocked[i])\n",
		New: "\t\t\t_ = i\n",
	},
}
