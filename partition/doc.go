// Package partition says which shard has which keys.
//
// There are two ways. By range: shards are spans between split keys, so that neighbours in the order of keys are neighbours in a shard. By hash: keys go to
// slots by a hash, and slots to shards, so that load spreads whatever the keys look like; what is listed in the order of keys is then merged from all
// shards. Which way, and all that decides where a key goes, is a Scheme, which is chosen when a cluster is created and the same on all nodes.
package partition
