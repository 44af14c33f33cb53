// Package datadir is a node's data directory: what lies in it, whom it belongs to, and what is done about data that is lost.
//
//	identity.json       who stored it: cluster, node, protocol, disk (identity.go)
//	LOCK                held by the process that uses it (lock_*.go)
//	log, state          what the node stored; whoever opens them names them by Log and State
//	staging             snapshots on their way
//	damaged             a note that log and state are about to be set aside (damage.go)
//	damaged-TIME        what was set aside
//
// decide.go judges what was found, and says what to do; it reads and writes nothing. dir.go reads and writes, and judges nothing.
//
// Whoever touches a data directory opens it here first: the server, and tools that work on the directory of a node that is stopped. One process
// has it at a time. Only this package writes the identity and the note of damage.
package datadir
