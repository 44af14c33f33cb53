package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"github.com/quoratedb/quorate/transport/freeport"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/quoratedb/quorate/server"
)

// cluster is some processes with a disturbed network between them.
type cluster struct {
	t       *testing.T
	dir     string
	binary  string
	flags   []string
	nodes   []*node
	network *network
}

// node is one process, over all its starts.
type node struct {
	number     int
	name       string
	dir        string
	clientURL  string
	peerURL    string // where it listens
	id         atomic.Uint64
	process    atomic.Int64 // counts starts
	mu         sync.Mutex
	command    *exec.Cmd
	exited     chan struct{}
	stopped    bool // by SIGSTOP
	wantedDead bool
	began      string           // its --initial-cluster, if that is not of all nodes
	joins      bool             // it was added to a cluster that exists
	client     *clientv3.Client // a connection for looking at the node; the workload has its own
}

// build compiles the program, once for all tests, and tells where it is. TestMain removes its directory.
var build = sync.OnceValues(func() (string, error) {
	directory, err := os.MkdirTemp("", "quorate-chaos-bin-")
	if err != nil {
		return "", err
	}
	built.Store(&directory)
	path := filepath.Join(directory, "quorate")
	arguments := []string{"build", "-o", path}
	if raceEnabled {
		arguments = append(arguments, "-race")
	}
	out, err := exec.Command("go", append(arguments, "github.com/quoratedb/quorate/cmd/quorate")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build quorate: %w\n%s", err, out)
	}
	return path, nil
})

var built atomic.Pointer[string] // the directory that build made

func TestMain(m *testing.M) {
	code := m.Run()
	if directory := built.Load(); directory != nil {
		_ = os.RemoveAll(*directory) // one that stays behind is no reason to fail
	}
	os.Exit(code)
}

// program is the binary to test; it is compiled, once, unless the environment names one.
func program(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("QUORATE_CHAOS_BINARY"); path != "" {
		return path
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// freeAddress finds an address that nothing listens on, and that nobody takes while its node is down.
func freeAddress(t *testing.T) string {
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// startCluster starts nodes and waits until they serve.
func startCluster(t *testing.T, binary string, size int, flags ...string) *cluster {
	c := planCluster(t, binary, size, flags...)
	for _, n := range c.nodes {
		c.start(n)
	}
	c.waitServing(30 * time.Second)
	return c
}

// planCluster prepares nodes, and starts none.
func planCluster(t *testing.T, binary string, size int, flags ...string) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), binary: binary, flags: flags}
	var peers []string
	for i := range size {
		n := &node{number: i, name: fmt.Sprintf("n%d", i), clientURL: "http://" + freeAddress(t), dir: filepath.Join(c.dir, fmt.Sprintf("n%d", i))}
		address := freeAddress(t)
		n.peerURL = "http://" + address
		peers = append(peers, address)
		c.nodes = append(c.nodes, n)
	}
	var err error
	if c.network, err = newNetwork(peers, c.numberOf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	members, err := server.ParseMembers(c.initialCluster())
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range members { // sorted by name, as the nodes are
		c.nodes[i].id.Store(uint64(m.ID(server.DefaultToken)))
	}
	for _, n := range c.nodes {
		if n.client, err = newClient(n.clientURL); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// newClient is an official client of one node. It connects again soon when the node is back.
func newClient(url string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: []string{url}, Logger: zap.NewNop(), DialTimeout: time.Second,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}, MinConnectTimeout: time.Second,
		})},
	})
}

func (c *cluster) numberOf(id uint64) int {
	return slices.IndexFunc(c.nodes, func(n *node) bool { return n.id.Load() == id })
}

func (c *cluster) initialCluster() string {
	var members []string
	for i, n := range c.nodes {
		members = append(members, n.name+"=http://"+c.network.fronts[i].address)
	}
	return strings.Join(members, ",")
}

