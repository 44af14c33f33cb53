package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The load "shards" compares clusters that differ in nothing but the number of shards, with etcd and the null server beside them where a line says so. It is
// a family of lines, each with the reach that it is to have.

// shardsVariant is one cluster of the comparison.
type shardsVariant struct {
	name   string
	shards int    // 0: not Quorate
	kind   string // of partition, if there are several shards
	spread bool   // every member leads about as many shards as any other; otherwise one leads all
	commit string // the protocol of transactions over several shards; empty: the default
}

const (
	partitionHash  = "hash"
	partitionRange = "range"
)

var (
	variantEtcd    = shardsVariant{name: systemEtcd}
	variantNull    = shardsVariant{name: systemNull}
	variantOne     = shardsVariant{name: "1 shard", shards: 1}
	variant16      = shardsVariant{name: "16 by hash", shards: 16, kind: partitionHash}
	variant16Range = shardsVariant{name: "16 by range", shards: 16, kind: partitionRange}
	variant16Apart = shardsVariant{name: "16 by hash, leaders spread", shards: 16, kind: partitionHash, spread: true}
	variant16Three = shardsVariant{name: "16 by hash, 3pc", shards: 16, kind: partitionHash, commit: "3pc"}
	variant64      = shardsVariant{name: "64 by hash", shards: 64, kind: partitionHash}
	variant64Range = shardsVariant{name: "64 by range", shards: 64, kind: partitionRange}
)

// shardsLine is one thing that is measured on several variants in turn.
type shardsLine struct {
	name, title string
	variants    []shardsVariant
	goals       []shardsGoal
	measure     func(ctx context.Context, c *cluster, cfg config) (result, error)
}

// shardsScene is a set of lines whose clusters run at the same time, so that rounds can alternate.
type shardsScene struct {
	name  string
	lines []shardsLine
	keys  func(cfg config) int // that are there, and that shards by range have about as many of each
	after func(ctx context.Context, clusters map[string]*cluster, cfg config, report *shardsReport) error
}

// shardsScenes are measured one after the other.
func shardsScenes() []shardsScene {
	keys := func(cfg config) int { return cfg.Keys }
	return []shardsScene{
		{name: "puts", lines: putLines(), keys: keys, after: profilePuts},
		{name: "gateways", lines: gatewayLines(), keys: keys},
		{name: "watches", lines: watchLines(), keys: keys},
		{name: "lists", lines: listLines(), keys: func(cfg config) int { return cfg.Fill }},
	}
}

// byWorker has a worker process do what an ordinary load does.
func byWorker(l load) func(context.Context, *cluster, config) (result, error) {
	return func(ctx context.Context, c *cluster, cfg config) (result, error) { return c.measure(ctx, l, cfg) }
}

func putLoad(clients int, leaderOnly bool) load {
	return load{name: "put-all", spec: workSpec{Clients: clients, Connections: 16}, leaderOnly: leaderOnly}
}

func putLines() []shardsLine {
	variants := []shardsVariant{variantOne, variant16, variant64}
	return []shardsLine{
		{
			name: "put-256", title: "put, 256 clients, leader", variants: variants, measure: byWorker(putLoad(256, true)),
			goals: []shardsGoal{
				{of: variant16, base: variantOne, what: ofRate, atLeast: 1 / 1.2}, {of: variant16, base: variantOne, what: ofCPU, atMost: 1.2},
				{of: variant64, base: variantOne, what: ofRate}, {of: variant64, base: variantOne, what: ofCPU},
			},
		},
		{
			name: "put-1024", title: "put, 1,024 clients, leader", variants: variants, measure: byWorker(putLoad(1024, true)),
			goals: []shardsGoal{
				{of: variant16, base: variantOne, what: ofRate}, {of: variant16, base: variantOne, what: ofCPU, atMost: 1.1},
				{of: variant64, base: variantOne, what: ofRate}, {of: variant64, base: variantOne, what: ofCPU},
			},
		},
	}
}

