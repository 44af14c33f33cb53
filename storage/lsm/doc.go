// Package lsm is the state engine on disk: Pebble without a write-ahead log.
//
// What Apply made visible sits in a memtable until it is flushed; the replicated log
// is replayed from the durable applied index after a crash. The package adds to Pebble
// what a node needs to stop cleanly: after the first failed write nothing reaches the
// disk any more, every call returns an error that says what happened, and nobody waits
// for a flush that will never end.
//
// Compactions rest between their writes, so that requests find a processor (pace.go).
package lsm
