package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// failoverClients write during a fail-over, each its own keys, in order.
const failoverClients = 16

// measureFailover kills the leader while clients write, and measures for how long nothing was
// acknowledged. Then it checks that every acknowledged write is there.
func measureFailover(ctx context.Context, cfg config, bin binaries, report *report) error {
	for round := range cfg.Rounds {
		for _, system := range cfg.Systems {
			if system == systemNull {
				continue
			}
			dir := filepath.Join(cfg.Dir, fmt.Sprintf("%s-failover-%d", system, round))
			gap, lost, err := failover(ctx, cfg, system, bin, dir)
			if err != nil {
				return fmt.Errorf("fail-over of %s: %w", system, err)
			}
			os.RemoveAll(dir)
			fmt.Fprintf(os.Stderr, "%-16s round %d %-13s gap %6.0f ms, %d acknowledged writes lost\n", "failover", round+1, system, gap.Seconds()*1000, lost)
			report.Failover[system] = append(report.Failover[system], failoverResult{GapMillis: gap.Seconds() * 1000, Lost: lost})
		}
	}
	return nil
}

func failover(ctx context.Context, cfg config, system string, bin binaries, dir string) (gap time.Duration, lost int, err error) {
	c, err := startCluster(ctx, system, bin, dir)
	if err != nil {
		return 0, 0, err
	}
	defer c.stop()
	lead, survivors, err := c.leaderAndOthers(ctx)
	if err != nil {
		return 0, 0, err
	}
	w := newFailoverWriters(survivors, failoverClients, "failover-%d")
	if err := killWhileWriting(cfg, c, lead, survivors, []*failoverWriters{w}); err != nil {
		return 0, 0, err
	}
	lost, err = w.verify(ctx)
	return time.Duration(w.longest.Load()), lost, err
}

// leaderAndOthers is the position of the leader, and where the others answer.
func (c *cluster) leaderAndOthers(ctx context.Context) (lead int, others []string, err error) {
	lead, err = c.leader(ctx)
	return lead, slices.Delete(slices.Clone(c.endpoints), lead, lead+1), err
}

// killWhileWriting kills a member while all write to the others.
func killWhileWriting(cfg config, c *cluster, victim int, survivors []string, writers []*failoverWriters) error {
	stop := make(chan struct{})
	var group sync.WaitGroup
	var clients []*clientv3.Client
	defer func() {
		for _, client := range clients {
			client.Close()
		}
	}()
	for id := range failoverClients {
		client, err := newClient(survivors[id%len(survivors)])
		if err != nil {
			return err
		}
		clients = append(clients, client)
	}
	for i, w := range writers {
		for id := range w.acked {
			client := clients[(i*len(w.acked)+id)%len(clients)]
			group.Go(func() { w.write(client, id, stop) })
		}
	}
	cfg.pause(2 * time.Second)
	c.members[victim].kill()
	time.Sleep(5 * time.Second)
	close(stop)
	group.Wait()
	return nil
}

// failoverWriters remember what was acknowledged, and the longest time without an acknowledgement.
type failoverWriters struct {
	survivors []string
	format    string // of the keys
	acked     []int  // by client
	mu        sync.Mutex
	last      time.Time
	longest   atomic.Int64
}

func newFailoverWriters(survivors []string, clients int, format string) *failoverWriters {
	return &failoverWriters{survivors: survivors, format: format, acked: make([]int, clients)}
}

func (w *failoverWriters) write(client *clientv3.Client, id int, stop <-chan struct{}) {
	for n := 1; ; {
		select {
		case <-stop:
			return
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		_, err := client.Put(ctx, fmt.Sprintf(w.format, id), fmt.Sprint(n))
		cancel()
		if err != nil {
			continue // may have been written; the same number again does no harm
		}
		w.acked[id] = n
		n++
		now := time.Now()
		w.mu.Lock()
		if !w.last.IsZero() {
			w.longest.Store(max(w.longest.Load(), int64(now.Sub(w.last))))
		}
		w.last = now
		w.mu.Unlock()
	}
}

// verify counts the clients whose newest acknowledged write is missing.
func (w *failoverWriters) verify(ctx context.Context) (lost int, err error) {
	client, err := newClient(w.survivors...)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	for id, acked := range w.acked {
		resp, err := client.Get(ctx, fmt.Sprintf(w.format, id))
		if err != nil {
			return 0, err
		}
		found := 0
		if len(resp.Kvs) > 0 {
			fmt.Sscan(string(resp.Kvs[0].Value), &found)
		}
		if found < acked {
			lost++
		}
	}
	return lost, nil
}
