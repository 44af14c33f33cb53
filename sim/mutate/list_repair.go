package main

import "github.com/quoratedb/quorate/sim"

// repairMutations break what brings lost replicas back; see docs/decisions/0012-lost-replicas.md.
var repairMutations = []Mutation{
	{
		Name: "repair/id-kept", Breaks: "a node that has lost its data gets the ID back that its lost replica had",
		File: "shard/placement.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tplacement.Replica = state.nextReplica()\n",
		New: "\t\tplacement.Replica = newest\n",
	},
	{
		Name: "repair/lost-takes-place-again", Breaks: "a node with nothing on its disk takes its place again although it belongs to another disk",
		File: "replica/identity.go", Verdicts: noticed, Seeds: 400,
		Old: "\t\tr.identity.standing = standingLost\n\t\tr.noteStanding()\n",
		New: "\t\tr.saveIdentity(r.self)\n\t\treturn\n",
	},
	{
		Name: "repair/asks-nobody", Breaks: "a node with nothing on its disk takes part at once",
		File: "replica/identity.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tr.identity.standing = standingNew\n\t}\n\ts.joining",
		New: "\t\treturn nil\n\t}\n\ts.joining",
	},
	{
		Name: "repair/not-told", Breaks: "a replica that was replaced is refused and not told, nor does it ask who a message for its successor is for; either is enough",
		File: "replica/placement.go", Verdicts: noticed, Seeds: 500,
		// Both ways are cut: whoever refuses a message of a replaced replica tells it, and that replica asks when the leader has a message for its
		// successor, as it soon has.
		Old: "\t\tnewest = from\n\t}\n\tswitch {\n",
		New: "\t\tnewest = from\n\t}\n\tif from < newest || from == newest && m.message.To > r.self {\n\t\treturn fmt.Errorf(\"refused\")\n\t}\n\tswitch {\n",
	},
	{
		Name: "repair/change-not-flushed", Breaks: "a change of membership is not made durable at once",
		File: "replica/flush.go", Verdicts: noticed, Seeds: 300,
		Old: "return r.flush.asked || r.configAt > r.flush.durable && r.flush.syncing == 0 || r.machine",
		New: "return r.flush.asked || r.machine",
	},
	{
		Name: "repair/held-hears", Breaks: "a replica that does not know who it is lets messages reach its core",
		File: "replica/group.go", Protocol: sim.Raft, Verdicts: noticed, Seeds: 500,
		Old: "\t\tif r.held() {\n\t\t\tm.staged.discard() // it is",
		New: "\t\tif false {\n\t\t\tm.staged.discard() // it is",
	},
	{
		Name: "repair/voter-never", Breaks: "a learner that has the data never becomes a voter",
		File: "replica/membership.go", Verdicts: noticed, Seeds: 100,
		Old: "\t\tif !m.caughtUp(id) {\n",
		New: "\t\tif true {\n",
	},
	{
		Name: "repair/older-image-goes-on", Breaks: "a node whose disk is an older image of itself is told, and goes on",
		File: "replica/mark.go", Verdicts: noticed, Seeds: 300,
		Old: "\t\tif m.disk == own.disk && !own.continues(&m.mark) {\n",
		New: "\t\tif false {\n",
	},
	{
		Name: "repair/older-image-unknown", Breaks: "how far a disk was seen is not compared with where its next process began",
		File: "replica/mark.go", Verdicts: noticed, Seeds: 300,
		Old: "\treturn m.processes[i+1].began > o.position\n",
		New: "\treturn true\n",
	},
	{
		Name: "repair/claim-of-second-process", Breaks: "a replica is refused for ever because a second process under its node's name once said that it is lost",
		File: "replica/placement.go", Verdicts: noticed, Seeds: 600,
		Old: "\tcase from == r.gone[m.from] && !r.store.beats(m.from, m.sender):\n",
		New: "\tcase from == r.gone[m.from]:\n",
	},
}
