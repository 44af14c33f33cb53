// Package rpc serves gRPC calls over HTTP/2 connections. What the bytes mean is in proto/h2; here are sockets, goroutines and time.
//
// A connection has one goroutine, which reads. It takes everything that has come with one read, hands complete requests of unary methods to their
// functions, which do not wait, and writes what there is to say afterwards, at once. Answers that come later, from any goroutine, are put together by a goroutine that
// lives as long as there is something to write. Only methods that are streams have a goroutine for each call.
//
// What a client causes is reserved in an account of its connection; see packages budget and proto/h2.
package rpc
