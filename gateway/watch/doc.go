// Package watch fans changes out to watchers, on the node the watchers are connected to:
// a change reaches a node once, however many watch it.
//
// A Hub takes what the replica applies (Applied), keeps the newest changes in a ring, and
// hands them to the groups of watchers whose span matches. A Stream is one client's
// connection: it owns watchers, and an outbox that the connection's sender empties with Next.
//
// Three ideas carry the package:
//
//   - Watchers of one stream that want the same thing are one group. A change is matched,
//     counted and encoded once for the group, whatever its size.
//   - The outbox is pulled. While the consumer is busy, changes collect in one
//     batch, so a slow consumer gets fewer and larger messages, not more memory.
//   - A group whose stream's outbox is full is detached ("lagging") and only remembers the
//     next revision it needs. When the consumer asks for more, it is served from the ring or
//     from history, and rejoins the live feed, under the hub's lock, at exactly the
//     revision where history ended. A watch that starts in the past begins its life lagging.
//
// With several shards there is a feed for each, and a merger for each set of shards that some watch
// needs: a feed, too, of what all of them have closed. Shards without writes are closed by a question.
//
// See DESIGN.md for the invariants and for what is promised to clients.
package watch
