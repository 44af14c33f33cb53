package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quoratedb/quorate/kv"
)

// probed is what probes ask of a node. Nothing but Read may wait.
type probed interface {
	Alarms() []kv.Alarm
	Leader() (kv.NodeID, uint64)
	// Stuck tells why the node does nothing any more; nil while it works.
	Stuck() error
	// Learner tells why the node has no vote; nil if it has one.
	Learner() error
	// ManyShards tells whether the store has several.
	ManyShards() bool
	// Unready tells which of several shards the node does not serve, and why; nil if it serves all.
	Unready() error
	// Read reads a key, if serializable the node's own state as it is. It ends in time.
	Read(ctx context.Context, serializable bool) error
}

// prober answers probes over HTTP with the paths, parameters, codes and texts of etcd 3.7 (server/etcdserver/api/etcdhttp/health.go), so that what
// was written to watch over etcd watches over this. What etcd has no word for, a node that is stuck, fails whatever reads.
type prober struct {
	node probed
	// failed is told what was answered with 503.
	failed func(path, reason string)

	health *prometheus.CounterVec // by status
	result *prometheus.GaugeVec   // by type and name
	total  *prometheus.CounterVec // by type, name and status
}

func newProber(node probed, failed func(path, reason string)) *prober {
	return &prober{
		node: node, failed: failed,
		health: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_health_total", Help: "Answers to /health, by status.",
		}, []string{"status"}),
		result: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "quorate_healthcheck", Help: "1 if the last check of a kind was passed, by type (livez, readyz) and name.",
		}, []string{"type", "name"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_healthchecks_total", Help: "Checks for /livez and /readyz, by type, name and status.",
		}, []string{"type", "name", "status"}),
	}
}

// register adds the prober's figures to a registry, and its paths to a server.
func (p *prober) register(registry *prometheus.Registry, mux *http.ServeMux) {
	registry.MustRegister(p.health, p.result, p.total)
	mux.HandleFunc("/health", p.handleHealth)
	for kind, checks := range p.checks() {
		mux.HandleFunc("/"+kind, func(w http.ResponseWriter, r *http.Request) {
			excluded := r.URL.Query()["exclude"]
			p.answer(w, r, kind, slices.DeleteFunc(slices.Clone(checks), func(c check) bool { return slices.Contains(excluded, c.name) }))
		})
		for _, one := range checks {
			mux.HandleFunc("/"+kind+"/"+one.name, func(w http.ResponseWriter, r *http.Request) { p.answer(w, r, kind, []check{one}) })
		}
	}
}

// check is one of those that a probe is made of.
type check struct {
	name string
	run  func(context.Context) error
}

func (p *prober) checks() map[string][]check {
	serializable := check{"serializable_read", func(ctx context.Context) error { return p.read(ctx, true) }}
	checks := map[string][]check{
		"livez": {serializable},
		"readyz": {
			{"data_corruption", p.noCorruption},
			serializable,
			{"linearizable_read", func(ctx context.Context) error { return p.read(ctx, false) }},
			{"non_learner", func(context.Context) error { return p.node.Learner() }},
		},
	}
	if p.node.ManyShards() {
		checks["readyz"] = append(checks["readyz"], check{"shards", func(context.Context) error { return p.node.Unready() }})
	}
	return checks
}

func (p *prober) noCorruption(context.Context) error {
	if slices.ContainsFunc(p.node.Alarms(), func(a kv.Alarm) bool { return a.Type == kv.AlarmCorrupt }) {
		return errors.New("alarm activated: CORRUPT")
	}
	return nil
}

// read reads a key. A node that joins, and so has nothing to read yet, passes for its own state, as a new learner of etcd's does: a supervisor that
// started it again for that would only keep it from joining.
func (p *prober) read(ctx context.Context, serializable bool) error {
	if err := p.node.Stuck(); err != nil {
		return err
	}
	if serializable && p.node.Learner() != nil {
		return nil
	}
	return p.node.Read(ctx, serializable)
}

// answer runs checks and tells what came of them: what failed always, what passed on request.
func (p *prober) answer(w http.ResponseWriter, r *http.Request, kind string, checks []check) {
	if !onlyGet(w, r) {
		return
	}
	var text strings.Builder
	ok := true
	for _, c := range checks {
		status, passed := "success", 1.0
		if err := c.run(r.Context()); err != nil {
			ok, status, passed = false, "error", 0
			fmt.Fprintf(&text, "[-]%s failed: %v\n", c.name, err)
		} else {
			fmt.Fprintf(&text, "[+]%s ok\n", c.name)
		}
		p.result.WithLabelValues(kind, c.name).Set(passed)
		p.total.WithLabelValues(kind, c.name, status).Inc()
	}
	if !ok {
		p.failed(r.URL.Path, text.String())
		http.Error(w, text.String(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if _, verbose := r.URL.Query()["verbose"]; verbose {
		fmt.Fprint(w, text.String())
	}
	fmt.Fprint(w, "ok\n")
}

// onlyGet refuses other methods, in etcd's words.
func onlyGet(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet {
		return true
	}
	w.Header().Set("Allow", http.MethodGet)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

// healthAnswer is what /health says.
type healthAnswer struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

func (p *prober) handleHealth(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	query := r.URL.Query()
	reason := p.unhealthy(r.Context(), query["exclude"], query.Get("serializable") == "true")
	answer := healthAnswer{Health: "true", Reason: reason}
	if reason != "" {
		answer.Health = "false"
	}
	text, err := json.Marshal(answer)
	if err != nil { // two strings always can be
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if reason != "" {
		p.health.WithLabelValues("error").Inc()
		p.failed(r.URL.Path, string(text))
		http.Error(w, string(text), http.StatusServiceUnavailable)
		return
	}
	p.health.WithLabelValues("success").Inc()
	_, _ = w.Write(text) // the client has gone
}

// unhealthy tells what /health complains of; "" if of nothing.
func (p *prober) unhealthy(ctx context.Context, excluded []string, serializable bool) string {
	for _, alarm := range p.node.Alarms() {
		if alarm.Type == kv.AlarmFence { // as somebody has asked for
			continue
		}
		if name := alarmName(alarm.Type); !slices.Contains(excluded, name) {
			return "ALARM " + name
		}
	}
	if err := p.node.Stuck(); err != nil {
		return "NODE STUCK:" + err.Error()
	}
	if leader, _ := p.node.Leader(); leader == 0 && !serializable {
		return "RAFT NO LEADER"
	}
	if err := p.read(ctx, serializable); err != nil {
		return "RANGE ERROR:" + err.Error()
	}
	return ""
}

func alarmName(t kv.AlarmType) string {
	switch t {
	case kv.AlarmNoSpace:
		return "NOSPACE"
	case kv.AlarmCorrupt:
		return "CORRUPT"
	}
	return "UNKNOWN"
}
