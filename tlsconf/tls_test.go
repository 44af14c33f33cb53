package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var both = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}

// folder is a directory with certificates that the test makes.
type folder struct {
	t         *testing.T
	path      string
	authority *Authority
}

func newFolder(t *testing.T) *folder {
	f := &folder{t: t, path: t.TempDir()}
	f.authority = f.newAuthority("ca")
	return f
}

func must[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (f *folder) file(name string) string { return filepath.Join(f.path, name) }

func (f *folder) write(name string, content []byte) {
	f.t.Helper()
	if err := os.WriteFile(f.file(name), content, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) newAuthority(name string) *Authority {
	a, err := NewAuthority(name, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	a = must(f.t, a, err)
	f.write(name+".pem", a.PEM())
	return a
}

// issue writes NAME.pem and NAME-key.pem.
func (f *folder) issue(by *Authority, name string, change func(*Request)) {
	f.t.Helper()
	r := Request{CommonName: name, Hosts: []string{"127.0.0.1", "node.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), Uses: both}
	if change != nil {
		change(&r)
	}
	certificate, key, err := by.Issue(r)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(name+".pem", certificate)
	f.write(name+"-key.pem", key)
}

// revoke writes crl.pem with the serial numbers of certificates.
func (f *folder) revoke(by *Authority, names ...string) {
	f.t.Helper()
	var revoked []*x509.Certificate
	for _, name := range names {
		revoked = append(revoked, f.leaf(name))
	}
	list, err := by.Revoke(time.Now().Add(time.Hour), revoked...)
	f.write("crl.pem", must(f.t, list, err))
}

func (f *folder) leaf(name string) *x509.Certificate {
	f.t.Helper()
	pair, err := ReadPair("", f.file(name+".pem"), "", f.file(name+"-key.pem"))
	return must(f.t, pair, err).Leaf
}

// options are those of a port whose clients must have certificates.
func (f *folder) options(role Role) Options {
	return Options{Role: role, CertFile: f.file("server.pem"), KeyFile: f.file("server-key.pem"), TrustedCAFile: f.file("ca.pem")}.WithDefaults()
}

func (f *folder) open(o Options, failed func(error)) *Source {
	f.t.Helper()
	s, err := Open(o, []string{"127.0.0.1"}, failed)
	return must(f.t, s, err)
}

// connect tells what both sides say of a handshake, and the certificate that the client saw.
func connect(server, client *tls.Config) (seen *x509.Certificate, serverErr, clientErr error) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go func() {
		s := tls.Server(a, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		done <- err
	}()
	c := tls.Client(b, client)
	_, clientErr = c.Read(make([]byte, 1))
	b.Close()
	serverErr = <-done
	if certificates := c.ConnectionState().PeerCertificates; len(certificates) > 0 {
		seen = certificates[0]
	}
	return seen, serverErr, clientErr
}

// TestWhoGetsIn: what a server says to each kind of client certificate.
func TestWhoGetsIn(t *testing.T) {
	f := newFolder(t)
	f.issue(f.authority, "server", nil)
	f.issue(f.authority, "good", nil)
	f.issue(f.authority, "expired", func(r *Request) { r.NotAfter = time.Now().Add(-time.Minute) })
	f.issue(f.authority, "early", func(r *Request) { r.NotBefore = time.Now().Add(time.Minute) })
	f.issue(f.authority, "revoked", nil)
	f.issue(f.authority, "serveronly", func(r *Request) { r.Uses = both[:1] })
	f.issue(f.newAuthority("foreign"), "stranger", nil)
	f.revoke(f.authority, "revoked")
	plain := func(o Options) Options { return o }
	for name, c := range map[string]struct {
		client  string // empty: without a certificate
		options func(Options) Options
		want    string // in the server's error; empty: it gets in
	}{
		"good":          {"good", plain, ""},
		"none":          {"", plain, "didn't provide a certificate"},
		"expired":       {"expired", plain, "expired"},
		"early":         {"early", plain, "expired or is not yet valid"},
		"foreign":       {"stranger", plain, "unknown authority"},
		"not a client":  {"serveronly", plain, "incompatible key usage"},
		"revoked":       {"revoked", func(o Options) Options { o.CRLFile = f.file("crl.pem"); return o }, "is revoked"},
		"not revoked":   {"good", func(o Options) Options { o.CRLFile = f.file("crl.pem"); return o }, ""},
		"name":          {"good", func(o Options) Options { o.AllowedCNs = []string{"x", "good"}; return o }, ""},
		"other name":    {"good", func(o Options) Options { o.AllowedCNs = []string{"goo", "server"}; return o }, "none of the common names of --client-cert-allowed-cn"},
		"host":          {"good", func(o Options) Options { o.AllowedHostnames = []string{"x", "node.test"}; return o }, ""},
		"other host":    {"good", func(o Options) Options { o.AllowedHostnames = []string{"x"}; return o }, "none of the hosts of --client-cert-allowed-hostname"},
		"nobody judged": {"stranger", func(o Options) Options { o.TrustedCAFile = ""; return o }, ""},
	} {
		s := f.open(c.options(f.options(Clients)), nil)
		client := &tls.Config{ServerName: "node.test", RootCAs: x509.NewCertPool()}
		client.RootCAs.AddCert(f.authority.certificate)
		if c.client != "" {
			pair, err := ReadPair("", f.file(c.client+".pem"), "", f.file(c.client+"-key.pem"))
			pair = must(t, pair, err)
			client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		_, serverErr, clientErr := connect(s.Server("h2"), client)
		if c.want == "" && (serverErr != nil || clientErr != nil) {
			t.Errorf("%s: %v, %v", name, serverErr, clientErr)
		}
		if c.want != "" && (serverErr == nil || !strings.Contains(serverErr.Error(), c.want) || clientErr == nil || !strings.Contains(clientErr.Error(), "remote error: tls: ")) {
			t.Errorf("%s: %v, %v; want %q", name, serverErr, clientErr, c.want)
		}
	}
}

// TestNodesJudgeEachOther: the node that calls judges the one that is called, and a certificate speaks for its own host only.
func TestNodesJudgeEachOther(t *testing.T) {
	f := newFolder(t)
	f.issue(f.authority, "server", nil)
	f.issue(f.authority, "revoked", nil)
	f.issue(f.authority, "nameless", func(r *Request) { r.Hosts = nil })
	f.issue(f.newAuthority("foreign"), "stranger", nil)
	f.revoke(f.authority, "revoked")
	called := func(name string) *tls.Config {
		o := f.options(Peers)
		o.CertFile, o.KeyFile = f.file(name+".pem"), f.file(name+"-key.pem")
		return f.open(o, nil).Server()
	}
	o := f.options(Peers)
	o.CRLFile = f.file("crl.pem")
	s := f.open(o, nil)
	for _, c := range []struct{ called, host, want string }{
		{"server", "127.0.0.1", ""},
		{"server", "node.test", ""},
		{"server", "other.test", "not other.test"},
		{"stranger", "127.0.0.1", "unknown authority"},
		{"revoked", "127.0.0.1", "is revoked: --peer-crl-file"},
	} {
		_, _, err := connect(called(c.called), s.Client(c.host))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s at %s: %v, want %q", c.called, c.host, err, c.want)
		}
	}
	state := func(name string) tls.ConnectionState {
		return tls.ConnectionState{PeerCertificates: []*x509.Certificate{f.leaf(name)}}
	}
	if err := s.SpeaksFor(state("server"), []string{"x.test", "node.test"}); err != nil {
		t.Error(err)
	}
	if err := s.SpeaksFor(state("nameless"), []string{"x.test"}); err != nil {
		t.Error(err)
	}
	if err := s.SpeaksFor(state("server"), []string{"x.test", "y.test"}); err == nil || !strings.Contains(err.Error(), "x.test, y.test") {
		t.Errorf("a certificate for other hosts: %v", err)
	}
	o.SkipNameCheck = true
	if err := f.open(o, nil).SpeaksFor(state("server"), []string{"x.test"}); err != nil {
		t.Error(err)
	}
}

// TestFilesAreReadAgain: new connections see new files, bad ones are reported once and not used, and the connections that exist go on.
func TestFilesAreReadAgain(t *testing.T) {
	f := newFolder(t)
	f.issue(f.authority, "server", nil)
	f.issue(f.authority, "client", nil)
	f.revoke(f.authority)
	var failures []string
	o := f.options(Clients)
	o.CRLFile = f.file("crl.pem")
	s := f.open(o, func(err error) { failures = append(failures, err.Error()) })
	server := s.Server("h2")
	pair, err := ReadPair("", f.file("client.pem"), "", f.file("client-key.pem"))
	client := &tls.Config{ServerName: "node.test", RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{must(t, pair, err)}}
	client.RootCAs.AddCert(f.authority.certificate)
	serial := func() string {
		t.Helper()
		seen, serverErr, clientErr := connect(server, client)
		if serverErr != nil || clientErr != nil {
			t.Fatal(serverErr, clientErr)
		}
		return seen.SerialNumber.String()
	}
	first := serial()
	oldKey, err := os.ReadFile(f.file("server-key.pem"))
	oldKey = must(t, oldKey, err)
	f.issue(f.authority, "server", nil)
	newKey, err := os.ReadFile(f.file("server-key.pem"))
	newKey = must(t, newKey, err)
	f.write("server-key.pem", oldKey) // as if only the certificate had been replaced yet
	for range 2 {                     // it is said once only
		if serial() != first {
			t.Error("a certificate without its key was used")
		}
	}
	if len(failures) != 1 || !strings.Contains(failures[0], "do not fit together") {
		t.Errorf("failures: %q", failures)
	}
	f.write("server-key.pem", newKey)
	if serial() == first {
		t.Error("the new certificate is not used")
	}
	f.revoke(f.authority, "client")
	if _, serverErr, _ := connect(server, client); serverErr == nil || !strings.Contains(serverErr.Error(), "is revoked") {
		t.Errorf("a client that was revoked meanwhile: %v", serverErr)
	}
	if err := os.Remove(f.file("crl.pem")); err != nil {
		t.Fatal(err)
	}
	if _, serverErr, _ := connect(server, client); serverErr == nil || len(failures) != 2 {
		t.Errorf("the revocation was forgotten with its file: %v, %q", serverErr, failures)
	}
}

// TestRefusedFiles: each bad file is named with its flag at the start.
func TestRefusedFiles(t *testing.T) {
	f := newFolder(t)
	foreign := f.newAuthority("foreign")
	f.issue(f.authority, "server", nil)
	f.issue(f.authority, "other", nil)
	f.issue(f.authority, "clientonly", func(r *Request) { r.Uses = both[1:] })
	f.issue(f.authority, "serveronly", func(r *Request) { r.Uses = both[:1] })
	f.write("empty.pem", nil)
	f.write("garbage.pem", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.revoke(foreign)
	for _, c := range []struct {
		role   Role
		change func(*Options)
		want   string
	}{
		{Clients, func(o *Options) { o.KeyFile = f.file("other-key.pem") }, "do not fit together"},
		{Clients, func(o *Options) { o.CertFile = f.file("empty.pem") }, "--cert-file: there is no certificate"},
		{Clients, func(o *Options) { o.KeyFile = f.file("server.pem") }, "--key-file: there is no key"},
		{Peers, func(o *Options) { o.KeyFile = f.file("missing.pem") }, "--peer-key-file: open"},
		{Peers, func(o *Options) { o.KeyFile = f.path }, "--peer-key-file: read"},
		{Clients, func(o *Options) { o.TrustedCAFile = f.file("server-key.pem") }, "--trusted-ca-file: there is no certificate"},
		{Clients, func(o *Options) { o.TrustedCAFile = f.file("garbage.pem") }, "--trusted-ca-file: a certificate in"},
		{Clients, func(o *Options) { o.CRLFile = f.file("ca.pem") }, "--client-crl-file: there is no revocation list"},
		{Peers, func(o *Options) { o.CRLFile = f.file("crl.pem") }, "signed by none of the trusted authorities"},
		{Clients, func(o *Options) { o.CertFile, o.KeyFile = f.file("clientonly.pem"), f.file("clientonly-key.pem") }, "not for servers"},
		{Peers, func(o *Options) { o.CertFile, o.KeyFile = f.file("serveronly.pem"), f.file("serveronly-key.pem") }, "not for clients"},
		{Clients, func(o *Options) { o.KeyFile = "" }, "--cert-file and --key-file belong together"},
		{Peers, func(o *Options) { o.CertFile, o.KeyFile = "", "" }, "give --peer-cert-file and --peer-key-file"},
		{Peers, func(o *Options) { o.ClientCertFile = "x" }, "--peer-client-cert-file and --peer-client-key-file belong together"},
		{Clients, func(o *Options) { o.TrustedCAFile, o.ClientCertAuth = "", true }, "--client-cert-auth needs --trusted-ca-file"},
		{Clients, func(o *Options) { o.TrustedCAFile, o.CRLFile = "", "x" }, "--client-crl-file needs --trusted-ca-file"},
		{Peers, func(o *Options) { o.TrustedCAFile, o.AllowedCNs = "", []string{"x"} }, "--peer-cert-allowed-cn needs --peer-trusted-ca-file"},
		{Peers, func(o *Options) { o.AllowedHostnames, o.AllowedCNs = []string{"x"}, []string{"x"} }, "exclude each other"},
		{Clients, func(o *Options) { o.CertFile, o.KeyFile, o.Auto = "", "", true }, "--trusted-ca-file has no meaning beside it"},
		{Clients, func(o *Options) { o.MinVersion, o.MaxVersion = "TLS1.3", "TLS1.2" }, "is above"},
		{Clients, func(o *Options) { o.CipherSuites = []string{"TLS_RSA_WITH_RC4_128_SHA"} }, "not secure"},
		{Clients, func(o *Options) {
			o.CipherSuites, o.MinVersion = []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}, "TLS1.3"
		}, "chooses among its own"},
	} {
		o := f.options(c.role)
		c.change(&o)
		if _, err := Open(o, nil, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// TestWarnings: what works and is probably not meant.
func TestWarnings(t *testing.T) {
	f := newFolder(t)
	f.issue(f.authority, "server", nil)
	if lines := f.open(f.options(Peers), nil).Warnings([]string{"node.test"}); len(lines) != 0 {
		t.Errorf("nothing is odd: %q", lines)
	}
	if err := os.Chmod(f.file("server-key.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := f.options(Peers)
	o.TrustedCAFile, o.Auto = "", true
	o.ClientCertAuth = false
	lines := strings.Join(f.open(o, nil).Warnings([]string{"elsewhere.test"}), "\n")
	for _, want := range []string{"every user of this machine can read", "--peer-auto-tls has no effect beside --peer-cert-file", "not valid for elsewhere.test"} {
		if !strings.Contains(lines, want) {
			t.Errorf("%q is not in %s", want, lines)
		}
	}
	expiries := f.open(f.options(Peers), nil).Expiries()
	if len(expiries) != 2 || expiries[0].Flag != "--peer-cert-file" || !expiries[0].NotAfter.Equal(f.leaf("server").NotAfter) || expiries[1].Flag != "--peer-trusted-ca-file" {
		t.Errorf("expiries: %v", expiries)
	}
}

// TestGeneratedCertificates: nodes with them talk, and nobody is judged; half of their time later there is a new one.
func TestGeneratedCertificates(t *testing.T) {
	o := Options{Role: Peers, Auto: true}.WithDefaults()
	s, err := Open(o, []string{"127.0.0.1", "node.test"}, nil)
	s = must(t, s, err)
	first, _, clientErr := connect(s.Server(), s.Client("anything.test"))
	if clientErr != nil || first.VerifyHostname("node.test") != nil || first.VerifyHostname("127.0.0.1") != nil {
		t.Fatal(clientErr, first)
	}
	s.current.certificate.Leaf.NotBefore = time.Now().Add(-2 * year)
	if second, _, _ := connect(s.Server(), s.Client("")); second == nil || second.Equal(first) {
		t.Error("no new certificate was made")
	}
}

// TestGeneratedCertificatesAreKept: the next start uses the same one, unless it does not fit any more.
func TestGeneratedCertificatesAreKept(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "fixtures", "client")
	o := Options{Role: Clients, Auto: true}.WithDefaults()
	start := func(hosts ...string) *Source {
		t.Helper()
		s, err := Open(o, hosts, nil)
		s = must(t, s, err)
		if err := s.KeepIn(directory); err != nil {
			t.Fatal(err)
		}
		return s
	}
	seen := func(s *Source) *x509.Certificate {
		t.Helper()
		// As a client does that was given the file.
		authorities, err := ReadAuthorities("--cacert", filepath.Join(directory, keptCertificate))
		client := &tls.Config{ServerName: "node.test", RootCAs: x509.NewCertPool()}
		client.RootCAs.AddCert(must(t, authorities, err)[0])
		seen, _, clientErr := connect(s.Server(), client)
		return must(t, seen, clientErr)
	}
	first := seen(start("node.test"))
	if again := seen(start("node.test")); !again.Equal(first) {
		t.Error("a restart has another certificate")
	}
	for _, name := range []string{keptKey, keptCertificate} {
		if info, err := os.Stat(filepath.Join(directory, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	second := seen(start("node.test", "10.0.0.1"))
	if second.Equal(first) || second.VerifyHostname("10.0.0.1") != nil {
		t.Error("the node has a new address, and its certificate does not")
	}
	if err := os.WriteFile(filepath.Join(directory, keptKey), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start("node.test")
	third := seen(s)
	if third.Equal(second) {
		t.Error("a certificate without its key was used")
	}
	// Half of its time goes by while the process runs.
	template := newTemplate(Request{Hosts: []string{"node.test"}, NotBefore: time.Now().Add(-2 * year), NotAfter: time.Now().Add(year)})
	certificate, key, err := signedPEM(template, template, nil)
	if err := errors.Join(err, keep(directory, certificate, key)); err != nil {
		t.Fatal(err)
	}
	s.current.certificate.Leaf.NotBefore = time.Now().Add(-2 * year)
	fourth, _, _ := connect(s.Server(), &tls.Config{InsecureSkipVerify: true})
	if fourth.Equal(third) || halfOver(fourth) {
		t.Fatal("no new certificate was made")
	}
	if again := seen(start("node.test")); !again.Equal(fourth) {
		t.Error("the new certificate was not kept")
	}
	if err := os.RemoveAll(directory); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(directory, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = Open(o, nil, nil)
	if err := must(t, s, err).KeepIn(directory); err == nil || !strings.Contains(err.Error(), "--auto-tls: keep the certificate") {
		t.Errorf("kept nowhere: %v", err)
	}
}

// TestCommandsOfTheGuide: what docs/security.md has people type makes certificates that nodes and clients can use.
func TestCommandsOfTheGuide(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl")
	}
	guide, err := os.ReadFile("../docs/security.md")
	_, part, _ := strings.Cut(string(must(t, guide, err)), "<!-- authority: begin -->")
	part, _, _ = strings.Cut(part, "<!-- authority: end -->")
	commands := strings.Trim(strings.TrimSpace(part), "`")
	if strings.Count(commands, "\nopenssl ") != 5 {
		t.Fatalf("not five commands: %s", commands)
	}
	f := newFolder(t)
	shell := exec.Command("sh", "-e", "-c", strings.TrimPrefix(commands, "sh"))
	shell.Dir = f.path
	if output, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	o := Options{Role: Peers, CertFile: f.file("n1.pem"), KeyFile: f.file("n1-key.pem"), TrustedCAFile: f.file("ca.pem"), AllowedCNs: []string{"node"}}.WithDefaults()
	node := f.open(o, nil)
	if warnings := node.Warnings([]string{"10.0.0.1", "n1.example.org"}); len(warnings) != 0 {
		t.Errorf("warnings: %q", warnings)
	}
	if _, serverErr, clientErr := connect(node.Server(), node.Client("10.0.0.1")); serverErr != nil || clientErr != nil {
		t.Errorf("between nodes: %v, %v", serverErr, clientErr)
	}
	o.Role, o.AllowedCNs = Clients, []string{"alice"}
	pair, err := ReadPair("--cert", f.file("alice.pem"), "--key", f.file("alice-key.pem"))
	client := &tls.Config{ServerName: "n1.example.org", RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{must(t, pair, err)}}
	authorities, err := ReadAuthorities("--cacert", f.file("ca.pem"))
	client.RootCAs.AddCert(must(t, authorities, err)[0])
	if _, serverErr, clientErr := connect(f.open(o, nil).Server("h2"), client); serverErr != nil || clientErr != nil {
		t.Errorf("a client: %v, %v", serverErr, clientErr)
	}
}

// TestVersions: the bounds hold on the wire.
func TestVersions(t *testing.T) {
	f := newFolder(t)
	f.issue(f.authority, "server", nil)
	o := f.options(Clients)
	o.TrustedCAFile, o.MinVersion = "", "TLS1.3"
	s := f.open(o, nil)
	if _, serverErr, _ := connect(s.Server("h2"), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); serverErr == nil {
		t.Error("TLS 1.2 below --tls-min-version")
	}
	if _, serverErr, clientErr := connect(s.Server("h2"), &tls.Config{InsecureSkipVerify: true}); serverErr != nil || clientErr != nil {
		t.Error(serverErr, clientErr)
	}
}

// FuzzFiles: whatever is in a file, it is read or refused.
func FuzzFiles(f *testing.F) {
	authority, err := NewAuthority("a", time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(authority.PEM())
	f.Add([]byte("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		authorities, err := ReadAuthorities("x", path)
		if (err == nil) != (len(authorities) > 0) {
			t.Fatal(authorities, err)
		}
		m := &material{}
		if err := m.readRevocations("x", path, authorities); err == nil && m.revoked == nil {
			t.Fatal("neither a list nor an error")
		}
		if _, err := ReadPair("x", path, "x", path); err == nil {
			t.Skip("somebody found a key")
		}
	})
}
