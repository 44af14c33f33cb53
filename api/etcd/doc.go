// Package etcd serves the etcd v3 gRPC API (target: etcd 3.7) on top of the gateway.
//
// Every method of etcd's services is either served or answers Unimplemented with a sentence; the table in
// methods.go lists all of them. Connections are those of package api/rpc. Unary methods that are a kv.Request take one
// path (hotMethod in serve.go): message bytes in, message bytes out, no goroutine of their own and no protobuf
// reflection. The others, and streams, have the handlers that etcd's generated code describes.
//
// # Limits
//
//   - a request: MaxRequestBytes (etcd's ErrRequestTooLarge), from 512 KiB above it on gRPC's ResourceExhausted;
//   - streams of one connection, watches included: MaxConcurrentStreams; the client's next stream waits;
//   - watches of a node, and what waits to be sent to a slow one: options of gateway/watch;
//   - keep-alives of one lease stream in flight: KeepAlivesInFlight; then the server reads no more of them;
//   - requests in flight: the gateway's bound, kv.ErrTooManyRequests;
//   - what all of it takes: Memory, kv.ErrTooManyRequests.
package etcd
