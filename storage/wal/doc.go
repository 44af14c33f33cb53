// Package wal is the log of all groups of a node on disk: segments that are filled with zeros
// once and recycled, one checksummed record per round for all groups, one fdatasync.
//
// log.go is what callers ask of it, group.go the index of each group, write.go how a record gets to its place, prepare.go, succession.go
// and rewrite.go the life of segments, recover.go the start. DESIGN.md has the record format and the rules of recovery.
package wal
