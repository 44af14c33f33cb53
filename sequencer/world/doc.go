// Package world explores the real cores of package sequencer: it visits every state that a small world around them can reach. There are two
// worlds.
//
// A Cluster has one sequencer, two or three shards, a client and a gateway with a watch. Its shards are models: a log with its tail, leaders
// that evaluate writes on top of those in flight, fail-over that keeps a beginning of the tail. Each leader has a real asker and is on a node
// of its own; a deposed one does not disappear, but goes on acting on what it knew, and stands for every replica that lags. Frames are
// encoded, and lie in a queue for each node and direction. They can be lost, and those of an older session can come at any time.
//
// Transactions over several shards are models, too (txn.go): two-phase commit, with the decision in the log of one participant.
//
// A Birth has the system shard's log with a sequencer inside: one shard, the birth of the second, the limit, fail-over, planned hand-over.
//
// What is judged are the invariants I1 to I10 of docs/protocols/sequencer.md, as far as they are about writes, transactions, reads
// and watches. In a state in which nothing but faults can happen, everything must be done (I9).
//
// A Mutation switches one rule off, in the model or by forging what goes into a core and comes out of it: tests use it to show that each rule
// is needed, and that its absence is noticed.
//
// What is one step here, and why that loses nothing: election and barrier (before its barrier is applied a new leader serves nothing); a call
// of a core and all that it wants done; invocation and first step of an operation (the strictest real-time order).
package world
