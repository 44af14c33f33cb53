package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	differentialSeed      = flag.Uint64("differential.seed", 1, "first seed of TestSameAsEtcd")
	differentialSeeds     = flag.Int("differential.seeds", 2, "how many seeds, each with new clusters")
	differentialSteps     = flag.Int("differential.steps", 1000, "requests of one seed")
	differentialNodes     = flag.Int("differential.nodes", 3, "nodes of the Quorate cluster")
	differentialShards    = flag.Int("differential.shards", 1, "shards of the Quorate cluster")
	differentialPartition = flag.String("differential.partition", "hash", "which keys a shard has: hash or range")
	differentialCommit    = flag.String("differential.commit", "2pc", "how the shards of a transaction agree: 2pc or 3pc")
	differentialWithout   = flag.String("differential.without", "", "what is not asked for: leases, compaction, maintenance, hash, separated by commas")
)

// TestSameAsEtcd gives the same random requests to etcd and to Quorate, one after the other, and wants the same answers:
// codes, texts of errors, and every field of every response, revisions in headers included. Left out is what
// docs/operations.md lists as a difference, and what names a member or a term.
func TestSameAsEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs etcd")
	}
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	if _, err := build(ctx, config{Dir: dir, Systems: []string{systemEtcd}}); err != nil {
		t.Skip("there is no etcd to compare with: ", err) // its modules are not needed by anything else
	}
	bin, err := build(ctx, config{Dir: dir, Systems: []string{systemRaft}})
	if err != nil {
		t.Fatal(err)
	}
	for seed := *differentialSeed; seed < *differentialSeed+uint64(*differentialSeeds); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel() // mostly they wait, the longest for the first election
			compareSystems(t, bin, seed)
		})
	}
}

func compareSystems(t *testing.T, bin binaries, seed uint64) {
	d := &differential{t: t, chance: rand.New(rand.NewPCG(seed, 0)), leases: map[int64]bool{}, withoutPrevious: map[int64]bool{}}
	d.etcd = d.start(bin, systemEtcd, 1)
	d.quorate = d.start(bin, systemRaft, *differentialNodes)
	d.begin()
	d.watches = d.newWatches()
	for d.step = 0; d.step < *differentialSteps && len(d.differences) < maxDifferences && !d.diverged; d.step++ {
		d.act()
	}
	d.watches.compare()
	if len(d.differences) > 0 {
		t.Errorf("%d differences; this seed again: go test . -run TestSameAsEtcd -differential.seed=%d -differential.seeds=1\n%s",
			len(d.differences), seed, strings.Join(d.differences, "\n"))
	}
	t.Logf("%d requests, at revision %d; %d answers were older", d.step, d.revision, d.older)
}

// maxDifferences is how many are shown of one seed.
const maxDifferences = 20

// differential is one run: two systems in the same state, and a source of chance.
type differential struct {
	t             *testing.T
	chance        *rand.Rand
	etcd, quorate *system
	watches       *watches

	step      int
	revision  int64 // of both, as of the last answer
	compacted int64
	leases    map[int64]bool // that were granted and not revoked
	nextLease int64
	// withoutPrevious are revisions whose events may have different previous values: docs/operations.md says when.
	withoutPrevious map[int64]bool
	diverged        bool // the systems have different states: nothing more can be compared
	differences     []string
	older           int // serializable reads of several shards that were not of the last revision, and not compared
}

// shardFlags make the shards of the Quorate cluster.
func shardFlags() []string {
	if *differentialShards <= 1 {
		return nil
	}
	commit := "--commit-protocol=" + *differentialCommit
	if *differentialPartition != "range" {
		return []string{fmt.Sprintf("--initial-shards=%d", *differentialShards), "--initial-partition=" + *differentialPartition, commit}
	}
	keys := slices.Sorted(slices.Values(letters))
	var splits []string
	for i := 1; i < *differentialShards; i++ {
		splits = append(splits, url.PathEscape(keys[min(i*len(keys) / *differentialShards, len(keys)-1)]))
	}
	return []string{"--initial-partition=range", "--initial-split-keys=" + strings.Join(splits, ","), commit}
}

// without tells whether something is not to be asked for.
func without(what string) bool {
	return slices.Contains(strings.Split(*differentialWithout, ","), what)
}

// start runs a system for the length of the test.
func (d *differential) start(bin binaries, name string, members int) *system {
	d.t.Helper()
	c := &cluster{system: name, bin: bin, dir: filepath.Join(d.t.TempDir(), name)}
	if members > 1 { // on a busy machine a leader must not be taken for lost: that would be another answer
		c.flags = append([]string{"--heartbeat-interval=500", "--election-timeout=20000"}, shardFlags()...)
	}
	if err := c.start(d.t.Context(), members); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		if d.t.Failed() {
			for _, m := range c.members {
				d.t.Logf("the end of the log of a member of %s:\n%s", name, logTail(m))
			}
		}
		c.stop()
	})
	s, err := connect(c)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(s.close)
	return s
}

func logTail(m *member) []byte {
	log, err := os.ReadFile(m.dir + ".log")
	if err != nil {
		return []byte(err.Error())
	}
	return log[max(0, len(log)-3000):]
}

// differ notes a difference; what is called for a text that says on which request.
func (d *differential) differ(request, etcd, quorate string) {
	d.differences = append(d.differences, fmt.Sprintf("step %d: %s\n\tetcd:    %s\n\tQuorate: %s", d.step, request, etcd, quorate))
}

// limit is how long one request may take before the run is given up.
func (d *differential) limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(d.t.Context(), time.Minute)
}
