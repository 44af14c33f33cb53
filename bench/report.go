package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is everything a run measured.
type report struct {
	Machine  string
	When     time.Time
	Rounds   int
	Seconds  float64
	Fsync    float64 // median, milliseconds
	Loads    map[string]map[string][]result
	Failover map[string][]failoverResult
	Fill     map[string]fillResult
	Long     map[string][]longResult `json:",omitempty"`
	Flexible []flexibleResult        `json:",omitempty"`
	Shards   *shardsReport           `json:",omitempty"`
	// Guards are the loads of what users and the audit log cost, by load and cluster.
	Guards map[string]map[string][]result `json:",omitempty"`
	// Backups are the load of backups.
	Backups *backupsReport `json:",omitempty"`
}

type failoverResult struct {
	GapMillis float64
	Lost      int
}

func newReport(cfg config) *report {
	return &report{Machine: machine(), When: time.Now().UTC().Truncate(time.Second), Rounds: cfg.Rounds, Seconds: cfg.Duration.Seconds(),
		Loads: make(map[string]map[string][]result), Failover: make(map[string][]failoverResult), Fill: make(map[string]fillResult),
		Long: make(map[string][]longResult)}
}

// machine describes the processor, the memory and the Go version.
func machine() string {
	model := "unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d x %s, %s/%s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

func (r *report) add(load, system string, res result) {
	if r.Loads[load] == nil {
		r.Loads[load] = make(map[string][]result)
	}
	r.Loads[load][system] = append(r.Loads[load][system], res)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	values = slices.Clone(values)
	slices.Sort(values)
	return values[len(values)/2]
}

func field(results []result, f func(result) float64) float64 {
	var values []float64
	for _, r := range results {
		values = append(values, f(r))
	}
	return median(values)
}

// ratio is the median over rounds of the ratio within a round.
func ratio(a, b []result, f func(result) float64) float64 {
	var values []float64
	for i := range min(len(a), len(b)) {
		if f(b[i]) > 0 {
			values = append(values, f(a[i])/f(b[i]))
		}
	}
	return median(values)
}

func rate(r result) float64 { return r.Rate }
func p50(r result) float64  { return r.P50 }
func p99(r result) float64  { return r.P99 }
func server(r result) float64 {
	return r.ServerCPU
}
func perClient(r result) float64 {
	if r.ClientCPU == 0 {
		return 0
	}
	return r.ServerCPU / r.ClientCPU
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n%d rounds of %gs; 4 KiB written and synced: %.3f ms\n\n", r.Machine, r.Rounds, r.Seconds, r.Fsync)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "load\tsystem\tops/s\tp50 ms\tp99 ms\tserver us/op\tserver/client CPU\tx etcd\tx null\tx raft\terrors")
	for _, l := range loads {
		for _, system := range systemNames() {
			results := r.Loads[l.name][system]
			if len(results) == 0 {
				continue
			}
			errors := 0
			for _, res := range results {
				errors += res.Errors
			}
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%.2f\t%.2f\t%.1f\t%.2f\t%s\t%s\t%s\t%d\n", l.title, system, field(results, rate), field(results, p50), field(results, p99),
				field(results, server), field(results, perClient), times(ratio(results, r.Loads[l.name][systemEtcd], rate)), times(ratio(results, r.Loads[l.name][systemNull], rate)),
				times(ratio(results, r.Loads[l.name][systemRaft], rate)), errors)
		}
	}
	if len(r.Loads) > 0 {
		t.Flush()
	}
	r.printFailover(w)
	r.printFill(w)
	r.printLong(w)
	r.printFlexible(w)
	r.printShards(w)
	r.printGuards(w)
	r.printBackups(w)
}

func times(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}

func (r *report) printFailover(w io.Writer) {
	for _, system := range systemNames() {
		var gaps []float64
		lost := 0
		for _, f := range r.Failover[system] {
			gaps = append(gaps, f.GapMillis)
			lost += f.Lost
		}
		if len(gaps) > 0 {
			fmt.Fprintf(w, "\nfail-over after kill -9 of the leader, %s: median gap %.0f ms (%.0f-%.0f), acknowledged writes lost: %d",
				system, median(gaps), slices.Min(gaps), slices.Max(gaps), lost)
		}
	}
	fmt.Fprintln(w)
}

func (r *report) printFill(w io.Writer) {
	if len(r.Fill) == 0 {
		return
	}
	const mib = 1 << 20
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nfill\tkeys\tputs/s\tRSS MiB\tdisk MiB\tlist s\tpeak RSS MiB\tstreamed s\tpages s\trestart s")
	for _, system := range systemNames() {
		if f, ok := r.Fill[system]; ok {
			fmt.Fprintf(t, "%s\t%d\t%.0f\t%d\t%d\t%.1f\t%d\t%.1f\t%.1f\t%.1f\n", system, f.Keys, f.Rate, f.RSSBytes/mib, f.DiskBytes/mib,
				f.ListMillis/1000, f.ListPeakRSS/mib, f.StreamMillis/1000, f.PagesMillis/1000, f.RestartMillis/1000)
		}
	}
	t.Flush()
}

// svg plots throughput relative to etcd, a bar a load.
func (r *report) svg() []byte {
	const width, row, left = 760, 26, 330
	var rows []string
	var values []float64
	for _, l := range loads {
		if v := ratio(r.Loads[l.name]["quorate"], r.Loads[l.name]["etcd"], rate); v > 0 {
			rows, values = append(rows, l.title), append(values, v)
		}
	}
	largest := 1.0
	for _, v := range values {
		largest = max(largest, v)
	}
	var b bytes.Buffer
	height := row*len(rows) + 60
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="10" y="20" font-size="14">Quorate's throughput relative to etcd (1 = equal; median of %d rounds)</text>`+"\n", r.Rounds)
	scale := float64(width-left-60) / largest
	for i, title := range rows {
		y := 36 + i*row
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+14, title)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="18" fill="#2a6f97"/>`+"\n", left, y, values[i]*scale)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%.2f</text>`+"\n", float64(left)+values[i]*scale+6, y+14, values[i])
	}
	fmt.Fprintf(&b, `<line x1="%.1f" y1="32" x2="%.1f" y2="%d" stroke="#c1121f" stroke-dasharray="4 3"/>`+"\n", float64(left)+scale, float64(left)+scale, height-20)
	b.WriteString("</svg>\n")
	return b.Bytes()
}