// start starts the node's process.
func (c *cluster) start(n *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.command != nil {
		return
	}
	front := c.network.fronts[n.number]
	front.mu.Lock()
	reachable := front.listener != nil
	front.mu.Unlock()
	if !reachable {
		if err := front.listen(); err != nil {
			c.t.Error(err)
		}
	}
	log, err := os.OpenFile(n.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer log.Close()
	n.command = exec.Command(c.binary, append([]string{"serve", "--name", n.name, "--data-dir", n.dir,
		"--listen-client-urls", n.clientURL, "--advertise-client-urls", n.clientURL,
		"--listen-peer-urls", n.peerURL, "--initial-advertise-peer-urls", "http://" + front.address,
		"--initial-cluster", cmp.Or(n.began, c.initialCluster())}, c.flags...)...)
	n.command.Stdout, n.command.Stderr = log, log
	if n.joins {
		n.command.Args = append(n.command.Args, "--initial-cluster-state", "existing")
	}
	n.command.Env = append(os.Environ(), "GOMAXPROCS=2")
	dieWithParent(n.command)
	fmt.Fprintf(log, "---- start %d at %s\n", n.process.Load()+1, time.Now().Format("15:04:05.000"))
	if err := n.command.Start(); err != nil {
		c.t.Errorf("start %s: %v", n.name, err)
		n.command = nil
		return
	}
	n.process.Add(1)
	n.stopped, n.wantedDead = false, false
	n.exited = make(chan struct{})
	command, exited := n.command, n.exited
	go func() {
		err := command.Wait()
		n.mu.Lock()
		if !n.wantedDead {
			c.t.Errorf("%s ended by itself: %v; see %s.log", n.name, err, n.dir)
		}
		n.mu.Unlock()
		close(exited)
	}()
}

// kill ends the process at once and waits for it.
func (c *cluster) kill(n *node) { c.end(n, syscall.SIGKILL) }

// terminate asks the process to end, which it must do soon.
func (c *cluster) terminate(n *node) { c.end(n, syscall.SIGTERM) }

func (c *cluster) end(n *node, signal syscall.Signal) {
	n.mu.Lock()
	command, exited := n.command, n.exited
	n.wantedDead = true
	n.mu.Unlock()
	if command == nil {
		return
	}
	command.Process.Signal(signal)
	select {
	case <-exited:
	case <-time.After(30 * time.Second):
		c.t.Errorf("%s does not end 30 s after %v", n.name, signal)
		command.Process.Kill()
		<-exited
	}
	c.network.fronts[n.number].refuse()
	n.mu.Lock()
	n.command, n.stopped = nil, false
	n.mu.Unlock()
}

// pause and resume stop and continue the process.
func (c *cluster) pause(n *node)  { c.signal(n, syscall.SIGSTOP, true) }
func (c *cluster) resume(n *node) { c.signal(n, syscall.SIGCONT, false) }

func (c *cluster) signal(n *node, signal syscall.Signal, stopped bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.command != nil {
		n.command.Process.Signal(signal)
		n.stopped = stopped
	}
}

func (c *cluster) close() {
	for _, n := range c.nodes {
		c.resume(n)
		c.kill(n)
		n.client.Close()
	}
	c.network.close()
	if c.t.Failed() {
		keep, err := os.MkdirTemp("", "quorate-chaos-")
		if err == nil && exec.Command("cp", "-r", c.dir+"/.", keep).Run() == nil {
			c.t.Logf("logs and data are kept in %s", keep)
		}
	}
}

// logged counts lines in the logs of all nodes.
func (c *cluster) logged(text string) (lines int) {
	for _, n := range c.nodes {
		log, err := os.ReadFile(n.dir + ".log")
		if err != nil {
			c.t.Error(err)
		}
		lines += strings.Count(string(log), text)
	}
	return lines
}

// leader asks the nodes who leads; -1 if nobody knows.
func (c *cluster) leader() int {
	for _, n := range c.nodes {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		s, err := n.client.Status(ctx, n.clientURL)
		cancel()
		if err == nil && s.Leader != 0 && s.Leader == s.Header.MemberId {
			return n.number
		}
	}
	return -1
}

// waitServing waits until every node answers a linearizable read, and returns how long that took.
func (c *cluster) waitServing(bound time.Duration) time.Duration {
	began := time.Now()
	for _, n := range c.nodes {
		for {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, err := n.client.Get(ctx, "serving")
			cancel()
			if err == nil {
				break
			}
			if time.Since(began) > bound {
				c.t.Errorf("%s does not serve after %v: %v", n.name, bound, err)
				return time.Since(began)
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				time.Sleep(10 * time.Millisecond) // a condition with a deadline
			}
		}
	}
	return time.Since(began)
}
