// Package native is what the calls of Quorate's own, beside those of etcd, say: messages in protobuf's wire format, as quorate.proto describes them, encoded
// and decoded by hand. There is one, /quorate.v1.Shards/List, which asks a node for what it knows of all shards.
//
// Package native is a core: plain data and pure functions.
package native