func gatewayLines() []shardsLine {
	get := load{name: "get-all", spec: workSpec{Clients: 256, Connections: 16}}
	getLeader := get
	getLeader.leaderOnly = true
	return []shardsLine{
		{
			name: "put-all", title: "put, 256 clients, all members", variants: []shardsVariant{variantEtcd, variantOne, variant16, variant16Apart},
			measure: byWorker(putLoad(256, false)),
			goals: []shardsGoal{
				{of: variant16Apart, base: variantEtcd, what: ofRate, atLeast: 1.8}, {of: variant16, base: variantEtcd, what: ofRate},
				{of: variant16Apart, base: variantOne, what: ofCPU},
			},
		},
		{
			name: "get-leader", title: "linearizable get, 256 clients, leader", variants: []shardsVariant{variantOne, variant16}, measure: byWorker(getLeader),
			goals: []shardsGoal{{of: variant16, base: variantOne, what: ofCPU, atMost: 1.1}, {of: variant16, base: variantOne, what: ofRate}},
		},
		{
			name: "get-all", title: "linearizable get, 256 clients, all members", measure: byWorker(get),
			variants: []shardsVariant{variantEtcd, variantNull, variantOne, variant16, variant16Apart},
			goals: []shardsGoal{
				{of: variant16, base: variantNull, what: ofRate, atLeast: 0.7}, {of: variant16Apart, base: variantNull, what: ofRate, atLeast: 0.7},
				{of: variant16, base: variantEtcd, what: ofRate}, {of: variant16, base: variantOne, what: ofCPU},
			},
		},
	}
}

// watchLines: writers and watchers are at all members. p50 and p99 are from the call of a put to the arrival of its event.
func watchLines() []shardsLine {
	variants := []shardsVariant{variantOne, variant64Range}
	const shards, busy = 64, 32
	line := func(clients, watchers int, watched, written func(keys int) []keySpan) func(context.Context, *cluster, config) (result, error) {
		return func(ctx context.Context, c *cluster, cfg config) (result, error) {
			l := load{name: "watch-spans", spec: workSpec{Clients: clients, Connections: 16, Watchers: watchers, Watched: watched(cfg.Keys), Written: written(cfg.Keys)}}
			return c.measure(ctx, l, cfg)
		}
	}
	all := func(keys int) []keySpan { return []keySpan{{0, keys}} }
	one := func(keys int) []keySpan { return []keySpan{spanOf(busy, shards, keys)} }
	each := func(keys int) (spans []keySpan) {
		for i := range shards {
			spans = append(spans, spanOf(i, shards, keys))
		}
		return spans
	}
	same := []shardsGoal{
		{of: variant64Range, base: variantOne, what: ofRate, atLeast: 1 / 1.1}, {of: variant64Range, base: variantOne, what: ofCPU, atMost: 1.1},
		{of: variant64Range, base: variantOne, what: ofP50},
	}
	return []shardsLine{
		{
			name: "watch-idle", title: "event to 1 watcher of everything, 4 clients put to 1 of 64 shards", variants: variants, measure: line(4, 1, all, one),
			goals: []shardsGoal{{of: variant64Range, base: variantOne, what: ofP50, difference: true, atMost: 2}},
		},
		{
			name: "watch-one", title: "events to 100 watchers of 1 of 64 shards, 16 clients put there", variants: variants, measure: line(16, 100, one, one),
			goals: same,
		},
		{
			name: "watch-each", title: "events to 100 watchers of one shard each, 16 clients put to all 64", variants: variants, measure: line(16, 100, each, all),
			goals: []shardsGoal{{of: variant64Range, base: variantOne, what: ofRate}, {of: variant64Range, base: variantOne, what: ofCPU}},
		},
	}
}

// listLines: an operation is a key that was listed.
func listLines() []shardsLine {
	variants := []shardsVariant{variantOne, variant16Range, variant16}
	goals := []shardsGoal{
		{of: variant16Range, base: variantOne, what: ofP50, atMost: 1.2}, {of: variant16, base: variantOne, what: ofP50, atMost: 1.2},
		{of: variant16Range, base: variantOne, what: ofCPU}, {of: variant16, base: variantOne, what: ofCPU},
	}
	return []shardsLine{
		{name: "list", title: "list of all keys at once, 1 client, leader", variants: variants, goals: goals, measure: measureList(listAtOnce)},
		{name: "list-pages", title: "list of all keys in pages of 1,000, 1 client, leader", variants: variants, goals: goals, measure: measureList(listInPages)},
	}
}

// transactionScene is measured by itself, as the load "transactions".
func transactionScene() shardsScene {
	return shardsScene{name: "transactions", lines: transactionLines(), keys: func(cfg config) int { return cfg.Keys }, after: profileTransfers}
}

