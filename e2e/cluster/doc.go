// Package cluster runs real processes of the product for tests: it builds cmd/quorate once per test
// program, starts nodes on the loopback interface with etcd's flags, captures their logs, kills,
// stops, pauses and restarts them, and waits on conditions.
//
// With QUORATE_E2E_BINARY=/path/to/etcd in the environment the same tests run against that program.
// That is how a doubt about etcd's behaviour is settled; IsEtcd tells the few tests that concern our
// own promises to skip.
//
// A package that uses it ends its tests with Main, which removes what was built:
//
//	func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }
//
// Nothing here needs a *testing.T except Start and Client, so that clusters can outlive a test.
package cluster
