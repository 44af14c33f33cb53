// Package native is what the calls of Quorate's own, beside those of etcd, say: messages in protobuf's wire format, as quorate.proto describes them, encoded
// and decoded by hand. /quorate.v1.Shards/List asks a node for what it knows of all shards, /quorate.v1.Transactions/List for the transactions over several of
// them that are not decided.
//
// Package native is a core: plain data and pure functions.
package native
