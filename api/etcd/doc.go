// Package etcd serves the etcd v3 gRPC API (target: etcd 3.7) on top of the gateway.
//
// Every method of etcd's services is either served or answers Unimplemented with a sentence; the table in
// methods.go lists all of them. Unary methods that are a kv.Request take one
// path, ServeUnary: message bytes in, message bytes out, no goroutine of its own and no protobuf
// reflection. The gRPC handler of such a method only waits; another edge can call ServeUnary directly.
//
// # Limits
//
//   - a request: MaxRequestBytes (etcd's ErrRequestTooLarge), from 512 KiB above it on gRPC's ResourceExhausted;
//   - streams of one connection, watches included: MaxConcurrentStreams; the client's next stream waits;
//   - watches of a node, and what waits to be sent to a slow one: options of gateway/watch;
//   - keep-alives of one lease stream in flight: KeepAlivesInFlight; then the server reads no more of them;
//   - requests in flight: the gateway's bound, kv.ErrTooManyRequests.
package etcd
