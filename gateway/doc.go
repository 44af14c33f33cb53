// Package gateway is the part of every node that clients talk to. It takes requests in package kv's words,
// checks and authorizes them once, finds the shard that has what they are about (package gateway/route), and has them answered: from the local state,
// by the local replica when it leads, or by the leader. Watches fan out here too (package gateway/watch).
//
// What it promises to callers:
//
//   - A request whose outcome could be unknown is never sent twice: when the leader is lost, a
//     write that was sent ends with kv.ErrOutcomeUnknown; one that certainly was not proposed is sent
//     again until its deadline, and if it was evaluated, once at most; reads are always asked again.
//   - A write that travelled is answered once the local replica has applied it, so that
//     a client's next serializable read here sees it.
//   - A linearizable read that travels costs a share of one barrier: one of a shard is in flight, those that
//     come meanwhile share the next.
//   - Everything is bounded: calls in flight, bytes on the way, a deadline for every call.
//
// With several shards and one count of revisions (Options.Revisions) a linearizable read about keys is as of the last revision that was issued to any shard
// after the read arrived, and has that in its header. present.go is the way of such a read, package gateway/readpath decides it. All that wait to learn the
// revision share one question. A serializable read has the revision of its shard here.
//
// A write over several shards goes to the leader of its anchor, as any write goes to the leader of its shard, and is coordinated there: commit.go is the shell
// around package txn. What it promises is what is promised of any write, but for one thing: whoever brought it may be answered before the replicas on that node
// have applied it. Reads that may miss a prepared transaction wait for its end (leaderLink.held).
//
// The decisions are in package gateway/link, one Link for each shard, and in wheel, which are pure. leaderLink is the shell around a Link: a lock, and
// whoever does what the core wants done; no goroutine but those that read large ranges. submit.go is the way of one call, gateway.go what happens to all
// of them: time, news of leaders and of other nodes. peer.go asks other nodes, forwarded.go serves them. What does not concern a link does not cost it
// anything: time and lost connections are told to busy ones only.
package gateway
