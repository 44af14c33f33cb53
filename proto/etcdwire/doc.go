// Package etcdwire translates between package kv's types and etcd's protobuf wire
// format (etcdserverpb and mvccpb of go.etcd.io/etcd/api/v3 v3.7), by hand and without
// reflection.
//
// Three forms share the same encoders:
//
//   - client to server: Decode<Message> reads an etcd request body, DecodeBody any of
//     them by kind;
//   - server to client: Append<Message> writes an etcd response body with its header,
//     AppendAnswer any of them by kind; AppendEvent and AppendWatchResponse serve watches;
//   - node to node: AppendRequest/DecodeRequest, AppendResponse/DecodeResponse and
//     AppendError/DecodeError put the kind and what else a peer must know in front of the
//     same bodies.
//
// # Aliasing
//
// Decoded keys and values alias the input, with their capacity clipped, so that
// decoding allocates nothing per field. The caller must not change or reuse the input while the
// result lives; a caller that must, passes a clone: one copy instead of one per field. A key that
// is kept keeps the whole input in memory, so whoever keeps keys for long copies them.
//
// # Exactness
//
// Decoders follow proto3 as the Go implementation does: unknown fields, and known ones
// with a foreign wire type, are skipped (groups included); of a scalar field the last one wins;
// a repeated singular message is merged; setting another case of a oneof replaces it;
// integers are truncated varints; enums are open: a number that package kv cannot hold becomes Unknown,
// which no evaluation accepts. They never panic, and allocate in proportion to the input,
// within Limits.
//
// Encoders write what the Go implementation writes with deterministic order: fields by
// number, zero values left out.
package etcdwire
