package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// binaries are the programs under test, built from source.
type binaries struct{ etcd, quorate, other, self string }

// of is the binary of a build of quorate.
func (b binaries) of(system string) string {
	if system == systemOther {
		return b.other
	}
	return b.quorate
}

func build(ctx context.Context, cfg config) (binaries, error) {
	self, err := os.Executable()
	if err != nil {
		return binaries{}, err
	}
	bin := binaries{etcd: filepath.Join(cfg.Dir, "bin-etcd"), quorate: filepath.Join(cfg.Dir, "bin-quorate"), self: self, other: cfg.Other}
	root, err := moduleRoot(ctx)
	if err != nil {
		return binaries{}, err
	}
	if slices.Contains(cfg.Systems, systemEtcd) {
		if err := goBuild(ctx, root, bin.etcd, "go.etcd.io/etcd/server/v3"); err != nil {
			return binaries{}, err
		}
	}
	if slices.ContainsFunc(cfg.Systems, func(s string) bool { return isQuorate(s) && s != systemOther }) {
		if err := goBuild(ctx, filepath.Dir(root), bin.quorate, "./cmd/quorate"); err != nil {
			return binaries{}, err
		}
	}
	return bin, nil
}

func goBuild(ctx context.Context, dir, output, what string) error {
	fmt.Fprintf(os.Stderr, "building %s\n", what)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", output, what)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", what, err, out)
	}
	return nil
}

// moduleRoot is the folder of this module's go.mod.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// cluster is three running processes of a system, or one of the null server.
type cluster struct {
	system string
	flags  []string // beyond those of the system
	// memberFlags are those of single members.
	memberFlags [][]string
	metrics     []string // where members answer for their metrics, if they do
	slow        int      // so many of the last members are reached by the others through a delay
	delays      []*delay // one for each of these
	bin         binaries
	dir         string
	members     []*member
	endpoints   []string
	filled      int
	// user and password, if users have to log in.
	user, password string
}

type member struct {
	args     []string
	cmd      *exec.Cmd
	exited   chan struct{}
	log      *os.File
	endpoint string
	dir      string
}

func startCluster(ctx context.Context, system string, bin binaries, dir string) (*cluster, error) {
	c := &cluster{system: system, bin: bin, dir: dir}
	count := 3
	if system == systemNull {
		count = 1
	}
	return c, c.start(ctx, count)
}

// start starts so many members. When it fails nothing runs.
func (c *cluster) start(ctx context.Context, count int) (err error) {
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	if err := c.plan(count); err != nil {
		return err
	}
	for _, m := range c.members {
		if err := m.start(); err != nil {
			return err
		}
	}
	return c.waitServing(ctx, time.Minute)
}

// plan chooses ports and command lines.
func (c *cluster) plan(count int) error {
	ports, err := freePorts(2 * count)
	if err != nil {
		return err
	}
	var initial, advertised []string
	for i := range count {
		peer := fmt.Sprintf("127.0.0.1:%d", ports[2*i+1])
		if i >= count-c.slow {
			d, err := newDelay(peer)
			if err != nil {
				return err
			}
			c.delays = append(c.delays, d)
			peer = d.address()
		}
		advertised = append(advertised, "http://"+peer)
		initial = append(initial, fmt.Sprintf("m%d=http://%s", i, peer))
	}
	for i := range count {
		client, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[2*i]), fmt.Sprintf("http://127.0.0.1:%d", ports[2*i+1])
		m := &member{endpoint: client, dir: filepath.Join(c.dir, fmt.Sprintf("m%d", i))}
		if c.system == systemNull {
			m.args = []string{c.bin.self, "null", fmt.Sprintf("127.0.0.1:%d", ports[0])}
		} else {
			m.args = []string{c.bin.etcd}
			if isQuorate(c.system) {
				m.args = append([]string{c.bin.of(c.system), "serve"}, protocolFlags(c.system)...)
			}
			m.args = append(m.args, "--name", fmt.Sprintf("m%d", i), "--data-dir", m.dir,
				"--listen-client-urls", client, "--advertise-client-urls", client,
				"--listen-peer-urls", peer, "--initial-advertise-peer-urls", advertised[i],
				"--initial-cluster", strings.Join(initial, ","), "--quota-backend-bytes", "8589934592", "--log-level", "warn")
			m.args = append(m.args, c.flags...)
			if i < len(c.memberFlags) {
				m.args = append(m.args, c.memberFlags[i]...)
			}
		}
		c.members = append(c.members, m)
		c.endpoints = append(c.endpoints, client)
	}
	return nil
}

// given are the ports of this program's clusters: their members may not listen yet.
var given = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// freePorts finds ports below those that systems give to outgoing connections (from 32768 on Linux): nobody takes
// them while a member is down.
func freePorts(n int) ([]int, error) {
	given.Lock()
	defer given.Unlock()
	var ports []int
	for range 100 * n {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000)))
		if err != nil {
			continue
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		if given.ports[port] {
			continue
		}
		given.ports[port] = true
		ports = append(ports, port)
		if len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("found no free ports")
}

