package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// settled is how old a change of a file must be until its time of change is trusted to tell the next one: file systems count in steps.
const settled = time.Second

// Source gives configurations as of the present content of the files. Safe for concurrent use.
type Source struct {
	options Options
	hosts   []string // of a certificate that is made here
	keep    string   // the directory where such a one is kept; empty: in memory only
	suites  []uint16
	// failed is told, once for each change of the files, why they cannot be used; what was read before is kept.
	failed func(error)

	mu      sync.Mutex
	current *material
	stamps  []stamp // of the files when they were looked at last
	reason  string  // why they could not be used then
	servers map[string]*tls.Config
}

// stamp tells whether a file is as it was.
type stamp struct {
	info os.FileInfo // nil: it could not be looked at
	seen time.Time
}

func (s stamp) same(other stamp) bool {
	if s.info == nil || other.info == nil {
		return s.info == nil && other.info == nil
	}
	return os.SameFile(s.info, other.info) && s.info.Size() == other.info.Size() && s.info.ModTime().Equal(other.info.ModTime()) &&
		s.seen.Sub(s.info.ModTime()) > settled
}

// Open reads the files. hosts are for a certificate that is made here; failed may be nil. The options must be valid and have defaults.
func Open(o Options, hosts []string, failed func(error)) (*Source, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	ids, err := suites(o.CipherSuites)
	if err != nil {
		return nil, err
	}
	s := &Source{options: o, hosts: hosts, suites: ids, failed: failed, servers: map[string]*tls.Config{}}
	s.stamps = s.look()
	s.current, err = s.load()
	return s, err
}

func (s *Source) files() []string {
	o := s.options
	var files []string
	for _, file := range []string{o.CertFile, o.KeyFile, o.ClientCertFile, o.ClientKeyFile, o.TrustedCAFile, o.CRLFile} {
		if file != "" {
			files = append(files, file)
		}
	}
	return files
}

func (s *Source) look() []stamp {
	var stamps []stamp
	for _, file := range s.files() {
		info, err := os.Stat(file)
		if err != nil {
			info = nil
		}
		stamps = append(stamps, stamp{info: info, seen: time.Now()})
	}
	return stamps
}

func (s *Source) load() (*material, error) {
	if s.options.Generates() {
		return generated(s.options, s.hosts, s.keep)
	}
	return load(s.options)
}

// refresh returns the present material. The lock is held.
func (s *Source) refresh() *material {
	stamps := s.look()
	if slices.EqualFunc(s.stamps, stamps, stamp.same) && !s.renews() {
		return s.current
	}
	s.stamps = stamps
	next, err := s.load()
	if err != nil {
		if s.reason != err.Error() && s.failed != nil {
			s.failed(err)
		}
		s.reason = err.Error()
		return s.current
	}
	s.reason, s.current = "", next
	clear(s.servers)
	return next
}

// renews tells whether a certificate that was made here has come to half of its time.
func (s *Source) renews() bool {
	if !s.options.Generates() {
		return false
	}
	return halfOver(s.current.certificate.Leaf)
}

// Server is a configuration for a port. Of the protocols the client chooses (ALPN); none: any.
func (s *Source) Server(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			m := s.refresh()
			key := strings.Join(protocols, ",")
			if s.servers[key] == nil {
				s.servers[key] = s.server(m, protocols)
			}
			return s.servers[key], nil
		},
	}
}

func (s *Source) server(m *material, protocols []string) *tls.Config {
	c := s.base(m)
	c.Certificates, c.NextProtos = []tls.Certificate{m.certificate}, protocols
	if s.options.Authenticates() {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, m.authorities
	}
	return c
}

// Client is a configuration to connect to a host, for one connection.
func (s *Source) Client(host string) *tls.Config {
	s.mu.Lock()
	m := s.refresh()
	s.mu.Unlock()
	c := s.base(m)
	c.ServerName, c.RootCAs = host, m.authorities
	c.InsecureSkipVerify = s.options.Generates() // nobody has signed the other side's either
	// Shown whatever authorities the other side names: its reason to refuse it says more than that there was none.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &m.asClient, nil }
	return c
}

