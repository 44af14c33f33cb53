package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	ingestValue = 1024 // bytes
	longestName = "quorate_driver_longest_round_seconds"
)

// away is a member that does not run, and misses what is written.
type away struct{ member int }

// leave ends a member that does not lead, and writes much that it will have to get.
func (a *away) leave(ctx context.Context, c *cluster, client *clientv3.Client, keys int) error {
	lead, err := c.leader(ctx)
	if err != nil {
		return err
	}
	a.member = (lead + 1) % len(c.members)
	c.members[a.member].terminate()
	value := strings.Repeat("v", ingestValue)
	return putMany(ctx, client, "missed/", value, keys, 0)
}

// comeBack starts the member, and waits until it has what the others had then.
func (a *away) comeBack(ctx context.Context, c *cluster, client *clientv3.Client) (string, error) {
	lead, err := c.leader(ctx)
	if err != nil {
		return "", err
	}
	goal, err := client.Status(ctx, c.endpoints[lead])
	if err != nil {
		return "", err
	}
	if err := c.members[a.member].start(); err != nil {
		return "", err
	}
	for ; ; time.Sleep(20 * time.Millisecond) {
		callCtx, cancel := context.WithTimeout(ctx, time.Second)
		now, err := client.Status(callCtx, c.endpoints[a.member])
		cancel()
		if err == nil && now.RaftAppliedIndex >= goal.RaftAppliedIndex {
			return "caught up", nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
	}
}

// longestRound is the longest round of any member since it started, if the system has rounds.
func (c *cluster) longestRound(ctx context.Context) (time.Duration, error) {
	var longest time.Duration
	for _, address := range c.metrics {
		round, err := gauge(ctx, address, longestName)
		if err != nil {
			return 0, err
		}
		longest = max(longest, time.Duration(round*float64(time.Second)))
	}
	return longest, nil
}

// gauge reads one metric.
func gauge(ctx context.Context, address, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", address, name)
}

// showMetrics has the members answer for their metrics.
func (c *cluster) showMetrics(count int) error {
	ports, err := freePorts(count)
	if err != nil {
		return err
	}
	for _, port := range ports {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		c.metrics = append(c.metrics, address)
		c.memberFlags = append(c.memberFlags, []string{"--listen-metrics-urls=http://" + address})
	}
	return nil
}

// awaitLeader waits until there is a leader: a system may be busy for a while with what it has refused.
func (c *cluster) awaitLeader(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		_, err := c.leader(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}
