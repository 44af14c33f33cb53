// Package leadership decides, for one consensus group, what a node does about who leads it. Agreement itself is
// the business of a consensus.Core: it makes at most one replica the leader of a term. But terms overlap. The leader of an
// older one does not hear at once that there is a newer one. This package makes leaders fast and safe all the same.
//
// # What it decides
//
//   - Of a leader: when it may serve a read from memory, without asking anybody (lease.go).
//   - Of a follower: which leader it holds still for, and until when. Meanwhile it lets no candidate near its consensus core and does not
//     tick it, because a tick may end in a campaign, and a campaign is a vote for itself (follow.go).
//   - Of everybody: who campaigns, and when, so that votes are not split (campaign.go).
//   - Of a leader that is to hand over: to whom, and how that ended (transfer.go). One that has done so leads no more, and campaigns if its
//     successor does not come to lead.
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
// under the same epoch of that promise, that it follows this leader in this term (Vouch). Had it voted in a later term before, it could
// not have said so; and it has been bound since without interruption.
//
// # When a follower is free
//
//   - The promise has ended (NodeLost, or Holding becomes false).
//   - The leader asks for votes itself, in a later term: it has stepped down. One that lost its vote with that asks, too, although nobody may vote for it.
//   - The leader's replica says that it does nothing any more, although its node lives (ReplicaEnded). Then the promise is withdrawn, too.
//   - The consensus core has lost its leader for an election timeout although the leader's node lives, or the leader has no vote any more. Then
//     the promise is withdrawn, and the replica is free when what was promised so far has ended. Whatever it vouches for meanwhile makes
//     the withdrawal void.
//
// # What it relies on
//
//   - Package liveness for promises, and its argument about clocks. The core asks it (Promises) instead of being told: an answer from
//     before might be out of date.
//   - The consensus core for Status.LeaseVoters, Status.LeaseForbidden, and for neither voting nor campaigning on its own while the driver
//     neither ticks it nor lets candidates near it.
//   - The driver: it reads its clock before it calls, carries out Ready after each call and before it steps the message that the call was
//     about, and sends a message with a vow only if Vouch says so at that moment.
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
