package cluster

import (
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
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Node is a member of a cluster: its flags, and its process while there is one.
type Node struct {
	Name string
	// Endpoint is where clients connect, PeerAddress where the node listens for its peers; both
	// host:port, the same at every start.
	Endpoint, PeerAddress string
	DataDir               string

	program     executable
	flags       []string
	environment []string
	logPath     string

	mu      sync.Mutex
	process *process
	// runStart is the length of the log when the present process was started.
	runStart int64
}

// process is one run of a node.
type process struct {
	command *exec.Cmd
	exited  chan struct{} // closed when the process is gone
}

func newNode(p executable, directory string, i int) (*Node, error) {
	clientPort, err := freeport.Get()
	if err != nil {
		return nil, err
	}
	peerPort, err := freeport.Get()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("n%d", i+1)
	n := &Node{
		Name:        name,
		Endpoint:    fmt.Sprintf("127.0.0.1:%d", clientPort),
		PeerAddress: fmt.Sprintf("127.0.0.1:%d", peerPort),
		DataDir:     filepath.Join(directory, name),
		program:     p,
		logPath:     filepath.Join(directory, name+".log"),
	}
	n.flags = []string{
		"--name=" + name, "--data-dir=" + n.DataDir,
		"--listen-client-urls=http://" + n.Endpoint, "--advertise-client-urls=http://" + n.Endpoint,
		"--listen-peer-urls=http://" + n.PeerAddress,
	}
	return n, nil
}

// SetFlag gives the node a flag, --name=value, from its next start on; a flag of the same name is replaced.
func (n *Node) SetFlag(flag string) {
	name, _, _ := strings.Cut(flag, "=")
	n.flags = slices.DeleteFunc(n.flags, func(old string) bool {
		oldName, _, _ := strings.Cut(old, "=")
		return oldName == name
	})
	n.flags = append(n.flags, flag)
}

// DropFlags takes flags from the node from its next start on, named with their dashes.
func (n *Node) DropFlags(names ...string) {
	n.flags = slices.DeleteFunc(n.flags, func(flag string) bool {
		name, _, _ := strings.Cut(flag, "=")
		return slices.Contains(names, name)
	})
}

// Flag is the value of a flag, named with its dashes.
func (n *Node) Flag(name string) string {
	for _, flag := range n.flags {
		if value, ok := strings.CutPrefix(flag, name+"="); ok {
			return value
		}
	}
	return ""
}

// Command is the node's command line: program and arguments.
func (n *Node) Command() []string {
	return slices.Concat([]string{n.program.path}, n.program.arguments, n.flags)
}

// SetProgram replaces the program file from the next start on; with asEtcd it gets no "serve" in front of the flags.
func (n *Node) SetProgram(path string, asEtcd bool) {
	n.program.path = path
	if asEtcd {
		n.program.arguments = nil
	}
}

// Start starts the process and does not wait for it to serve.
func (n *Node) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process.running() {
		return fmt.Errorf("start %s: it runs already", n.Name)
	}
	log, err := os.OpenFile(n.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", n.Name, err)
	}
	defer log.Close() // the process has a descriptor of its own
	info, err := log.Stat()
	if err != nil {
		return fmt.Errorf("look at the log of %s: %w", n.Name, err)
	}
	n.runStart = info.Size()
	arguments := n.Command()
	command := exec.Command(arguments[0], arguments[1:]...)
	command.Env = append(cleanEnvironment(), n.environment...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = attributes()
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	p := &process{command: command, exited: make(chan struct{})}
	n.process = p
	go func() {
		// How it ended is in ProcessState.
		_ = command.Wait()
		close(p.exited)
	}()
	return nil
}

// cleanEnvironment is that of the test without what would configure a node.
func cleanEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "ETCD") || strings.HasPrefix(entry, "QUORATE_")
	})
}

func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (n *Node) current() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// Running tells whether there is a process; a paused one counts.
func (n *Node) Running() bool { return n.current().running() }

// PID is the process ID of the present or last process; 0: there was none.
func (n *Node) PID() int {
	if p := n.current(); p != nil {
		return p.command.Process.Pid
	}
	return 0
}