// transactionLines: writes of two keys each, which are mostly in two shards.
func transactionLines() []shardsLine {
	variants := []shardsVariant{variantEtcd, variantOne, variant16, variant16Three}
	pair := load{name: "txn-pair", spec: workSpec{Clients: 1, Connections: 1}, leaderOnly: true}
	transfers := transferLoad()
	return []shardsLine{
		{
			name: "put-1", title: "put, 1 client, leader", variants: variants, measure: byWorker(load{name: "put-1", spec: pair.spec, leaderOnly: true}),
			goals: []shardsGoal{{of: variant16, base: variantOne, what: ofP50}},
		},
		{
			name: "txn-pair", title: "transaction that puts 2 keys, 1 client, leader", variants: variants, measure: byWorker(pair),
			goals: []shardsGoal{
				{of: variant16, base: variantOne, what: ofP50}, {of: variant16Three, base: variantOne, what: ofP50}, {of: variant16, base: variantEtcd, what: ofP50},
			},
		},
		{
			name: "put-32", title: "put, 32 clients, leader", variants: []shardsVariant{variant16, variant16Three},
			measure: byWorker(load{name: "put-leader", spec: transfers.spec, leaderOnly: true}),
		},
		{
			name: "put-pairs", title: "put, but every 100th puts 2 keys, 32 clients, leader", variants: []shardsVariant{variant16, variant16Three},
			measure: byWorker(load{name: "put-pairs", spec: transfers.spec, leaderOnly: true}),
		},
		{
			name: "txn-transfer", title: "transfer between 2 of 64 keys by compare-and-swap, 32 clients, leader", variants: variants, measure: byWorker(transfers),
			goals: []shardsGoal{
				{of: variant16, base: variantEtcd, what: ofRate}, {of: variant16Three, base: variantEtcd, what: ofRate}, {of: variant16, base: variantOne, what: ofRate},
			},
		},
	}
}

func transferLoad() load {
	return load{name: "txn-transfer", spec: workSpec{Clients: 32, Connections: 16}, leaderOnly: true}
}

// keySpan are the keys from the first number on, below the second.
type keySpan [2]int

// spanOf is what shard i has of the keys if so many shards by range share them.
func spanOf(i, shards, keys int) keySpan { return keySpan{i * keys / shards, (i + 1) * keys / shards} }

// clusterFlags are what members are started with.
func (v shardsVariant) clusterFlags(keys int) []string {
	switch v.kind {
	case partitionHash:
		policy := "--leaders=sequencer"
		if v.spread {
			policy = "--leaders=spread"
		}
		flags := []string{fmt.Sprintf("--initial-shards=%d", v.shards), "--initial-partition=hash", policy}
		if v.commit != "" {
			flags = append(flags, "--commit-protocol="+v.commit)
		}
		return flags
	case partitionRange:
		var splits []string
		for i := 1; i < v.shards; i++ {
			splits = append(splits, key(spanOf(i, v.shards, keys)[0]))
		}
		return []string{"--initial-split-keys=" + strings.Join(splits, ","), "--leaders=sequencer"}
	}
	return nil
}

// wanted tells whether the systems asked for have it.
func (v shardsVariant) wanted(cfg config) bool {
	if v.shards == 0 {
		return slices.Contains(cfg.Systems, v.name)
	}
	return slices.ContainsFunc(cfg.Systems, isQuorate)
}

