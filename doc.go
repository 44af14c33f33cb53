// Package quorate is the root of a distributed, transactional key-value store that
// speaks the etcd v3 API. It holds no code: the folders are the architecture, ARCHITECTURE.md
// is the map, and deps_test.go is the rule who may import whom.
package quorate
