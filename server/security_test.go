package server

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quoratedb/quorate/tlsconf"
)

// TestHTTPForClients: /metrics is at --listen-client-http-urls, too, with TLS that a client believes in which was given the node's own certificate.
func TestHTTPForClients(t *testing.T) {
	url, directory := freeURL(t), t.TempDir()
	url.TLS = true
	_, metrics := startAlone(t, func(o *Options) {
		o.Node.DataDir, o.Node.ListenMetricsURLs, o.Node.ListenHTTPURLs, o.Node.ClientTLS.Auto = directory, nil, []URL{url}, true
	})
	authority, err := os.ReadFile(filepath.Join(directory, "fixtures", "client", "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(authority)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	defer client.CloseIdleConnections()
	read := func(url string) string {
		t.Helper()
		answer, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	if text := read(url.plain().String() + "/metrics"); !strings.Contains(text, "This port speaks TLS") {
		t.Errorf("plain text got %q", text)
	}
	text := read(url.String() + "/metrics")
	for _, want := range []string{`quorate_tls_expiry_timestamp_seconds{flag="--auto-tls"} `, "quorate_tls_handshakes_failed_total 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not among the metrics", want)
		}
	}
	if answer, err := http.Get(metrics + "/metrics"); err == nil {
		answer.Body.Close()
		t.Error("metrics are served where nobody wants them")
	}
}

// TestCheck: what a start would refuse, and what it would warn of, is said without a start.
func TestCheck(t *testing.T) {
	directory := t.TempDir()
	file := func(name string, content []byte, mode os.FileMode) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	now := time.Now()
	authority, err := tlsconf.NewAuthority("ca", now.Add(-time.Hour), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := authority.Issue(tlsconf.Request{Hosts: []string{"node.test"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	url := URL{Host: "localhost", Port: 1, TLS: true}
	options := Options{Node: NodeOptions{DataDir: filepath.Join(directory, "data"), ListenClientURLs: []URL{url}, AdvertiseClientURLs: []URL{url}}}
	options.Node.ClientTLS.CertFile, options.Node.ClientTLS.KeyFile = file("cert.pem", certificate, 0o644), file("key.pem", key, 0o644)
	warnings, err := Check(options)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(warnings, "\n")
	for _, want := range []string{"--key-file: every user of this machine can read the key", "not valid for localhost", "--cert-file: the certificate expired at "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	options.Node.ClientTLS.TrustedCAFile = file("ca.pem", key, 0o644)
	if _, err := Check(options); err == nil || !strings.Contains(err.Error(), "--trusted-ca-file: there is no certificate in ") {
		t.Errorf("a file of authorities without one: %v", err)
	}
	if _, err := os.Stat(options.Node.DataDir); err == nil {
		t.Error("a check made the data directory")
	}
}
