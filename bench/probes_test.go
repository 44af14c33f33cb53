package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// probePaths are asked in every state.
var probePaths = []string{
	"/health", "/health?serializable=true", "/health?exclude=NOSPACE", "/health?exclude=CORRUPT&serializable=true", "/health?exclude=NOSPACE&exclude=CORRUPT",
	"/livez", "/livez?verbose", "/livez?exclude=serializable_read&verbose", "/livez/serializable_read",
	"/readyz?verbose", "/readyz?exclude=linearizable_read&verbose", "/readyz/data_corruption", "/readyz/non_learner?verbose", "/readyz/nonsense",
}

// probeState is something that a cluster is brought into.
type probeState struct {
	name  string
	enter func(t *testing.T, c *cluster, client *clientv3.Client)
}

var probeStates = []probeState{
	{"well", func(*testing.T, *cluster, *clientv3.Client) {}},
	{"NOSPACE", func(t *testing.T, _ *cluster, c *clientv3.Client) { raise(t, c, pb.AlarmType_NOSPACE) }},
	{"CORRUPT", func(t *testing.T, _ *cluster, c *clientv3.Client) {
		if _, err := c.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
			t.Fatal(err)
		}
		raise(t, c, pb.AlarmType_CORRUPT)
	}},
	{"no quorum", func(t *testing.T, k *cluster, c *clientv3.Client) {
		if _, err := c.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
			t.Fatal(err)
		}
		k.members[1].kill()
		k.members[2].kill()
	}},
}

func raise(t *testing.T, c *clientv3.Client, alarm pb.AlarmType) {
	t.Helper()
	status, err := c.Status(t.Context(), c.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	in := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: status.Header.MemberId, Alarm: alarm}
	if _, err := pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

// TestProbesSameAsEtcd brings both systems into the same states, and wants the same answers to probes: codes and texts, but for
// the order of the checks, which etcd takes from a map.
func TestProbesSameAsEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs etcd")
	}
	t.Parallel()
	dir := t.TempDir()
	if _, err := build(t.Context(), config{Dir: dir, Systems: []string{systemEtcd}}); err != nil {
		t.Skip("there is no etcd to compare with: ", err)
	}
	bin, err := build(t.Context(), config{Dir: dir, Systems: []string{systemRaft}})
	if err != nil {
		t.Fatal(err)
	}
	etcd, quorate := startProbed(t, bin, systemEtcd), startProbed(t, bin, systemRaft)
	for _, state := range probeStates {
		for _, s := range []*probedCluster{etcd, quorate} {
			state.enter(t, s.cluster, s.client)
		}
		for _, path := range probePaths {
			compareProbes(t, state.name, path, etcd, quorate)
		}
	}
}

// probedCluster is a system whose first member is asked.
type probedCluster struct {
	*cluster
	client *clientv3.Client
	url    string
}

func startProbed(t *testing.T, bin binaries, name string) *probedCluster {
	t.Helper()
	const members = 3
	c := &cluster{system: name, bin: bin, dir: filepath.Join(t.TempDir(), name)}
	ports, err := freePorts(members)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range ports {
		c.memberFlags = append(c.memberFlags, []string{fmt.Sprintf("--listen-metrics-urls=http://127.0.0.1:%d", port)})
	}
	if err := c.start(t.Context(), members); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	client, err := newClient(c.endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return &probedCluster{cluster: c, client: client, url: fmt.Sprintf("http://127.0.0.1:%d", ports[0])}
}

// compareProbes asks until both answer the same: alarms, and the loss of a leader, take a moment to be known.
func compareProbes(t *testing.T, state, path string, etcd, quorate *probedCluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for last := ""; ; {
		e, q := askProbe(ctx, etcd.url+path), askProbe(ctx, quorate.url+path)
		if e == q {
			return
		}
		if now := fmt.Sprintf("etcd %s\nQuorate %s", e, q); ctx.Err() == nil {
			last = now
			continue
		}
		t.Errorf("%s, GET %s:\n%s", state, path, last)
		return
	}
}

// askProbe returns code and text, the lines in order.
func askProbe(ctx context.Context, url string) string {
	in, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	out, err := http.DefaultClient.Do(in)
	if err != nil {
		return err.Error()
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(body), "\n")
	slices.Sort(lines)
	return fmt.Sprintf("%d %s %q", out.StatusCode, out.Header.Get("Content-Type"), lines)
}
