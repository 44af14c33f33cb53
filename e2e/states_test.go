package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/quoratedb/quorate/e2e/cluster"
	"github.com/quoratedb/quorate/transport/freeport"
)

// TestTableOfStates brings a cluster into the states of the table in docs/operations.md, and wants of its first node what the
// table says. The states that cannot be brought about by processes are judged in package server (TestTableOfStates there).
func TestTableOfStates(t *testing.T) {
	skipShort(t)
	t.Parallel()
	if cluster.IsEtcd() {
		t.Skip("the table is Quorate's")
	}
	s := &stateTest{t: t, cluster: try(cluster.New(cluster.Options{}))(t), rows: tableOfStates(t)}
	t.Cleanup(func() { must(t, s.cluster.Close()) })
	s.node = s.cluster.Nodes[0]
	s.url = fmt.Sprintf("http://127.0.0.1:%d", try(freeport.Get())(t))
	s.node.SetFlag("--listen-metrics-urls=" + s.url)
	must(t, s.cluster.Start())
	c := s.node.Client(t)
	try(c.Put(within(t), "state", "v"))(t)
	try(c.Get(within(t), "state"))(t) // the node has it now, for those that ask it alone

	s.check("well")
	s.raise(pb.AlarmType_NOSPACE)
	s.check("NOSPACE")
	s.disarm()
	s.raise(pb.AlarmType_CORRUPT)
	s.check("CORRUPT")
	s.disarm()
	for _, other := range s.cluster.Nodes[1:] {
		must(t, other.Kill())
	}
	s.check("no leader")
	must(t, s.node.Kill())
	must(t, os.RemoveAll(s.node.DataDir))
	s.node.SetFlag("--initial-cluster-state=existing")
	must(t, s.cluster.Nodes[1].Start()) // a node with nothing asks one that has something who the members are
	must(t, s.node.Start())
	s.check("replica lost")
	must(t, s.node.Kill())
	s.check("shut down")
}

type stateTest struct {
	t       *testing.T
	cluster *cluster.Cluster
	node    *cluster.Node // that is asked
	url     string        // of its probes
	rows    map[string]stateRow
}

// stateRow is what the table says of one state.
type stateRow struct {
	probes    map[string]string // by path: the code, and a text that must be in the answer
	status    string            // in the errors of the node's status
	exitCodes string            // of put, get, get --serializable
	metric    string            // a line
}

// tableOfStates reads the tables between the marks: one of the probes, one of everything else.
func tableOfStates(t *testing.T) map[string]stateRow {
	t.Helper()
	text := string(try(os.ReadFile("../docs/operations.md"))(t))
	_, table, found := strings.Cut(text, "<!-- states: begin -->")
	table, _, ended := strings.Cut(table, "<!-- states: end -->")
	if !found || !ended {
		t.Fatal("docs/operations.md has no table of states")
	}
	rows := map[string]stateRow{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		row := rows[cells[0]]
		switch len(cells) {
		case 5: // the table of the probes
			row.probes = map[string]string{"/health": cells[1], "/health?serializable=true": cells[2], "/livez": cells[3], "/readyz": cells[4]}
		case 4:
			row.status, row.exitCodes, row.metric = cells[1], cells[2], strings.Trim(cells[3], "`")
		default:
			continue
		}
		rows[cells[0]] = row
	}
	return rows
}

func (s *stateTest) raise(alarm pb.AlarmType) {
	s.t.Helper()
	c := s.cluster.Client(s.t)
	member := try(s.node.Status(within(s.t)))(s.t).Header.MemberId
	in := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: alarm}
	try(pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(within(s.t), in))(s.t)
}

func (s *stateTest) disarm() {
	s.t.Helper()
	try(s.cluster.Client(s.t).AlarmDisarm(within(s.t), &clientv3.AlarmMember{}))(s.t)
}

// check asks until the node is as the row says: that it is in the state takes a moment to be known.
func (s *stateTest) check(state string) {
	s.t.Helper()
	row, ok := s.rows[state]
	if !ok {
		s.t.Fatalf("the table has no row %q", state)
	}
	cluster.Eventually(s.t, state, func() error {
		// At once: some of them wait for an answer that does not come.
		var all errgroup.Group
		for path, want := range row.probes {
			all.Go(func() error { return s.checkProbe(path, want) })
		}
		all.Go(func() error { return s.checkStatus(row.status) })
		if row.metric != "no answer" {
			all.Go(func() error { return s.checkProbe("/metrics", "200 `"+row.metric+"`") })
		}
		return all.Wait()
	})
	if got := s.exitCodes(); got != row.exitCodes {
		s.t.Errorf("%s: exit codes %s, want %s", state, got, row.exitCodes)
	}
}

var cell = regexp.MustCompile("^(\\d+|no answer)(?: `(.*)`)?$")

func (s *stateTest) checkProbe(path, want string) error {
	parts := cell.FindStringSubmatch(want)
	if parts == nil {
		return fmt.Errorf("the table's cell %q makes no sense", want)
	}
	answer, err := (&http.Client{Timeout: 15 * time.Second}).Get(s.url + path)
	if err != nil {
		if parts[1] == "no answer" {
			return nil
		}
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if fmt.Sprint(answer.StatusCode) != parts[1] || !strings.Contains(string(body), parts[2]) {
		return fmt.Errorf("%s: %d %s, want %s", path, answer.StatusCode, body, want)
	}
	return nil
}

func (s *stateTest) checkStatus(want string) error {
	status, err := s.node.Status(s.t.Context())
	switch {
	case want == "no answer" && err != nil:
		return nil
	case err != nil:
		return err
	case want == "nothing":
		want = ""
		if len(status.Errors) == 0 {
			return nil
		}
	}
	if got := strings.Join(status.Errors, ", "); want == "" || !strings.Contains(got, strings.Trim(want, "`")) {
		return fmt.Errorf("status: %q, want %s", got, want)
	}
	return nil
}

// exitCodes runs the command line against the node alone: all at once, since some wait for an answer that does not come.
func (s *stateTest) exitCodes() string {
	program := try(cluster.Program())(s.t)
	commands := [][]string{{"put", "state", "v"}, {"get", "state"}, {"get", "state", "--serializable"}}
	codes := make([]string, len(commands))
	var all sync.WaitGroup
	for i, arguments := range commands {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(s.t.Context(), cluster.Patience)
			defer cancel()
			command := exec.CommandContext(ctx, program, append(arguments, "--endpoints="+s.node.Endpoint, "--timeout=2s")...)
			output, err := command.CombinedOutput()
			s.t.Logf("%v: %s, %v", arguments, output, err)
			if command.ProcessState != nil { // else it was not even started, and the code is ""
				codes[i] = fmt.Sprint(command.ProcessState.ExitCode())
			}
		})
	}
	all.Wait()
	return strings.Join(codes, ", ")
}
