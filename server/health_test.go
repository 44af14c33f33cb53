package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/quoratedb/quorate/kv"
)

// patient is a node in a state of the test's.
type patient struct {
	alarms         []kv.Alarm
	leader         kv.NodeID
	stuck, learner error
	unready        error
	many           bool
	read           map[bool]error // by serializable
}

func (p *patient) Alarms() []kv.Alarm                       { return p.alarms }
func (p *patient) Leader() (kv.NodeID, uint64)              { return p.leader, 1 }
func (p *patient) Stuck() error                             { return p.stuck }
func (p *patient) Learner() error                           { return p.learner }
func (p *patient) ManyShards() bool                         { return p.many }
func (p *patient) Unready() error                           { return p.unready }
func (p *patient) Read(_ context.Context, local bool) error { return p.read[local] }

// TestProbes: codes and texts are those of etcd 3.7.3.
func TestProbes(t *testing.T) {
	well := patient{leader: 1}
	noSpace := patient{leader: 1, alarms: []kv.Alarm{{Node: 1, Type: kv.AlarmNoSpace}}}
	corrupt := patient{leader: 1, alarms: []kv.Alarm{{Node: 1, Type: kv.AlarmNoSpace}, {Node: 2, Type: kv.AlarmCorrupt}}}
	noQuorum := patient{read: map[bool]error{false: kv.ErrTimeout}}
	silent := patient{leader: 1, read: map[bool]error{false: kv.ErrTimeout}}
	stuck := patient{leader: 1, stuck: errors.New("no round"), read: map[bool]error{}}
	joining := patient{leader: 1, learner: errors.New("not supported for learner"), read: map[bool]error{true: kv.ErrNoLeader, false: kv.ErrTimeout}}
	shards := patient{leader: 1, many: true}
	leaderless := patient{leader: 1, many: true, unready: errors.New("shard 2: no leader is known")}
	const unavailable = http.StatusServiceUnavailable
	for _, test := range []struct {
		node *patient
		path string
		code int
		body string
	}{
		{&well, "/health", 200, `{"health":"true","reason":""}`},
		{&noSpace, "/health", unavailable, `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"},
		{&noSpace, "/health?serializable=true", unavailable, `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"},
		{&noSpace, "/health?exclude=NOSPACE", 200, `{"health":"true","reason":""}`},
		{&corrupt, "/health?exclude=NOSPACE", unavailable, `{"health":"false","reason":"ALARM CORRUPT"}` + "\n"},
		{&corrupt, "/health?exclude=NOSPACE&exclude=CORRUPT", 200, `{"health":"true","reason":""}`},
		{&noQuorum, "/health", unavailable, `{"health":"false","reason":"RAFT NO LEADER"}` + "\n"},
		{&noQuorum, "/health?serializable=true", 200, `{"health":"true","reason":""}`},
		{&noQuorum, "/health?serializable=yes", unavailable, `{"health":"false","reason":"RAFT NO LEADER"}` + "\n"},
		{&silent, "/health", unavailable, `{"health":"false","reason":"RANGE ERROR:request timed out"}` + "\n"},
		{&stuck, "/health?serializable=true", unavailable, `{"health":"false","reason":"NODE STUCK:no round"}` + "\n"},
		{&joining, "/health?serializable=true", 200, `{"health":"true","reason":""}`},
		{&joining, "/health", unavailable, `{"health":"false","reason":"RANGE ERROR:request timed out"}` + "\n"},

		{&well, "/livez", 200, "ok\n"},
		{&well, "/livez?verbose", 200, "[+]serializable_read ok\nok\n"},
		{&corrupt, "/livez", 200, "ok\n"},
		{&noQuorum, "/livez/serializable_read", 200, "ok\n"},
		{&stuck, "/livez", unavailable, "[-]serializable_read failed: no round\n\n"},
		{&stuck, "/livez?exclude=serializable_read", 200, "ok\n"},
		{&joining, "/livez", 200, "ok\n"},

		{&well, "/readyz", 200, "ok\n"},
		{&well, "/readyz?verbose", 200, "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"},
		{&noSpace, "/readyz", 200, "ok\n"},
		{&corrupt, "/readyz", unavailable, "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n\n"},
		{&corrupt, "/readyz?exclude=data_corruption&exclude=nonsense", 200, "ok\n"},
		{&corrupt, "/readyz/linearizable_read?verbose", 200, "[+]linearizable_read ok\nok\n"},
		{&noQuorum, "/readyz/linearizable_read", unavailable, "[-]linearizable_read failed: request timed out\n\n"},
		{&joining, "/readyz/non_learner", unavailable, "[-]non_learner failed: not supported for learner\n\n"},
		{&well, "/readyz/shards", http.StatusNotFound, "404 page not found\n"},
		{&shards, "/readyz?verbose&exclude=linearizable_read", 200, "[+]data_corruption ok\n[+]serializable_read ok\n[+]non_learner ok\n[+]shards ok\nok\n"},
		{&leaderless, "/readyz/shards", unavailable, "[-]shards failed: shard 2: no leader is known\n\n"},
		{&leaderless, "/readyz?exclude=shards", 200, "ok\n"},
		{&leaderless, "/livez", 200, "ok\n"},
		{&leaderless, "/health", 200, `{"health":"true","reason":""}`},
		{&well, "/readyz/nonsense", http.StatusNotFound, "404 page not found\n"},
	} {
		answer := probe(test.node, http.MethodGet, test.path)
		if answer.Code != test.code || answer.Body.String() != test.body {
			t.Errorf("%s of %+v: %d %q, want %d %q", test.path, *test.node, answer.Code, answer.Body, test.code, test.body)
		}
	}
	for _, path := range []string{"/health", "/livez", "/readyz/non_learner"} {
		if answer := probe(&well, http.MethodPost, path); answer.Code != http.StatusMethodNotAllowed || answer.Header().Get("Allow") != "GET" {
			t.Errorf("POST %s: %d, allowed: %q", path, answer.Code, answer.Header().Get("Allow"))
		}
	}
}

func probe(node probed, method, path string) *httptest.ResponseRecorder {
	mux := http.NewServeMux()
	newProber(node, func(string, string) {}).register(prometheus.NewRegistry(), mux)
	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest(method, path, nil))
	return answer
}

