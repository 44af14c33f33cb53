// Package shard is what the log of one shard means: a leader evaluates requests into
// effects, and every replica applies the effects in log order.
//
// Machine is a pure core with a single writer. The caller holds an RWMutex, the same
// one that guards the mvcc.Store: methods marked "exclusive" need it for writing,
// those marked "shared" for reading. See DESIGN.md for the entry format, the chain of
// entries and the lease clock.
package shard
