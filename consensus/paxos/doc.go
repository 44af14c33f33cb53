// Package paxos is Multi-Paxos behind consensus.Core: a pure core without goroutine, clock, disk or
// network. DESIGN.md tells how it works and why it is right, docs/protocols/paxos.md which messages
// replicas exchange, docs/decisions/0010-raft-or-paxos.md when to choose it.
//
// What the driver must respect, beyond what consensus.Core says:
//
//   - The first members of a group begin at consensus.BootstrapIndex and BootstrapTerm, with the
//     log reset to that position and the state machine's applied index there too.
//   - Entries of Ready.Append go to the log as they are; a kind with the highest bit set is private
//     to this core. Ready.Committed holds the entries as they were proposed.
//   - A change of membership takes effect on a replica when AckApplied covers it.
//   - A snapshot may be sent as of another index than its message says: change Index, Term and Config
//     of the meta together. It may be an earlier one if the log has everything behind it.
//   - While Status().LeaseForbidden is true no lease may be used; ask after ProposeConfig and TransferLeader.
//   - Report messages that were surely lost with Unreachable: Status().Quiet relies on it.
package paxos
