// Package consensustest runs consensus cores against each other in a deterministic network: a
// scenario language whose texts lie in testdata and must hold for every protocol, and a random
// run with every fault the fixture knows. Global invariants are checked after each event.
//
// # The language
//
// Each command acts, lets every core it touched come to rest, and prints what changed: roles, values
// applied, memberships, answered reads. Nothing specific to a protocol is printed. Messages lie
// in flight until they are delivered. Unless held back, each write is synced and
// each committed entry applied at once.
//
//	cluster n=3 [election=10] [heartbeat=1] [message-bytes=n] [apply-bytes=n]
//	                             replicas 1..n, all voters
//	add 4                        a replica with nothing on disk, member of nothing
//	campaign 1 / tick 1 n=3 / leader-lost 2
//	propose 1 a b                one entry for each value
//	config 1 voters=(1,2,4) learners=(5)
//	transfer 1 to=2 / read 1 id=7
//	handover 1 to=2
//	deliver [from=1] [to=2] [n=1]   the messages in flight now, oldest first
//	drop | duplicate | reorder [from=1] [to=2] [n=1]
//	deliver | drop | copy from=1 to=2 at=3    only the third one on that link; copy: it stays and another comes last
//	raise [from=1] [to=2]        snapshots in flight are sent at the sender's present state
//	stabilize                    deliver until nothing is in flight
//	cut from=1 to=2 / isolate 1 / heal
//	hold-sync 2 / sync 2 [n=1] / release-sync 2
//	hold-apply 2 / apply 2 [n=1] / release-apply 2
//	crash 2 [state-first] / restart 2    what was not synced is lost; state-first: a snapshot being installed is in the state, not in the log
//	crash 2 synced               what was written has reached the disk, but nobody was told
//	checkpoint 2 / compact 2     make the state durable / and forget the log before it
//	unreachable 1 peer=2
//	values / status / check
//	flight / quiet 1             for texts about one protocol: the messages in flight; Status().Quiet
package consensustest