func (m *member) start() error {
	if err := os.MkdirAll(filepath.Dir(m.dir), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(m.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	m.log = log
	m.cmd = exec.Command(m.args[0], m.args[1:]...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return err
	}
	m.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		cmd.Wait()
		close(exited)
	}(m.cmd, m.exited)
	return nil
}

// kill is kill -9.
func (m *member) kill() {
	if m.cmd != nil && m.cmd.Process != nil {
		m.cmd.Process.Kill()
		<-m.exited
		m.log.Close()
		m.cmd = nil
	}
}

// terminate ends the process as an operator would.
func (m *member) terminate() {
	if m.cmd == nil {
		return
	}
	m.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-m.exited:
		m.log.Close()
		m.cmd = nil
	case <-time.After(20 * time.Second):
		m.kill()
	}
}

func (c *cluster) stop() {
	for _, m := range c.members {
		m.kill()
	}
	for _, d := range c.delays {
		d.close()
	}
}

// newClient makes a client of nobody.
func newClient(endpoints ...string) (*clientv3.Client, error) {
	return newClientOf("", "", endpoints...)
}

// newClientOf makes one of a user. It connects again soon after it was refused: gRPC's own pauses, of 1 s, 1.6 s and so on, would be most of what a restart
// seems to take.
func newClientOf(user, password string, endpoints ...string) (*clientv3.Client, error) {
	pauses := backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop(), MaxCallRecvMsgSize: 1 << 30, Username: user, Password: password,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: pauses, MinConnectTimeout: 5 * time.Second})},
	})
}

// waitServing waits until every member answers a linearizable read.
func (c *cluster) waitServing(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for i, endpoint := range c.endpoints {
		client, err := newClient(endpoint)
		if err != nil {
			return err
		}
		defer client.Close()
		for {
			callCtx, cancelCall := context.WithTimeout(ctx, time.Second)
			_, err := client.Get(callCtx, "ready")
			cancelCall()
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				tail, _ := os.ReadFile(c.members[i].dir + ".log")
				return fmt.Errorf("%s member %d does not serve: %w\n%s", c.system, i, err, tail[max(0, len(tail)-2000):])
			}
		}
	}
	return nil
}

// leader finds the position of the member that leads.
func (c *cluster) leader(ctx context.Context) (int, error) {
	if c.system == systemNull {
		return 0, nil
	}
	client, err := newClientOf(c.user, c.password, c.endpoints...)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	for i, endpoint := range c.endpoints {
		callCtx, cancel := context.WithTimeout(ctx, 2*time.Second)
		status, err := client.Status(callCtx, endpoint)
		cancel()
		if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%s has no leader", c.system)
}

// cpu is the processor time that all members used so far.
func (c *cluster) cpu() time.Duration {
	var sum time.Duration
	for _, m := range c.members {
		if m.cmd != nil {
			sum += processCPU(m.cmd.Process.Pid)
		}
	}
	return sum
}

// processCPU reads user and system time; the kernel counts in hundredths of a second.
func processCPU(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// rss is the resident memory of a member, and its peak, in bytes.
func (m *member) rss() (now, peak int64) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kilobytes, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "VmRSS:":
			now = kilobytes << 10
		case "VmHWM:":
			peak = kilobytes << 10
		}
	}
	return now, peak
}

// forgetPeak makes the present memory the peak.
func (m *member) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", m.cmd.Process.Pid), []byte("5"), 0)
}

// disk is the space that a member's files occupy.
func (m *member) disk() (bytes int64) {
	filepath.WalkDir(m.dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		return nil
	})
	return bytes
}

// measure runs a load in a process of its own, so that its processor time can be told from the servers'.
func (c *cluster) measure(ctx context.Context, l load, cfg config) (result, error) {
	lead, err := c.leader(ctx)
	if err != nil {
		return result{}, err
	}
	spec := l.spec
	spec.Load, spec.Seconds, spec.Keys = l.name, cfg.Duration.Seconds(), cfg.Keys
	spec.Endpoints = c.endpoints
	if l.leaderOnly {
		spec.Endpoints = []string{c.endpoints[lead]}
	}
	if err := c.fill(ctx, cfg.Keys); err != nil {
		return result{}, err
	}
	return c.work(ctx, spec)
}

// fill sees to it that so many keys are there.
func (c *cluster) fill(ctx context.Context, keys int) error {
	if c.filled >= keys || c.system == systemNull {
		return nil
	}
	lead, err := c.leader(ctx)
	if err != nil {
		return err
	}
	if _, err := c.work(ctx, workSpec{Load: "fill", Endpoints: c.endpoints[lead : lead+1], Clients: 128, Connections: 8, Keys: keys, Fill: true}); err != nil {
		return err
	}
	c.filled = keys
	return nil
}

func (c *cluster) work(ctx context.Context, spec workSpec) (result, error) {
	spec.User, spec.Password = c.user, c.password
	input, err := json.Marshal(spec)
	if err != nil {
		return result{}, err
	}
	cmd := exec.CommandContext(ctx, c.bin.self, "worker")
	cmd.Stdin = bytes.NewReader(input)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	before := c.cpu()
	if err := cmd.Run(); err != nil {
		return result{}, fmt.Errorf("worker: %w: %s", err, errOut.String())
	}
	var r result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return result{}, fmt.Errorf("worker said %q: %w", out.String(), err)
	}
	if r.Ops > 0 {
		r.ServerCPU = (c.cpu() - before).Seconds() * 1e6 / float64(r.Ops)
	}
	return r, nil
}
