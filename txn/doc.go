// Package txn decides what is done for requests that write in several shards, each of which has a log of its own. It is a core: it sends nothing, waits for
// nothing, and knows only the time that it is told. docs/protocols/commit.md has the protocol; the words that shards exchange are in package kv.
//
//   - A Coordinator has all transactions of one leadership of one shard, their anchor. It cuts each request into shares (Cut), has them prepared by the leaders
//     of all participants, gets one revision for all that write, has the transaction decided, answers the client (Plan.Join), and has all participants
//     told what was decided.
//   - A Recovery goes on for coordinators that are gone. The leader of each participant has one.
//
// With two-phase commit the anchor alone decides: while it has no leader, the transactions that it has prepared wait. With three-phase commit a majority of the
// participants decides, and goes on without the rest.
//
// The shell asks the leaders of participants (Ask), and answers every question once, if only with an error. Questions may be repeated on the way, come late,
// and come twice. Whether an error means that nothing was done matters only where it is said.
package txn
