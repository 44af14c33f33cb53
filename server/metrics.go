package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/quoratedb/quorate/issuer"
	"github.com/quoratedb/quorate/kv"
	"github.com/quoratedb/quorate/transport"
)

// metricsServer serves /metrics and answers to probes over HTTP.
type metricsServer struct {
	http *http.Server
}

// serveMetrics listens on the URLs for metrics; nil if there are none.
func (s *Server) serveMetrics() (*metricsServer, error) {
	if len(s.options.Node.httpURLs()) == 0 {
		return nil, nil
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{s})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	newProber(localNode{s}, s.probeFailed).register(registry, mux)
	if s.options.Node.EnablePprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	}
	m := &metricsServer{http: &http.Server{
		Handler: mux, ReadHeaderTimeout: prefaceTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog:     slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug), // what strangers do is not worth a line each
		WriteTimeout: 5 * time.Minute,                                        // for a profile of some minutes; who does not read is cut off
	}}
	for _, url := range s.options.Node.httpURLs() {
		l, err := listen(url)
		if err != nil {
			m.close()
			return nil, fmt.Errorf("listen for metrics on %s (--listen-metrics-urls, --listen-client-http-urls); is another process using the port? %w", url.HostPort(), err)
		}
		s.workers.Go(func() {
			if err := m.http.Serve(s.secure(url, s.scrapers.Wrap(l), s.plan.Metrics/len(s.options.Node.httpURLs()), "metrics", "http/1.1")); err != nil && err != http.ErrServerClosed {
				s.logger.Warn("serving metrics ended", "error", err)
			}
		})
	}
	return m, nil
}

func (m *metricsServer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	m.http.Shutdown(ctx) // what is still open after a second is cut off with the process
}

func (s *Server) probeFailed(path, reason string) {
	if s.quiet.allows("probe "+path, reason, s.clock()) {
		s.logger.Warn("a probe failed", "path", path, "reason", reason)
	}
}

// collector turns the parts' plain figures into Prometheus metrics. It waits for nobody: figures are most needed when something
// stands still.
type collector struct{ s *Server }

// Describe sends nothing: the metrics are made anew at each collection.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	show := func(name, help string, v float64) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("quorate_"+name, help, nil, nil), kindOf(name), v)
	}
	s := c.s
	rounds := s.driver.Metrics()
	showAll(show, rounds, driverFigures)
	showAll(show, rounds.Liveness, livenessFigures)
	show("driver_standstill_seconds", "Time since the driver's last round.", s.driver.Standstill().Seconds())
	calls := s.gateway.Metrics()
	showAll(show, calls, gatewayFigures)
	showAll(show, calls.Watch, watchFigures)
	numbers := issuer.Metrics{} // of one shard its log is the count
	if s.issuer != nil {
		numbers = s.issuer.Metrics()
	}
	showAll(show, numbers, issuerFigures)
	showAll(show, s.clients.Metrics(), clientFigures)
	showAll(show, s.memory.Metrics(), memoryFigures)
	showAll(show, s.snapshots.metrics(), snapshotFigures)
	showAll(show, s.holds.metrics(), holdFigures)
	showAll(show, s.comparisons.metrics(), comparisonFigures)
	showAll(show, s.auditor.metrics(), auditFigures)
	peers := s.transport.Metrics()
	showAll(show, peers, peerFigures)
	showPeers(out, s.options.Cluster, peers.Peers)
	showAll(show, *s.size.Load(), engineFigures)
	showAll(show, *s.logSize.Load(), logFigures)

	led, leaderless := s.leads()
	show("shards", "Shards of the cluster.", float64(len(s.descriptors)))
	show("shards_led", "Shards that this node leads.", float64(led))
	show("shards_without_leader", "Shards of which this node knows no leader.", float64(leaderless))
	show("shards_not_ready", "Shards that this node does not serve: it knows no leader, or its replica has stopped or has to catch up.", float64(len(s.unready())))
	s.showShards(out)
	show("transactions_oldest_seconds", "For how long the oldest transaction over several shards has waited for its end, in the shards that this node leads.", s.oldestUndecided().Seconds())

	alarms := map[kv.AlarmType]int{}
	for _, alarm := range s.shard.Alarms() {
		alarms[alarm.Type]++
	}
	show("alarms_nospace", "Nodes with the alarm NOSPACE.", float64(alarms[kv.AlarmNoSpace]))
	show("fenced", "1 if the cluster refuses writes because somebody has fenced it.", float64(alarms[kv.AlarmFence]))
	show("alarms_corrupt", "Nodes with the alarm CORRUPT.", float64(alarms[kv.AlarmCorrupt]))
	show("is_member", "1 if this node is a full member of its group; 0 while it is lost or joins.", boolean(!s.shard.Outside()))
	leader, term := s.shard.Leader()
	show("revision", "Revision of the applied state.", float64(s.shard.Revision()))
	show("compacted_revision", "Revision below which history is forgotten.", float64(s.shard.Compacted()))
	show("applied_index", "Log index up to which entries are applied.", float64(s.shard.Applied()))
	show("term", "Consensus term.", float64(term))
	show("has_leader", "1 if a leader is known.", boolean(leader != 0))
	show("unwitnessed", "1 if nobody could confirm since the start that this node's data is what it was.", boolean(len(s.driver.Unwitnessed()) > 0))
	show("tls_handshakes_failed_total", "Connections of clients, and for metrics, that ended before TLS was established.", float64(s.security.failed.Load()))
	s.security.showExpiries(out)
	show("is_leader", "1 if this node leads.", boolean(leader == s.options.NodeID()))
}

