package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Patience bounds every wait for something that must happen. It is generous, because machines that
// run tests are busy; nothing waits this long unless it is broken.
const Patience = 60 * time.Second

// Options say what a cluster consists of. The zero value: three nodes, a temporary directory.
type Options struct {
	Nodes int
	// Dir takes data and logs. Empty: a temporary directory, removed by Close.
	Dir string
	// Token is --initial-cluster-token. Empty: one that no other cluster has.
	Token string
	// Flags are added to those of every node. A flag given here replaces one of the same name.
	Flags []string
	// Environment is added to that of every process.
	Environment []string
	// PeerAddress gives the address under which the other nodes find a node that listens at
	// the given one, both host:port: that of a proxy, for example. Nil: where it listens.
	PeerAddress func(node int, listen string) (string, error)
}

// Cluster is a set of nodes, running or not.
type Cluster struct {
	Nodes []*Node

	directory string
	temporary bool
}

// New plans a cluster and starts nothing.
func New(o Options) (*Cluster, error) {
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	c := &Cluster{directory: o.Dir}
	if c.directory == "" {
		directory, err := os.MkdirTemp("", "quorate-e2e-")
		if err != nil {
			return nil, fmt.Errorf("make a directory for a cluster: %w", err)
		}
		c.directory, c.temporary = directory, true
	}
	if o.Token == "" {
		o.Token = filepath.Base(c.directory)
	}
	if err := c.plan(o); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// plan makes the nodes with their addresses and flags.
func (c *Cluster) plan(o Options) error {
	p, err := program()
	if err != nil {
		return err
	}
	var members []string
	for i := range o.Nodes {
		n, err := newNode(p, c.directory, i)
		if err != nil {
			return err
		}
		n.environment = o.Environment
		advertised := n.PeerAddress
		if o.PeerAddress != nil {
			if advertised, err = o.PeerAddress(i, n.PeerAddress); err != nil {
				return fmt.Errorf("address of node %d for its peers: %w", i, err)
			}
		}
		n.flags = append(n.flags, "--initial-advertise-peer-urls=http://"+advertised)
		members = append(members, n.Name+"=http://"+advertised)
		c.Nodes = append(c.Nodes, n)
	}
	shards, err := shardFlags(p)
	if err != nil {
		return err
	}
	for _, n := range c.Nodes {
		n.flags = append(n.flags, "--initial-cluster="+strings.Join(members, ","), "--initial-cluster-token="+o.Token)
		if protocol := os.Getenv(EnvironmentConsensus); protocol != "" && !p.etcd {
			n.SetFlag("--consensus=" + protocol)
		}
		n.flags = append(n.flags, shards...)
		for _, flag := range o.Flags {
			n.SetFlag(flag)
		}
	}
	return nil
}

// Start plans a cluster, starts it, waits until every node serves, and ends it with the test. When
// the test has failed, the ends of the nodes' logs are shown.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
		if err := c.Close(); err != nil {
			t.Errorf("end the cluster: %v", err)
		}
	})
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// Start starts every node that does not run and waits until all serve.
func (c *Cluster) Start() error {
	for _, n := range c.Nodes {
		if n.Running() {
			continue
		}
		if err := n.Start(); err != nil {
			return err
		}
	}
	return c.WaitReady()
}

// WaitReady waits until every running node answers a linearizable read.
func (c *Cluster) WaitReady() error {
	failures := make([]error, len(c.Nodes))
	var all sync.WaitGroup
	for i, n := range c.Nodes {
		if n.Running() {
			all.Go(func() { failures[i] = n.WaitReady() })
		}
	}
	all.Wait()
	return errors.Join(failures...)
}

// Kill kills all nodes at once, as a power loss would.
func (c *Cluster) Kill() error {
	failures := make([]error, len(c.Nodes))
	var all sync.WaitGroup
	for i, n := range c.Nodes {
		all.Go(func() { failures[i] = n.Kill() })
	}
	all.Wait()
	return errors.Join(failures...)
}

// Close kills what runs and removes the data.
func (c *Cluster) Close() error {
	err := c.Kill()
	if c.temporary {
		err = errors.Join(err, os.RemoveAll(c.directory))
	}
	return err
}

// Endpoints are the client addresses of all nodes, host:port.
func (c *Cluster) Endpoints() []string {
	endpoints := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		endpoints[i] = n.Endpoint
	}
	return endpoints
}

// Client is connected to all nodes and closed with the test.
func (c *Cluster) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	return testClient(t, c.Endpoints())
}

// Leader waits until the running nodes agree on a leader among them, and returns it.
func (c *Cluster) Leader() (*Node, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var leader *Node
	err := Wait(ctx, func() (err error) {
		leader, err = c.agreedLeader(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("wait for a leader: %w", err)
	}
	return leader, nil
}

func (c *Cluster) agreedLeader(ctx context.Context) (*Node, error) {
	var leader *Node
	var id uint64
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		status, err := n.Status(ctx)
		switch {
		case err != nil:
			return nil, err
		case status.Leader == 0:
			return nil, fmt.Errorf("%s knows no leader", n.Name)
		case id != 0 && id != status.Leader:
			return nil, fmt.Errorf("nodes disagree: %x or %x leads", id, status.Leader)
		}
		id = status.Leader
		if status.Header.MemberId == id {
			leader = n
		}
	}
	if leader == nil {
		return nil, fmt.Errorf("%x leads, which is no running node", id)
	}
	return leader, nil
}

// Followers waits for a leader and returns the other running nodes.
func (c *Cluster) Followers() ([]*Node, error) {
	leader, err := c.Leader()
	if err != nil {
		return nil, err
	}
	var followers []*Node
	for _, n := range c.Nodes {
		if n != leader && n.Running() {
			followers = append(followers, n)
		}
	}
	return followers, nil
}

// Logs are the ends of all nodes' logs.
func (c *Cluster) Logs() string {
	var text strings.Builder
	for _, n := range c.Nodes {
		fmt.Fprintf(&text, "--- the end of %s's log\n%s\n", n.Name, n.LogTail(30))
	}
	return text.String()
}
