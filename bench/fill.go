package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// fillResult describes a store with many keys.
type fillResult struct {
	Keys          int
	Rate          float64
	RSSBytes      int64 // largest member after the fill
	DiskBytes     int64 // largest member after the fill
	RestartMillis float64
	ListMillis    float64
	ListPeakRSS   int64
	StreamMillis  float64
	PagesMillis   float64
}

// measureFill writes many keys, then looks at memory, disk, restart and lists.
func measureFill(ctx context.Context, cfg config, bin binaries, report *report) error {
	for _, system := range cfg.Systems {
		if system == systemNull {
			continue
		}
		dir := filepath.Join(cfg.Dir, system+"-fill")
		r, err := fill(ctx, system, bin, dir, cfg)
		if err != nil {
			return fmt.Errorf("fill of %s: %w", system, err)
		}
		os.RemoveAll(dir)
		fmt.Fprintf(os.Stderr, "%-16s %-13s %+v\n", "fill", system, r)
		report.Fill[system] = r
	}
	return nil
}

func fill(ctx context.Context, system string, bin binaries, dir string, cfg config) (r fillResult, err error) {
	c, err := startCluster(ctx, system, bin, dir)
	if err != nil {
		return r, err
	}
	defer c.stop()
	lead, err := c.leader(ctx)
	if err != nil {
		return r, err
	}
	work, err := c.work(ctx, workSpec{Load: "fill", Endpoints: c.endpoints[lead : lead+1], Clients: 512, Connections: 16, Keys: cfg.Fill, Fill: true})
	if err != nil {
		return r, err
	}
	r.Keys, r.Rate = cfg.Fill, work.Rate
	cfg.pause(5 * time.Second) // let background work settle
	for _, m := range c.members {
		rss, _ := m.rss()
		r.RSSBytes = max(r.RSSBytes, rss)
		r.DiskBytes = max(r.DiskBytes, m.disk())
	}
	client, err := newClient(c.endpoints[lead])
	if err != nil {
		return r, err
	}
	defer client.Close()
	if err := c.members[lead].forgetPeak(); err != nil {
		return r, err
	}
	if r.ListMillis, err = timed(func() error { return listAtOnce(ctx, client, cfg.Fill) }); err != nil {
		return r, err
	}
	_, r.ListPeakRSS = c.members[lead].rss()
	if r.StreamMillis, err = timed(func() error { return listStreamed(ctx, client, cfg.Fill) }); err != nil {
		return r, err
	}
	if r.PagesMillis, err = timed(func() error { return listInPages(ctx, client, cfg.Fill) }); err != nil {
		return r, err
	}
	r.RestartMillis, err = restart(ctx, c)
	return r, err
}

func timed(f func() error) (float64, error) {
	began := time.Now()
	err := f()
	return time.Since(began).Seconds() * 1000, err
}

func listAtOnce(ctx context.Context, client *clientv3.Client, keys int) error {
	resp, err := client.Get(ctx, "k", clientv3.WithPrefix())
	if err == nil && len(resp.Kvs) != keys {
		err = fmt.Errorf("listed %d keys of %d", len(resp.Kvs), keys)
	}
	return err
}

func listStreamed(ctx context.Context, client *clientv3.Client, keys int) error {
	stream, err := pb.NewKVClient(client.ActiveConnection()).RangeStream(ctx, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	if err != nil {
		return err
	}
	seen := 0
	for {
		resp, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		seen += len(resp.GetRangeResponse().GetKvs())
	}
	if seen != keys {
		return fmt.Errorf("streamed %d keys of %d", seen, keys)
	}
	return nil
}

// listInPages pages as Kubernetes does: 1,000 keys a page, all at the revision of the first.
func listInPages(ctx context.Context, client *clientv3.Client, keys int) error {
	from, revision, seen := "k", int64(0), 0
	for {
		resp, err := client.Get(ctx, from, clientv3.WithRange("l"), clientv3.WithLimit(1000), clientv3.WithRev(revision))
		if err != nil {
			return err
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		seen += len(resp.Kvs)
		if !resp.More {
			break
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
	if seen != keys {
		return fmt.Errorf("paged through %d keys of %d", seen, keys)
	}
	return nil
}

// restart kills all members at once and measures until all serve again.
func restart(ctx context.Context, c *cluster) (float64, error) {
	for _, m := range c.members {
		m.kill()
	}
	return timed(func() error {
		for _, m := range c.members {
			if err := m.start(); err != nil {
				return err
			}
		}
		return c.waitServing(ctx, 5*time.Minute)
	})
}
