package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quoratedb/quorate/cmd/quorate/fakeetcd"
	"github.com/quoratedb/quorate/cmd/quorate/serveflags"
)

// The test binary is also the program that the demonstration runs: under
// -demo-child=MODE its main is a fake node.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "-demo-child=") {
		os.Exit(child0(strings.TrimPrefix(os.Args[1], "-demo-child="), os.Args[2:]))
	}
	os.Exit(m.Run())
}

// child0 behaves as mode says: "serve" until SIGTERM, "stubborn" until killed,
// "broken" not at all.
func child0(mode string, arguments []string) int {
	switch mode {
	case "broken":
		fmt.Fprintln(os.Stderr, "disk on fire")
		return 3
	case "whole": // a demonstration of its own, to be killed
		options := Options{Program: os.Args[0], Arguments: []string{"-demo-child=serve"}, DataDir: arguments[0], Output: os.Stdout}
		fmt.Fprintln(os.Stderr, Run(context.Background(), options))
		return 1
	}
	parsed, err := serveflags.Parse(arguments, os.Environ(), false)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	options := parsed.Options
	pid := filepath.Join(filepath.Dir(options.Node.DataDir), options.Node.Name+".pid")
	if err := os.WriteFile(pid, fmt.Appendf(nil, "%d", os.Getpid()), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	s, err := fakeetcd.Start(fakeetcd.Options{Address: options.Node.ListenClientURLs[0].HostPort(), MemberID: uint64(options.NodeID()), LeaderID: uint64(options.NodeID())})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	defer s.Close()
	for {
		<-terminate
		if mode == "serve" {
			return 0
		}
	}
}

type running struct {
	output *syncBuffer
	cancel context.CancelFunc
	done   chan error
}

type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	lines  chan string
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines <- string(p) // has room for all lines of a test
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func runDemo(t *testing.T, mode string, options Options) *running {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	options.Program, options.Arguments = program, []string{"-demo-child=" + mode}
	options.Environment = append(os.Environ(), "ETCD_NAME=must-not-reach-the-nodes")
	r := &running{output: &syncBuffer{lines: make(chan string, 100)}, done: make(chan error, 1)}
	options.Output = r.output
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	t.Cleanup(cancel)
	go func() { r.done <- Run(ctx, options) }()
	return r
}

func (r *running) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case line := <-r.output.lines:
			if strings.Contains(line, text) {
				return
			}
		case err := <-r.done:
			t.Fatalf("it ended before %q came: %v", text, err)
		case <-deadline:
			t.Fatalf("%q does not come", text)
		}
	}
}

func (r *running) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
		return nil
	}
}

func TestDemoServesAndEnds(t *testing.T) {
	directory := t.TempDir()
	r := runDemo(t, "serve", Options{DataDir: directory})
	r.await(t, "Ctrl-C ends all three nodes")
	r.cancel()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	for i := range nodeCount {
		content, err := os.ReadFile(filepath.Join(directory, nodeName(i)+".pid"))
		if err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Sscan(string(content), &pid); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("%s is still alive", nodeName(i))
		}
	}
	for _, want := range []string{"try:", "quorate get greeting", "etcdctl --endpoints=127.0.0.1:", "clientv3.New", "serving after"} {
		if !strings.Contains(r.output.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, r.output.String())
		}
	}

	// Again on the same directory: the same ports.
	first, err := os.ReadFile(filepath.Join(directory, layoutFile))
	if err != nil {
		t.Fatal(err)
	}
	l, err := reuseLayout("x", first)
	if err != nil {
		t.Fatal(err)
	}
	r = runDemo(t, "serve", Options{DataDir: directory})
	r.await(t, fmt.Sprintf("endpoints: 127.0.0.1:%d ", l.ClientPorts[0]))
	r.cancel()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
}

func TestDemoRemovesItsTemporaryDirectory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	r := runDemo(t, "serve", Options{})
	r.await(t, "Ctrl-C ends")
	made := regexp.MustCompile(`data and logs in (\S+)`).FindStringSubmatch(r.output.String())
	if made == nil {
		t.Fatalf("no directory in the output:\n%s", r.output.String())
	}
	if _, err := os.Stat(made[1]); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	r.cancel()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(made[1]); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", made[1], err)
	}
}

func TestDemoWithBrokenNodes(t *testing.T) {
	r := runDemo(t, "broken", Options{})
	err := r.end(t)
	if err == nil || !strings.Contains(err.Error(), "disk on fire") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

// TestChildrenDieWithTheirParent, even when it has no chance to end them.
func TestChildrenDieWithTheirParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can tie a child's life to its parent's")
	}
	directory := t.TempDir()
	parent := exec.Command(os.Args[0], "-demo-child=whole", directory)
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() && !strings.Contains(lines.Text(), "Ctrl-C ends") {
	}
	content, err := os.ReadFile(filepath.Join(directory, layoutFile))
	if err != nil {
		t.Fatal(err)
	}
	if listeners, err := listenAll(mustLayout(t, content).ports()); err == nil {
		closeAll(listeners)
		t.Fatal("the nodes do not run")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	deadline := time.Now().Add(20 * time.Second)
	for {
		listeners, err := listenAll(mustLayout(t, content).ports())
		if err == nil {
			closeAll(listeners)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a node outlives its parent: %v", err)
		}
		runtime.Gosched()
	}
}

func mustLayout(t *testing.T, content []byte) layout {
	t.Helper()
	var l layout
	if err := json.Unmarshal(content, &l); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestNodeThatIgnoresItsEnd is killed after its time.
func TestNodeThatIgnoresItsEnd(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	l, err := loadLayout(directory, false, false)
	if err != nil {
		t.Fatal(err)
	}
	s := newSpawner()
	defer s.close()
	n := newChild(Options{Program: program, Arguments: []string{"-demo-child=stubborn"}, Environment: os.Environ()}, l, directory, 0, nil)
	if err := n.start(s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.waitReady(ctx, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	n.end(10 * time.Millisecond)
	if state := n.exitState(); !strings.Contains(state, "killed") {
		t.Errorf("it ended so: %s", state)
	}
	if n.leads(ctx) {
		t.Error("a dead node leads")
	}
}

func TestTakenPorts(t *testing.T) {
	directory := t.TempDir()
	l, err := loadLayout(directory, true, false)
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadLayout(directory, true, false)
	if err != nil || again != l {
		t.Errorf("got %v, %v; want %v", again, err, l)
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", l.PeerPorts[2]))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if _, err := loadLayout(directory, true, false); err == nil || !strings.Contains(err.Error(), "fixed ports") {
		t.Errorf("a taken port: %v", err)
	}
	if other, err := choose(); err != nil || other == l {
		t.Errorf("while %v is taken: %v, %v", l, other, err)
	}
	if err := os.WriteFile(filepath.Join(directory, layoutFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadLayout(directory, true, false); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("a damaged layout: %v", err)
	}
}
