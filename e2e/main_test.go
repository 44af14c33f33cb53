package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/quoratedb/quorate/e2e/cluster"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// parallel is how many tests run at once: most of the time they wait.
const parallel = "4"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err) // the flag has another name now
	}
	code := cluster.Main(m)
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// shared are the clusters that outlive a test, in order of their start.
var shared struct {
	sync.Mutex
	clusters []*cluster.Cluster
}

// share starts a cluster at first use.
func share(o cluster.Options) func() (*cluster.Cluster, error) {
	return sync.OnceValues(func() (*cluster.Cluster, error) {
		c, err := cluster.New(o)
		if err != nil {
			return nil, err
		}
		shared.Lock()
		shared.clusters = append(shared.clusters, c)
		shared.Unlock()
		return c, c.Start()
	})
}

func closeShared() (err error) {
	for _, c := range shared.clusters {
		err = errors.Join(err, c.Close())
	}
	return err
}

var (
	// calm is for tests of which none disturbs the nodes; they run in parallel, each below its own prefix.
	calm = share(cluster.Options{Flags: []string{"--watch-progress-notify-interval=1s"}})
	// exclusive and faulty are for tests that want to be alone, because they count revisions, compact, or kill nodes.
	exclusive = share(cluster.Options{})
	faulty    = share(cluster.Options{})
)

// calmCluster gives the shared cluster, and marks the test as one that runs beside others.
func calmCluster(t *testing.T) *cluster.Cluster {
	t.Helper()
	skipShort(t)
	c := get(t, calm)
	t.Parallel()
	return c
}

// clean removes what a run before, with -count, left on the shared cluster.
func clean(t *testing.T, prefix string) {
	t.Helper()
	try(get(t, calm).Client(t).Delete(within(t), prefix, clientv3.WithPrefix()))(t)
}

// alone is a test that has a cluster to itself while it runs.
type alone struct {
	name string
	test func(*testing.T, *cluster.Cluster)
}

// TestExclusive runs what nobody else may write besides.
func TestExclusive(t *testing.T) {
	runAlone(t, exclusive, []alone{
		{"TxnRevisions", testTxnRevisions},
		{"Headers", testHeaders},
		{"WatchOfTheFuture", testWatchOfTheFuture},
		{"Compaction", testCompaction},
		{"WatchBelowTheCompaction", testWatchBelowTheCompaction},
		{"HashKV", testHashKV},
		{"DenseRevisionsThroughCrashes", testDenseRevisionsThroughCrashes},
		{"LeasesOverLeaderChanges", testLeasesOverLeaderChanges},
		{"LeasesSurviveARestartOfAll", testLeasesSurviveARestartOfAll},
	})
}

// TestFaults runs what goes on while nodes are killed.
func TestFaults(t *testing.T) {
	runAlone(t, faulty, []alone{
		{"SerializableReadNeedsNoQuorum", testSerializableReadNeedsNoQuorum},
		{"StopHandsOver", testStopHandsOver},
		{"MoveLeader", testMoveLeader},
		{"RequireLeader", testRequireLeader},
		{"ElectionOverAKill", testElectionOverAKill},
		{"WatchAtANodeThatWasAway", testWatchAtANodeThatWasAway},
		{"WatchesResumeOverRestarts", testWatchesResumeOverRestarts},
	})
}

// runAlone runs tests one after the other on a cluster; each begins with all nodes serving.
func runAlone(t *testing.T, clusterOf func() (*cluster.Cluster, error), tests []alone) {
	skipShort(t)
	t.Parallel()
	c := get(t, clusterOf)
	for _, test := range tests {
		must(t, c.Start())
		// Nothing is left from a test before, or from the same one with -count.
		try(c.Client(t).Delete(within(t), "\x00", clientv3.WithFromKey()))(t)
		t.Run(test.name, func(t *testing.T) { test.test(t, c) })
	}
}

func get(t *testing.T, clusterOf func() (*cluster.Cluster, error)) *cluster.Cluster {
	t.Helper()
	c, err := clusterOf()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
	})
	return c
}

func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
}

// within is a context that ends with the test, or after the longest time anything may take.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), cluster.Patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// try returns the value of a call that must not fail.
func try[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		must(t, err)
		return value
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// keysOf are the keys of a response, in its order.
func keysOf(r *clientv3.GetResponse) (keys []string) {
	for _, pair := range r.Kvs {
		keys = append(keys, string(pair.Key))
	}
	return keys
}

// refused wants a call to fail at once, with this error.
func refused(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// short is for calls that must not succeed: long enough for an answer to come.
func short(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// eventually tries until the condition is nil; each attempt has a time of its own.
func eventually(t *testing.T, what string, condition func(context.Context) error) {
	t.Helper()
	cluster.Eventually(t, what, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		return condition(ctx)
	})
}
