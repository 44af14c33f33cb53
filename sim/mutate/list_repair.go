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
		File: "replica/identity.go", Verdicts: noticed, Seeds: 100,
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
		Name: "repair/late-claim", Breaks: "a late claim of a disk that was replaced meanwhile gets an ID all the same",
		File: "replica/manage.go", Verdicts: noticed, Seeds: 200,
		Old: "if claim.replaces == newest && p.Disk != claim.disk {",
		New: "if newest != 0 && p.Disk != claim.disk {",
	},
	{
		Name: "repair/not-told", Breaks: "a replica that was replaced is refused and never told",
		File: "replica/placement.go", Verdicts: noticed, Seeds: 300,
		Old: "\t\tr.tellPlacement(m.from, m.disk)\n\t\treturn",
		New: "\t\treturn",
	},
	{
		Name: "repair/learner-early", Breaks: "a learner takes the place of a lost voter before it has what that one may have acknowledged",
		File: "replica/membership.go", Verdicts: noticed, Seeds: 300,
		Old: " && !p.Snapshotting && p.Match >= m.settledAt",
		New: "",
	},
	{
		Name: "repair/change-without-majority", Breaks: "the membership changes although the voters that answer are no majority of it",
		File: "replica/membership.go", Verdicts: noticed, Seeds: 300,
		Old: "return target, m.config.HasQuorum(m.answers) && target.HasQuorum(m.answers)",
		New: "return target, true",
	},
	{
		Name: "repair/change-not-flushed", Breaks: "a change of membership is not made durable at once",
		File: "replica/maintain.go", Verdicts: noticed, Seeds: 300,
		Old: "return r.configAt > r.flush.durable && r.flush.syncing == 0 || r.machine",
		New: "return r.machine",
	},
	{
		Name: "repair/gone-still-heard", Breaks: "late messages of a replica that its node has declared lost still count",
		File: "replica/identity.go", Verdicts: noticed, Seeds: 300,
		Old: "\tr.gone[node] = id\n\tif r.followed == node {\n\t\tr.followedIsGone(r.store.clock())\n\t}\n",
		New: "",
	},
	{
		Name: "repair/held-hears", Breaks: "a replica that does not know who it is lets messages reach its core",
		File: "replica/group.go", Verdicts: noticed, Seeds: 300,
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
		Name: "repair/unfenced", Breaks: "messages from a disk that is not the replica's are taken", Protocol: sim.Paxos,
		File: "replica/placement.go", Verdicts: noticed, Seeds: 300,
		Old: "if known == 0 || known == disk {",
		New: "if known == 0 || disk != 0 {",
	},
}
