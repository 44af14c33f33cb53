package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/sim/history"
)

var (
	duration = flag.Duration("chaos.duration", 15*time.Second, "how long the nemesis works")
	seed     = flag.Uint64("chaos.seed", 0, "seed of the nemesis and the clients; 0: random")
	mix      = flag.String("chaos.mix", "", "kinds of faults, separated by commas: kills, pauses, partitions, mixed, snapshots; empty: all but snapshots")
	workers  = flag.Int("chaos.workers", 16, "how many clients work")
	think    = flag.Duration("chaos.think", 6*time.Millisecond, "how long a client waits between two operations, on average")
	safety   = flag.String("chaos.read-safety", "lease", "--read-safety of the nodes")
	nodes    = flag.Int("chaos.nodes", 3, "how many nodes there are")
	protocol = flag.String("chaos.consensus", "raft", "--consensus of the nodes")
)

func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute; left out with -short")
	}
	t.Parallel()
	run(t, setting{*mix, *duration, *nodes, *shards, *kind, *commit})
}

// TestChaosSnapshots leaves nodes so far behind that they need a snapshot.
func TestChaosSnapshots(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while; left out with -short")
	}
	if *mix != "" {
		t.Skip("-chaos.mix was given")
	}
	t.Parallel()
	run(t, setting{"snapshots", *duration / 2, *nodes, *shards, *kind, *commit})
}

// TestChaosShards disturbs stores of several shards. For longer, with other numbers: -run 'TestChaos$' with -chaos.nodes and -chaos.shards.
func TestChaosShards(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while; left out with -short")
	}
	if *mix != "" || *shards > 1 {
		t.Skip("-chaos.mix or -chaos.shards was given")
	}
	t.Parallel()
	for _, s := range []setting{
		{"kills", *duration * 3 / 10, 3, 3, "hash", "2pc"},
		{"kills", *duration * 3 / 10, 5, 16, "range", "3pc"},
		{"pauses,partitions", *duration * 3 / 10, 3, 16, "range", "2pc"},
		{"pauses,partitions", *duration * 3 / 10, 3, 3, "hash", "3pc"},
	} {
		name := fmt.Sprintf("%s, %d nodes, %d shards by %s, %s", s.mix, s.nodes, s.shards, s.kind, s.commit)
		t.Run(name, func(t *testing.T) { run(t, s) })
	}
}

// setting is what a run is about.
type setting struct {
	mix      string
	duration time.Duration
	nodes    int
	shards   int
	kind     string
	commit   string
}

// recording is everything that goes on during a run.
type recording struct {
	*recorder
	watchers []*watching
	finals   []chan kv.Revision
}

func run(t *testing.T, s setting) {
	chosen := *seed
	if chosen == 0 {
		chosen = rand.Uint64()
	}
	t.Logf("reproduce the schedule with -run 'TestChaos$' -chaos.seed=%d -chaos.duration=%v -chaos.mix=%q -chaos.nodes=%d -chaos.shards=%d -chaos.partition=%s -chaos.commit=%s",
		chosen, s.duration, s.mix, s.nodes, s.shards, s.kind, s.commit)
	keys := newKeyspace(t, s.shards, s.kind, s.commit)
	c := startCluster(t, program(t), s.nodes, append(keys.flags(), "--snapshot-count=50", "--read-safety="+*safety, "--consensus="+*protocol)...)
	r := &recording{recorder: &recorder{began: time.Now(), cluster: c, keys: keys}}
	working, stopWorking := context.WithCancel(context.Background())
	defer stopWorking()
	watchingTime, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()

	var watchers, clients sync.WaitGroup
	r.watch(watchingTime, &watchers)
	r.openAccounts(t, chosen)
	clients.Go(func() { r.audit(t, working, chosen) })
	for i := range *workers {
		w, err := newWorker(r.recorder, i, chosen, *think)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		clients.Go(func() { w.run(working) })
	}
	n := &nemesis{cluster: c, recorder: r.recorder, random: rand.New(rand.NewPCG(chosen, 0)), faults: choose(s.mix)}
	disturbing, stopDisturbing := context.WithTimeout(context.Background(), s.duration)
	defer stopDisturbing()
	n.run(disturbing)

	n.restore()
	c.waitServing(servingBound)
	t.Logf("%8.3fs healed", r.now().Seconds())
	stopWorking()
	clients.Wait()
	if s.shards > 1 {
		c.waitDecided()
	}
	h := r.collect(t, c, &watchers, stopWatching)
	c.checkHashes(h.Final, keys.many())
	judge(t, h)
	if t.Failed() {
		if f, err := os.Create(filepath.Join(c.dir, "history.txt")); err == nil {
			history.Dump(f, h)
			f.Close()
		}
	}
	t.Log(n.summary())
	installed := c.logged("installed a snapshot")
	t.Logf("%d snapshots were installed", installed)
	if s.mix == "snapshots" && installed == 0 && s.duration >= 10*time.Second {
		t.Error("no node needed a snapshot: that is no test of them")
	}
	failover(t, n, h)
}

