package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// child is one node: its flags, and its process while there is one.
type child struct {
	name     string
	endpoint string
	program  string
	flags    []string
	env      []string
	logPath  string
	identity *identity // for clients; nil: plain text

	process *exec.Cmd
	exited  chan struct{} // closed when the process has ended; replaced by start
}

func newChild(options Options, l layout, directory string, i int, of *identity) *child {
	name := nodeName(i)
	client := fmt.Sprintf("%s://127.0.0.1:%d", l.scheme(), l.ClientPorts[i])
	peer := fmt.Sprintf("%s://127.0.0.1:%d", l.scheme(), l.PeerPorts[i])
	return &child{
		name:     name,
		endpoint: fmt.Sprintf("127.0.0.1:%d", l.ClientPorts[i]),
		identity: of,
		program:  options.Program,
		flags: append(slices.Concat(options.Arguments, of.nodeFlags()),
			"--name="+name, "--data-dir="+filepath.Join(directory, name),
			"--listen-client-urls="+client, "--advertise-client-urls="+client,
			"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer,
			"--initial-cluster="+l.initialCluster(), "--initial-cluster-token=quorate-demo"),
		env:     withoutNodeVariables(options.Environment),
		logPath: filepath.Join(directory, name+".log"),
	}
}

func withoutNodeVariables(environment []string) []string {
	return slices.DeleteFunc(slices.Clone(environment), func(entry string) bool {
		return strings.HasPrefix(entry, "ETCD_") || strings.HasPrefix(entry, "QUORATE_")
	})
}

func (n *child) start(s *spawner) error {
	log, err := os.OpenFile(n.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", n.name, err)
	}
	defer log.Close() // the child has its own descriptor
	process := exec.Command(n.program, n.flags...)
	process.Env, process.Stdout, process.Stderr = n.env, log, log
	process.SysProcAttr = childAttributes()
	if err := s.start(process); err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	exited := make(chan struct{})
	n.process, n.exited = process, exited
	go func() {
		// How it ended is in process.ProcessState.
		_ = process.Wait()
		close(exited)
	}()
	return nil
}

// exitState may be asked once exited is closed.
func (n *child) exitState() string { return n.process.ProcessState.String() }

// kill ends the process as a power loss would, and waits until it is gone.
func (n *child) kill() error {
	if err := n.process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", n.name, err)
	}
	<-n.exited
	return nil
}

// end asks the process to end, and kills it when it does not in time.
func (n *child) end(timeout time.Duration) {
	if n.process == nil {
		return
	}
	if err := n.process.Process.Signal(syscall.SIGTERM); err == nil {
		select {
		case <-n.exited:
			return
		case <-time.After(timeout):
		}
	}
	// A process that cannot be killed is gone already.
	_ = n.kill()
}

// waitReady polls until the node answers a linearizable read.
func (n *child) waitReady(ctx context.Context, interval time.Duration) error {
	client, err := n.client()
	if err != nil {
		return err
	}
	defer client.Close()
	exited := n.exited
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err := client.Get(attempt, "ready")
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("%s ended before it served (%s); the end of its log:\n%s", n.name, n.exitState(), n.logTail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve (%w); the end of its log:\n%s", n.name, err, n.logTail())
		case <-time.After(interval):
		}
	}
}

func (n *child) client() (*clientv3.Client, error) {
	return newClient([]string{n.endpoint}, n.identity)
}

func newClient(endpoints []string, of *identity) (*clientv3.Client, error) {
	config, err := of.clientConfig()
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints,
		TLS:       config,
		Logger:    zap.NewNop(),
		// A killed node must be tried again soon after it is back.
		DialOptions: dialOptions(),
	})
	if err != nil {
		return nil, fmt.Errorf("make a client of %s: %w", strings.Join(endpoints, ","), err)
	}
	return client, nil
}

// logTail gives the last lines of the node's log.
func (n *child) logTail() string {
	const lines, most = 10, 8 << 10
	file, err := os.Open(n.logPath)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > most {
		if _, err := file.Seek(-most, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	content, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return "  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}