// showShards shows each shard by its number: as many time series for each metric as there are shards.
func (s *Server) showShards(out chan<- prometheus.Metric) {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("quorate_shard_"+name, help, []string{"shard"}, nil)
	}
	leads := describe("leads", "1 if this node leads the shard.")
	revision := describe("revision", "Highest revision that is applied of the shard.")
	applied := describe("applied_index", "Log index up to which entries of the shard are applied.")
	reads := describe("reads_total", "Reads of the shard's state at this node; one of a list counts once.")
	changes := describe("changes_total", "Changes of the shard's keys applied since the state was opened.")
	stopped := describe("stopped", "1 if the replica of the shard on this node has stopped, or could not be opened, while the node goes on.")
	for _, d := range s.descriptors {
		show := func(of *prometheus.Desc, kind prometheus.ValueType, v float64) {
			out <- prometheus.MustNewConstMetric(of, kind, v, strconv.FormatUint(uint64(d.Shard), 10))
		}
		r := s.replica(d.Shard)
		show(stopped, prometheus.GaugeValue, boolean(r == nil || s.failedShards.of(d.Shard) != nil))
		if r == nil {
			continue
		}
		show(leads, prometheus.GaugeValue, boolean(s.leaderOf(d.Shard) == s.options.NodeID()))
		show(revision, prometheus.GaugeValue, float64(r.Revision()))
		show(applied, prometheus.GaugeValue, float64(r.Applied()))
		show(reads, prometheus.CounterValue, float64(r.Reads()))
		show(changes, prometheus.CounterValue, float64(r.Effects()))
	}
}

// showPeers shows each other node by its name.
func showPeers(out chan<- prometheus.Metric, cluster ClusterOptions, peers []transport.PeerStatus) {
	names := make(map[kv.NodeID]string)
	for _, m := range cluster.Members {
		names[m.ID(cluster.Token)] = m.Name
	}
	connected := prometheus.NewDesc("quorate_peer_connected", "1 if there is a connection to the other node.", []string{"peer"}, nil)
	buffered := prometheus.NewDesc("quorate_peer_buffer_bytes", "What waits to be sent to the other node.", []string{"peer"}, nil)
	for _, p := range peers {
		out <- prometheus.MustNewConstMetric(connected, prometheus.GaugeValue, boolean(p.Connected), names[p.Node])
		out <- prometheus.MustNewConstMetric(buffered, prometheus.GaugeValue, float64(p.BufferBytes), names[p.Node])
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
