// Package membership decides who is who: which replica of a group a node is, on which disk, who takes the place of one that was lost, and whether a
// disk is still as others have seen it. Consensus rests on the memory of its members; this package sees to it that nobody takes part who has forgotten
// what it said. Why it is as it is: docs/decisions/0012-lost-replicas.md.
//
// # Node and Group
//
// A Node is what belongs to the process. It remembers how far it saw the disks of the other nodes (marks), makes them part of its own record in
// the log, tells them to the others, and compares what others saw of its own disk with what it knows (mark.go, witness.go, record.go, witnesses.go).
//
// A Group is what belongs to one replica on that node. It decides:
//
//   - who this replica is (identity.go): a disk that is empty may be new, or may have lost something. It is held until that is clear: the consensus core gets
//     no message and no tick.
//   - which messages reach the consensus core (admit.go), and whether a leader is believed that says that entries are lost here (loss.go);
//   - which replica lives on which node (placement.go);
//   - of a leader, what is to be done so that each node has a replica with a vote (repair.go), one step at a time (plan.go).
//
// # The seam
//
// The driver tells what happens by methods that name it, on the Node or the Group that it happened to: Connected, Receive, Admit, Tick, Placed,
// ConfigApplied, Lead, StepDown, Saved, Synced, ... After each call it takes Ready of both and carries it out: frames leave, a row becomes durable,
// a proposal is made, the node stops. The order within one Ready does not matter; whatever answers it comes as another call:
//
//	Ready.Save       -> Saved        the row that says which replica is on this disk is durable
//	Ready.Confirm    -> Confirmed    this leader was confirmed after the question came, and has applied what was committed then
//	Ready.Assign     -> Assigned     a proposal about the table of placements is decided, one way or the other
//	Ready.Change     -> ConfigApplied, sooner or later or never
//
// A driver reads its clock before it calls; times are readings of one monotonic clock of this process, from any origin.
//
// # Invariants
//
//   - A replica that is held neither leads nor is admitted to.
//   - What a disk told others about itself was durable: Mark.Position of the own disk is never ahead of the last sync.
//   - A mark that is kept of another disk only ever grows. It is kept as long as a group has a replica on that disk (disks.go).
//   - A group acts only upon what comes from the disk on which its own table has the replica, and only if the process is the one that is known of that disk.
//   - Of a node, at most one replica is listened to: the newest that is known.
//
// # What it relies on
//
//   - Package liveness says which process of a node sends heartbeats, and whether it does.
//   - The state machine (package shard) keeps the table of placements, and gives out each replica ID once.
//   - Disk IDs and instances are random, and told to nodes of the cluster only.
//
// Package membership is a core: no goroutine, lock, clock or socket. Check verifies its invariants.
package membership
