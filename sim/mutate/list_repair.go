package main

import "github.com/quoratedb/quorate/sim"

// repairMutations break what brings lost replicas back; see docs/decisions/0012-lost-replicas.md.
var repairMutations = []Mutation{
	{
		Name: "repair/id-kept", Breaks: "a node that has lost its data gets the ID back that its lost replica had",
		File: "shard/placement.go", Verdicts: noticed, Seeds: 100,
		Old: "== newest:\n\t\tplacement.Replica = state.nextReplica()\n",
		New: "== newest:\n\t\tplacement.Replica = newest\n",
	},
	{
		Name: "repair/lost-takes-place-again", Breaks: "a node with nothing on its disk takes its place again although it belongs to another disk",
		File: "membership/identity.go", Verdicts: noticed, Seeds: 400,
		Old: "\t\tg.identity.standing = standingLost\n\t\tg.ready.Lost = true\n",
		New: "\t\tg.save(g.self)\n\t\treturn\n",
	},
	{
		Name: "repair/asks-nobody", Breaks: "a node with nothing on its disk takes part at once",
		File: "membership/identity.go", Verdicts: noticed, Seeds: 100,
		Old: "\tdefault:\n\t\tg.identity.standing = standingNew\n",
		New: "\tdefault:\n",
	},
	{
		Name: "repair/not-told", Breaks: "a replica that was replaced is refused and not told, nor does it ask who a message for its successor is for; either is enough",
		File: "membership/admit.go", Verdicts: noticed, Seeds: 500,
		// Both ways are cut: whoever refuses a message of a replaced replica tells it, and that replica asks when the leader has a message for its
		// successor, as it soon has.
		Old: "\t\tnewest = m.From\n\t}\n\tswitch {\n",
		New: "\t\tnewest = m.From\n\t}\n\tif m.From < newest || m.From == newest && m.To > g.self {\n\t\treturn fmt.Errorf(\"refused\")\n\t}\n\tswitch {\n",
	},
	{
		Name: "repair/change-not-flushed", Breaks: "a change of membership is not made durable at once",
		File: "driver/flush.go", Verdicts: noticed, Seeds: 300,
		Old: "return r.flush.asked || r.membership.Unflushed() && r.flush.syncing == 0 || r.machine",
		New: "return r.flush.asked || r.machine",
	},
	{
		Name: "repair/voter-never", Breaks: "a learner that has the data never becomes a voter",
		File: "membership/plan.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tif slices.Contains(p.wanted, id) && p.caughtUp(id) {\n",
		New: "\t\tif false {\n",
	},
	{
		Name: "repair/older-image-goes-on", Breaks: "a node whose disk is an older image of itself is told, and goes on",
		File: "membership/witness.go", Verdicts: noticed, Seeds: 300,
		Old: "\t\tif m.Disk == own.Disk && !own.Continues(&m.Mark) {\n",
		New: "\t\tif false {\n",
	},
	{
		Name: "repair/older-image-unknown", Breaks: "how far a disk was seen is not compared with where its next process began",
		File: "membership/mark.go", Protocol: sim.Paxos, Verdicts: noticed, Seeds: 300,
		Old: "\treturn m.Processes[i+1].Began > o.Position\n",
		New: "\treturn true\n",
	},
	{
		Name: "repair/mark-of-former-disk", Breaks: "a message is judged by the mark of the disk that its node was first heard on, not by that of the disk which it is on now",
		File: "membership/witness.go", Verdicts: noticed, Seeds: 300,
		Old: "k.seen[node].mark(sender.Disk); known",
		New: "k.seen[node].mark(append(k.seen[node], Mark{})[0].Disk); known",
	},
	{
		Name: "repair/claim-of-second-process", Breaks: "a replica is refused for ever because a second process under its node's name once said that it is lost",
		File: "membership/admit.go", Verdicts: noticed, Seeds: 600,
		Old: "\tcase m.From == g.roster.gone[m.Node] && !n.beats(m.Node, m.Sender):\n",
		New: "\tcase m.From == g.roster.gone[m.Node]:\n",
	},
	{
		Name: "membership/flushed-up-to-before", Breaks: "a change of membership that is the last entry of a flush counts as not durable: the replica says that a replacement is under way until somebody writes",
		File: "membership/group.go", Verdicts: noticed, Seeds: 300,
		Old: "\tif g.changedAt != 0 && g.changedAt <= upTo {\n",
		New: "\tif g.changedAt != 0 && g.changedAt < upTo {\n",
	},
	{
		Name: "membership/more-than-everything", Breaks: "a learner must have more than everything before it may vote: while nobody writes, the replacement of a lost replica does not end",
		File: "membership/plan.go", Verdicts: noticed, Seeds: 300,
		Old: "\treturn r != nil && r.Active && !r.Snapshotting && r.Match >= p.catchUpTo\n",
		New: "\treturn r != nil && r.Active && !r.Snapshotting && r.Match > p.catchUpTo\n",
	},
}
