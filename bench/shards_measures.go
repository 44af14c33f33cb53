package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What the load "shards" measures in other ways than a worker does.

// measureList lists all keys at the leader, over and over for the time of a load. An operation is a key; p50 is the time of one list.
func measureList(list func(context.Context, *clientv3.Client, int) error) func(context.Context, *cluster, config) (result, error) {
	return func(ctx context.Context, c *cluster, cfg config) (r result, err error) {
		if err := c.fill(ctx, cfg.Fill); err != nil {
			return r, err
		}
		lead, err := c.leader(ctx)
		if err != nil {
			return r, err
		}
		client, err := newClient(c.endpoints[lead])
		if err != nil {
			return r, err
		}
		defer client.Close()
		if _, err := client.Get(ctx, "warm-up"); err != nil {
			return r, err
		}
		var took []time.Duration
		began, own, members := time.Now(), ownCPU(), c.cpu()
		for len(took) == 0 || time.Since(began) < cfg.Duration {
			start := time.Now()
			if err := list(ctx, client, cfg.Fill); err != nil {
				return r, err
			}
			took = append(took, time.Since(start))
		}
		r = summarize([][]time.Duration{took}, time.Since(began), ownCPU()-own)
		keys := float64(len(took) * cfg.Fill)
		r.Ops, r.Rate = int(keys), keys/time.Since(began).Seconds()
		r.ClientCPU /= float64(cfg.Fill)
		r.ServerCPU = (c.cpu() - members).Seconds() * 1e6 / keys
		return r, nil
	}
}

// profilePuts looks at where the leader's processor time goes with few and many shards.
func profilePuts(ctx context.Context, clusters map[string]*cluster, cfg config, report *shardsReport) error {
	for _, clients := range []int{256, 1024} {
		for _, v := range []shardsVariant{variantOne, variant64} {
			c := clusters[v.name]
			if c == nil {
				continue
			}
			name := fmt.Sprintf("put, %d clients, leader, %s", clients, v.name)
			top, err := c.profileWhile(ctx, putLoad(clients, true), cfg, name)
			if err != nil {
				return fmt.Errorf("profile of %s: %w", name, err)
			}
			report.Profiles = append(report.Profiles, shardsProfile{Name: name, Top: top})
		}
	}
	return nil
}

// profileTransfers looks at where the leader's processor time goes with transactions over shards.
func profileTransfers(ctx context.Context, clusters map[string]*cluster, cfg config, report *shardsReport) error {
	for _, v := range []shardsVariant{variantOne, variant16, variant16Three} {
		c := clusters[v.name]
		if c == nil {
			continue
		}
		name := "transfers, 32 clients, leader, " + v.name
		top, err := c.profileWhile(ctx, transferLoad(), cfg, name)
		if err != nil {
			return fmt.Errorf("profile of %s: %w", name, err)
		}
		report.Profiles = append(report.Profiles, shardsProfile{Name: name, Top: top})
	}
	return nil
}

// profileWhile runs a load, and returns what the profile of the leader shows. The profile is kept if there is a folder for it.
func (c *cluster) profileWhile(ctx context.Context, l load, cfg config, name string) (top []string, err error) {
	lead, err := c.leader(ctx)
	if err != nil {
		return nil, err
	}
	dir := cfg.Dir
	if cfg.Profiles != "" {
		dir = cfg.Profiles
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	file := filepath.Join(dir, strings.NewReplacer(", ", "-", " ", "-").Replace(name)+".pprof")
	seconds := max(1, int(cfg.Duration.Seconds()))
	longer := cfg
	longer.Duration = time.Duration(seconds) * time.Second
	var group sync.WaitGroup
	var failed error
	group.Go(func() { failed = saveProfile(ctx, c.metrics[lead], seconds, file) })
	_, err = c.measure(ctx, l, longer)
	group.Wait()
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=12", file).Output()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof: %w", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n"), nil
}

func saveProfile(ctx context.Context, address string, seconds int, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", address, seconds), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the member refused a profile: %s", response.Status)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// shardsWriters is how many clients write to each part of the keys during a fail-over.
const shardsWriters = 4

// measureShardsFailover kills the member that numbers revisions and leads all shards. Clients write to each of 16 parts of the keys, and the time without an
// acknowledgement is taken for each part: with 16 shards by range each is one shard, and with one shard all are.
func measureShardsFailover(ctx context.Context, cfg config, bin binaries, report *shardsReport) error {
	for round := range cfg.Rounds {
		variants := []shardsVariant{variantOne, variant16Range}
		for i := range variants {
			v := variants[(i+round)%len(variants)]
			if !v.wanted(cfg) {
				continue
			}
			r, err := shardsFailover(ctx, v, cfg, bin)
			if err != nil {
				return err
			}
			r.Variant = v.name
			fmt.Fprintf(os.Stderr, "%-16s round %d %-27s longest gap of 16 parts %6.0f ms, median %6.0f ms, %d acknowledged writes lost\n",
				"failover-shards", round+1, v.name, r.worst(), median(r.GapMillis), r.Lost)
			report.Failover = append(report.Failover, r)
		}
	}
	return nil
}

func shardsFailover(ctx context.Context, v shardsVariant, cfg config, bin binaries) (r shardsFailoverResult, err error) {
	const parts = 16
	dir, err := os.MkdirTemp(cfg.Dir, "shards-failover-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	c, err := v.start(ctx, bin, cfg, filepath.Join(dir, "members"), cfg.Keys)
	if err != nil {
		return r, err
	}
	defer c.stop()
	lead, survivors, err := c.leaderAndOthers(ctx)
	if err != nil {
		return r, err
	}
	writers := make([]*failoverWriters, parts)
	for i := range writers {
		first := key(spanOf(i, parts, cfg.Keys)[0])
		writers[i] = newFailoverWriters(survivors, shardsWriters, first+"-failover-%d")
	}
	if err := killWhileWriting(cfg, c, lead, survivors, writers); err != nil {
		return r, err
	}
	for _, w := range writers {
		lost, err := w.verify(ctx)
		if err != nil {
			return r, err
		}
		r.Lost += lost
		r.GapMillis = append(r.GapMillis, time.Duration(w.longest.Load()).Seconds()*1000)
	}
	return r, nil
}
