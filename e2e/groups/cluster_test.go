package groups

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quoratedb/quorate/consensus"
	"github.com/quoratedb/quorate/transport/freeport"
)

const (
	size = 3
	// soon bounds what must happen on a machine that has much else to do.
	soon = 60 * time.Second
)

// cluster is three processes.
type cluster struct {
	t         testing.TB
	dir       string
	processes []*process

	// sound ends when a process has ended by itself: nothing that is waited for comes any more.
	sound context.Context
	spoil context.CancelFunc

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, when a process can be called
}

// process is a node over all its starts.
type process struct {
	cluster *cluster
	t       testing.TB
	config  nodeConfig
	starts  atomic.Int64
	client  atomic.Pointer[rpc.Client] // nil while it does not run

	mu      sync.Mutex
	command *exec.Cmd // nil while it does not run
	stdin   io.Closer
	wanted  bool // its end
	exited  chan struct{}
}

// newCluster prepares three nodes, which hold the groups 1 to count, and starts none. change, if not nil, is what is different about a node.
func newCluster(t testing.TB, count int, change func(*nodeConfig)) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), changed: make(chan struct{})}
	c.sound, c.spoil = context.WithCancel(t.Context())
	var peers []string
	for range size {
		peers = append(peers, freeAddress(t))
	}
	for i := range size {
		p := &process{cluster: c, t: t, config: nodeConfig{Number: i + 1, Dir: filepath.Join(c.dir, fmt.Sprint(i+1)), Service: freeAddress(t), Peers: peers}}
		for group := range count {
			p.config.Groups = append(p.config.Groups, consensus.GroupID(group+1))
		}
		if change != nil {
			change(&p.config)
		}
		c.processes = append(c.processes, p)
	}
	t.Cleanup(c.close)
	return c
}

func freeAddress(t testing.TB) string {
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// close ends all processes, and keeps what they wrote if the test has failed.
func (c *cluster) close() {
	for _, p := range c.processes {
		p.kill()
	}
	if !c.t.Failed() {
		return
	}
	keep, err := os.MkdirTemp("", "quorate-groups-")
	if err == nil && os.CopyFS(keep, os.DirFS(c.dir)) == nil {
		c.t.Logf("logs and data are kept in %s", keep)
	}
}

// start starts the node's process and waits until it serves.
func (p *process) start() {
	if err := p.tryStart(); err != nil {
		p.t.Errorf("start node %d: %v", p.config.Number, err)
		p.cluster.spoil()
	}
}

// tryStart is start for a node that may refuse to. It returns what the process said last.
func (p *process) tryStart() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.command != nil {
		return nil
	}
	if err := p.spawn(); err != nil {
		return err
	}
	stdout, err := p.begin()
	if err != nil {
		return err
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n') // what counts is what it says
	go func(command *exec.Cmd, exited chan struct{}) {
		err := command.Wait()
		p.mu.Lock()
		if !p.wanted {
			p.t.Errorf("node %d ended by itself: %v, with the words %q", p.config.Number, err, p.lastWords())
			p.cluster.spoil()
		}
		p.mu.Unlock()
		close(exited)
	}(p.command, p.exited)
	if strings.TrimSpace(line) != "serving" {
		p.wanted = true // the end, for which kill waits
		return errors.New(p.lastWords())
	}
	client, err := rpc.Dial("tcp", p.config.Service)
	if err == nil {
		p.client.Store(client)
		p.cluster.callable()
	}
	return err
}

// callable tells those who wait for it that a process can be called.
func (c *cluster) callable() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// await waits until some process can be called.
func (c *cluster) await(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		for _, p := range c.processes {
			if p.client.Load() != nil {
				return
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// spawn makes the command.
func (p *process) spawn() error {
	config, err := json.Marshal(p.config)
	if err != nil {
		return err
	}
	p.command = exec.Command(os.Args[0])
	p.command.Env = append(os.Environ(), configVariable+"="+string(config), "GOMAXPROCS=2")
	p.exited, p.wanted = make(chan struct{}), false
	return nil
}

// begin runs the command, with its standard error in a file.
func (p *process) begin() (stdout io.Reader, err error) {
	log, err := os.OpenFile(p.config.Dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.command.Stderr = log
	if p.stdin, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	if stdout, err = p.command.StdoutPipe(); err != nil {
		return nil, err
	}
	if err = p.command.Start(); err == nil {
		p.starts.Add(1)
	}
	return stdout, err
}

// lastWords is the last line of the node's log.
func (p *process) lastWords() string {
	log, err := os.ReadFile(p.config.Dir + ".log")
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return lines[len(lines)-1]
}

// kill ends the process with kill -9 and waits until it is gone.
func (p *process) kill() {
	p.mu.Lock()
	command, exited := p.command, p.exited
	p.wanted = true
	p.mu.Unlock()
	if command == nil {
		return
	}
	if err := command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("kill node %d: %v", p.config.Number, err)
	}
	<-exited
	if client := p.client.Swap(nil); client != nil {
		_ = client.Close() // its other end is gone
	}
	p.mu.Lock()
	p.command = nil
	p.mu.Unlock()
}

// eventually repeats a question until its answer is right, and fails the test when that takes too long.
func (c *cluster) eventually(what string, right func(context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.sound, soon)
	defer cancel()
	for {
		err := right(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			c.t.Fatalf("%s: not within %v, or a node has failed: %v", what, soon, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// leaders waits until each group is led by somebody who serves, and tells by whom.
func (c *cluster) leaders(ctx context.Context) (map[consensus.GroupID]*process, error) {
	leaders := make(map[consensus.GroupID]*process)
	var missing error
	for _, p := range c.processes {
		all, err := call[[]GroupStatus](ctx, p.client.Load(), "Groups", struct{}{})
		if err != nil {
			missing = fmt.Errorf("node %d: %w", p.config.Number, err)
		}
		for _, s := range all {
			if s.Serving {
				leaders[s.Group] = p
			}
		}
	}
	for _, group := range c.processes[0].config.Groups {
		if leaders[group] == nil {
			return nil, errors.Join(missing, fmt.Errorf("nobody leads group %d", group))
		}
	}
	return leaders, nil
}
