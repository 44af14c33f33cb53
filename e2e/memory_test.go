package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
	"github.com/quoratedb/quorate/transport/freeport"
)

var (
	memoryAll      = flag.Bool("memory.all", false, "TestMemory: run the rows, too, that take long or are known to fail")
	memoryProfiles = flag.String("memory.profiles", "", "TestMemory: a directory for heap profiles, taken while a node has more than 400 MiB")
)

const (
	// allowedBytes is what a node with default flags may have resident, whatever one client does.
	allowedBytes = 512 << 20
	// bystanderPatience is from when on a request of another client hangs. It judges no speed: machines that run tests are busy, and their disks
	// too (beside a second run of all tests 7 s were seen); how long they took is in the log.
	bystanderPatience = 15 * time.Second
	// attackTime bounds one attack; attackQuiet is for how long nothing happens any more when it has done what it can.
	attackTime, attackQuiet = 20 * time.Second, time.Second
	// leftBytes is what clients may hold when the attackers have gone.
	leftBytes = 1 << 20
)

// tooMany is what a call for which there is no memory is told.
const tooMany = "8 etcdserver: too many requests"

// memoryRow is something that a client may try.
type memoryRow struct {
	name   string
	attack func(*siege) error
	// ends are what calls may end with, besides tooMany.
	ends []string
	// unanswered: calls stay without an answer, because their requests are not complete.
	unanswered bool
	// limit of what a node may have resident, in bytes.
	limit int64
	// long: the row is left out of an ordinary run, in which a similar one stands for it.
	long bool
	// until says what is missing before the row can pass; empty: it passes.
	until string
}

// answered is the status of a call that succeeded.
const answered = "0"

// late is that of a call that was given up because its time was over: on a busy machine a request that looks at very much does not come to where memory ends.
const late = "14 etcdserver: request timed out"

func memoryRows() []memoryRow {
	return []memoryRow{
		{name: "300RangeStreams", attack: rangeStreams, limit: allowedBytes},
		{name: "25Ranges", attack: ranges(1), limit: allowedBytes},
		{name: "25RangesOn5Connections", long: true, attack: ranges(5), limit: allowedBytes},
		{name: "25RangesAtAFollower", attack: rangesAtAFollower, limit: allowedBytes},
		{name: "WideTxn", attack: txns(20, wideTxn, toLeader), limit: allowedBytes, ends: []string{late}},
		{name: "WideTxnAtAFollower", long: true, attack: txns(20, wideTxn, toFollower), limit: allowedBytes, ends: []string{late}},
		{name: "WideTxnThatWrites", long: true, attack: txns(20, writingTxn, toLeader), limit: allowedBytes, ends: []string{late}},
		{name: "WideTxnThatWritesAtAFollower", attack: txns(20, writingTxn, toFollower), limit: allowedBytes, ends: []string{late}},
		{name: "DeepTxn", attack: txns(20, deepTxn, toLeader), limit: allowedBytes, ends: []string{late}},
		{name: "DeepTxnAtAFollower", long: true, attack: txns(20, deepTxn, toFollower), limit: allowedBytes, ends: []string{late}},
		{name: "HalfPuts", long: true, attack: halfPuts(1), unanswered: true, limit: allowedBytes},
		{name: "HalfPutsOn4Connections", attack: halfPuts(4), unanswered: true, limit: allowedBytes},
		{name: "SmallPutsBesides", attack: smallPutsBesides, unanswered: true, limit: allowedBytes, ends: []string{answered}},
		{name: "LargeHeaders", attack: largeHeaders, limit: allowedBytes, ends: []string{"8 the call's headers have more than 65536 bytes"}},
		{name: "LargeWatches", attack: largeWatches, limit: allowedBytes},
		{name: "1000CatchUps", attack: catchUps, limit: allowedBytes},
		{name: "LargePuts", long: true, attack: largePuts(1, toLeader), limit: allowedBytes, ends: []string{answered, late}},
		{name: "LargePutsOn4Connections", attack: largePuts(4, toLeader), limit: allowedBytes, ends: []string{answered, late}},
		{name: "LargePutsAtAFollower", long: true, attack: largePuts(1, toFollower), limit: allowedBytes, ends: []string{answered, late}},
		{name: "TxnsOf74000Ops", attack: txns(300, manyOps, toLeader), limit: allowedBytes, ends: []string{answered}},
		{name: "TxnsOf74000OpsAtAFollower", long: true, attack: txns(300, manyOps, toFollower), limit: allowedBytes, ends: []string{answered}},
	}
}

