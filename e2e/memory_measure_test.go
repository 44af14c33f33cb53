package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quoratedb/quorate/e2e/cluster"
)

// gauge watches how much memory nodes have resident while something goes on.
type gauge struct {
	nodes    []*cluster.Node
	profiles map[*cluster.Node]string // where their heap profiles are; nil: none are wanted
	stop     chan struct{}
	done     sync.WaitGroup

	mu       sync.Mutex
	peak     []int64
	profiled []int64 // the peak at which the last profile was taken
	grown    time.Time
	ruined   error
}

const (
	gaugeInterval = 20 * time.Millisecond
	// ruinBytes is where a node is killed, so that a test does not take the machine with it.
	ruinBytes = 6 << 30
)

// measure begins to watch; each node's peak starts from what it has now.
func measure(t *testing.T, nodes []*cluster.Node, metrics map[*cluster.Node]string) *gauge {
	t.Helper()
	g := &gauge{nodes: nodes, stop: make(chan struct{}), peak: make([]int64, len(nodes)), profiled: make([]int64, len(nodes)), grown: time.Now()}
	if *memoryProfiles != "" {
		g.profiles = metrics
		must(t, os.MkdirAll(*memoryProfiles, 0o755))
	}
	for _, n := range nodes {
		// The kernel's own peak; see proc_pid_clear_refs(5).
		must(t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.PID()), []byte("5"), 0))
	}
	must(t, g.look(t.Name()))
	g.done.Go(func() {
		ticker := time.NewTicker(gaugeInterval)
		defer ticker.Stop()
		for {
			select {
			case <-g.stop:
				return
			case <-ticker.C:
				if err := g.look(t.Name()); err != nil {
					g.mu.Lock()
					g.ruined = err
					g.mu.Unlock()
					return
				}
			}
		}
	})
	return g
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakBytes is the most that a process has had resident.
func peakBytes(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	found := highWater.FindSubmatch(status)
	if found == nil {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	kilobytes, err := strconv.ParseInt(string(found[1]), 10, 64)
	return kilobytes << 10, err
}

func (g *gauge) look(name string) error {
	for i, n := range g.nodes {
		peak, err := peakBytes(n.PID())
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		if peak > ruinBytes {
			return fmt.Errorf("%s has %d MiB and was killed (%v)", n.Name, peak>>20, n.Kill())
		}
		g.mu.Lock()
		if peak > g.peak[i]+1<<20 {
			g.grown = time.Now()
		}
		g.peak[i] = peak
		g.mu.Unlock()
		if g.profiles != nil && peak > 400<<20 && peak > g.profiled[i]+g.profiled[i]/4 {
			g.profiled[i] = peak
			if err := saveProfile(g.profiles[n], fmt.Sprintf("%s.%s", filepath.Base(name), n.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// saveProfile replaces a file by a node's heap profile.
func saveProfile(address, name string) error {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get("http://" + address + "/debug/pprof/heap")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	profile, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*memoryProfiles, name+".pb.gz"), profile, 0o644)
}

// quietSince is when a peak last grew.
func (g *gauge) quietSince() (time.Time, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.grown, g.ruined
}

// end returns each node's peak.
func (g *gauge) end() ([]int64, error) {
	close(g.stop)
	g.done.Wait()
	return g.peak, g.ruined
}

// bystanders are clients that have nothing to do with an attack: one that puts and one that gets at each node, each on a connection of its own.
type bystanders struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu         sync.Mutex
	puts, gets []time.Duration
	failures   []error
}

// bystanderPause lies between two requests of one client: they are to notice, and not to be the load.
const bystanderPause = 5 * time.Millisecond

func startBystanders(t *testing.T, c *cluster.Cluster) *bystanders {
	b := &bystanders{}
	ctx, stop := context.WithCancel(t.Context())
	b.stop = stop
	for _, n := range c.Nodes {
		putter, getter, key := n.Client(t), n.Client(t), "bystander/"+n.Name
		b.loop(ctx, n.Name+": put", &b.puts, func(ctx context.Context) error {
			_, err := putter.Put(ctx, key, "v")
			return err
		})
		b.loop(ctx, n.Name+": get", &b.gets, func(ctx context.Context) error {
			_, err := getter.Get(ctx, key, clientv3.WithLimit(1))
			return err
		})
	}
	return b
}

func (b *bystanders) loop(ctx context.Context, what string, took *[]time.Duration, do func(context.Context) error) {
	b.done.Go(func() {
		ticker := time.NewTicker(bystanderPause)
		defer ticker.Stop()
		for ctx.Err() == nil {
			attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*bystanderPatience)
			began := time.Now()
			err := do(attempt)
			cancel()
			b.mu.Lock()
			*took = append(*took, time.Since(began))
			if err != nil {
				b.failures = append(b.failures, fmt.Errorf("%s, after %v: %w", what, time.Since(began), err))
			}
			b.mu.Unlock()
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
}

// end waits for the last requests.
func (b *bystanders) end() {
	b.stop()
	b.done.Wait()
	slices.Sort(b.puts)
	slices.Sort(b.gets)
}

// spread says how long something took.
func spread(sorted []time.Duration) string {
	if len(sorted) == 0 {
		return "none"
	}
	return fmt.Sprintf("%d: p50 %v, p99 %v, max %v", len(sorted), sorted[len(sorted)/2].Round(100*time.Microsecond),
		sorted[len(sorted)*99/100].Round(100*time.Microsecond), sorted[len(sorted)-1].Round(100*time.Microsecond))
}