// watch starts watchers at every node: of everything and of a part; some stay, some roam. The first is the one whose
// delivery is taken for the full history, after it was held against everything else.
func (r *recording) watch(ctx context.Context, running *sync.WaitGroup) {
	add := func(name string, span kv.Span, node int, roaming time.Duration, prev bool) {
		w := &watching{Watcher: history.Watcher{Name: name, Span: span, Start: 2, PrevKV: prev}, recorder: r.recorder, node: node, roaming: roaming}
		final := make(chan kv.Revision, 1)
		r.watchers, r.finals = append(r.watchers, w), append(r.finals, final)
		r.positions = append(r.positions, &w.position)
		running.Go(func() { w.run(ctx, final) })
	}
	add("roaming, all", kv.Everything(), 0, 1500*time.Millisecond, true)
	add("roaming, registers", registerSpan, 1, 700*time.Millisecond, false)
	for node := range r.cluster.nodes {
		add("staying, all", kv.Everything(), node, 0, false)
		add("staying, registers", registerSpan, node, 0, true)
	}
}

// collect waits until every watcher has delivered everything, and puts the history together.
func (r *recording) collect(t *testing.T, c *cluster, running *sync.WaitGroup, stop context.CancelFunc) *history.History {
	// Leases that are left end, so that the store comes to rest.
	final := c.rest(t)
	for _, f := range r.finals {
		f <- final
	}
	late := time.AfterFunc(40*time.Second, stop)
	t.Logf("%8.3fs at rest", r.now().Seconds())
	running.Wait()
	late.Stop()
	t.Logf("%8.3fs all watched", r.now().Seconds())
	h := &history.History{Operations: r.operations, Final: final, Sparse: r.keys.many()}
	for _, w := range r.watchers {
		if w.err != nil {
			t.Error(w.err)
		}
		h.Watchers = append(h.Watchers, w.Watcher)
	}
	h.Full = c.readHistory(t, final, &r.watchers[0].Watcher)
	return h
}

