// Package driver drives the replicas of one node: many consensus groups, one
// round, one log write, one sync.
//
// Driver.Round is the whole driver in one readable function. In production it is called by
// whoever brings input, if nobody else waits, and otherwise by the run loop, which gathers
// the input of many. It may be called by an event loop in a simulation: it
// has no goroutine and no clock of its own. Everything that reaches the driver
// from outside (requests, messages of peers, finished syncs and flushes) goes
// through the inbox and takes effect in a round.
//
// The order within a round is the durability contract of package consensus:
// messages that may leave at once leave before the log is written, so that
// followers write while the leader does; acknowledgements leave when the sync
// is done; clients are answered when their entry is applied. What only tells others that
// something is committed leaves after the answers, with other messages if there are any soon.
//
// A Replica is the handle of one replica, for any goroutine. What the driver's goroutine has of it is another type, driven, that no method of the handle sees;
// DESIGN.md says which type knows what.
//
// A disk error stops the node: after a failed sync nothing is retried as if it
// had worked.
package driver
