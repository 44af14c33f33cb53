// Package sequencer decides which revision a write gets when many shards share one count, and up to which revision a shard is complete. It has
// two cores. The Sequencer is with the leader of the system shard, and issues the numbers. An Asker is on every node, and asks for all
// leaders, readers and watchers there. They talk in frames (frame.go); docs/protocols/sequencer.md has the table of messages and the rules,
// whose numbers the comments here name.
//
// # The Sequencer
//
// Its state lives as long as one leadership of the system shard, an epoch; only the limit is in a log. Per shard it knows the last number
// issued, whether anything of earlier epochs may be open there, the newest generation, and the newest leadership that has spoken; it does not know who
// leads where. Numbers are issued up to the
// limit that is committed (rule 3); a batch that does not fit waits, and all that come after it wait behind it.
//
// While there is one shard there is no limit, and the shard's log is the count (rule 7). The first limit is asked for when another shard asks
// for a number.
//
// The leader of a shard beside the sequencer takes numbers without messages: Peek at the first effect of a request, Take at its end. A request
// that fails in between has consumed nothing. Reads there use Now.
//
// A transaction over several shards has one number, which is the last one of every shard in which it writes (rule 5): AllocMulti of an Asker, or TakeMulti
// beside the sequencer. Neither knows of transactions more than that.
//
// # What the shell must check (rules 4 and 17)
//
// A frame that Ready returned, a number that was taken and a revision that Now returned are good only if the node's lease on the system shard
// is valid *afterwards*: first the value, then the clock. Or a quorum that is asked afterwards confirms that the node leads. If it does not lead any more, they
// are discarded and the Sequencer with them. The numbers in them are then issued to nobody, which is no harm. Package issuer does that.
//
// # The Asker
//
// It keeps one session with the sequencer. All frames of a session are counted in both directions, and a gap ends it (rule 9): then, and with
// another sequencer, it opens a new one, and asks again for every number that has not arrived, in the same order. Each frame from the
// sequencer says which of the Asker's frames came before it, so one frame serves all reads that had arrived when that one left (rule 17).
//
// # Bounds
//
// A Sequencer holds a few dozen bytes for each shard (Options.MaxShards), a session for each node from which the shell hands it frames, and at
// most MaxWaiting batches of each session, and transactions that name at most MaxNamed shards. An Asker holds MaxBatches batches for each shard that the
// node leads, and as many transactions. What a step costs does not
// depend on shards and nodes that it is not about; only the end of a session looks at everything that is waiting.
//
// Both are cores: no goroutine, lock, clock or socket. Times are readings of one monotonic clock of this process, from any origin.
package sequencer
