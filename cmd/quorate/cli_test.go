package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/quoratedb/quorate/cmd/quorate/fakeetcd"
	"github.com/quoratedb/quorate/server"
	"github.com/quoratedb/quorate/transport/freeport"
)

// invoke runs one command line as main would.
func invoke(t *testing.T, environment []string, stdin string, arguments ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out, err bytes.Buffer
	a := &app{stdin: strings.NewReader(stdin), stdout: &out, stderr: &err, environment: environment}
	code = a.run(ctx, arguments)
	return out.String(), err.String(), code
}

func startFake(t *testing.T, options fakeetcd.Options) *fakeetcd.Server {
	t.Helper()
	if options.Address == "" {
		options.Address = "127.0.0.1:0"
	}
	s, err := fakeetcd.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// TestCommands plays the scripts in testdata/cli, each against a fresh fake. A
// script's commands are:
//
//	run              one argument a line, the words of a command line
//	pipe input=TEXT  the same, with TEXT on standard input (\n for newlines)
func TestCommands(t *testing.T) {
	datadriven.Walk(t, "testdata/cli", func(t *testing.T, path string) {
		fake := startFake(t, fakeetcd.Options{MemberID: 1, LeaderID: 1})
		environment := []string{"ETCDCTL_ENDPOINTS=wrong:1", "QUORATE_ENDPOINTS=http://" + fake.Address()}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			stdin := ""
			if d.Cmd == "pipe" {
				d.ScanArgs(t, "input", &stdin)
				stdin = strings.ReplaceAll(stdin, `\n`, "\n")
			}
			stdout, stderr, code := invoke(t, environment, stdin, strings.Split(d.Input, "\n")...)
			if stderr != "" {
				stdout += "stderr: " + stderr
			}
			if code != 0 {
				stdout += fmt.Sprintf("exit %d\n", code)
			}
			return strings.ReplaceAll(stdout, fake.Address(), "ADDRESS")
		})
	})
}

// TestLargeValue: how large a request may be is up to the nodes.
func TestLargeValue(t *testing.T) {
	fake := startFake(t, fakeetcd.Options{MemberID: 1, LeaderID: 1})
	environment := []string{"QUORATE_ENDPOINTS=" + fake.Address()}
	value := strings.Repeat("x", 3<<20)
	if _, stderr, code := invoke(t, environment, value, "put", "large"); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	stdout, stderr, code := invoke(t, environment, "", "get", "large", "--output", "json")
	if code != 0 || !strings.Contains(stdout, value) {
		t.Fatalf("exit %d, %d bytes: %s", code, len(stdout), stderr)
	}
}

// TestStatus: three nodes, of which one is asked, one is found, one is dead, and
// a fourth that has never started.
func TestStatus(t *testing.T) {
	first := startFake(t, fakeetcd.Options{MemberID: 0xa, LeaderID: 0xb, Protocol: "raft"})
	second := startFake(t, fakeetcd.Options{MemberID: 0xb, LeaderID: 0xb, Protocol: "raft", Errors: []string{"NOSPACE"}})
	dead := closedPort(t)
	members := []*pb.Member{
		{ID: 0xa, Name: "n1", ClientURLs: []string{"http://" + first.Address()}},
		{ID: 0xb, Name: "n2", ClientURLs: []string{"http://" + second.Address()}},
		{ID: 0xc, Name: "n3", ClientURLs: []string{"http://" + dead}},
		{ID: 0xd, Name: "n4"},
	}
	first.SetMembers(members)
	second.SetMembers(members)
	hide := func(text string) string {
		for address, name := range map[string]string{first.Address(): "FIRST", second.Address(): "SECOND", dead: "DEAD"} {
			text = strings.ReplaceAll(text, address, name)
		}
		return strings.Join(strings.Fields(text), " ")
	}
	stdout, stderr, code := invoke(t, nil, "", "status", "--endpoints", first.Address())
	want := "NAME ID ENDPOINT ROLE PROTOCOL TERM APPLIED REVISION SIZE IN USE QUOTA ERRORS " +
		"n1 a FIRST follower raft 3 11 1 3.0 MiB 1.5 KiB 2.0 GiB " +
		"n2 b SECOND leader raft 3 11 1 3.0 MiB 1.5 KiB 2.0 GiB NOSPACE " +
		"n3 c DEAD unreachable - - - - - - - connection refused: nothing listens on this port " +
		"n4 d - unreachable - - - - - - - its client address is not known: it has not started yet"
	if got := hide(stdout); got != want || code != 0 || stderr != "" {
		t.Errorf("got  %s\nwant %s\nstderr %q, exit %d", got, want, stderr, code)
	}

	// The dead one is given, and knows nobody; the first is given twice.
	stdout, _, code = invoke(t, nil, "", "status", "--output", "json", "--endpoints", dead+","+first.Address()+","+first.Address())
	if strings.Count(stdout, `"id":"a"`) != 1 || !strings.Contains(stdout, `"reachable":false`) || code != 0 {
		t.Errorf("json: %s, exit %d", stdout, code)
	}

	stdout, stderr, code = invoke(t, nil, "", "status", "--endpoints", dead)
	if code != exitUnavailable || !strings.Contains(stderr, "no node answered") || !strings.Contains(stdout, "unreachable") {
		t.Errorf("all dead: %s %s exit %d", stdout, stderr, code)
	}
}

