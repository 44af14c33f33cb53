// Package demo runs a cluster of three real nodes on this machine, as child
// processes, to try things out and to watch a fail-over.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options of a demonstration.
type Options struct {
	// Program is the binary to run; it is called with Arguments first, then the
	// flags of a node.
	Program   string
	Arguments []string
	// Environment of the children; variables with etcd's prefix are dropped,
	// because they would change the nodes.
	Environment []string

	// DataDir keeps the data; empty: a temporary directory, removed at the end.
	DataDir string
	// TLS: clients and nodes speak it, with certificates of an authority that is made for the demonstration.
	TLS bool
	// KillLeaderEvery is the pause between two kills of the leader; 0: never.
	KillLeaderEvery time.Duration

	Output io.Writer // for the person who watches
}

// manyShards tells whether the nodes are told to have several.
func (c *cluster) manyShards() bool {
	return slices.ContainsFunc(c.options.Arguments, func(flag string) bool { return strings.HasPrefix(flag, "--initial-shards=") })
}

const (
	nodeCount = 3
	// startTimeout is how long the cluster may take until it serves.
	startTimeout = 30 * time.Second
	// endTimeout is how long the nodes may take to end in order.
	endTimeout = 5 * time.Second
)

// cluster is the running demonstration.
type cluster struct {
	options  Options
	output   *lineWriter
	spawner  *spawner
	nodes    []*child
	interval time.Duration // of polling for readiness
}

// Run starts the cluster, prints how to use it, and keeps it until ctx ends.
func Run(ctx context.Context, options Options) (err error) {
	directory, remove, err := dataDirectory(options.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	layout, err := loadLayout(directory, options.DataDir != "", options.TLS)
	if err != nil {
		return err
	}
	var identity *identity
	if options.TLS {
		if identity, err = makeIdentity(filepath.Join(directory, "tls")); err != nil {
			return err
		}
	}
	c := &cluster{
		options:  options,
		output:   &lineWriter{w: options.Output},
		spawner:  newSpawner(),
		interval: 20 * time.Millisecond,
	}
	defer c.spawner.close()
	for i := range nodeCount {
		c.nodes = append(c.nodes, newChild(options, layout, directory, i, identity))
	}
	return c.run(ctx, directory)
}

func (c *cluster) run(ctx context.Context, directory string) error {
	defer c.end()
	begun := time.Now()
	c.output.printf("starting %d nodes; data and logs in %s", nodeCount, directory)
	for _, n := range c.nodes {
		if err := n.start(c.spawner); err != nil {
			return err
		}
	}
	if err := c.waitReady(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	c.output.printf("serving after %.1f s", time.Since(begun).Seconds())
	c.output.printf("%s", instructions(c.options.Program, c.endpoints(), c.manyShards(), c.nodes[0].identity))
	if c.options.KillLeaderEvery > 0 {
		return c.failOvers(ctx)
	}
	return c.idle(ctx)
}

// idle waits for the end and reports nodes that die by themselves.
func (c *cluster) idle(ctx context.Context) error {
	died := make(chan *child, nodeCount)
	for _, n := range c.nodes {
		go func() {
			select {
			case <-n.exited:
				died <- n
			case <-ctx.Done():
			}
		}()
	}
	alive := nodeCount
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-died:
			if ctx.Err() != nil {
				return nil
			}
			alive--
			c.output.printf("%s ended by itself (%s); the end of its log:\n%s", n.name, n.exitState(), n.logTail())
			if alive == 0 {
				return errors.New("no node is left")
			}
		}
	}
}

// waitReady waits until every node answers a linearizable read, or one of them
// has died.
func (c *cluster) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	results := make(chan error, len(c.nodes))
	for _, n := range c.nodes {
		go func() { results <- n.waitReady(ctx, c.interval) }()
	}
	var first error
	for range c.nodes {
		if err := <-results; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// end stops all nodes in order at the same time, and by force those that hang.
func (c *cluster) end() {
	var wait sync.WaitGroup
	for _, n := range c.nodes {
		wait.Go(func() { n.end(endTimeout) })
	}
	wait.Wait()
}

func (c *cluster) endpoints() []string {
	var endpoints []string
	for _, n := range c.nodes {
		endpoints = append(endpoints, n.endpoint)
	}
	return endpoints
}

// dataDirectory makes the directory, and says how to get rid of it.
func dataDirectory(given string) (path string, remove func() error, err error) {
	if given == "" {
		path, err = os.MkdirTemp("", "quorate-demo-")
		if err != nil {
			return "", nil, fmt.Errorf("make a temporary directory: %w", err)
		}
		return path, func() error { return os.RemoveAll(path) }, nil
	}
	path, err = filepath.Abs(given)
	if err == nil {
		err = os.MkdirAll(path, 0o700)
	}
	if err != nil {
		return "", nil, fmt.Errorf("make the data directory %s: %w", given, err)
	}
	return path, func() error { return nil }, nil
}

// lineWriter prints whole lines from several goroutines.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) printf(format string, arguments ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// There is nobody to tell when the person's terminal is gone.
	fmt.Fprintf(l.w, format+"\n", arguments...)
}

// event prints a line with the time of day.
func (l *lineWriter) event(format string, arguments ...any) {
	l.printf(time.Now().Format("15:04:05.000")+"  "+format, arguments...)
}