// TestMemory: whatever one client does, a node with default flags stays below its limit of memory, keeps its leader, and serves others. What is
// refused is refused with the right words.
func TestMemory(t *testing.T) {
	skipShort(t)
	if runtime.GOOS != "linux" {
		t.Skip("the memory of a process is read from /proc")
	}
	if cluster.IsEtcd() {
		t.Skip("etcd has no such limits")
	}
	c, metrics := memoryCluster(t)
	for _, row := range memoryRows() {
		t.Run(row.name, func(t *testing.T) {
			switch {
			case *memoryAll:
			case row.until != "":
				t.Skipf("known to fail until %s; -memory.all runs it", row.until)
			case row.long:
				t.Skip("takes long; -memory.all runs it")
			}
			restart(t, c)
			row.run(t, c, metrics)
		})
	}
}

// memoryCluster has default flags and a store of 100 MB. The port for metrics takes none of the memory.
func memoryCluster(t *testing.T) (c *cluster.Cluster, metrics map[*cluster.Node]string) {
	t.Helper()
	c = try(cluster.New(cluster.Options{}))(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
		must(t, c.Close())
	})
	metrics = map[*cluster.Node]string{}
	for _, n := range c.Nodes {
		metrics[n] = try(freeport.Address())(t)
		n.SetFlag("--listen-metrics-urls=http://" + metrics[n])
		n.SetFlag(fmt.Sprintf("--enable-pprof=%v", *memoryProfiles != ""))
	}
	must(t, c.Start())
	fill(t, c.Client(t))
	for _, n := range c.Nodes {
		t.Logf("%s has had %d MiB resident while the store was filled", n.Name, try(peakBytes(n.PID()))(t)>>20)
	}
	return c, metrics
}

// fill writes the store, some keys at a time.
func fill(t *testing.T, client *clientv3.Client) {
	t.Helper()
	const writers = 5
	failures := make([]error, writers)
	var all sync.WaitGroup
	ctx := within(t)
	for w := range writers {
		all.Go(func() {
			random := rand.NewChaCha8([32]byte{byte(w)})
			value := make([]byte, storeValueBytes)
			for i := w; i < storeKeys+storeTwice && failures[w] == nil; i += writers {
				_, _ = random.Read(value) // which does not compress, and never fails
				// Again, if a leader is lost meanwhile: on a busy machine that happens.
				failures[w] = cluster.Wait(ctx, func() error {
					_, err := client.Put(ctx, string(storeKey(i%storeKeys)), string(value))
					return err
				})
			}
		})
	}
	all.Wait()
	must(t, errors.Join(failures...))
}

// restart gives every node a process of its own, without what the one before has left in memory.
func restart(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	var all sync.WaitGroup
	for _, n := range c.Nodes {
		if n.Running() {
			all.Go(func() { _, _ = n.Stop(cluster.Patience) }) // killed below if it did not go
		}
	}
	all.Wait()
	must(t, c.Kill())
	must(t, c.Start())
}

