// Package link decides what becomes of the calls that the leader of one shard must answer, on whichever node it is, and of the reads that wait
// until it has confirmed that they see everything. It is pure: its shell (package gateway) tells it what happens, and does what Ready returns until
// there is nothing left to do.
//
// A call is an Item for the link. It is in at most one place:
//
//	queue     it waits for a leader, and was certainly not proposed anywhere
//	sent      it was sent to exactly one node, under an id that is never used again
//	waiting   a read that shares the next read barrier
//	asked     a read that shares the barrier that is on its way
//
// The frames in which links of two nodes talk are in frame.go; docs/protocols/peer.md has the table.
package link
