package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// longResult says what one request that takes long does to the puts of others.
type longResult struct {
	Input    string
	Millis   float64 // until its answer
	Answer   string
	P99, Max float64 // of puts to other keys meanwhile, milliseconds
	Puts     int
	Failed   int // of those puts
	Moved    bool
	PeakRSS  int64 // largest member since its start
	// LongestRound of any member since its start, milliseconds; 0 if the system has no rounds.
	LongestRound float64
}

// longInput is a request that takes long, on keys below "long/".
type longInput struct {
	name    string
	prepare func(ctx context.Context, c *cluster, client *clientv3.Client) error // nil: nothing
	run     func(ctx context.Context, c *cluster, client *clientv3.Client) (string, error)
}

// measureLong puts to some keys while one client at a time asks for something that takes long, on others.
func measureLong(ctx context.Context, cfg config, bin binaries, report *report) error {
	for _, system := range cfg.Systems {
		if system == systemNull {
			continue
		}
		dir := filepath.Join(cfg.Dir, system+"-long")
		results, err := long(ctx, system, bin, dir, cfg)
		if err != nil {
			return fmt.Errorf("requests that take long, of %s: %w", system, err)
		}
		os.RemoveAll(dir)
		report.Long[system] = results
	}
	return nil
}

func long(ctx context.Context, system string, bin binaries, dir string, cfg config) ([]longResult, error) {
	c := &cluster{system: system, bin: bin, dir: dir}
	if isQuorate(system) {
		if err := c.showMetrics(3); err != nil {
			return nil, err
		}
	}
	if err := c.start(ctx, 3); err != nil {
		return nil, err
	}
	defer c.stop()
	client, err := newClient(c.endpoints...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	small := cfg.Fill / 10
	if err := putMany(ctx, client, "long/", "", small, 0); err != nil {
		return nil, err
	}
	lease, err := client.Grant(ctx, 3600)
	if err != nil {
		return nil, err
	}
	if err := putMany(ctx, client, "leased/", "", small, lease.ID); err != nil {
		return nil, err
	}
	if err := putMany(ctx, client, "many/", "", cfg.Fill, 0); err != nil {
		return nil, err
	}
	var results []longResult
	for _, input := range longInputs(lease.ID, cfg) {
		if err := c.awaitLeader(ctx, 5*time.Minute); err != nil {
			return nil, err
		}
		if input.prepare != nil {
			if err := input.prepare(ctx, c, client); err != nil {
				return nil, err
			}
		}
		r, err := c.measureOne(ctx, cfg, client, input)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%-16s %-13s %+v\n", "long", system, r)
		results = append(results, r)
	}
	return results, nil
}

// putMany writes many keys at a time.
func putMany(ctx context.Context, client *clientv3.Client, prefix, value string, n int, lease clientv3.LeaseID) error {
	const batch, writers = 100, 32
	starts := make(chan int)
	errs := make(chan error, writers)
	for range writers {
		go func() {
			var failed error
			for from := range starts {
				var ops []clientv3.Op
				for i := from; i < min(from+batch, n); i++ {
					ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%07d", prefix, i), value, clientv3.WithLease(lease)))
				}
				if _, err := client.Txn(ctx).Then(ops...).Commit(); err != nil {
					failed = err
				}
			}
			errs <- failed
		}()
	}
	for from := 0; from < n; from += batch {
		starts <- from
	}
	close(starts)
	var all error
	for range writers {
		all = errors.Join(all, <-errs)
	}
	return all
}

func longInputs(lease clientv3.LeaseID, cfg config) []longInput {
	gone := &away{}
	span := clientv3.WithRange("long0")
	compares := make([]clientv3.Cmp, 127)
	for i := range compares {
		compares[i] = clientv3.Compare(clientv3.ModRevision("long/").WithRange("long0"), ">", 0)
	}
	sorted := make([]clientv3.Op, 127)
	for i := range sorted {
		sorted[i] = clientv3.OpGet("long/", span, clientv3.WithSort(clientv3.SortByValue, clientv3.SortDescend), clientv3.WithLimit(1))
	}
	nested := make([]clientv3.Op, 13)
	for i := range nested {
		nested[i] = clientv3.OpTxn(compares[:100], nil, nil)
	}
	put := clientv3.OpPut("long/x", "")
	txn := func(compares []clientv3.Cmp, ops ...clientv3.Op) func(context.Context, *cluster, *clientv3.Client) (string, error) {
		return func(ctx context.Context, _ *cluster, client *clientv3.Client) (string, error) {
			r, err := client.Txn(ctx).If(compares...).Then(ops...).Else(ops...).Commit()
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("succeeded %v", r.Succeeded), nil
		}
	}
	return []longInput{
		{name: "nothing", run: func(context.Context, *cluster, *clientv3.Client) (string, error) {
			cfg.pause(3 * time.Second)
			return "", nil
		}},
		{
			name: "a member comes back that misses 1 GB",
			prepare: func(ctx context.Context, c *cluster, client *clientv3.Client) error {
				return gone.leave(ctx, c, client, cfg.Fill)
			},
			run: gone.comeBack,
		},
		{name: "txn of 127 compares of 100,000 keys", run: txn(compares, put)},
		{name: "txn of 127 ranges sorted by value", run: txn(nil, append(slices.Clone(sorted[:126]), put)...)},
		{name: "two txns of 1,300 nested compares", run: func(ctx context.Context, c *cluster, client *clientv3.Client) (string, error) {
			var both sync.WaitGroup
			answers := make([]error, 2)
			for i := range answers {
				both.Go(func() {
					_, answers[i] = client.Txn(ctx).Then(append(slices.Clone(nested), clientv3.OpPut(fmt.Sprint("long/", i), ""))...).Commit()
				})
			}
			both.Wait()
			return fmt.Sprint(answers), nil
		}},
		{name: "revoke of a lease with 100,000 keys", run: func(ctx context.Context, _ *cluster, client *clientv3.Client) (string, error) {
			_, err := client.Revoke(ctx, lease)
			return "", err
		}},
		{name: "delete of 100,000 keys", run: deleteAll("long/")},
		{name: "delete of 1,000,000 keys", run: deleteAll("many/")},
	}
}

func deleteAll(prefix string) func(context.Context, *cluster, *clientv3.Client) (string, error) {
	return func(ctx context.Context, _ *cluster, client *clientv3.Client) (string, error) {
		r, err := client.Delete(ctx, prefix, clientv3.WithPrefix())
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("deleted %d", r.Deleted), nil
	}
}

// measureOne runs the input once, and puts to other keys until a second after its answer (cfg.pause).
func (c *cluster) measureOne(ctx context.Context, cfg config, client *clientv3.Client, input longInput) (longResult, error) {
	before, err := c.leader(ctx)
	if err != nil {
		return longResult{}, err
	}
	putting, stop := context.WithCancel(ctx)
	latencies, failures := make([][]time.Duration, 16), make([]int, 16)
	var putters sync.WaitGroup
	for i := range latencies {
		putters.Go(func() {
			for n := 0; putting.Err() == nil; n++ {
				began := time.Now()
				callCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
				_, err := client.Put(callCtx, fmt.Sprintf("other/%d/%d", i, n%100), "value")
				cancel()
				latencies[i] = append(latencies[i], time.Since(began))
				if err != nil {
					failures[i]++
				}
			}
		})
	}
	callCtx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	began := time.Now()
	answer, err := input.run(callCtx, c, client)
	r := longResult{Input: input.name, Millis: time.Since(began).Seconds() * 1000, Answer: answer}
	cancel()
	if err != nil {
		r.Answer = err.Error()
	}
	cfg.pause(time.Second)
	stop()
	putters.Wait()
	var all []time.Duration
	for i := range latencies {
		all, r.Failed = append(all, latencies[i]...), r.Failed+failures[i]
	}
	slices.Sort(all)
	r.Puts, r.P99, r.Max = len(all), all[len(all)*99/100].Seconds()*1000, all[len(all)-1].Seconds()*1000
	for _, m := range c.members {
		_, peak := m.rss()
		r.PeakRSS = max(r.PeakRSS, peak)
	}
	longest, err := c.longestRound(ctx)
	if err != nil {
		return r, err
	}
	r.LongestRound = longest.Seconds() * 1000
	after, err := c.leader(ctx)
	r.Moved = err != nil || after != before
	return r, nil
}

func (r *report) printLong(w io.Writer) {
	if len(r.Long) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "request that takes long\tsystem\tms\tanswer\tputs to other keys: p99 ms\tmax ms\tfailed\tleader moved\tpeak MiB\tlongest round so far ms")
	for i, input := range longInputs(0, config{}) {
		for _, system := range systemNames() {
			if i < len(r.Long[system]) {
				l := r.Long[system][i]
				fmt.Fprintf(t, "%s\t%s\t%.0f\t%s\t%.1f\t%.0f\t%d\t%v\t%d\t%.0f\n", input.name, system, l.Millis, l.Answer, l.P99, l.Max, l.Failed, l.Moved, l.PeakRSS>>20, l.LongestRound)
			}
		}
	}
	t.Flush()
}
