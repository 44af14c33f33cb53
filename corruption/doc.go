// Package corruption says which replicas of a shard have other data than they should: what nodes ask each other, and what follows from the answers.
//
// It is a core. One node chooses a revision up to which its replica is complete, and where history counts as compacted, and asks all others for the
// hash of what they have between the two (mvcc.Reader.HashSum). It is the same on all replicas, whatever each of them has flushed or deleted, so a difference
// is damage, or a mistake of the program. The nodes that have what a majority of the cluster has are right. Without such a majority nobody can tell.
package corruption
