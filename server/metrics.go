package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/quoratedb/quorate/kv"
)

// metricsServer serves /metrics and answers to probes over HTTP.
type metricsServer struct {
	http *http.Server
}

// serveMetrics listens on the URLs for metrics; nil if there are none.
func (s *Server) serveMetrics() (*metricsServer, error) {
	if len(s.options.Node.ListenMetricsURLs) == 0 {
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
	for _, url := range s.options.Node.ListenMetricsURLs {
		l, err := listen(url)
		if err != nil {
			m.close()
			return nil, fmt.Errorf("listen for metrics on %s (--listen-metrics-urls); is another process using the port? %w", url.HostPort(), err)
		}
		s.workers.Go(func() {
			if err := m.http.Serve(s.scrapers.Wrap(l)); err != nil && err != http.ErrServerClosed {
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
	counter := func(name, help string, v float64) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("quorate_"+name, help, nil, nil), prometheus.CounterValue, v)
	}
	gauge := func(name, help string, v float64) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("quorate_"+name, help, nil, nil), prometheus.GaugeValue, v)
	}
	s := c.s
	driver := s.store.Metrics()
	counter("driver_rounds_total", "Rounds of the driver.", float64(driver.Rounds))
	counter("driver_syncs_total", "Syncs of the log.", float64(driver.Syncs))
	counter("driver_proposals_total", "Log entries proposed by this node.", float64(driver.Proposals))
	counter("driver_entries_applied_total", "Log entries applied.", float64(driver.EntriesApplied))
	counter("driver_messages_refused_total", "Messages of peers that made no sense.", float64(driver.MessagesRefused))
	counter("driver_frames_dropped_total", "Consensus frames dropped because a peer's buffer was full or it was not connected.", float64(driver.FramesDropped))
	counter("scrub_passes_total", "Times that everything on disk was read again.", float64(driver.ScrubPasses))
	counter("scrub_bytes_total", "Bytes read again to find damage.", float64(driver.ScrubBytes))
	counter("scrub_failures_total", "Scrubs that ended early, by damage or because something could not be read.", float64(driver.ScrubFailures))
	gauge("driver_standstill_seconds", "Time since the driver's last round.", s.store.Standstill().Seconds())
	counter("driver_requests_unwanted_total", "Requests that were not evaluated because nobody waited for them any more.", float64(driver.RequestsUnwanted))
	gauge("driver_requests_queued", "Requests that are not answered.", float64(driver.RequestsQueued))
	gauge("driver_requests_queued_bytes", "Their sizes.", float64(driver.RequestBytes))
	calls := s.gateway.Metrics()
	counter("lease_renewals_in_memory_total", "Keep-alives of leases that this node answered as the leader without an entry in the log.", float64(calls.LocalRenewals))
	counter("forwarded_requests_refused_total", "Requests that other nodes forwarded and that were refused here: beyond a limit, or none that a node forwards.",
		float64(calls.RefusedCalls))

	clients := s.clients.Metrics()
	gauge("client_connections", "Connections of clients.", float64(clients.Open))
	gauge("client_connections_limit", "How many connections of clients there may be.", float64(clients.Limit))
	counter("client_connections_refused_total", "Connections of clients that were closed at once because there were as many as there may be.", float64(clients.Refused))
	counter("client_connections_silent_total", "Connections of clients that were closed because they said nothing.", float64(clients.Silent))

	memory := s.memory.Metrics()
	gauge("client_memory_bytes", "What clients make the node hold.", float64(memory.UsedBytes))
	gauge("client_memory_limit_bytes", "How much that may be.", float64(memory.LimitBytes))
	counter("client_memory_mistakes_total", "Mistakes in counting client memory. Always 0, or there is a bug: please report it.", float64(memory.Mistakes))
	counter("client_memory_refused_total", "Calls, or parts of them, for which there was no memory.", float64(memory.Refused))

	peers := s.transport.Metrics()
	gauge("peer_callers", "Connections on the port for nodes whose caller has not said yet who it is.", float64(peers.Callers))
	counter("peer_callers_dropped_total", "Such connections that were cut off because there were too many.", float64(peers.CallersDropped))

	engine := *s.size.Load()
	gauge("state_disk_bytes", "Size of the state engine's files.", float64(engine.DiskBytes))
	gauge("state_live_bytes", "Estimate of the live data in the state engine.", float64(engine.LiveBytes))
	gauge("state_memory_bytes", "Memory of the state engine's memtables and cache.", float64(engine.MemoryBytes))
	counter("state_write_stalls_total", "Times that writes had to wait for the state engine.", float64(engine.WriteStalls))

	alarms := map[kv.AlarmType]int{}
	for _, alarm := range s.shard.Alarms() {
		alarms[alarm.Type]++
	}
	gauge("alarms_nospace", "Nodes with the alarm NOSPACE.", float64(alarms[kv.AlarmNoSpace]))
	gauge("alarms_corrupt", "Nodes with the alarm CORRUPT.", float64(alarms[kv.AlarmCorrupt]))
	gauge("is_member", "1 if this node is a full member of its group; 0 while it is lost or joins.", boolean(!s.shard.Outside()))
	leader, term := s.shard.Leader()
	gauge("revision", "Revision of the applied state.", float64(s.shard.Revision()))
	gauge("compacted_revision", "Revision below which history is forgotten.", float64(s.shard.Compacted()))
	gauge("applied_index", "Log index up to which entries are applied.", float64(s.shard.Applied()))
	gauge("term", "Consensus term.", float64(term))
	gauge("has_leader", "1 if a leader is known.", boolean(leader != 0))
	gauge("unwitnessed", "1 if nobody could confirm since the start that this node's data is what it was.", boolean(len(s.store.Unwitnessed()) > 0))
	gauge("is_leader", "1 if this node leads.", boolean(leader == s.options.NodeID()))
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
