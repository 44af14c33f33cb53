// Package shard is what the log of one shard means: a leader evaluates requests into
// effects, and every replica applies the effects in log order.
//
// Machine is a pure core with a single writer, the driver. The driver holds an RWMutex, the
// same one that guards the mvcc.Store: methods marked "exclusive" need it for writing, those
// marked "shared" for reading and may be called by anybody; those marked "driver" are
// for the driver only, which needs the lock for reading or, being the only writer, not
// at all. See DESIGN.md for the entry format, the chain of entries and the lease clock.
package shard
