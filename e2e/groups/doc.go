// Package groups tests nodes that hold many groups, as real processes with real disks and sockets.
//
// The shards of a server are those of one store, so the nodes here are put together by the test: one driver, one log, one engine, one
// transport and one gateway a process, for all groups. A process is the test binary itself, started anew.
//
//	go test ./e2e/groups                                              about 15 s
//	go test ./e2e/groups -groups.duration=5m -groups.seed=7           longer, with a schedule of one's choice
//	go test ./e2e/groups -run TestCostByGroups -groups.cost=5 -v      what puts cost with 1 to 1,000 groups; see cost_test.go
//
// The seed decides what the clients ask for, and which nodes are killed after how many answers; what the processes make of it differs from
// run to run.
package groups