func (s *Source) base(m *material) *tls.Config {
	least, _ := version("", s.options.MinVersion) // validated
	most, _ := version("", s.options.MaxVersion)
	return &tls.Config{
		MinVersion: least, MaxVersion: most, CipherSuites: s.suites,
		SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error { return s.judge(m, state) },
	}
}

// judge looks at a certificate that a trusted authority has signed.
func (s *Source) judge(m *material, state tls.ConnectionState) error {
	if len(state.VerifiedChains) == 0 {
		return nil // none was asked for
	}
	for _, chain := range state.VerifiedChains {
		for _, c := range chain {
			if m.revoked.has(c) {
				return fmt.Errorf("the certificate of %s is revoked: %s has its serial number %x", describe(c), flagNames[s.options.Role].crl, c.SerialNumber)
			}
		}
	}
	leaf := state.PeerCertificates[0]
	names := flagNames[s.options.Role]
	if allowed := s.options.AllowedCNs; len(allowed) > 0 && !slices.Contains(allowed, leaf.Subject.CommonName) {
		return fmt.Errorf("the certificate of %s has none of the common names of %s", describe(leaf), names.cn)
	}
	if allowed := s.options.AllowedHostnames; len(allowed) > 0 && !validForOne(leaf, allowed) {
		return fmt.Errorf("the certificate of %s is valid for none of the hosts of %s", describe(leaf), names.hostname)
	}
	return nil
}

func describe(c *x509.Certificate) string { return fmt.Sprintf("%q", c.Subject.String()) }

func validForOne(leaf *x509.Certificate, hosts []string) bool {
	return slices.ContainsFunc(hosts, func(host string) bool { return leaf.VerifyHostname(host) == nil })
}

// SpeaksFor tells why the other side of a connection may not speak for the node with these hosts: its certificate must be valid for one of them, unless it
// names no host at all (etcd takes such certificates, too). Without authentication anybody may.
func (s *Source) SpeaksFor(state tls.ConnectionState, hosts []string) error {
	if !s.options.Authenticates() || s.options.SkipNameCheck || len(state.PeerCertificates) == 0 {
		return nil
	}
	leaf := state.PeerCertificates[0]
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 || validForOne(leaf, hosts) {
		return nil
	}
	return fmt.Errorf("its certificate, of %s, is for other hosts than %s, which --initial-cluster has for that node; --peer-skip-client-san-verification accepts it all the same",
		describe(leaf), strings.Join(hosts, ", "))
}

// Expiries are those of what is used now.
func (s *Source) Expiries() []Expiry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refresh().expiries)
}

// Warnings are about what works and is probably not meant; hosts are those under which others are to find this side.
func (s *Source) Warnings(hosts []string) []string {
	o, names := s.options, flagNames[s.options.Role]
	var lines []string
	for _, key := range []struct{ flag, file string }{{names.key, o.KeyFile}, {names.clientKey, o.ClientKeyFile}} {
		if info, err := os.Stat(key.file); key.file != "" && err == nil && info.Mode().Perm()&0o007 != 0 {
			lines = append(lines, fmt.Sprintf("%s: every user of this machine can read the key in %s; chmod 600 it", key.flag, key.file))
		}
	}
	switch {
	case o.Generates():
		lines = append(lines, fmt.Sprintf("%s encrypts and authenticates nobody: whoever stands between the two sides can read and change everything", names.auto))
	case o.Auto:
		lines = append(lines, fmt.Sprintf("%s has no effect beside %s", names.auto, names.cert))
	case o.Role == Peers && !o.Authenticates():
		lines = append(lines, fmt.Sprintf("without %s whoever reaches the port for nodes can speak for a node", names.ca))
	}
	leaf := s.leaf()
	for _, host := range hosts {
		if err := leaf.VerifyHostname(host); err != nil {
			lines = append(lines, fmt.Sprintf("%s is not valid for %s, under which others look for this node: they will refuse the connection (%v)", names.cert, host, err))
		}
	}
	return lines
}

func (s *Source) leaf() *x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.certificate.Leaf
}
