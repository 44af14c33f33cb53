// Package leadership decides, for one consensus group, what a node does about who leads it. Agreement itself is
// the business of a consensus.Core: it makes at most one replica the leader of a term. But terms overlap. The leader of an
// older one does not hear at once that there is a newer one. This package makes leaders fast and safe all the same.
//
// # What it decides
//
//   - Of a leader: when it may serve a read from memory, without asking anybody (lease.go).
//
// # The invariant
//
// No two leaders serve a read under their leases in different terms at one time. It follows from two halves:
//
//   - A leader's lease holds only while so many voters are bound to it that no quorum which can elect somebody else does
//     without all of them.
//   - A voter that is bound neither votes for anybody else nor campaigns.
//
// A voter is bound while its node's promise to the leader's node is in force (package liveness), provided that the voter said,
// under the same epoch of that promise, that it follows this leader in this term. Had it voted in a later term before, it could not have
// said so; and it has been bound since without interruption.
//
// # What it relies on
//
//   - Package liveness for promises, and its argument about clocks.
//   - The consensus core for Status.LeaseVoters, Status.LeaseForbidden and for doing nothing on its own while the driver
//     neither ticks it nor lets candidates near it.
//   - The driver reads its clock before it calls.
//
// # Where it comes from
//
// Leases by time: Gray and Cheriton, "Leases" (1989). Leases of leaders, and followers that ignore candidates meanwhile: Ongaro's
// dissertation on Raft (2014), sections 4.2.3 and 6.4.1. Promises of nodes to nodes for all groups at once: the epoch and store liveness of
// CockroachDB.
//
// Package leadership is a core: no goroutine, lock, clock or socket. Times are readings of one monotonic clock of this
// process, from any origin.
package leadership