// TestVersion: the flag that everybody tries first says what the command says.
func TestVersion(t *testing.T) {
	flag, _, code := invoke(t, nil, "", "--version")
	command, _, _ := invoke(t, nil, "", "version")
	if code != 0 || flag != command || !strings.Contains(flag, "Quorate Version: "+server.Version) {
		t.Errorf("--version: exit %d, %q, and version: %q", code, flag, command)
	}
	stdout, _, code := invoke(t, nil, "", "version", "--output=json")
	var version map[string]string
	if err := json.Unmarshal([]byte(stdout), &version); err != nil || code != 0 || version["quorate_version"] != server.Version {
		t.Errorf("json: exit %d, %v, %s", code, err, stdout)
	}
}

// TestStatusWithoutLeader: the exit code is that of a cluster that serves nobody, whatever the nodes say of themselves.
func TestStatusWithoutLeader(t *testing.T) {
	lost := startFake(t, fakeetcd.Options{MemberID: 0xa})
	lost.SetMembers([]*pb.Member{{ID: 0xa, Name: "n1", ClientURLs: []string{"http://" + lost.Address()}}})
	for _, form := range []string{"table", "json"} {
		stdout, stderr, code := invoke(t, nil, "", "status", "--endpoints", lost.Address(), "--output", form)
		if code != exitUnavailable || !strings.Contains(stdout, "no leader") || !strings.Contains(stderr, "knows a leader") {
			t.Errorf("%s: exit %d, %s%s", form, code, stdout, stderr)
		}
	}
	// One that knows it is enough.
	led := startFake(t, fakeetcd.Options{MemberID: 0xb, LeaderID: 0xb})
	if _, stderr, code := invoke(t, nil, "", "status", "--endpoints", lost.Address()+","+led.Address()); code != exitOK || stderr != "" {
		t.Errorf("with a leader: exit %d, %s", code, stderr)
	}
}

func TestUnavailable(t *testing.T) {
	dead := closedPort(t)
	_, stderr, code := invoke(t, nil, "", "get", "a", "--endpoints", dead, "--timeout", "300ms")
	if code != exitUnavailable || !strings.Contains(stderr, dead+": connection refused") || !strings.Contains(stderr, "quorate demo") {
		t.Errorf("nobody there: %q, exit %d", stderr, code)
	}

	leaderless := startFake(t, fakeetcd.Options{Fail: rpctypes.ErrGRPCNoLeader})
	for _, command := range [][]string{{"put", "a", "b"}, {"get", "a"}, {"del", "a"}, {"txn", "then get a"}} {
		_, stderr, code = invoke(t, nil, "", append(command, "--endpoints", leaderless.Address(), "--timeout", "500ms")...)
		if code != exitUnavailable || !strings.Contains(stderr, command[0]+": ") || !(strings.Contains(stderr, "has no leader") || strings.Contains(stderr, "no leader")) {
			t.Errorf("%v without a leader: %q, exit %d", command, stderr, code)
		}
	}

	// A port that accepts and never answers.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, command := range [][]string{{"get", "a"}, {"watch", "a"}, {"lease", "keep-alive", "7"}} {
		_, stderr, code = invoke(t, nil, "", append(command, "--endpoints", listener.Addr().String(), "--timeout", "200ms")...)
		if code != exitUnavailable || !strings.Contains(stderr, "did not answer within 200ms") || !strings.Contains(stderr, silent) {
			t.Errorf("%v at a mute port: %q, exit %d", command, stderr, code)
		}
	}
}

// TestEndpointsOfTheEnvironment: what is wrong with them is not said of a flag that nobody gave.
func TestEndpointsOfTheEnvironment(t *testing.T) {
	for value, want := range map[string]string{
		"127.0.0.1:1 127.0.0.1:2":  `ETCDCTL_ENDPOINTS: "127.0.0.1:1 127.0.0.1:2" must look like`,
		"127.0.0.1:2379/v3":        "must look like",
		"127.0.0.1:http":           "must look like",
		"127.0.0.1:99999":          "must look like",
		"ftp://127.0.0.1:2379":     `ETCDCTL_ENDPOINTS: "ftp://127.0.0.1:2379" must begin with http://, https:// or unix://`,
		" , ":                      "ETCDCTL_ENDPOINTS is empty",
		"http://[::1]:x,127.0.0.1": "must look like",
	} {
		_, stderr, code := invoke(t, []string{"ETCDCTL_ENDPOINTS=" + value}, "", "get", "a")
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit %d, %s", value, code, stderr)
		}
	}
	_, stderr, _ := invoke(t, []string{"ETCDCTL_ENDPOINTS=wrong"}, "", "get", "a", "--endpoints=worse")
	if !strings.Contains(stderr, `--endpoints: "worse"`) {
		t.Error(stderr)
	}
}

