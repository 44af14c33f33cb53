// Package wal is the log of all groups of a node on disk: segments that are filled with zeros
// once and recycled, one checksummed record per round for all groups, one fdatasync.
//
// DESIGN.md beside this file has the record format and the rules of recovery.
package wal
