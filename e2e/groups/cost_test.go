package groups

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/kv"
)

var (
	costRounds   = flag.Int("groups.cost", 0, "how often TestCostByGroups measures everything; 0: not at all")
	costDuration = flag.Duration("groups.cost-duration", time.Second, "how long it measures one load")
	costJSON     = flag.String("groups.cost-json", "", "file for its results")
	costProfile  = flag.String("groups.cost-profile", "", "folder for CPU profiles, by load and node")
	costGroups   = flag.String("groups.cost-groups", "1,16,64,1000", "numbers of groups")
	costClients  = flag.String("groups.cost-clients", "64,256,1024", "numbers of clients")
	costProtocol = flag.String("groups.cost-protocol", "raft", "raft or paxos")
)

// maxRatio is what a put may cost with 16 groups at 256 clients, of what it costs with one.
const maxRatio = 1.2

// costResult is one load, measured once per round. Figures are of all three processes together; the clients are in them.
type costResult struct {
	Groups, Clients int
	// Spread: the leaders are on all nodes, and the clients with them. Otherwise one node leads everything.
	Spread bool
	// Of each round. CPU is in microseconds.
	CPUPerPut, PutsPerSecond, EntriesPerPut, SyncsPerPut, WritesPerPut, MallocsPerPut []float64
	// OfOne is the CPU per put divided by what one group took immediately before, with as many clients: a busy machine changes within seconds.
	OfOne []float64
}

// idleResult is what a node with so many groups uses while nobody asks for anything.
type idleResult struct {
	Groups                      int
	CPUMillisPerSecond          []float64 // of one node
	FramesPerSecond, HeapKBytes float64   // of one node
}

type costReport struct {
	Machine  string
	When     time.Time
	Protocol string
	Seconds  float64
	Puts     []*costResult
	Idle     []*idleResult
}