// start starts the members, and waits until the leaders are where they are to be.
func (v shardsVariant) start(ctx context.Context, bin binaries, cfg config, dir string, keys int) (*cluster, error) {
	if v.shards == 0 {
		return startCluster(ctx, v.name, bin, dir)
	}
	system := cfg.Systems[slices.IndexFunc(cfg.Systems, isQuorate)]
	c := &cluster{system: system, bin: bin, dir: dir, flags: append(v.clusterFlags(keys), "--enable-pprof")}
	if err := c.showMetrics(3); err != nil {
		return nil, err
	}
	if err := c.start(ctx, 3); err != nil {
		return nil, err
	}
	if _, err := v.settle(ctx, c, time.Minute); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// settle waits until the leaders of all shards are where they are to be, and returns how many each member has.
func (v shardsVariant) settle(ctx context.Context, c *cluster, limit time.Duration) (led []int, err error) {
	if v.shards == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		led, err = c.leads(ctx)
		if err == nil && v.settled(led) {
			return led, nil
		}
		select {
		case <-ctx.Done():
			return led, fmt.Errorf("%s: members lead %v shards and do not come to an end, %v", v.name, led, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (v shardsVariant) settled(led []int) bool {
	sum := 0
	for _, n := range led {
		sum += n
	}
	if sum != v.shards {
		return false
	}
	if v.spread {
		return slices.Min(led) >= v.shards/len(led)-1
	}
	return slices.Max(led) == v.shards
}

// leads is how many shards each member leads.
func (c *cluster) leads(ctx context.Context) (led []int, err error) {
	for _, address := range c.metrics {
		n, err := gauge(ctx, address, "quorate_shards_led")
		if err != nil {
			return led, err
		}
		led = append(led, int(n))
	}
	return led, nil
}

func measureShards(ctx context.Context, cfg config, bin binaries, report *report) error {
	report.Shards = &shardsReport{Keys: cfg.Keys, ListedKeys: cfg.Fill}
	for _, scene := range shardsScenes() {
		if err := scene.measure(ctx, cfg, bin, report.Shards); err != nil {
			return fmt.Errorf("several shards, %s: %w", scene.name, err)
		}
	}
	if err := measureShardsFailover(ctx, cfg, bin, report.Shards); err != nil {
		return fmt.Errorf("several shards, fail-over: %w", err)
	}
	return nil
}

func measureTransactions(ctx context.Context, cfg config, bin binaries, report *report) error {
	if report.Shards == nil {
		report.Shards = &shardsReport{Keys: cfg.Keys, ListedKeys: cfg.Fill}
	}
	if err := transactionScene().measure(ctx, cfg, bin, report.Shards); err != nil {
		return fmt.Errorf("transactions over several shards: %w", err)
	}
	return nil
}

func (s shardsScene) measure(ctx context.Context, cfg config, bin binaries, report *shardsReport) error {
	dir, err := os.MkdirTemp(cfg.Dir, "shards-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	clusters := make(map[string]*cluster)
	defer func() {
		for _, c := range clusters {
			c.stop()
		}
	}()
	for _, l := range s.lines {
		for _, v := range l.variants {
			if clusters[v.name] != nil || !v.wanted(cfg) {
				continue
			}
			c, err := v.start(ctx, bin, cfg, filepath.Join(dir, fmt.Sprint(len(clusters))), s.keys(cfg))
			if err != nil {
				return err
			}
			clusters[v.name] = c
		}
	}
	for _, l := range s.lines {
		r, err := l.run(ctx, clusters, cfg)
		if err != nil {
			return err
		}
		report.Lines = append(report.Lines, r)
	}
	if s.after != nil {
		return s.after(ctx, clusters, cfg, report)
	}
	return nil
}

// run measures a line in rounds. Each begins with another variant, so that what changes with time hits all of them.
func (l shardsLine) run(ctx context.Context, clusters map[string]*cluster, cfg config) (shardsResult, error) {
	out := shardsResult{Name: l.name, Title: l.title, goals: l.goals}
	var variants []shardsVariant
	for _, v := range l.variants {
		if clusters[v.name] != nil {
			variants = append(variants, v)
			out.Variants = append(out.Variants, shardsMeasured{Name: v.name})
		}
	}
	for round := range cfg.Rounds {
		for i := range variants {
			at := (i + round) % len(variants)
			v, into := variants[at], &out.Variants[at]
			c := clusters[v.name]
			led, err := v.settle(ctx, c, time.Minute)
			if err != nil {
				return out, err
			}
			r, err := l.measure(ctx, c, cfg)
			if err != nil {
				return out, fmt.Errorf("%s on %s: %w", l.name, v.name, err)
			}
			into.Leads, into.Rounds = led, append(into.Rounds, r)
			fmt.Fprintf(os.Stderr, "%-16s round %d %-27s %9.0f/s  p50 %7.2f ms  p99 %7.2f ms  server %6.1f us/op  client %6.1f us/op\n",
				l.name, round+1, v.name, r.Rate, r.P50, r.P99, r.ServerCPU, r.ClientCPU)
		}
	}
	return out, nil
}