// TestProbesAreCounted: what a probe found is among the metrics, and told to whoever writes the log.
func TestProbesAreCounted(t *testing.T) {
	registry, mux := prometheus.NewRegistry(), http.NewServeMux()
	var failed []string
	newProber(&patient{}, func(path, reason string) { failed = append(failed, path+": "+reason) }).register(registry, mux)
	for _, path := range []string{"/health", "/livez", "/livez"} {
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
	}
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		`quorate_health_total{status="error"} 1`, `quorate_healthcheck{name="serializable_read",type="livez"} 1`,
		`quorate_healthchecks_total{name="serializable_read",status="success",type="livez"} 2`,
	} {
		if !strings.Contains(answer.Body.String(), line+"\n") {
			t.Errorf("no %s in\n%s", line, answer.Body)
		}
	}
	if !slices.Equal(failed, []string{`/health: {"health":"false","reason":"RAFT NO LEADER"}`}) {
		t.Errorf("told: %q", failed)
	}
}

// TestTableOfStates: the probes answer as the table in docs/operations.md says in the states that e2e cannot bring processes into. What the
// table says of the status and of metrics then, TestStuckDriver and the scenarios of package driver see.
func TestTableOfStates(t *testing.T) {
	guide, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for state, node := range map[string]*patient{
		"joining":      {leader: 1, learner: errors.New("not supported for learner"), read: map[bool]error{true: kv.ErrNoLeader, false: kv.ErrTimeout}},
		"slow disk":    {leader: 1},
		"stuck driver": {leader: 1, stuck: errors.New("the driver has done nothing for 3 s"), read: map[bool]error{}},
	} {
		_, row, found := strings.Cut(string(guide), "\n| "+state+" | ")
		row, _, ended := strings.Cut(row, "\n")
		cells := strings.Split(strings.TrimSuffix(row, " |"), " | ")
		if !found || !ended || len(cells) != 4 {
			t.Errorf("the table of the probes has no row %q of four cells: %q", state, cells)
			continue
		}
		for i, path := range []string{"/health", "/health?serializable=true", "/livez", "/readyz"} {
			code, text, _ := strings.Cut(cells[i], " ")
			answer := probe(node, http.MethodGet, path)
			if strconv.Itoa(answer.Code) != code || !strings.Contains(answer.Body.String(), strings.Trim(text, "`")) {
				t.Errorf("%s, %s: %d %q, the table says %s", state, path, answer.Code, answer.Body, cells[i])
			}
		}
	}
}