// TestCostByGroups measures the CPU that a put costs, by the number of groups in the node and of clients, and what idle groups cost. All variants run in turn,
// several times; medians count.
func TestCostByGroups(t *testing.T) {
	if *costRounds == 0 {
		t.Skip("measures for minutes; asked for by -groups.cost")
	}
	report := &costReport{Machine: machine(), When: time.Now().UTC().Truncate(time.Second), Protocol: *costProtocol, Seconds: costDuration.Seconds()}
	clusters := report.plan(t)
	for _, spread := range []bool{false, true} {
		for _, c := range clusters {
			c.place(spread)
		}
		for range *costRounds {
			for _, idle := range report.Idle {
				clusters[idle.Groups].measureIdle(idle)
			}
			for _, result := range report.Puts {
				if result.Spread == spread {
					report.measure(clusters, result)
				}
			}
		}
	}
	report.print(t)
	report.judge(t)
	if *costJSON != "" {
		text, err := json.MarshalIndent(report, "", "  ")
		if err == nil {
			err = os.WriteFile(*costJSON, append(text, '\n'), 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// plan starts a cluster for each number of groups, and makes the list of what is measured.
func (r *costReport) plan(t *testing.T) map[int]*cluster {
	clusters := make(map[int]*cluster)
	for _, groups := range numbers(t, *costGroups) {
		clusters[groups] = newCluster(t, groups, func(config *nodeConfig) { config.Paxos = *costProtocol == "paxos" })
		clusters[groups].startAll()
		r.Idle = append(r.Idle, &idleResult{Groups: groups})
		for _, clients := range numbers(t, *costClients) {
			r.Puts = append(r.Puts, &costResult{Groups: groups, Clients: clients})
			if groups > 1 {
				r.Puts = append(r.Puts, &costResult{Groups: groups, Clients: clients, Spread: true})
			}
		}
	}
	return clusters
}

// measure runs a load, and the one with one group before it.
func (r *costReport) measure(clusters map[int]*cluster, result *costResult) {
	one := r.one(result)
	if one == nil || one == result {
		clusters[result.Groups].measurePuts(result)
		return
	}
	clusters[1].measurePuts(one)
	clusters[result.Groups].measurePuts(result)
	result.OfOne = append(result.OfOne, last(result.CPUPerPut)/last(one.CPUPerPut))
}

func last(values []float64) float64 { return values[len(values)-1] }

func numbers(t *testing.T, list string) (all []int) {
	for _, word := range strings.Split(list, ",") {
		var n int
		if _, err := fmt.Sscan(word, &n); err != nil || n < 1 {
			t.Fatalf("%q is no number of anything", word)
		}
		all = append(all, n)
	}
	return all
}

// machine describes what is measured on.
func machine() string {
	return fmt.Sprintf("%d processors, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// place moves the leaders: to the first node, or evenly to all.
func (c *cluster) place(spread bool) {
	c.eventually("the leaders are placed", func(ctx context.Context) error {
		leaders, err := c.leaders(ctx)
		if err != nil {
			return err
		}
		left := 0
		for group, at := range leaders {
			to := c.processes[0]
			if spread {
				to = c.processes[int(group)%size]
			}
			if to != at {
				left++
				_, err = call[struct{}](ctx, at.client.Load(), "Transfer", Handover{group, kv.NodeID(to.config.Number)})
			}
		}
		if left > 0 {
			return fmt.Errorf("%d were moved just now: %w", left, err)
		}
		return nil
	})
}

// measurePuts runs one load, first for a moment that does not count.
func (c *cluster) measurePuts(result *costResult) {
	leaders, err := c.leaders(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	led := make(map[*process][]consensus.GroupID)
	for _, group := range c.processes[0].config.Groups {
		led[leaders[group]] = append(led[leaders[group]], group)
	}
	c.load(led, result.Clients, *costDuration/5, "")
	before := c.usage(false)
	puts := c.load(led, result.Clients, *costDuration, result.profile())
	used := c.usage(false).minus(before)
	if puts.Failed > 0 || puts.Acknowledged == 0 {
		c.t.Fatalf("%+v: %d puts were acknowledged, %d failed", *result, puts.Acknowledged, puts.Failed)
	}
	count := float64(puts.Acknowledged)
	result.CPUPerPut = append(result.CPUPerPut, float64(used.CPU.Nanoseconds())/1000/count)
	result.PutsPerSecond = append(result.PutsPerSecond, count/costDuration.Seconds())
	result.EntriesPerPut = append(result.EntriesPerPut, float64(used.Entries)/size/count)
	result.SyncsPerPut = append(result.SyncsPerPut, float64(used.Syncs)/count)
	result.WritesPerPut = append(result.WritesPerPut, float64(used.Writes)/count)
	result.MallocsPerPut = append(result.MallocsPerPut, float64(used.Mallocs)/count)
}

// profile is where profiles of the load go, but for the number of the node; empty: nowhere.
func (r *costResult) profile() string {
	if *costProfile == "" {
		return ""
	}
	return filepath.Join(*costProfile, fmt.Sprintf("%d-groups-%d-clients-spread-%v", r.Groups, r.Clients, r.Spread))
}

// load divides the clients among the nodes by what they lead.
func (c *cluster) load(led map[*process][]consensus.GroupID, clients int, d time.Duration, profile string) (sum Puts) {
	var running sync.WaitGroup
	var mu sync.Mutex
	all := len(c.processes[0].config.Groups)
	for _, p := range c.processes {
		running.Go(func() {
			load := Load{Groups: led[p], Clients: (clients*len(led[p]) + all/2) / all, Duration: d}
			if profile != "" {
				load.Profile = fmt.Sprintf("%s-node-%d.pprof", profile, p.config.Number)
			}
			puts, err := call[Puts](c.t.Context(), p.client.Load(), "Run", load)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				c.t.Error(err)
			}
			sum.Acknowledged += puts.Acknowledged
			sum.Failed += puts.Failed
		})
	}
	running.Wait()
	return sum
}

// usage is what all processes have used.
func (c *cluster) usage(collect bool) (sum Usage) {
	for _, p := range c.processes {
		u, err := call[Usage](c.t.Context(), p.client.Load(), "Usage", collect)
		if err != nil {
			c.t.Error(err)
		}
		sum = sum.plus(u)
	}
	return sum
}

// measureIdle waits and asks for nothing.
func (c *cluster) measureIdle(result *idleResult) {
	if result.HeapKBytes == 0 { // before the first put
		result.HeapKBytes = float64(c.usage(true).HeapBytes) / 1024 / size
	}
	before := c.usage(false)
	<-time.After(*costDuration) // what passes is what is measured
	used := c.usage(false).minus(before)
	result.CPUMillisPerSecond = append(result.CPUMillisPerSecond, float64(used.CPU.Microseconds())/1000/size/costDuration.Seconds())
	result.FramesPerSecond = float64(used.Frames) / size / costDuration.Seconds()
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// one is the load on one group with as many clients; nil: it was not measured.
func (r *costReport) one(result *costResult) *costResult {
	for _, other := range r.Puts {
		if other.Groups == 1 && other.Clients == result.Clients {
			return other
		}
	}
	return nil
}

func (r *costReport) print(t *testing.T) {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "groups\tclients\tleaders on\tus CPU/put\tof one group\tputs/s\tentries/put\tsyncs/put\twrites/put\tmallocs/put")
	for _, p := range r.Puts {
		leaders, ratio := "one node", "-"
		if p.Spread {
			leaders = "all nodes"
		}
		if len(p.OfOne) > 0 {
			ratio = fmt.Sprintf("%.2f", median(p.OfOne))
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%.1f\t%s\t%.0f\t%.3f\t%.3f\t%.3f\t%.1f\n", p.Groups, p.Clients, leaders, median(p.CPUPerPut), ratio, median(p.PutsPerSecond),
			median(p.EntriesPerPut), median(p.SyncsPerPut), median(p.WritesPerPut), median(p.MallocsPerPut))
	}
	fmt.Fprintln(w, "\ngroups\tidle: ms CPU/s of a node\tframes/s\theap KiB\tKiB a group")
	least := slices.MinFunc(r.Idle, func(a, b *idleResult) int { return cmp.Compare(a.Groups, b.Groups) })
	for _, i := range r.Idle {
		fmt.Fprintf(w, "%d\t%.2f\t%.0f\t%.0f\t%.1f\n", i.Groups, median(i.CPUMillisPerSecond), i.FramesPerSecond, i.HeapKBytes,
			(i.HeapKBytes-least.HeapKBytes)/float64(max(1, i.Groups-least.Groups)))
	}
	w.Flush()
	t.Logf("%s, %s, %d rounds of %v\n%s", r.Machine, r.Protocol, *costRounds, *costDuration, out.String())
}

// judge fails the test if many groups make puts too dear.
func (r *costReport) judge(t *testing.T) {
	for _, p := range r.Puts {
		if p.Groups == 16 && p.Clients == 256 && len(p.OfOne) > 0 && median(p.OfOne) > maxRatio {
			t.Errorf("16 groups at 256 clients, leaders on all nodes: %v: a put costs %.2f times what it costs with one group, at most %.2f are wanted", p.Spread, median(p.OfOne), maxRatio)
		}
	}
}
