package demo

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// dialOptions make a client come back to a restarted node at once.
func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
		MinConnectTimeout: time.Second,
	})}
}

const (
	// serveAgainTimeout is how long a cluster without its leader, or a restarted
	// node, may take until the demonstration calls it failed.
	serveAgainTimeout = 30 * time.Second
	// longestDown is how long a killed node stays down at most.
	longestDown = 3 * time.Second
)

// failOvers kills the leader again and again under a stream of writes, and
// checks that none that was acknowledged is missing.
func (c *cluster) failOvers(ctx context.Context) error {
	client, err := newClient(c.endpoints(), c.nodes[0].identity)
	if err != nil {
		return err
	}
	defer client.Close()
	writes := newWriter(clientStore{client})
	writing, stop := context.WithCancel(ctx)
	written := make(chan struct{})
	go func() {
		writes.run(writing)
		close(written)
	}()
	defer func() { stop(); <-written }()

	c.output.printf("killing the leader every %v, under a stream of writes that is checked\n", c.options.KillLeaderEvery)
	ticker := time.NewTicker(c.options.KillLeaderEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := c.checkAlive(); err != nil {
			return err
		}
		if err := c.failOver(ctx, writes); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// checkAlive finds nodes that ended although nobody killed them.
func (c *cluster) checkAlive() error {
	for _, n := range c.nodes {
		select {
		case <-n.exited:
			return fmt.Errorf("%s ended by itself (%s); the end of its log:\n%s", n.name, n.exitState(), n.logTail())
		default:
		}
	}
	return nil
}

// failOver is one round: kill, wait until writes are served again, restart, check.
func (c *cluster) failOver(ctx context.Context, writes *writer) error {
	leader, err := c.leader(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, serveAgainTimeout)
	defer cancel()
	failedBefore := writes.failures()
	killed := time.Now()
	if err := leader.kill(); err != nil {
		return err
	}
	c.output.event("killed %s, the leader (kill -9)", leader.name)
	served, err := writes.nextAfter(ctx, killed)
	if err != nil {
		return fmt.Errorf("no write was served within %v of the kill of %s: %w", serveAgainTimeout, leader.name, err)
	}
	now, err := c.leader(ctx)
	if err != nil {
		return err
	}
	c.output.event("%s leads; writes are served again after %.2f s (%d failed meanwhile)", now.name, served.Sub(killed).Seconds(), writes.failures()-failedBefore)
	return c.restart(ctx, leader, writes)
}

func (c *cluster) restart(ctx context.Context, n *child, writes *writer) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(c.options.KillLeaderEvery/4, longestDown)):
	}
	begun := time.Now()
	if err := n.start(c.spawner); err != nil {
		return err
	}
	if err := n.waitReady(ctx, c.interval); err != nil {
		return err
	}
	took := time.Since(begun)
	acknowledged, lost, err := writes.check(ctx)
	if err != nil {
		return fmt.Errorf("read back what was written: %w", err)
	}
	c.output.event("%s is back after %.2f s; %d writes acknowledged so far, %d lost", n.name, took.Seconds(), acknowledged, lost)
	return nil
}

// leader asks the nodes until one says which of them leads.
func (c *cluster) leader(ctx context.Context) (*child, error) {
	ctx, cancel := context.WithTimeout(ctx, serveAgainTimeout)
	defer cancel()
	for {
		for _, n := range c.nodes {
			if n.leads(ctx) {
				return n, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no node says that it leads: %w", ctx.Err())
		case <-time.After(c.interval):
		}
	}
}

// leads asks the node itself; a node that does not answer does not lead.
func (n *child) leads(ctx context.Context) bool {
	select {
	case <-n.exited:
		return false
	default:
	}
	client, err := n.client()
	if err != nil {
		return false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	status, err := client.Status(ctx, n.endpoint)
	return err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId
}

// clientStore is the cluster as the writer sees it.
type clientStore struct{ client *clientv3.Client }

func (s clientStore) put(ctx context.Context, key, value string) error {
	_, err := s.client.Put(ctx, key, value)
	return err
}

func (s clientStore) list(ctx context.Context, prefix string) (map[string]string, error) {
	response, err := s.client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, keyValue := range response.Kvs {
		values[string(keyValue.Key)] = string(keyValue.Value)
	}
	return values, nil
}
