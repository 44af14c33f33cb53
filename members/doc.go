// Package members decides how the list of members changes: docs/protocols/members.md says what the list is for.
//
// A List never changes: what is done to it makes another one. It is state of the system shard, whose leader decides what a request does to it. A cluster
// that never changed its members has no list but what it began with, and what its nodes published about themselves: version 0.
//
// Package members is a core: plain data and pure functions.
package members
