// Package gather makes one answer of the states of several shards: the one that a single store would give that has all of their keys.
//
// Who calls has frozen the states of all shards that a request may be about, and has made sure that each is complete: it has all that its shard will
// ever have at or below the revision that is read. A state may be ahead of that revision. One that is behind it is so because nothing happened in its
// shard since; then its newest versions are read.
//
// Shards by range have disjoint spans. They are visited in the order of their keys, one after the other, until there is enough. Shards by hash have keys from
// everywhere, and are merged. Of a page of n keys over s of them each brings its share first, and more when that is used up: some n + sqrt(n*s) + 2*s keys are
// read. If neighbours in the order of keys are in one shard (partition.Scheme.HashPrefix), a shard brings at least as much with every look as it has
// brought before. So it is never more than 3*n + sqrt(n*s) + 2*s, and few looks. Counts cost each shard what they cost one store.
package gather
