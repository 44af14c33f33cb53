// Package sequenced has tests of a store of several shards whose revisions come from one sequencer: the drivers, consensus cores, state machines and issuers
// of three nodes in one goroutine, whose time the test makes. Clients write to all shards, nodes crash and are cut off, frames are lost, leaders move, that of
// the system shard among them. Package sim will simulate such stores with all their parts.
package sequenced
