package server

import (
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quoratedb/quorate/tlsconf"
	"github.com/quoratedb/quorate/tlsconf/listener"
)

// expiryNotice is how long before the end of a certificate it is warned of, and expiryPause how often.
const (
	expiryNotice = 14 * 24 * time.Hour
	expiryPause  = 24 * time.Hour
)

// security is what the node knows of TLS; nil: plain text.
type security struct {
	clients, peers *tlsconf.Source
	failed         atomic.Int64 // handshakes on the ports of clients and metrics
}

func (s *security) any() bool { return s.clients != nil || s.peers != nil }

func (s *security) expiries() []tlsconf.Expiry {
	var all []tlsconf.Expiry
	for _, source := range []*tlsconf.Source{s.clients, s.peers} {
		if source != nil {
			all = append(all, source.Expiries()...)
		}
	}
	return all
}

// Check looks at everything that can be looked at without starting anything: the options, and the files that they name. It returns what works and
// is probably not meant.
func Check(options Options) (warnings []string, err error) {
	if options, err = options.WithDefaults().Recall(); err != nil {
		return nil, err
	}
	if err := options.Validate(); err != nil {
		return nil, err
	}
	var s security
	warnings, err = s.open(options.Node, nil)
	for _, e := range s.expiries() {
		if left := time.Until(e.NotAfter); left < expiryNotice {
			warnings = append(warnings, e.Flag+": the "+e.What+expiryText(left)+e.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	if err != nil {
		return warnings, err
	}
	_, err = options.Node.Audit.policy()
	return warnings, err
}

func expiryText(left time.Duration) string {
	if left < 0 {
		return " expired at "
	}
	return " expires at "
}

// open reads the files of all ports with TLS.
func (s *security) open(node NodeOptions, failed func(error)) (warnings []string, err error) {
	clients := node.clientSide()
	if withTLS(clients) {
		if s.clients, err = tlsconf.Open(node.ClientTLS, hostsOf(clients, node.AdvertiseClientURLs), failed); err != nil {
			s.clients = nil
			return nil, err
		}
		warnings = append(warnings, s.clients.Warnings(hostsWithTLS(node.AdvertiseClientURLs))...)
	}
	if withTLS(node.ListenPeerURLs) {
		if s.peers, err = tlsconf.Open(node.PeerTLS, hostsOf(node.ListenPeerURLs, node.AdvertisePeerURLs), failed); err != nil {
			s.peers = nil
			return nil, err
		}
		warnings = append(warnings, s.peers.Warnings(hostsWithTLS(node.AdvertisePeerURLs))...)
	}
	return warnings, nil
}

func withTLS(urls []URL) bool { return slices.ContainsFunc(urls, func(u URL) bool { return u.TLS }) }

// hostsOf are the hosts that a certificate which is made here is for.
func hostsOf(lists ...[]URL) []string {
	var hosts []string
	for _, u := range slices.Concat(lists...) {
		if ip := net.ParseIP(u.Host); u.Host != "" && (ip == nil || !ip.IsUnspecified()) && !slices.Contains(hosts, u.Host) {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}

func hostsWithTLS(urls []URL) []string {
	return hostsOf(slices.DeleteFunc(slices.Clone(urls), func(u URL) bool { return !u.TLS }))
}

// openSecurity reads certificates, and says what is odd about them.
func (s *Server) openSecurity() error {
	warnings, err := s.security.open(s.options.Node, func(err error) {
		s.logger.Error("certificates on disk cannot be used; connections go on with those from before", "error", err)
	})
	for _, warning := range warnings {
		s.logger.Warn(warning)
	}
	return err
}

// keepCertificates: certificates of --auto-tls and --peer-auto-tls are where etcd keeps its own.
func (s *Server) keepCertificates() error {
	for _, kept := range []struct {
		source *tlsconf.Source
		name   string
	}{{s.security.clients, "client"}, {s.security.peers, "peer"}} {
		if kept.source == nil {
			continue
		}
		if err := kept.source.KeepIn(filepath.Join(s.dir.Path, "fixtures", kept.name)); err != nil {
			return err
		}
	}
	return nil
}

// secure puts TLS on a listener, if its URL says so. Of the connections that the listener may have, half are for those whose handshake is not done.
func (s *Server) secure(url URL, plain net.Listener, connections int, port string, protocols ...string) net.Listener {
	if !url.TLS {
		return plain
	}
	return listener.Wrap(plain, listener.Options{
		Config: s.security.clients.Server(protocols...), Callers: connections / 2,
		Failed: func(address net.Addr, isPlain bool, err error) {
			s.security.failed.Add(1)
			reason := err.Error()
			if isPlain {
				reason = "it speaks plain text, and the port takes TLS: it needs https:// in its endpoint, and the authority's certificate"
			}
			if s.quiet.allows("handshake "+port, reason, s.clock()) {
				s.logger.Warn("a TLS handshake failed", "port", port, "address", address, "reason", reason)
			}
		},
		Dropped: func(address net.Addr, total int64) {
			if s.quiet.allows("handshakes dropped", port, s.clock()) {
				s.logger.Warn("too many callers whose TLS handshake is not done: the one that waited longest was cut off", "port", port, "address", address, "dropped_since_start", total)
			}
		},
	})
}

// watchExpiries warns of certificates that end soon: once a day, and when there is another one.
func (s *Server) watchExpiries() {
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	warned := map[tlsconf.Expiry]time.Time{}
	for {
		now := time.Now()
		current := s.security.expiries()
		maps.DeleteFunc(warned, func(e tlsconf.Expiry, _ time.Time) bool { return !slices.Contains(current, e) }) // it was replaced
		for _, e := range current {
			left := e.NotAfter.Sub(now)
			if left >= expiryNotice || now.Sub(warned[e]) < expiryPause {
				continue
			}
			warned[e] = now
			s.logger.Warn("a file for TLS"+expiryText(left)+e.NotAfter.UTC().Format(time.RFC3339)+": replace it; no restart is needed", "flag", e.Flag, "what", e.What, "days_left", int(left.Hours()/24))
		}
		select {
		case <-s.context.Done():
			return
		case <-ticker.C:
		}
	}
}

// showExpiries shows when each file ends.
func (s *security) showExpiries(out chan<- prometheus.Metric) {
	desc := prometheus.NewDesc("quorate_tls_expiry_timestamp_seconds", "When the certificate, authority or revocation list of a flag expires, in seconds since 1970.", []string{"flag"}, nil)
	for _, e := range s.expiries() {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(e.NotAfter.Unix()), e.Flag)
	}
}

// validateSecurity: https:// and the flags for TLS come together.
func (o Options) validateSecurity() error {
	node := o.Node
	clients := node.clientSide()
	if err := validatePort(node.ClientTLS, clients, "--listen-client-urls, --listen-metrics-urls and --listen-client-http-urls"); err != nil {
		return err
	}
	peers := slices.Concat(node.ListenPeerURLs, node.AdvertisePeerURLs)
	for _, m := range o.Cluster.Members {
		peers = append(peers, m.PeerURLs...)
	}
	if withTLS(peers) && slices.ContainsFunc(peers, func(u URL) bool { return !u.TLS }) {
		return badf("--listen-peer-urls, --initial-advertise-peer-urls and --initial-cluster mix http:// and https://: nodes all speak TLS with each other, or none does")
	}
	if err := validatePort(node.PeerTLS, peers, "--listen-peer-urls"); err != nil {
		return err
	}
	shared := node.ClientTLS
	if len(shared.CipherSuites) > 0 && !withTLS(clients) && !withTLS(peers) {
		return badf("--cipher-suites is given, and no URL begins with https://: nothing would be encrypted")
	}
	if err := shared.ValidateProtocol(); err != nil {
		return badf("%v", err)
	}
	return nil
}

func validatePort(o tlsconf.Options, urls []URL, flags string) error {
	if withTLS(urls) {
		if err := o.Validate(); err != nil {
			return badf("%v", err)
		}
		return nil
	}
	if flag := o.Given(); flag != "" {
		return badf("%s is given, and no URL of %s begins with https://: nothing would be encrypted", flag, flags)
	}
	return nil
}