// rest waits until leases have expired and the revision does not change any more.
func (c *cluster) rest(t *testing.T) kv.Revision {
	deadline := time.Now().Add(servingBound + 4*leaseTTL*time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		leases, err := c.nodes[0].client.Leases(ctx)
		if err == nil && len(leases.Leases) == 0 {
			got, err := c.nodes[0].client.Get(ctx, "rest")
			if err == nil {
				cancel()
				return kv.Revision(got.Header.Revision)
			}
		}
		cancel()
		if time.Now().After(deadline) {
			t.Fatalf("the store does not come to rest: %v, %v", leases, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// readHistory reads the whole history by a fresh watch. What is compacted is taken from a watcher that saw it.
func (c *cluster) readHistory(t *testing.T, final kv.Revision, saw *history.Watcher) (full []kv.Event) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	start := kv.Revision(2)
	for {
		w := &watching{Watcher: history.Watcher{Name: "the whole history", Span: kv.Everything(), Start: start, PrevKV: true},
			recorder: &recorder{began: time.Now(), cluster: c}}
		at := make(chan kv.Revision, 1)
		at <- final
		w.run(ctx, at)
		if errors.Is(w.err, rpctypes.ErrCompacted) && start < w.compacted {
			start = w.compacted
			continue
		}
		if w.err != nil {
			t.Fatal(w.err)
		}
		for _, b := range saw.Batches {
			for _, e := range b.Events {
				if e.KV.ModRevision < start {
					full = append(full, e)
				}
			}
		}
		for _, b := range w.Batches {
			full = append(full, b.Events...)
		}
		// A watch that starts at the compacted revision does not know the versions before.
		prev := map[string]*kv.KeyValue{}
		for i := range full {
			e := &full[i]
			e.Prev = prev[string(e.KV.Key)]
			prev[string(e.KV.Key)] = nil
			if e.Type == kv.EventPut {
				prev[string(e.KV.Key)] = &e.KV
			}
		}
		return full
	}
}

// checkHashes: all nodes hold the same.
func (c *cluster) checkHashes(at kv.Revision, manyShards bool) {
	var hashes []uint32
	for _, n := range c.nodes {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		got, err := n.client.HashKV(ctx, n.clientURL, int64(at))
		if status.Code(err) == codes.Unimplemented && manyShards {
			got, err = n.hashList(ctx, at)
		}
		cancel()
		if err != nil {
			c.t.Errorf("hash of %s at revision %d: %v", n.name, at, err)
			return
		}
		hashes = append(hashes, got.Hash)
	}
	if slices.Min(hashes) != slices.Max(hashes) {
		c.t.Errorf("the nodes differ at revision %d: hashes %x", at, hashes)
	}
}

// hashList hashes what the node itself has of all keys.
func (n *node) hashList(ctx context.Context, at kv.Revision) (*clientv3.HashKVResponse, error) {
	list, err := n.client.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(int64(at)), clientv3.WithSerializable())
	if err != nil {
		return nil, err
	}
	hash := crc32.NewIEEE()
	for _, one := range list.Kvs {
		fmt.Fprintln(hash, one)
	}
	return &clientv3.HashKVResponse{Hash: hash.Sum32()}, nil
}

func judge(t *testing.T, h *history.History) {
	outcomes := map[history.Outcome]int{}
	for i := range h.Operations {
		outcomes[h.Operations[i].Outcome]++
	}
	v := auditHistory(h)
	for _, p := range v.problems() {
		t.Error(p)
	}
	report := v.report
	if v.transfers < 10 {
		t.Errorf("only %d transfers: that is no test", v.transfers)
	}
	if outcomes[history.Acknowledged] < 100 {
		t.Errorf("only %d operations were acknowledged: that is no test", outcomes[history.Acknowledged])
	}
	t.Logf("%d operations: %d acknowledged, %d refused, %d of unknown outcome; final revision %d; checked %d writes (%d of them of unknown outcome), %d revisions without one, %d reads, %d ends of leases, %d watchers in %v; porcupine left %d of %d keys undecided",
		len(h.Operations), outcomes[history.Acknowledged], outcomes[history.Refused], outcomes[history.Unknown], h.Final,
		report.Writes, report.Recovered, report.Gaps, report.Reads, report.LeaseEnds, len(h.Watchers), v.took, v.undecided, registers+accounts)
	t.Logf("%d transfers", v.transfers)
}

// verdict is what is wrong with a history, in three opinions: by revisions, without looking at them, and by the sum of the accounts.
type verdict struct {
	report          history.Report
	took            time.Duration // the report
	registers, sums []string
	undecided       int // keys that the second opinion had no time for
	transfers       int
}

func auditHistory(h *history.History) (v verdict) {
	began := time.Now()
	v.report = history.Check(h)
	v.took = time.Since(began)
	v.registers, v.undecided = history.Registers(h, append(registerKeys(), accountKeys()...), 20*time.Second)
	v.transfers, v.sums = addUp(h.Full)
	return v
}

func (v *verdict) problems() []string { return slices.Concat(v.report.Problems, v.registers, v.sums) }

// failover logs how long no write was acknowledged after faults that hit the leader and left a majority alone.
func failover(t *testing.T, n *nemesis, h *history.History) {
	var writes []history.Operation
	for _, o := range h.Operations {
		if o.Outcome == history.Acknowledged && o.Request.Kind == kv.KindPut {
			writes = append(writes, o)
		}
	}
	slices.SortFunc(writes, func(a, b history.Operation) int { return int(a.Return - b.Return) })
	byName := map[string][]time.Duration{}
	for _, d := range n.record {
		if !d.leader || !d.quorumIntact {
			continue
		}
		gap, last := time.Duration(0), d.at
		for _, w := range writes {
			if w.Return > d.at && last < d.healed+time.Second {
				gap, last = max(gap, w.Return-last), w.Return
			}
		}
		byName[d.name] = append(byName[d.name], gap.Round(time.Millisecond))
	}
	names := make([]string, 0, len(byName))
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		gaps := byName[name]
		slices.Sort(gaps)
		t.Logf("without an acknowledged write, %s: median %v, longest %v of %d", name, gaps[len(gaps)/2], gaps[len(gaps)-1], len(gaps))
	}
	longest := time.Duration(0)
	for _, d := range n.record {
		longest = max(longest, d.serving)
	}
	t.Logf("all nodes served at most %v after a fault was healed", longest.Round(time.Millisecond))
}

// compactable is a revision that every watcher has passed.
func (r *recorder) compactable() int64 {
	lowest := r.revision.Load()
	for _, p := range r.positions {
		lowest = min(lowest, p.Load())
	}
	return lowest - 1
}