func (row *memoryRow) run(t *testing.T, c *cluster.Cluster, metrics map[*cluster.Node]string) {
	s := &siege{t: t, leader: try(c.Leader())(t)}
	s.follower = try(c.Followers())(t)[0]
	nodes := append([]*cluster.Node{s.leader}, try(c.Followers())(t)...)
	term := termFor(t, s.leader)
	others := startBystanders(t, c)
	g := measure(t, nodes, metrics)
	began := time.Now()
	err := row.attack(s)
	said := time.Since(began)
	settleErr := row.settle(s, g)
	others.end()
	peaks, gaugeErr := g.end()
	t.Logf("resident: leader %d MiB, followers %d and %d; said in %v, over after %v", peaks[0]>>20, peaks[1]>>20, peaks[2]>>20,
		said.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	t.Logf("others' puts: %s", spread(others.puts))
	t.Logf("others' gets: %s", spread(others.gets))
	if err := errors.Join(err, settleErr, gaugeErr); err != nil {
		t.Errorf("the attack: %v", err)
	}
	row.judgeCalls(t, s)
	row.judgeOthers(t, others)
	for i, n := range nodes {
		if peaks[i] > row.limit {
			t.Errorf("%s had %d MiB resident, want no more than %d", n.Name, peaks[i]>>20, row.limit>>20)
		}
	}
	if now := termFor(t, s.leader); now != term {
		t.Errorf("the leader changed: term %d, then %d", term, now)
	}
	for _, a := range s.attackers {
		a.close()
	}
	eventually(t, "what clients hold", func(context.Context) error {
		for _, n := range nodes {
			if mistakes, err := scraped(metrics[n], "quorate_client_memory_mistakes_total"); err != nil || mistakes > 0 {
				return fmt.Errorf("%s: %v mistakes in counting, %v", n.Name, mistakes, err)
			}
			if held, err := scraped(metrics[n], "quorate_client_memory_bytes"); err != nil || held > leftBytes {
				return fmt.Errorf("%s: %d bytes, %v", n.Name, held, err)
			}
		}
		return nil
	})
}

// termFor is what a client hears that has just come.
func termFor(t *testing.T, n *cluster.Node) (term uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bystanderPatience)
	defer cancel()
	err := cluster.Wait(ctx, func() error {
		status, err := n.Status(ctx)
		if err == nil {
			term = status.RaftTerm
		}
		return err
	})
	if err != nil {
		t.Errorf("a newcomer was not served: %v", err)
	}
	return term
}

// settle waits until the attack has done what it can: all calls are answered or refused, and for a while the server has said nothing more and no
// node has grown.
func (row *memoryRow) settle(s *siege, g *gauge) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), attackTime)
	defer cancel()
	return cluster.Wait(ctx, func() error {
		last, err := g.quietSince()
		if err != nil {
			cancel()
			return err
		}
		missing, running := 0, 0
		for _, a := range s.attackers {
			unanswered, open, heard := a.hears()
			missing += unanswered
			running += open
			if heard.After(last) {
				last = heard
			}
		}
		switch quiet := time.Since(last); {
		case running == 0:
			return nil
		case missing > 0 && !row.unanswered:
			return fmt.Errorf("%d calls have got no answer", missing)
		case quiet < attackQuiet:
			return fmt.Errorf("the last thing happened %v ago", quiet)
		}
		return nil
	})
}

// judgeCalls looks at how the attackers' calls ended.
func (row *memoryRow) judgeCalls(t *testing.T, s *siege) {
	all, open, slowest := map[string]int{}, 0, time.Duration(0)
	for _, a := range s.attackers {
		a.mu.Lock()
		for with, n := range a.ended {
			all[with] += n
		}
		open += len(a.calls)
		slowest = max(slowest, a.slowest)
		a.mu.Unlock()
	}
	t.Logf("calls: %d open, ended with %v; the slowest refusal took %v", open, all, slowest.Round(time.Millisecond))
	for with, n := range all {
		if with != tooMany && !slices.Contains(row.ends, with) {
			t.Errorf("%d calls ended with %q, want %q", n, with, tooMany)
		}
	}
	if slowest > bystanderPatience {
		t.Errorf("a call was refused after %v", slowest)
	}
}

func (row *memoryRow) judgeOthers(t *testing.T, b *bystanders) {
	for _, err := range b.failures[:min(3, len(b.failures))] {
		t.Errorf("one of %d requests of others that failed: %v", len(b.failures), err)
	}
	if len(b.puts) == 0 || len(b.gets) == 0 {
		t.Fatal("the others asked for nothing")
	}
	for what, took := range map[string]time.Duration{"put": b.puts[len(b.puts)-1], "get": b.gets[len(b.gets)-1]} {
		if took > bystanderPatience {
			t.Errorf("a %s of another client took %v", what, took)
		}
	}
}