// TestForeignPort: what listens at the endpoint is no node's client port, such as that for the other nodes.
func TestForeignPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(connection, "220 mail.example.org ready\r\n")
			defer connection.Close()
		}
	}()
	stdout, stderr, code := invoke(t, nil, "", "status", "--endpoints", listener.Addr().String(), "--timeout", "20s")
	if code != exitUnavailable || !strings.Contains(stdout, notAClientPort) {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
}

// TestNextStep: what is advised after a request that nobody answered, by what the endpoints are.
func TestNextStep(t *testing.T) {
	node := map[string]*nodeStatus{
		"led": {Reachable: true, open: true, Role: "leader"}, "leaderless": {Reachable: true, open: true, Role: noLeader},
		"silent": {open: true, Errors: []string{silent}}, "foreign": {open: true, Errors: []string{notAClientPort}},
		"closed": {Errors: []string{"connection refused"}},
	}
	const unknown = "Whether it took effect is not known"
	for _, c := range []struct{ nodes, what, want, not string }{
		{"leaderless closed", "put", "The cluster has no leader", "overloaded"},
		{"leaderless", "put", unknown, "overloaded"},
		{"leaderless", "get", "--serializable", unknown},
		{"leaderless led", "txn", "did not answer within 3s", "The cluster has no leader"},
		{"silent closed", "del", "did not answer within 3s", "The cluster has no leader"},
		{"silent", "alarm list", "did not answer within 3s", unknown},
		{"foreign closed", "put", "--listen-client-urls", unknown},
		{"foreign silent", "put", unknown, "--listen-client-urls"},
		{"closed closed", "put", "quorate demo", unknown},
	} {
		var nodes []*nodeStatus
		for _, name := range strings.Fields(c.nodes) {
			nodes = append(nodes, node[name])
		}
		got := strings.Join((&app{timeout: 3 * time.Second}).nextStep(nodes, c.what, "x"), "\n")
		if !strings.Contains(got, c.want) || strings.Contains(got, c.not) {
			t.Errorf("%s at %s: %s", c.what, c.nodes, got)
		}
	}
}

// TestInterruptedWatch: Ctrl-C is the regular end of a watch.
func TestInterruptedWatch(t *testing.T) {
	fake := startFake(t, fakeetcd.Options{MemberID: 1, LeaderID: 1})
	ctx, cancel := context.WithCancel(t.Context())
	out, stderr := &notifyingBuffer{wrote: make(chan struct{}, 16)}, &bytes.Buffer{}
	a := &app{stdin: strings.NewReader(""), stdout: out, stderr: stderr, environment: []string{"ETCDCTL_ENDPOINTS=" + fake.Address()}}
	ended := make(chan int, 1)
	// From revision 2 on, so that it does not matter which comes first.
	go func() { ended <- a.run(ctx, []string{"watch", "a", "--rev", "2"}) }()
	if _, _, code := invoke(t, nil, "", "put", "a", "1", "--endpoints", fake.Address()); code != 0 {
		t.Fatalf("put: exit %d", code)
	}
	select {
	case <-out.wrote:
	case <-time.After(20 * time.Second):
		t.Fatal("the watch shows nothing")
	}
	cancel()
	select {
	case code := <-ended:
		if code != 0 || out.String() != "2\tput\ta = 1\n" || stderr.String() != "watching from revision 2 on: a\n" {
			t.Errorf("exit %d, output %q, %q", code, out.String(), stderr.String())
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the watch does not end")
	}
}

// TestInterruptedRequest: of a write nobody knows, and of a read there is nothing to know.
func TestInterruptedRequest(t *testing.T) {
	fake := startFake(t, fakeetcd.Options{MemberID: 1, LeaderID: 1})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct{ arguments, want string }{
		{"put a b", "put: interrupted; whether it took effect is unknown\n"},
		{"get a", "get: interrupted\n"},
		{"status", "status: interrupted\n"},
		{"defrag", "defrag: interrupted\n"},
	} {
		var out, err bytes.Buffer
		a := &app{stdout: &out, stderr: &err, environment: []string{"QUORATE_ENDPOINTS=" + fake.Address()}}
		if code := a.run(ctx, strings.Fields(c.arguments)); code != exitFailed || err.String() != "quorate: "+c.want {
			t.Errorf("%s: exit %d, %s", c.arguments, code, err.String())
		}
	}
}

type notifyingBuffer struct {
	bytes.Buffer
	wrote chan struct{}
}

func (b *notifyingBuffer) Write(p []byte) (int, error) {
	n, err := b.Buffer.Write(p)
	b.wrote <- struct{}{}
	return n, err
}

// TestEveryCommandHasAnExample, with which a newcomer can begin.
func TestEveryCommandHasAnExample(t *testing.T) {
	root := (&app{}).rootCommand()
	commands := root.Commands()
	for i := 0; i < len(commands); i++ {
		command := commands[i]
		commands = append(commands, command.Commands()...)
		if command.Example == "" || command.Short == "" {
			t.Errorf("%s has no example or no description", command.CommandPath())
		}
	}
	if len(commands) < 15 {
		t.Errorf("only %d commands", len(commands))
	}
}
