// Package placement decides which of the shards that a node leads should be led by another node, and when. Leadership is given by whoever has it, so each node
// decides about what it leads itself, by what it knows of all leaders.
//
// There are two policies. Gathered: all shards are led where the system shard is, because revisions are numbered there. Spread: every node leads about as
// many shards as any other.
//
// # Why nothing moves to and fro
//
//   - The system shard is never moved.
//   - Gathered, a shard is moved to the one node where the system shard is, and to no other. Who leads the two shards, and that the node can be reached, has
//     been the same for Options.Settle.
//   - Spread, only the node with the most shards moves any, the first of them in the order of nodes; and only to a node that has at least two fewer, so
//     that the difference becomes smaller. All that is known of leaders, and of who can be reached, has been the same for Options.Settle. So nobody
//     decides in the middle of an election, nor between two moves of others.
//   - A shard that could not be moved to a node, because its replica there lags for example, rests for Options.Rest.
//
// A node begins with at most Options.MaxMoves shards at a time, and with the next ones when all of those have ended.
//
// Package placement is a core: no goroutine, lock, clock or socket. Times are readings of one monotonic clock of this process, from any origin.
package placement
