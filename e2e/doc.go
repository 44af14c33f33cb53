// Package e2e tests the product from outside, with etcd's official Go client and etcdctl against
// three real processes. The tests say what etcd promises; each passes on etcd as well:
//
//	(cd bench && go build -o /tmp/etcd go.etcd.io/etcd/server/v3)
//	QUORATE_E2E_BINARY=/tmp/etcd go test ./e2e
//
// and with either protocol: QUORATE_E2E_CONSENSUS=paxos go test ./e2e. With several shards:
// QUORATE_E2E_SHARDS=8 QUORATE_E2E_PARTITION=hash (prefix, range) QUORATE_E2E_COMMIT=2pc (3pc) go test ./e2e -v. It says which tests are left out, and why.
//
// Tests of client behaviour share one cluster and stay apart by key prefix; tests that kill nodes, or that want
// nobody to write besides, share others and run one after the other; the rest start their own.
package e2e
