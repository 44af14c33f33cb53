// Package world explores the real cores of package txn: it visits every state that a small world around them can reach.
//
// The world has two or three shards, one or two clients with a transaction each, the coordinators of the anchor's leaderships, and a recovery for each
// leadership of each shard. A participant is a model: the records of transactions, with the real register, what it has heard as finished, one lock. What it does is in its log
// at once, so that a new leader knows it. A leader that was deposed does not disappear: its cores go on asking on what they know, but what answers is the
// new leader. Questions and answers are lost, questions come late and twice, shards are lost for ever, clients go away.
//
// In states all over the space the faults end, and everything must come to an end by itself (Cluster.settle).
//
// Textbook is the three-phase commit of textbooks, with timeouts instead of a register, and what a partition does to it.
package world
