// Package raft puts go.etcd.io/raft/v3 behind consensus.Core. Nothing of that library's types leaves
// the package; DESIGN.md says how its messages map to the contract, docs/protocols/raft.md
// which messages replicas exchange.
//
// # Randomness
//
// The library draws the jitter of election timeouts from crypto/rand and cannot be given another
// source. A simulation must replace that reader (testing/cryptotest.SetGlobalRandom) or start
// elections with Campaign.
//
// # What the driver must respect
//
//   - The first members of a group begin at consensus.BootstrapIndex and BootstrapTerm, with the
//     log reset to that position and the state machine's applied index there too.
//   - Config entries are handed out in Ready.Committed with the resulting membership as Data. The core
//     itself switches when AckApplied covers them, so Status().Config always belongs to Status().Applied.
//   - A snapshot may be sent as of another index than its message says: change Index, Term and Config
//     of the meta together. It may be an earlier one if the log has everything behind it.
//   - Report messages that were surely lost with Unreachable: Status().Quiet relies on nothing less.
package raft
