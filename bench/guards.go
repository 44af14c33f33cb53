package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The loads "auth" and "audit" compare clusters that differ in nothing but that users have to log in, or that what clients do is recorded.

// The clusters.
const (
	guardNone  = "open"
	guardAuth  = "users log in"
	guardAudit = "audit log"
)

func guards() []string { return []string{guardNone, guardAuth, guardAudit} }

// guardLoads are measured on each of them.
func guardLoads() (wanted []load) {
	for _, l := range loads {
		if slices.Contains([]string{"put-leader", "put-all", "get-leader", "get-all"}, l.name) {
			wanted = append(wanted, l)
		}
	}
	return wanted
}

// measureGuards alternates in rounds.
func measureGuards(ctx context.Context, cfg config, bin binaries, report *report) error {
	var clusters []*cluster
	names := map[*cluster]string{}
	for _, guard := range guards() {
		if guard == guardAuth && !slices.Contains(cfg.Loads, loadAuth) || guard == guardAudit && !slices.Contains(cfg.Loads, loadAudit) {
			continue
		}
		c, err := startGuarded(ctx, guard, bin, filepath.Join(cfg.Dir, fmt.Sprintf("guards-%d", len(clusters))))
		if err != nil {
			return err
		}
		defer c.stop()
		clusters, names[c] = append(clusters, c), guard
	}
	report.Guards = map[string]map[string][]result{}
	for _, l := range guardLoads() {
		report.Guards[l.name] = map[string][]result{}
		for round := range cfg.Rounds {
			for i := range clusters {
				c := clusters[(i+round)%len(clusters)]
				r, err := c.measure(ctx, l, cfg)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", l.name, names[c], err)
				}
				report.Guards[l.name][names[c]] = append(report.Guards[l.name][names[c]], r)
				fmt.Fprintf(os.Stderr, "%-16s round %d %-13s %9.0f/s  p50 %7.2f ms  p99 %7.2f ms  server %6.1f us/op\n", l.name, round+1, names[c], r.Rate, r.P50, r.P99, r.ServerCPU)
			}
		}
	}
	return nil
}

// startGuarded starts three members. The audit log is of everything, reads included, in a file.
func startGuarded(ctx context.Context, guard string, bin binaries, dir string) (*cluster, error) {
	c := &cluster{system: systemRaft, bin: bin, dir: dir, flags: []string{"--bcrypt-cost=4"}} // logging in is not what is measured
	if guard == guardAudit {
		policy := filepath.Join(dir, "policy.json")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(policy, []byte(`{"reads": true}`), 0o644)); err != nil {
			return nil, err
		}
		c.flags = append(c.flags, "--audit-policy="+policy)
		for i := range 3 {
			c.memberFlags = append(c.memberFlags, []string{"--audit-log=" + filepath.Join(dir, fmt.Sprintf("audit%d.log", i))})
		}
	}
	if err := c.start(ctx, 3); err != nil || guard != guardAuth {
		return c, err
	}
	if err := c.enableAuth(ctx); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// enableAuth has users log in. The one that is used has a role with rights to some keys: what root may is not looked up.
func (c *cluster) enableAuth(ctx context.Context) error {
	client, err := newClient(c.endpoints...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	both := clientv3.PermissionType(clientv3.PermReadWrite)
	for _, step := range []func() error{
		func() error { _, err := client.UserAdd(ctx, "root", "root"); return err },
		func() error { _, err := client.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := client.UserAdd(ctx, "bench", "bench"); return err },
		func() error { _, err := client.RoleAdd(ctx, "bench"); return err },
		func() error { _, err := client.RoleGrantPermission(ctx, "bench", "k", "l", both); return err },
		func() error { _, err := client.RoleGrantPermission(ctx, "bench", "warm-up", "", both); return err },
		func() error { _, err := client.UserGrantRole(ctx, "bench", "bench"); return err },
		func() error { _, err := client.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("have users log in: %w", err)
		}
	}
	c.user, c.password = "bench", "bench"
	return nil
}

// logIn makes a worker's client. A user may log in so many times a second only.
func logIn(spec workSpec, endpoint string) (*clientv3.Client, error) {
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		client, err := newClientOf(spec.User, spec.Password, endpoint)
		if !errors.Is(err, rpctypes.ErrTooManyRequests) || time.Since(began) > time.Minute {
			return client, err
		}
	}
}

func (r *report) printGuards(w io.Writer) {
	if len(r.Guards) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nusers, audit log\tcluster\tops/s\tp50 ms\tp99 ms\tserver us/op\tx open\terrors")
	for _, l := range guardLoads() {
		for _, guard := range guards() {
			results := r.Guards[l.name][guard]
			if len(results) == 0 {
				continue
			}
			wrong := 0
			for _, res := range results {
				wrong += res.Errors
			}
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%.2f\t%.2f\t%.1f\t%s\t%d\n", l.title, guard, field(results, rate), field(results, p50), field(results, p99), field(results, server),
				times(ratio(results, r.Guards[l.name][guardNone], rate)), wrong)
		}
	}
	t.Flush()
}
