package main

import "github.com/quoratedb/quorate/sim"

var paxosMutations = []Mutation{
	{
		Name: "paxos/elected-by-majority", Breaks: "a majority elects although the quorum of the first phase is larger",
		File: "consensus/paxos/candidate.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 400,
		Old: "\tif count(voters, complete) < c.quorums.phase1(len(voters)) {\n",
		New: "\tif count(voters, complete) < min(c.quorums.phase1(len(voters)), majority(len(voters))) {\n",
	},
	{
		Name: "paxos/decided-by-majority", Breaks: "a majority decides although the quorum of the second phase is larger",
		File: "consensus/paxos/leader.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 1000,
		Old: "need := c.quorums.phase2(len(voters))",
		New: "need := min(c.quorums.phase2(len(voters)), majority(len(voters)))",
	},
	{
		Name: "paxos/promise-before-durable", Breaks: "a promise leaves before it is durable, and a crash forgets it",
		File: "consensus/paxos/acceptor.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 400,
		Old: "\tc.sendAfterSync(promise)\n",
		New: "\tc.send(promise)\n",
	},
	{
		Name: "paxos/accepted-before-durable", Breaks: "an entry is acknowledged before it is durable",
		File: "consensus/paxos/acceptor.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 400,
		Old: "\tc.sendAfterSync(consensus.Message{\n\t\tTo: c.leader, Kind: KindAccepted,",
		New: "\tc.send(consensus.Message{\n\t\tTo: c.leader, Kind: KindAccepted,",
	},
	{
		Name: "paxos/heartbeat-acknowledges-undurable", Breaks: "the answer to a heartbeat acknowledges what is received and not yet durable",
		File: "consensus/paxos/acceptor.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 400,
		Old: "\t\tIndex: c.durable(), Hint: c.received,",
		New: "\t\tIndex: c.received, Hint: c.received,",
	},
	{
		Name: "paxos/leader-counts-undurable", Breaks: "a leader counts itself before its own disk has the entry",
		File: "consensus/paxos/leader.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 400,
		Old: "return s != nil && s.ballot == c.promised && s.write <= c.acked",
		New: "return s != nil && s.ballot == c.promised",
	},
	{
		Name: "paxos/accept-below-promise", Breaks: "entries under a lower ballot than the promised one are accepted",
		File: "consensus/paxos/acceptor.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 250,
		Old: "\tif m.Term < c.promised {\n\t\tc.send(consensus.Message{To: m.From, Kind: refusal,",
		New: "\tif m.Term < c.promised && m.Kind != KindAccept {\n\t\tc.send(consensus.Message{To: m.From, Kind: refusal,",
	},
	{
		Name: "paxos/phase1-quorum-too-small", Breaks: "a candidate leads with one promise less than a quorum",
		File: "consensus/paxos/candidate.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 250,
		Old: "count(voters, complete) < c.quorums.phase1(len(voters))",
		New: "count(voters, complete) < c.quorums.phase1(len(voters))-1",
	},
	{
		Name: "paxos/phase2-quorum-too-small", Breaks: "an entry is decided with one acceptance less than a quorum",
		File: "consensus/paxos/leader.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 250,
		Old: "need := c.quorums.phase2(len(voters))",
		New: "need := c.quorums.phase2(len(voters)) - 1",
	},
	{
		Name: "paxos/own-value-wins", Breaks: "for a slot in which it accepted something itself, a new leader proposes that, though others report a value under a higher ballot",
		File: "consensus/paxos/candidate.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 250,
		Old: "i > c.decided && p.found[i].ballot < s.ballot {",
		New: "i > c.decided {",
	},
	{
		Name: "paxos/others-values-dropped", Breaks: "a new leader proposes only what it had accepted itself, not what the others report",
		File: "consensus/paxos/candidate.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 250,
		Old: "} else if p.found[e.Index].ballot < ballot {",
		New: "} else if ballot == 0 {",
	},
	{
		Name: "paxos/hole-moves-value", Breaks: "a new leader fills one slot too many before a value that it found, and so moves the value",
		File: "consensus/paxos/leader.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 250,
		Old: "for l.last+1 < s.entry.Index {",
		New: "for l.last < s.entry.Index {",
	},
	{
		Name: "paxos/trimmed-slot", Breaks: "a new leader proposes into slots that others have decided and trimmed",
		File: "consensus/paxos/candidate.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 400,
		Old: "known != nil && known.complete && c.decided < known.decided {",
		New: "known != nil && known.complete && c.decided < known.decided && false {",
	},
	{
		Name: "paxos/commit-mark-any-ballot", Breaks: "a leader's decided mark is believed for slots that were accepted under another ballot",
		File: "consensus/paxos/acceptor.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 250,
		Old: "s.ballot == c.commitBallot && s.entry.Index <= c.commitMark",
		New: "s.entry.Index <= c.commitMark",
	},
	{
		Name: "paxos/promise-forgotten-at-restart", Breaks: "the promised ballot is not restored at a restart",
		File: "consensus/paxos/core.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 400,
		Old: "promised: opts.HardState.Term, hard: opts.HardState,",
		New: "promised: 0, hard: opts.HardState,",
	},
	{
		Name: "paxos/barrier-confirmed-by-nobody", Breaks: "a read barrier counts answers to the heartbeat before it",
		File: "consensus/paxos/leader.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 400,
		Old: "beat: c.lead.beat + 1})",
		New: "beat: c.lead.beat})",
	},
	{
		Name: "paxos/barrier-without-quorum", Breaks: "one replica, the leader itself, is enough to confirm a read barrier",
		File: "consensus/paxos/leader.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 250,
		Old: "need := c.quorums.confirm(len(voters))",
		New: "need := 1",
	},
	{
		Name: "paxos/lost-messages-not-repeated", Breaks: "an accept message that is lost is not sent again",
		File: "consensus/paxos/replicate.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 250,
		Old: "\t\t\tlost = append(lost, s.index)\n",
		New: "",
	},
	{
		Name: "paxos/late-acceptance-without-quorum", Breaks: "who handed over takes its own acceptance of its last entries for a decision",
		File: "consensus/paxos/handover.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 400,
		Old: "if count(voters, has) < c.quorums.phase2(len(voters)) {\n\t\t\tbreak",
		New: "if count(voters, has) < 1 {\n\t\t\tbreak",
	},
	{
		Name: "paxos/lease-after-transfer", Breaks: "a leader that hands over reads from memory until it hears of its successor, which was elected in spite of all promises",
		File: "consensus/paxos/status.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 400,
		Old: "b.LeaseForbidden = l.transferred || l.changing",
		New: "b.LeaseForbidden = l.changing",
	},
	{
		Name: "paxos/asks-once", Breaks: "a question for decided values that was lost is not asked again with the next heartbeat: a replica that lacks one stays behind",
		File: "consensus/paxos/acceptor.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 1000,
		Old: "\tc.asked.repeatable = true\n",
		New: "",
	},
	{
		Name: "paxos/shipped-once", Breaks: "a replica that got a snapshot counts as one that is being sent one: it never gets another, and stays behind when it needs one",
		File: "consensus/paxos/core.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 300,
		Old: "\tdelete(c.shipping, to)\n",
		New: "\tif !ok {\n\t\tdelete(c.shipping, to)\n\t}\n",
	},
	{
		Name: "paxos/part-ends-too-late", Breaks: "a promise in parts says that it speaks for the first entry of the next part, too: a new leader overlooks what was accepted there",
		File: "consensus/paxos/acceptor.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 300,
		Old: "\t\t\tthrough = record.Index - 1\n",
		New: "\t\t\tthrough = record.Index\n",
	},
	{
		Name: "paxos/unreachable-is-silent", Breaks: "a leader that is told that what it sent may be lost takes those who have answered for silent",
		File: "consensus/paxos/core.go", Shards: 16, Verdicts: noticed, At: 4253,
		Old: "\t\tp.unsure = true\n",
		New: "\t\tp.active = false\n",
	},
}
