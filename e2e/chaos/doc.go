// Package chaos tests a cluster of processes under faults.
//
// Official clients work on it, everything they are told is recorded, and a nemesis kills, pauses and
// cuts off nodes on a schedule that a seed decides. In the end package history judges.
//
//	go test ./e2e/chaos                                    about half a minute
//	go test ./e2e/chaos -chaos.duration=10m -chaos.seed=7  longer, with a schedule of one's choice
//	go test ./e2e/chaos -chaos.mix=pauses                  one kind of fault only
//	go test ./e2e/chaos -chaos.nodes=5 -chaos.shards=16    with several shards: transactions, deletions and reads go over all of them
//
// The seed decides what the nemesis does, in which order and for how long; what the processes make of it
// differs from run to run.
package chaos