// Signal sends a signal; it is an error if the process has ended.
func (n *Node) Signal(signal os.Signal) error {
	p := n.current()
	if p == nil {
		return fmt.Errorf("send %v to %s: it was never started", signal, n.Name)
	}
	if err := p.command.Process.Signal(signal); err != nil {
		return fmt.Errorf("send %v to %s: %w", signal, n.Name, err)
	}
	return nil
}

// Kill is kill -9; it returns when the process is gone and does nothing if it is.
func (n *Node) Kill() error {
	p := n.current()
	if !p.running() {
		return nil
	}
	if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", n.Name, err)
	}
	<-p.exited
	return nil
}

// KillAndStart is kill -9 and a start in the same moment, while the system still has the killed process.
func (n *Node) KillAndStart() error {
	p := n.current()
	if p.running() {
		if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill %s: %w", n.Name, err)
		}
	}
	n.mu.Lock()
	n.process = nil
	n.mu.Unlock()
	return n.Start()
}

// Stop is SIGTERM; it returns the exit code when the process is gone, and an error if it does not go within the limit.
func (n *Node) Stop(limit time.Duration) (code int, err error) {
	if err := n.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	return n.WaitExit(limit)
}

// WaitExit waits until the process has ended and returns its exit code; -1 after a signal.
func (n *Node) WaitExit(limit time.Duration) (code int, err error) {
	p := n.current()
	select {
	case <-p.exited:
		return p.command.ProcessState.ExitCode(), nil
	case <-time.After(limit):
		return 0, fmt.Errorf("%s did not end within %v; the end of its log:\n%s", n.Name, limit, n.LogTail(20))
	}
}

// Pause stops the process where it is (SIGSTOP); Resume lets it go on.
func (n *Node) Pause() error { return n.Signal(syscall.SIGSTOP) }

// Resume is SIGCONT.
func (n *Node) Resume() error { return n.Signal(syscall.SIGCONT) }

// Restart kills the process if it runs, starts it, and waits until it serves.
func (n *Node) Restart() error {
	if err := n.Kill(); err != nil {
		return err
	}
	if err := n.Start(); err != nil {
		return err
	}
	return n.WaitReady()
}

// WaitReady waits until the node answers a linearizable read; it gives up when the process ends.
func (n *Node) WaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	client, err := NewClient(n.Endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	exited := n.current().exited
	err = Wait(ctx, func() error {
		select {
		case <-exited:
			cancel()
			return fmt.Errorf("it ended: %v", n.current().command.ProcessState)
		default:
		}
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := client.Get(attempt, "ready")
		return err
	})
	if err != nil {
		return fmt.Errorf("wait until %s serves: %w; the end of its log:\n%s", n.Name, err, n.LogTail(20))
	}
	return nil
}

// Status asks the node, and only it, for its state.
func (n *Node) Status(ctx context.Context) (*clientv3.StatusResponse, error) {
	client, err := NewClient(n.Endpoint)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	status, err := client.Status(attempt, n.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its status: %w", n.Name, err)
	}
	return status, nil
}

// Client is connected to this node only and closed with the test.
func (n *Node) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	return testClient(t, []string{n.Endpoint})
}

// Log is everything the node's processes wrote.
func (n *Node) Log() string { return n.logFrom(0) }

// RunLog is what the node's present or last process wrote.
func (n *Node) RunLog() string {
	n.mu.Lock()
	from := n.runStart
	n.mu.Unlock()
	return n.logFrom(from)
}

func (n *Node) logFrom(offset int64) string {
	content, err := os.ReadFile(n.logPath)
	if err != nil {
		return err.Error()
	}
	return string(content[min(offset, int64(len(content))):])
}

// LogTail is the last lines of the log.
func (n *Node) LogTail(lines int) string {
	all := strings.Split(strings.TrimRight(n.Log(), "\n"), "\n")
	return "  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}

// WaitLog waits until the present process has written a text.
func (n *Node) WaitLog(text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	err := Wait(ctx, func() error {
		if !strings.Contains(n.RunLog(), text) {
			return fmt.Errorf("%q is not in the log", text)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w; the end of its log:\n%s", n.Name, err, n.LogTail(20))
	}
	return nil
}
